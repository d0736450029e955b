"""What this library needs of the event loop and anyio does not offer: the only place that knows the backends.

- A task that belongs to no scope: a connection outlives the cancel scope in which somebody opened it.
- Parking a task: an :class:`anyio.Event` has 0.9 KiB on asyncio, and nearly every connection has a task that
  waits.
- Being called back while a socket is ready: a task that waits costs a switch for each read, and anyio's calls
  to wait cost two system calls each. asyncio's loops keep a callback until it is removed.
- Closing a socket from a callback of the event loop. There is no current task in one, so anyio cannot tell
  which library runs unless `anyio.run` told it before: `anyio.notify_closing` raises under `asyncio.run`.

So a callback makes none of anyio's calls that ask for the library that runs. What it needs is looked up here,
when the connection is made.
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
        spawn: start a task, which raises nothing but cancellation and has this name. The third argument is
            called once when the task is over, even if it was cancelled before its first step. The last are
            the context variables that the task sees (``None``: those of the loop). ``KeyboardInterrupt`` and
            ``SystemExit`` may leave the task. They end asyncio's loop; on trio the first one interrupts the
            main task, and the other is lost.
        clock: ``anyio.current_time`` that need not look up the loop at each call.
        park: put something that stands for this task into the list and wait; take it out if cancelled.
        wake: wake the task that something from the list stands for.
        callbacks: an object with ``add_reader`` and the like, or ``None``.
        wait_readable, wait_writable: ``anyio.wait_readable`` and the like, for one task at a time.
        notify_closing: ``anyio.notify_closing`` for those two; to be called in a task or in a callback,
            right before the socket is closed.
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
    """The kind that runs in this thread. It may be asked for in a task and in a callback of the loop.

    Raises:
        RuntimeError: none runs.
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
            over()  # trio cancels a task at a checkpoint, never before its first step

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
    """Have Trio interrupt its main task, as it does when Ctrl-C comes in a moment without a task.

    A system task is protected, but the tasks that it starts are not: the exception may come in one of them.
    """
    ours = getattr(signal.getsignal(signal.SIGINT), "__module__", None) == "trio._core._ki"
    if ours and threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGINT)


def _abandon_nurseries(task: Any) -> None:
    """Cancel the nurseries that were opened in a Trio task and never closed, and have the task forget them.

    An asynchronous generator with a nursery in it that was not read to its end leaves one. When the task
    ends, Trio makes an error of it, and has no public way to avoid that.
    """
    for nursery in task.child_nurseries:
        nursery.cancel_scope.cancel()
    task._child_nurseries.clear()


@cache
def _asyncio() -> EventLoop:
    import asyncio  # noqa: TID251 - see the module's docstring

    running: set[Any] = set()  # the event loop holds tasks by weak references only

    async def park(waiting: list[Any]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(future)
        try:
            await future
        finally:
            waiting.remove(future)

    def spawn(task: Task, name: str, over: Callable[[], None], context: Context | None = None) -> None:
        # Not a `finally` in the task: one that is cancelled before its first step never gets there.
        running.add(started := asyncio.get_running_loop().create_task(task(), name=name, context=context))
        started.add_done_callback(partial(ended, over))

    def ended(over: Callable[[], None], task: asyncio.Task[None]) -> None:
        running.discard(task)
        if not task.cancelled():
            task.exception()  # or asyncio would report that nobody asked for it
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
    """Tasks that wait for sockets on asyncio; unlike those of anyio, they can be woken from a callback."""

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
        try:
            if kind == "reader":
                loop.add_reader(sock, _settle, future)
            else:
                loop.add_writer(sock, _settle, future)
        except NotImplementedError:  # the default event loop of Windows: anyio has a thread for it
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
        loop.remove_reader(sock)
    else:
        loop.remove_writer(sock)


def _settle(future: Any, error: Exception | None = None) -> None:
    """Wake the task that awaits `future`, unless that was cancelled or woken before."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
