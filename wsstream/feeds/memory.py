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

    __slots__ = ("_entries", "_keys", "_newest")

    def __init__(self) -> None:
        self._newest = Position(secrets.token_hex(8), 0)
        self._entries: deque[Entry] = deque()
        self._keys: dict[str, int] = {}

    def append(self, data: str | bytes, key: str | None, keep: int) -> Position:
        if key is not None and (known := self._keys.get(key)) is not None:
            return Position(self._newest.epoch, known)
        offset = self._newest.offset + 1
        self._newest = Position(self._newest.epoch, offset)
        self._entries.append(Entry(offset, data))
        if key is not None:
            self._keys[key] = offset
        while len(self._entries) > keep:
            self._entries.popleft()
        first = offset - len(self._entries) + 1
        while self._keys and next(iter(self._keys.values())) < first:
            del self._keys[next(iter(self._keys))]
        return self._newest

    def page(self, since: Position | None, limit: int) -> Page | None:
        """What comes after `since`; ``None``: nothing."""
        newest, count = self._newest, len(self._entries)
        if since is None:
            return Page((), newest)
        missing = newest.offset - since.offset
        if since.epoch != newest.epoch or not 0 <= missing <= count:
            return Page((), newest, recovered=False)
        if not missing:
            return None
        start = count - missing
        entries = [self._entries[at] for at in range(start, min(start + limit, count))]
        return Page(entries, newest if missing <= limit else Position(newest.epoch, entries[-1].offset))


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
        pages = self._pages(topics, limit)
        if pages or wait <= 0:
            await checkpoint()
            return pages
        with anyio.move_on_after(wait):
            while not pages:
                await self._appended.wait()
                pages = self._pages(topics, limit)
        return pages

    def _pages(self, topics: Mapping[str, Position | None], limit: int) -> dict[str, Page]:
        found = ((name, self._topic(name).page(since, limit)) for name, since in topics.items())
        return {name: page for name, page in found if page is not None}

    def _topic(self, name: str) -> _Topic:
        if (found := self._topics.get(name)) is None:
            found = self._topics[name] = _Topic()
        return found
