"""Operations of the event loop that anyio does not offer: the only module that knows the backends.

- A task that belongs to no scope: a connection outlives the cancel scope in which somebody opened it.
- Parking a task: an :class:`anyio.Event` takes 0.9 KiB on asyncio, and nearly every connection has a waiting
  task.
- Callbacks for ready sockets: a waiting task costs a task switch for each read, and anyio's wait functions
  cost two system calls each. asyncio's loops keep a callback until it is removed.
- Closing a socket from a callback of the event loop. A callback has no current task, so anyio cannot tell
  which backend runs unless `anyio.run` started it: `anyio.notify_closing` raises under `asyncio.run`.

So a callback must not call anyio's functions that look up the backend. A connection looks up the operations
here, when it is made.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import anyio

__all__ = ["Clock", "EventLoop", "Task", "event_loop"]

Task: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Clock: TypeAlias = Callable[[], float]


class EventLoop(NamedTuple):
    """The operations of one kind of event loop; they act on the one that runs.

    Attributes:
        spawn: start a task with this name, which must raise nothing but cancellation. The third argument is
            called once when the task has ended, even if it was cancelled before its first step. The last one
            is the context that the task runs in (``None``: that of the loop). ``KeyboardInterrupt`` and
            ``SystemExit`` may leave the task. They end asyncio's loop; on trio the first one interrupts the
            main task, and the other is lost.
        clock: returns ``anyio.current_time`` as a function that need not look up the loop at each call.
        park: append a handle of this task to the list and wait; remove the handle if cancelled.
        wake: wake the task of a handle from the list.
        callbacks: returns an object with ``add_reader`` and the like, or ``None``.
        wait_readable, wait_writable: ``anyio.wait_readable`` and the like, for one task at a time.
        notify_closing: ``anyio.notify_closing`` for these two; call it in a task or in a callback, right
            before the socket is closed.
    """

    spawn: Callable[[Task, str, Callable[[], None], Context | None], object]
    clock: Callable[[], Clock]
    park: Callable[[list[Any]], Awaitable[None]]
    wake: Callable[[Any], object]
    callbacks: Callable[[], Any]
    wait_readable: Callable[[socket.socket], Awaitable[None]]
    wait_writable: Callable[[socket.socket], Awaitable[None]]
    notify_closing: Callable[[socket.socket], object]


def event_loop() -> EventLoop:
    """Return the operations of the event loop that runs in this thread. Call it in a task or in a callback.

    Raises:
        RuntimeError: no event loop runs.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():  # first: trio may be a guest of asyncio's loop
        return _trio()
    if _asyncio_runs():
        return _asyncio()
    if trio is not None and trio.lowlevel.in_trio_run():  # between two tasks: a signal handler
        return _trio()
    raise RuntimeError("no event loop is running in this thread")


def _asyncio_runs() -> bool:
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


@cache
def _trio() -> EventLoop:
    import trio  # noqa: TID251 - see the module's docstring

    async def park(waiting: list[Any]) -> None:
        task = trio.lowlevel.current_task()
        waiting.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    async def run(task: Task, over: Callable[[], None]) -> None:
        # An exception that leaves a system task, or a nursery that was left open in it, crashes the run.
        try:
            await task()
        except KeyboardInterrupt:
            _pass_on_interrupt()
        except SystemExit:
            pass
        finally:
            _abandon_nurseries(trio.lowlevel.current_task())
            over()  # always reached: trio cancels a task only at a checkpoint, never before its first step

    def spawn(task: Task, name: str, over: Callable[[], None], context: Context | None = None) -> None:
        trio.lowlevel.spawn_system_task(run, task, over, name=name, context=context)

    return EventLoop(
        spawn,
        lambda: trio.current_time,
        park,
        trio.lowlevel.reschedule,
        lambda: None,
        anyio.wait_readable,
        anyio.wait_writable,
        trio.lowlevel.notify_closing,
    )


