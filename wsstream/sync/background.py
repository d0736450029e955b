"""The event loop behind :mod:`wsstream.sync`: one for all connections, in a daemon thread of its own.

It is asyncio's, whatever else the program runs. It starts with the first connection and ends with the
program. A forked process inherits neither the thread nor the right to use its connections.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

import anyio

from wsstream.sync.call import Call, check_timeout
from wsstream.transports.eventloop import event_loop
from wsstream.transports.gate import Gate

__all__ = ["Background", "background"]

T = TypeVar("T")

_GOOD_ORDER = 1.0  # seconds for the closing handshakes at the end of the program
_FORKED = "this was opened before os.fork(), and belongs to the parent process: open another one in the child"


class Guest(Protocol):
    """What is to be closed when the program ends."""

    async def end_with_program(self) -> None:
        """Close it. In the event loop; cancelled after a second."""


class Background:
    """The thread and its event loop.

    Attributes:
        forked: this process is a fork of the one that has the thread.
        gate: through which threads act in place of the event loop.
        guests: what is open. Only the event loop's thread adds to it.
    """

    def __init__(self) -> None:
        self.forked = False
        self.gate = Gate()
        self.guests: WeakSet[Guest] = WeakSet()
        self._ready = threading.Event()
        self._loop: Any = None
        self._context: Context = copy_context()
        self._spawn: Any = None
        self._stopping: anyio.Event
        self._thread = threading.Thread(target=self._run, name="wsstream event loop", daemon=True)

    def start(self) -> None:
        """Start the thread, and wait until its event loop runs."""
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        try:
            anyio.run(self._main, backend="asyncio", backend_options={"loop_factory": self.gate.loop_factory})
        finally:
            self._ready.set()

    async def _main(self) -> None:
        loop = event_loop()
        self._loop = loop.callbacks()
        self._spawn = loop.spawn
        self._context = copy_context()
        self._stopping = anyio.Event()
        self._ready.set()
        await self._stopping.wait()
        with anyio.move_on_after(_GOOD_ORDER):
            async with anyio.create_task_group() as tasks:
                for guest in list(self.guests):
                    tasks.start_soon(guest.end_with_program)

    # -- for threads -----------------------------------------------------------------------------

    def post(self, callback: Callable[[], object]) -> None:
        """Have the event loop call `callback` soon, after what was posted before. Never waits.

        Raises:
            RuntimeError: this process is a fork, or the event loop has ended with the program.
        """
        if self.forked:
            raise RuntimeError(_FORKED)
        try:
            self._loop.call_soon_threadsafe(callback, context=self._context)
        except RuntimeError:
            raise RuntimeError("the event loop has ended, as the program ends") from None

    def post_if_alive(self, callback: Callable[[], object]) -> None:
        """As `post`, for what need not be done where the event loop is not at hand."""
        try:
            self.post(callback)
        except RuntimeError:
            pass

    def call(
        self,
        function: Callable[[], Coroutine[Any, Any, T]],
        timeout: float | None = None,
        attempt: Callable[[], bool] | None = None,
        *,
        begun: float | None = None,
    ) -> T:
        """Run a coroutine in the event loop, wait for it, and return its result; see :class:`Call`.

        The `timeout` began at `begun`, by ``time.monotonic``, or else now.

        Raises:
            TimeoutError: `timeout` seconds have passed.
            RuntimeError: as `post`; or this is the event loop's own thread.
        """
        if timeout is not None:
            check_timeout(timeout)
        return self.run(Call(function, attempt), timeout, begun)

    def run(self, call: Call[T], timeout: float | None = None, begun: float | None = None) -> T:
        """The same, for a call that was made before."""
        if self.is_current and not self.forked:
            raise RuntimeError("this was called in the event loop's thread, which must not wait for itself")
        return call.wait(self.spawn, self.post, timeout, begun)

    @property
    def is_current(self) -> bool:
        """Whether this is the event loop's own thread."""
        return threading.get_ident() == self._thread.ident

    # -- for the event loop's thread -------------------------------------------------------------

    def spawn(
        self, task: Callable[[], Coroutine[Any, Any, None]], over: Callable[[], None] = lambda: None
    ) -> None:
        """Start a task, which raises nothing, and call `over` when it has ended."""
        self._spawn(task, "wsstream.sync", over, None)

    # -- the end ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Close what is open and end the thread; wait for that, but not long."""
        self.post_if_alive(self._stopping.set)
        self._thread.join(2 * _GOOD_ORDER)


class _Process:
    """What this process has.

    Attributes:
        running: its event loop, once there is one.
        starting: held while it starts.
        inherited: event loops of its parents, kept: the end of one would take the parent's sockets out
            of the selector that both processes share.
    """

    def __init__(self) -> None:
        self.running: Background | None = None
        self.starting = threading.Lock()
        self.inherited: list[Background] = []

    def stop(self) -> None:
        if self.running is not None:
            self.running.stop()

    def forget_after_fork(self) -> None:
        self.starting = threading.Lock()  # another thread of the parent may have held it
        if self.running is not None:
            self.running.forked = True
            self.inherited.append(self.running)
            self.running = None


_process = _Process()


def background() -> Background:
    """The event loop of this process, which is started if there is none.

    Raises:
        RuntimeError: no thread can be started, as the program is ending.
    """
    with _process.starting:
        if _process.running is None:
            started = Background()
            started.start()
            _process.running = started
        return _process.running


atexit.register(_process.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forget_after_fork)
