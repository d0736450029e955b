"""Starting a driver's loop, telling the time, and waking tasks: what of this needs the event loop itself.

A driver's loops belong to the connection, not to the scope in which somebody happened to open it:
``with fail_after(5): ws = await stack.enter_async_context(connect(url))`` must leave a connection
that lives on. anyio's task groups cannot outlive the cancel scope they were entered in, so this
module knows the event loops. The driver's loops raise nothing, and the context manager waits for their end.

An :class:`anyio.Event` has 0.9 KiB on asyncio, and nearly every connection has a task that waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import anyio

__all__ = ["Signal", "clock", "spawn"]

Loop: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Clock: TypeAlias = Callable[[], float]


class _EventLoop(NamedTuple):
    spawn: Callable[[Loop, str], object]
    clock: Callable[[], Clock]
    park: Callable[[list[Any]], Awaitable[None]]
    """Put something that stands for this task into the list and wait; take it out if cancelled."""
    wake: Callable[[Any], object]
    """Wake the task that something from the list stands for."""


def spawn(loop: Loop, name: str) -> None:
    """Start `loop`, which raises nothing but cancellation, as a task of the event loop itself."""
    _event_loop().spawn(loop, name)


def clock() -> Clock:
    """The event loop's ``anyio.current_time``, without looking up the loop at each call."""
    return _event_loop().clock()


class Signal:
    """Wakes the tasks that wait at this moment; it is not remembered for later ones."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Any] | None = None

    def wait(self) -> Awaitable[None]:
        """To be awaited at once: return after the next `notify`."""
        if self._waiting is None:
            self._waiting = []
        return _event_loop().park(self._waiting)

    def notify(self) -> None:
        """Wake whoever waits."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            if waiting:
                wake = _event_loop().wake
                for task in waiting:
                    wake(task)

    @property
    def tasks_waiting(self) -> int:
        """How many tasks wait."""
        return len(self._waiting or ())


def _event_loop() -> _EventLoop:
    """The one that runs."""
    module = anyio.get_cancelled_exc_class().__module__
    return _trio() if module.startswith("trio") else _asyncio()


@cache
def _trio() -> _EventLoop:
    import trio  # noqa: TID251 - see the module's docstring

    async def park(waiting: list[Any]) -> None:
        task = trio.lowlevel.current_task()
        waiting.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def spawn(loop: Loop, name: str) -> None:
        trio.lowlevel.spawn_system_task(loop, name=name)

    return _EventLoop(spawn, lambda: trio.current_time, park, trio.lowlevel.reschedule)


@cache
def _asyncio() -> _EventLoop:
    import asyncio  # noqa: TID251 - see the module's docstring

    running: set[Any] = set()  # the event loop holds tasks by weak references only

    async def park(waiting: list[Any]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(future)
        try:
            await future
        finally:
            waiting.remove(future)

    def wake(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)

    def spawn(loop: Loop, name: str) -> None:
        task = asyncio.get_running_loop().create_task(loop(), name=name)
        running.add(task)
        task.add_done_callback(running.discard)

    return _EventLoop(spawn, lambda: asyncio.get_running_loop().time, park, wake)