def _pass_on_interrupt() -> None:
    """Have Trio interrupt its main task, as it does when Ctrl-C comes while no task runs.

    A system task is protected from Ctrl-C, but the tasks that it starts are not, so one of them may raise it.
    """
    ours = getattr(signal.getsignal(signal.SIGINT), "__module__", None) == "trio._core._ki"
    if ours and threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGINT)


def _abandon_nurseries(task: Any) -> None:
    """Cancel the nurseries that were opened in a Trio task and never closed, and make the task forget them.

    An asynchronous generator that was left before its end may leave such a nursery. When the task ends, Trio
    raises an error for it, and there is no public way to avoid that.
    """
    for nursery in task.child_nurseries:
        nursery.cancel_scope.cancel()
    task._child_nurseries.clear()


@cache
def _asyncio() -> EventLoop:
    import asyncio  # noqa: TID251 - see the module's docstring

    running: set[Any] = set()  # strong references: the event loop has only weak ones to its tasks

    async def park(waiting: list[Any]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(future)
        try:
            await future
        finally:
            waiting.remove(future)

    def spawn(task: Task, name: str, over: Callable[[], None], context: Context | None = None) -> None:
        # Not a `finally` in the task: a task that is cancelled before its first step never reaches it.
        running.add(started := asyncio.get_running_loop().create_task(task(), name=name, context=context))
        started.add_done_callback(partial(ended, over))

    def ended(over: Callable[[], None], task: asyncio.Task[None]) -> None:
        running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieve it, or asyncio would log that nobody did
        over()

    waits = _AsyncioWaits()
    return EventLoop(
        spawn,
        lambda: asyncio.get_running_loop().time,
        park,
        _settle,
        asyncio.get_running_loop,
        waits.readable,
        waits.writable,
        waits.notify_closing,
    )


class _AsyncioWaits:
    """Waiting for sockets on asyncio. Unlike with anyio's functions, a callback can end the waiting."""

    def __init__(self) -> None:
        self._ends: dict[tuple[socket.socket, str], Callable[[], object]] = {}

    async def readable(self, sock: socket.socket) -> None:
        await self._wait(sock, "reader", anyio.wait_readable)

    async def writable(self, sock: socket.socket) -> None:
        await self._wait(sock, "writer", anyio.wait_writable)

    async def _wait(
        self, sock: socket.socket, kind: str, anyio_wait: Callable[[socket.socket], Awaitable[None]]
    ) -> None:
        import asyncio  # noqa: TID251 - see the module's docstring

        key = sock, kind
        if key in self._ends:
            raise anyio.BusyResourceError(f"waiting as the {kind} of")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        # Numbers, not sockets: asyncio shows an object that it does not know in an exception that it drops,
        # and the repr of a socket asks the kernel for both of its addresses.
        try:
            if kind == "reader":
                loop.add_reader(sock.fileno(), _settle, future)
            else:
                loop.add_writer(sock.fileno(), _settle, future)
        except NotImplementedError:  # Windows' default event loop: anyio waits in a thread
            await self._wait_with_anyio(key, anyio_wait(sock))
            return

        def end() -> None:
            _unwatch(loop, sock, kind)
            _settle(future, anyio.ClosedResourceError())

        self._ends[key] = end
        try:
            await future
        finally:
            if self._ends.pop(key, None) is not None:
                _unwatch(loop, sock, kind)

    async def _wait_with_anyio(self, key: tuple[socket.socket, str], waiting: Awaitable[None]) -> None:
        with anyio.CancelScope() as scope:
            self._ends[key] = scope.cancel
            try:
                await waiting
            finally:
                self._ends.pop(key, None)
        if scope.cancelled_caught:
            raise anyio.ClosedResourceError

    def notify_closing(self, sock: socket.socket) -> None:
        for kind in ("reader", "writer"):
            if (end := self._ends.pop((sock, kind), None)) is not None:
                end()


def _unwatch(loop: Any, sock: socket.socket, kind: str) -> None:
    if kind == "reader":
        loop.remove_reader(sock.fileno())
    else:
        loop.remove_writer(sock.fileno())


def _settle(future: Any, error: Exception | None = None) -> None:
    """Wake the task that awaits `future`, unless it was cancelled or woken before."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
