"""The interface of what keeps the items of feeds, and gives each its place."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from wsstream.feeds.position import Position

__all__ = ["Engine", "Entry", "Page"]


class Entry(NamedTuple):
    """One item of a topic.

    Attributes:
        offset: its number: one more than that of the item before it.
        data: the message.
    """

    offset: int
    data: str | bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Some items of a topic, in their order.

    Attributes:
        entries: they follow one another, and the first one follows the position that was asked for.
        position: the one after the last of them. Its epoch may be newer than the one that was asked for.
        recovered: false: items after the position that was asked for are lost, or it is not known. Then
            there are no entries, and `position` is the newest.
    """

    entries: Sequence[Entry]
    position: Position
    recovered: bool = True


class Engine(Protocol):
    """Keeps the newest items of topics. Feeds of several processes can share what is behind it.

    Its objects can be referred to weakly, and are used in one event loop.
    """

    def append(
        self, topic: str, data: str | bytes, *, key: str | None = None, keep: int = 10_000
    ) -> Awaitable[Position]:
        """Append an item, and return its position once the engine has it.

        Calls take effect in their order, or, if this is a coroutine function, when they are awaited. The
        engine keeps `keep` items of the topic. While it keeps one with the same `key`, nothing is appended,
        and the position is that one's: so a call may be repeated if it was cancelled or failed.
        """
        ...

    async def after(
        self, topics: Mapping[str, Position | None], *, limit: int, wait: float
    ) -> Mapping[str, Page]:
        """Return what comes after the position of each topic, up to `limit` entries each.

        Topics for which nothing is new are left out. If all are, it waits for up to `wait` seconds. A topic
        with ``None`` always has a page, without entries, with the newest position. If cancelled, nothing
        happened.
        """
        ...
