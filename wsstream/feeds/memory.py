"""An engine in this process: the default one, and the one for tests."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable, Generator, Mapping
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from wsstream.driver.signals import Signal
from wsstream.feeds.engine import Entry, Page
from wsstream.feeds.position import Position

__all__ = ["Appended", "MemoryEngine"]


class Appended:
    """What `MemoryEngine.append` returns: the item is kept already.

    Attributes:
        position: its position.
    """

    __slots__ = ("position",)

    def __init__(self, position: Position) -> None:
        self.position = position

    def __await__(self) -> Generator[Any, Any, Position]:
        yield from checkpoint().__await__()
        return self.position


class _Topic:
    """The items of one topic that are kept."""

    __slots__ = ("_keys", "entries", "epoch", "offset")

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(8)
        self.offset = 0  # of the newest item
        self.entries: deque[Entry] = deque()
        self._keys: dict[str, int] = {}

    def append(self, data: str | bytes, key: str | None, keep: int) -> Position:
        if key is not None and (known := self._keys.get(key)) is not None:
            return Position(self.epoch, known)
        self.offset += 1
        self.entries.append(Entry(self.offset, data))
        if key is not None:
            self._keys[key] = self.offset
        while len(self.entries) > keep:
            self.entries.popleft()
        first = self.offset - len(self.entries) + 1
        while self._keys and next(iter(self._keys.values())) < first:
            del self._keys[next(iter(self._keys))]
        return Position(self.epoch, self.offset)

    def page(self, since: Position | None, limit: int) -> Page | None:
        """What comes after `since`; ``None``: nothing."""
        newest = Position(self.epoch, self.offset)
        if since is None:
            return Page((), newest)
        missing = self.offset - since.offset
        if since.epoch != self.epoch or not 0 <= missing <= len(self.entries):
            return Page((), newest, recovered=False)
        if not missing:
            return None
        start = len(self.entries) - missing
        entries = [self.entries[at] for at in range(start, min(start + limit, len(self.entries)))]
        return Page(entries, Position(self.epoch, entries[-1].offset))


class MemoryEngine:
    """Keeps topics in the memory of this process. They are lost with the object."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._appended = Signal()

    def __repr__(self) -> str:
        return f"<MemoryEngine with {len(self._topics)} topics>"

    def append(
        self, topic: str, data: str | bytes, *, key: str | None = None, keep: int = 10_000
    ) -> Awaitable[Position]:
        """Append an item, at once. Awaiting the result gives its position, and may be left out."""
        position = self._topic(topic).append(data, key, keep)
        self._appended.notify()
        return Appended(position)

    async def after(
        self, topics: Mapping[str, Position | None], *, limit: int, wait: float
    ) -> dict[str, Page]:
        """As :meth:`Engine.after` says. If cancelled, nothing happened."""
        await checkpoint()
        pages: dict[str, Page] = {}
        with anyio.move_on_after(wait):
            while not (pages := self._pages(topics, limit)) and wait > 0:
                await self._appended.wait()
        return pages

    def _pages(self, topics: Mapping[str, Position | None], limit: int) -> dict[str, Page]:
        found = ((name, self._topic(name).page(since, limit)) for name, since in topics.items())
        return {name: page for name, page in found if page is not None}

    def _topic(self, name: str) -> _Topic:
        if (found := self._topics.get(name)) is None:
            found = self._topics[name] = _Topic()
        return found
