"""Items on their way to Redis: in their order, in pipelines, and again after a failure."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from wsstream.driver.signals import Latch, Signal
from wsstream.feeds.position import Position
from wsstream.log import Log

__all__ = ["Call", "RedisAppend", "RedisAppends", "text_of"]

log = Log("wsstream.feeds")

_MOST_WAITING: Final = 64 << 20  # bytes that are not appended yet
_PIPELINE: Final = (500, 1 << 20)  # items, and bytes of them, that are sent together
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds after a failure

Call: TypeAlias = tuple[list[str], list[str | bytes]]
"""The keys and the arguments of a script."""


def text_of(value: str | bytes) -> str:
    """What Redis sent, as text."""
    return value if isinstance(value, str) else value.decode()


class RedisAppend:
    """An item that is on its way to Redis."""

    __slots__ = ("_error", "_finished", "_position", "call", "size")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.size = sum(map(len, call[1]))
        self._finished = Latch()
        self._position: Position | None = None
        self._error: OSError | None = None

    def finish(self, result: Any) -> None:
        """Wake who awaits it: with the position of what the script returned, or an error."""
        if isinstance(result, Exception):
            self._error = OSError(f"Redis did not take the item: {result}")
        else:
            self._position = Position(text_of(result[0]), int(result[1]))
        self._finished.set()

    def __await__(self) -> Generator[Any, Any, Position]:
        yield from self._finished.wait().__await__()
        if self._error is not None:
            raise self._error
        assert self._position is not None
        return self._position


class RedisAppends:
    """Items that are not appended yet.

    Args:
        send: runs a script for each of some calls, in one pipeline, and returns the results, an exception in
            place of that of a call that failed.
        passing: what `send` raises if it has to be done again.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Call]], Awaitable[list[Any]]],
        passing: tuple[type[Exception], ...],
    ) -> None:
        self._send = send
        self._passing = passing
        self._waiting: deque[RedisAppend] = deque()
        self._waiting_size = 0
        self._more = Signal()

    def add(self, keys: list[str], arguments: list[str | bytes]) -> RedisAppend:
        """One more item, to be awaited for its position.

        Raises:
            anyio.WouldBlock: too much is waiting.
        """
        item = RedisAppend((keys, arguments))
        if self._waiting and self._waiting_size + item.size > _MOST_WAITING:
            raise anyio.WouldBlock
        self._waiting.append(item)
        self._waiting_size += item.size
        self._more.notify()
        return item

    def fail(self, error: OSError) -> None:
        """Drop all items: those who await them get `error`."""
        while self._waiting:
            self._waiting.popleft().finish(error)

    async def run(self) -> None:
        """Append what waits. Only the end of the engine cancels this."""
        pause = _FIRST_PAUSE
        while True:
            if not self._waiting:
                await self._more.wait()
                await checkpoint()  # more may come in this turn of the event loop
            items = self._next_items()
            try:
                results = await self._send([item.call for item in items])
            except self._passing as error:
                if pause == _FIRST_PAUSE:
                    log.warning("Redis cannot be reached: %s", error)
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            for item, result in zip(items, results, strict=True):
                self._waiting.popleft()
                self._waiting_size -= item.size
                item.finish(result)

    def _next_items(self) -> list[RedisAppend]:
        items: list[RedisAppend] = []
        count, room = _PIPELINE
        for item in self._waiting:
            if items and (len(items) == count or item.size > room):
                break
            items.append(item)
            room -= item.size
        return items
