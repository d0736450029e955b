"""Operations of the event loop that anyio does not offer: the only module that knows the backends.

- A task that belongs to no scope: a connection outlives the cancel scope in which somebody opened it.
- Parking a task: an :class:`anyio.Event` takes 0.9 KiB on asyncio, and nearly every connection has a waiting
  task.
- Callbacks for ready sockets and deadlines: a waiting task costs a task switch for each read, and anyio's
  wait functions cost two system calls each. asyncio's loops keep a callback until it is removed; on Trio one
  task of ours calls back.
- Closing a socket from a callback of the event loop. A callback has no current task, so anyio cannot tell
  which backend runs unless `anyio.run` started it: `anyio.notify_closing` raises under `asyncio.run`.

So a callback must not call anyio's functions that look up the backend. A connection looks up the operations
here, when it is made.
"""

from __future__ import annotations

import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from functools import cache, partial
from math import inf
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

import anyio

from wsstream.transports.alarms import Alarms
from wsstream.transports.asyncio_waits import SocketWaits, settle
from wsstream.transports.poller import Guest, Poller

__all__ = ["Clock", "EventLoop", "Task", "event_loop", "selector_loop"]

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
        park: append a handle of this task to the list, and return what the task has to await at once.
        wake: wake the task of a handle that was taken from the list.
        waits: whether the task of a handle in the list still waits; it does not if it was cancelled.
        task_loop: returns asyncio's event loop, whose tasks can wait for whatever resembles a future;
            ``None`` elsewhere.
        callbacks: returns an object with ``add_reader``, ``call_soon`` and the like, or ``None``.
        alarms: returns the deadlines that all connections share; only where there are callbacks.
        attach: have a guest told when the event loop ends; asyncio's tell nobody, and just stop calling back.
        detach: forget the guest, for which nothing is called back any more, and call a function when nothing
            is left that was there for it.
        wait_readable, wait_writable: ``anyio.wait_readable`` and the like, for one task at a time.
        notify_closing: ``anyio.notify_closing`` for these two; call it in a task or in a callback, right
            before the socket is closed.
        from_signal: returns a function that has the event loop call another one soon. It may be called in a
            signal handler, and raises ``RuntimeError`` once the loop has ended.
    """

    spawn: Callable[[Task, str, Callable[[], None], Context | None], object]
    clock: Callable[[], Clock]
    park: Callable[[list[Any]], Awaitable[None]]
    wake: Callable[[Any], object]
    waits: Callable[[Any], bool]
    task_loop: Callable[[], Any]
    callbacks: Callable[[], Any]
    alarms: Callable[[], Alarms]
    attach: Callable[[Guest], object]
    detach: Callable[[Guest, Callable[[], None]], object]
    wait_readable: Callable[[socket.socket], Awaitable[None]]
    wait_writable: Callable[[socket.socket], Awaitable[None]]
    notify_closing: Callable[[socket.socket], object]
    from_signal: Callable[[], Callable[[Callable[[], object]], object]]


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


def selector_loop(selector: selectors.BaseSelector) -> Any:
    """A new event loop of asyncio's that waits by `selector`."""
    import asyncio  # noqa: TID251 - see the module's docstring

    return asyncio.SelectorEventLoop(selector)


def _asyncio_runs() -> bool:
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


@cache
def _trio() -> EventLoop:
    import trio  # noqa: TID251 - see the module's docstring

    class Parked:
        """A task that waits in a list. Trio calls it when the task is cancelled."""

        __slots__ = ("_waiting", "task")

        def __init__(self, waiting: list[Any]) -> None:
            self.task = trio.lowlevel.current_task()
            self._waiting = waiting
            waiting.append(self)

        def __call__(self, _: object) -> trio.lowlevel.Abort:
            self._waiting.remove(self)
            return trio.lowlevel.Abort.SUCCEEDED

    class ForPoller:
        scope = trio.CancelScope
        readable = staticmethod(trio.lowlevel.wait_readable)
        turn = staticmethod(trio.lowlevel.checkpoint)

        def start(self, task: Task) -> None:
            trio.lowlevel.spawn_system_task(task, name="wsstream poller")

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

    poller_of_run: trio.lowlevel.RunVar[Poller] = trio.lowlevel.RunVar("wsstream's poller")

    def poller() -> Poller:
        try:
            return poller_of_run.get()
        except LookupError:
            made = Poller(trio.current_time, ForPoller())
            poller_of_run.set(made)
            return made

    def callbacks() -> Poller | None:
        if not hasattr(select, "epoll") or (found := poller()).ended:
            return None
        return found

    def park(waiting: list[Any]) -> Awaitable[None]:
        return trio.lowlevel.wait_task_rescheduled(Parked(waiting))  # noqa: ASYNC105 - the caller awaits it

    return EventLoop(
        spawn,
        lambda: trio.current_time,
        park,
        lambda parked: trio.lowlevel.reschedule(parked.task),
        lambda parked: True,  # that of a cancelled task removes itself
        lambda: None,
        callbacks,
        lambda: poller().alarms,
        lambda guest: poller().attach(guest),
        lambda guest, gone: poller().detach(guest, gone),
        anyio.wait_readable,
        anyio.wait_writable,
        trio.lowlevel.notify_closing,
        lambda: trio.lowlevel.current_trio_token().run_sync_soon,
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
    alarms_of: WeakValueDictionary[int, Alarms] = WeakValueDictionary()  # by the ids of their loops

    def park(waiting: list[Any]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(future)
        return future

    def alarms() -> Alarms:
        loop = asyncio.get_running_loop()
        if (found := alarms_of.get(id(loop))) is None:
            timer = _AsyncioTimer(loop)
            found = alarms_of[id(loop)] = timer.alarms
        return found

    def clock() -> Clock:
        loop = asyncio.get_running_loop()
        # What asyncio's own method returns, without its call.
        return time.monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time

    def spawn(task: Task, name: str, over: Callable[[], None], context: Context | None = None) -> None:
        # Not a `finally` in the task: a task that is cancelled before its first step never reaches it.
        running.add(started := asyncio.get_running_loop().create_task(task(), name=name, context=context))
        started.add_done_callback(partial(ended, over))

    def ended(over: Callable[[], None], task: asyncio.Task[None]) -> None:
        running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieve it, or asyncio would log that nobody did
        over()

    waits = SocketWaits(asyncio.get_running_loop)
    return EventLoop(
        spawn,
        clock,
        park,
        settle,
        lambda future: not future.done(),
        asyncio.get_running_loop,
        asyncio.get_running_loop,
        alarms,
        lambda guest: None,
        lambda guest, gone: gone(),
        waits.readable,
        waits.writable,
        waits.notify_closing,
        lambda: asyncio.get_running_loop().call_soon_threadsafe,
    )


class _AsyncioTimer:
    """The one timer of a loop for its alarms. It keeps the loop, so the loop's id means no other."""

    def __init__(self, loop: Any) -> None:
        self.alarms = Alarms(loop.time, self._set)
        self._loop = loop
        self._handle: Any = None

    def _set(self, time: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None if time == inf else self._loop.call_at(time, self.alarms.ring)
