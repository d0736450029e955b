"""What this library needs of the event loop and anyio does not offer: the only place that knows the backends.

- A task that belongs to no scope: a connection outlives the cancel scope in which somebody opened it.
- Parking a task: an :class:`anyio.Event` has 0.9 KiB on asyncio, and nearly every connection has a task that
  waits.
- Being called back while a socket is ready: a task that waits costs a switch for each read, and anyio's calls
  to wait cost two system calls each. asyncio's loops keep a callback until it is removed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import anyio

__all__ = ["Clock", "EventLoop", "Task", "event_loop"]

Task: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Clock: TypeAlias = Callable[[], float]


class EventLoop(NamedTuple):
    """The operations of one kind of event loop; they act on the one that runs.

    Attributes:
        spawn: start a task, which raises nothing but cancellation and has this name.
        clock: ``anyio.current_time`` that need not look up the loop at each call.
        park: put something that stands for this task into the list and wait; take it out if cancelled.
        wake: wake the task that something from the list stands for.
        callbacks: an object with ``add_reader`` and the like, or ``None``.
    """

    spawn: Callable[[Task, str], object]
    clock: Callable[[], Clock]
    park: Callable[[list[Any]], Awaitable[None]]
    wake: Callable[[Any], object]
    callbacks: Callable[[], Any]


def event_loop() -> EventLoop:
    """The kind that runs."""
    module = anyio.get_cancelled_exc_class().__module__
    return _trio() if module.startswith("trio") else _asyncio()


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

    def spawn(task: Task, name: str) -> None:
        trio.lowlevel.spawn_system_task(task, name=name)

    return EventLoop(spawn, lambda: trio.current_time, park, trio.lowlevel.reschedule, lambda: None)


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

    def wake(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)

    def spawn(task: Task, name: str) -> None:
        running.add(started := asyncio.get_running_loop().create_task(task(), name=name))
        started.add_done_callback(running.discard)

    return EventLoop(spawn, lambda: asyncio.get_running_loop().time, park, wake, asyncio.get_running_loop)
