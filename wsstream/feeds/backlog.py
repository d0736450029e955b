"""The items that wait for one slow follower."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable

from wsstream.feeds.shared import SharedItem, Variant

__all__ = ["Backlog"]


class Backlog:
    """Items in their order, counted in bytes of their frames.

    Attributes:
        size: bytes.
        dropped: items that were dropped.
    """

    __slots__ = ("_items", "_key", "_newest", "_variant", "dropped", "size")

    def __init__(self, variant: Variant) -> None:
        self._variant = variant
        self._items: deque[SharedItem] = deque()
        self._key: Callable[[object], Hashable] | None = None
        self._newest: dict[Hashable, SharedItem] | None = None  # in place of `_items`, see `keep_newest`
        self.size = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items if self._newest is None else self._newest)

    @property
    def first(self) -> SharedItem:
        """The item that leaves next."""
        return self._items[0] if self._newest is None else next(iter(self._newest.values()))

    def add(self, item: SharedItem) -> None:
        """Add the newest item."""
        self.size += item.size(self._variant)
        if self._newest is None:
            self._items.append(item)
        else:
            self._replace(self._newest, item)

    def _replace(self, newest: dict[Hashable, SharedItem], item: SharedItem) -> None:
        key = None if self._key is None else self._key(item.data)
        if (older := newest.pop(key, None)) is not None:
            self.size -= older.size(self._variant)
            self.dropped += 1
        newest[key] = item

    def take(self, limit: int) -> list[bytes]:
        """Take frames of at most `limit` bytes, but of one item at least; there must be one."""
        pieces: list[bytes] = []
        while self and (not pieces or self.first.size(self._variant) <= limit):
            item = self._pop()
            pieces += item.frames(self._variant)
            limit -= item.size(self._variant)
        if not self:
            self._newest = None
        return pieces

    def _pop(self) -> SharedItem:
        newest = self._newest
        item = self._items.popleft() if newest is None else newest.pop(next(iter(newest)))
        self.size -= item.size(self._variant)
        return item

    def drop_oldest(self, limit: int) -> None:
        """Drop the oldest items until no more than `limit` bytes are left, or one item."""
        while self.size > limit and len(self) > 1:
            self._pop()
            self.dropped += 1

    def keep_newest(self, key: Callable[[object], Hashable] | None, limit: int) -> None:
        """Until it is empty, keep only the newest item for each key, and no more than `limit` bytes."""
        if self._newest is None:
            self._key, self._newest = key, {}
            for item in self._items:
                self._replace(self._newest, item)
            self._items.clear()
        self.drop_oldest(limit)

    def clear(self) -> None:
        """Drop all items."""
        self.dropped += len(self)
        self._items.clear()
        self._newest = None
        self.size = 0
