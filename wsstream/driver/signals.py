"""Starting a driver's loops, and waking tasks.

A driver's loops belong to the connection, not to the scope in which it was opened:
``with fail_after(5): ws = await stack.enter_async_context(connect(url))`` must leave a connection
that lives on, and anyio's task groups cannot outlive the cancel scope they were entered in. The loops raise
nothing, and the context manager waits for their end. On asyncio anybody may cancel them ("cancel all tasks"),
so the work that is due at their end is not part of the task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

from anyio.lowlevel import checkpoint

from wsstream.transports.eventloop import EventLoop, Task, event_loop

__all__ = ["Latch", "Signal", "spawn"]


def spawn(task: Task, name: str, over: Callable[[], None], context: Context | None = None) -> None:
    """Start `task`, which raises nothing but cancellation, as a task of the event loop itself.

    `over` is called once when it has ended, even if it was cancelled before its first step. It sees the
    variables of `context`, by default those of the event loop.
    """
    event_loop().spawn(task, name, over, context)


class Signal:
    """Wakes the tasks that wait at this moment; it is not remembered for later ones."""

    __slots__ = ("_loop", "_waiting")

    _loop: EventLoop  # found when the first task waits

    def __init__(self) -> None:
        self._waiting: list[Any] | None = None

    def wait(self) -> Awaitable[None]:
        """To be awaited at once: return after the next `notify`."""
        if self._waiting is None:
            self._waiting = []
            self._loop = event_loop()
        elif self.tasks_waiting < len(self._waiting):
            self._waiting[:] = filter(self._loop.waits, self._waiting)
        return self._loop.park(self._waiting)

    def notify(self) -> None:
        """Wake all tasks that wait now."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            for task in waiting:
                self._loop.wake(task)

    @property
    def tasks_waiting(self) -> int:
        """How many tasks wait."""
        return 0 if self._waiting is None else sum(map(self._loop.waits, self._waiting))


class Latch:
    """Something that happens once and is remembered: an event that is small while nobody waits."""

    __slots__ = ("_done", "_signal")

    def __init__(self) -> None:
        self._done = False
        self._signal = Signal()

    def set(self) -> None:
        """It has happened."""
        self._done = True
        self._signal.notify()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._done

    async def wait(self) -> None:
        """Return when it has happened."""
        if self._done:
            await checkpoint()
        else:
            await self._signal.wait()
