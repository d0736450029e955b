"""Starting a driver's loop, and waking tasks.

A driver's loops belong to the connection, not to the scope in which somebody happened to open it:
``with fail_after(5): ws = await stack.enter_async_context(connect(url))`` must leave a connection
that lives on. anyio's task groups cannot outlive the cancel scope they were entered in, so this one
function knows the backend. The loops raise nothing, and the context manager waits for their end.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeAlias

import anyio

__all__ = ["Signal", "clock", "spawn"]

Loop: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Clock: TypeAlias = Callable[[], float]

_running: set[Any] = set()  # the event loop of asyncio holds tasks by weak references only


def spawn(loop: Loop, name: str) -> None:
    """Start `loop`, which raises nothing but cancellation, as a task of the event loop itself."""
    _backend(anyio.get_cancelled_exc_class().__module__)[0](loop, name)


def clock() -> Clock:
    """The event loop's ``anyio.current_time``, without looking up the loop at each call."""
    return _backend(anyio.get_cancelled_exc_class().__module__)[1]()


@cache
def _backend(name: str) -> tuple[Callable[[Loop, str], object], Callable[[], Clock]]:
    """How to spawn and where the clock is; `name` is that of the event loop's module."""
    if name.startswith("trio"):
        from trio import current_time  # noqa: TID251 - see the module's docstring
        from trio.lowlevel import spawn_system_task  # noqa: TID251 - see the module's docstring

        return lambda loop, name: spawn_system_task(loop, name=name), lambda: current_time

    from asyncio import get_running_loop  # noqa: TID251 - see the module's docstring

    def spawn_on_asyncio(loop: Loop, name: str) -> None:
        task = get_running_loop().create_task(loop(), name=name)
        _running.add(task)
        task.add_done_callback(_running.discard)

    return spawn_on_asyncio, lambda: get_running_loop().time


class Signal:
    """Wakes the tasks that wait at this moment; it is not remembered for later ones."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    async def wait(self) -> None:
        """Return after the next `notify`."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

    def notify(self) -> None:
        """Wake whoever waits."""
        if self._event is not None:
            self._event.set()
            self._event = None

    @property
    def tasks_waiting(self) -> int:
        """How many tasks wait."""
        return 0 if self._event is None else self._event.statistics().tasks_waiting
