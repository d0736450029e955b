"""Starting a driver's loop, and waking tasks.

A driver's loops belong to the connection, not to the scope in which somebody happened to open it:
``with fail_after(5): ws = await stack.enter_async_context(connect(url))`` must leave a connection
that lives on. anyio's task groups cannot outlive the cancel scope they were entered in, so this one
function knows the backend. The loops raise nothing, and the context manager waits for their end.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

import anyio

from wsstream.transports.eventloop import asyncio_loop

__all__ = ["Signal", "clock", "spawn"]

_running: set[Any] = set()  # the event loop of asyncio holds tasks by weak references only


def spawn(task: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Start `task`, which raises nothing but cancellation, as a task of the event loop itself."""
    loop = asyncio_loop()
    if loop is None:
        from trio.lowlevel import spawn_system_task  # noqa: TID251 - see the module's docstring

        spawn_system_task(task, name=name)
    else:
        running = loop.create_task(task(), name=name)
        _running.add(running)
        running.add_done_callback(_running.discard)


def clock() -> Callable[[], float]:
    """The event loop's ``anyio.current_time``, without looking up the loop at each call."""
    loop = asyncio_loop()
    if loop is not None:
        return cast("Callable[[], float]", loop.time)
    from trio import current_time  # noqa: TID251 - see the module's docstring

    return current_time


class Signal:
    """Wakes the tasks that wait at this moment; it is not remembered for later ones."""

    __slots__ = ("_event", "_futures", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio_loop()
        self._futures: list[Any] = []  # on asyncio: less than half the cost of an event
        self._event: anyio.Event | None = None

    async def wait(self) -> None:
        """Return after the next `notify`."""
        if self._loop is not None:
            self._futures.append(future := self._loop.create_future())
            try:
                await future
            except BaseException:
                if future in self._futures:
                    self._futures.remove(future)
                raise
        else:
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()

    def notify(self) -> None:
        """Wake whoever waits."""
        if self._futures:
            futures, self._futures = self._futures, []
            for future in futures:
                if not future.done():
                    future.set_result(None)
        elif self._event is not None:
            self._event.set()
            self._event = None

    @property
    def tasks_waiting(self) -> int:
        """How many tasks wait."""
        waiting = 0 if self._event is None else self._event.statistics().tasks_waiting
        return waiting + len(self._futures)
