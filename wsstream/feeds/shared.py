"""Items as frames, made once for all followers.

A server does not mask what it sends, so all followers that agreed on the same options get the same bytes.
Also compressed: each item is compressed by itself, without a reference to an earlier one, which every peer
can inflate, with context takeover or without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from wsstream.codec.encoder import first_byte
from wsstream.codec.frames import Opcode
from wsstream.codec.speedups import make_frame
from wsstream.codec.utf8 import split_point
from wsstream.feeds.engine import Entry
from wsstream.feeds.protocol import item_head
from wsstream.protocol.deflate import Agreed, Deflater

__all__ = ["Batch", "SharedItem", "Variant", "batches", "variant_of"]

PIECE: Final = 64 * 1024
"""Bytes: small frames are joined up to this size, and larger messages cut; a Pong waits for one piece."""


class Variant:
    """How frames are made of an item. Equal ones are one object: it is looked up for each follower.

    Attributes:
        heads: each item has its offset before it, as in ``wsstream.feed.v1``.
        deflate: how it is compressed, if at all.
    """

    __slots__ = ("deflate", "heads")

    def __init__(self, heads: bool, deflate: Agreed | None) -> None:
        self.heads = heads
        self.deflate = deflate


_variant = lru_cache(maxsize=None)(Variant)  # as many as there are options of servers


def variant_of(*, heads: bool, deflate: Agreed | None) -> Variant:
    """The variant of a connection. Those that differ only in what its peer sends have the same."""
    if deflate is not None:
        deflate = replace(deflate, send_takeover=False, receive_window=15, receive_takeover=False)
    return _variant(heads, deflate)


class SharedItem:
    """One item, and the frames that were made of it."""

    __slots__ = ("_made", "data", "offset")

    def __init__(self, entry: Entry) -> None:
        self.offset, self.data = entry
        self._made: dict[Variant, tuple[tuple[bytes, ...], int]] = {}

    def frames(self, variant: Variant) -> tuple[bytes, ...]:
        """Its frames; more than one if it is large."""
        return self._make(variant)[0]

    def size(self, variant: Variant) -> int:
        """Bytes of its frames."""
        return self._make(variant)[1]

    def _make(self, variant: Variant) -> tuple[tuple[bytes, ...], int]:
        if (made := self._made.get(variant)) is None:
            text = isinstance(self.data, str)
            payload = self.data.encode() if isinstance(self.data, str) else self.data
            if variant.heads:
                payload = item_head(self.offset, text=text) + payload
            frames = tuple(_frames(payload, text and not variant.heads, variant.deflate))
            made = self._made[variant] = frames, sum(map(len, frames))
        return made


def _frames(payload: bytes, text: bool, deflate: Agreed | None) -> Iterator[bytes]:
    compressed = deflate is not None and len(payload) >= deflate.options.min_size
    if compressed and deflate is not None:
        payload = Deflater(deflate).compress(payload, last=True)
    opcode, rest = Opcode.TEXT if text else Opcode.BINARY, memoryview(payload)
    first = True
    while first or rest:
        size = split_point(rest, PIECE) if text and not compressed else min(PIECE, len(rest))
        part, rest = rest[:size], rest[size:]
        start = first_byte(opcode if first else Opcode.CONTINUATION, fin=not rest, rsv1=compressed and first)
        yield make_frame(start, part, None)
        first = False


class Batch:
    """Items that follow one another, small enough to be sent in one piece, or one that is larger.

    Attributes:
        items: at least one.
        first, last: their offsets.
    """

    __slots__ = ("_pieces", "first", "items", "last")

    def __init__(self, items: Sequence[SharedItem]) -> None:
        self.items = items
        self.first, self.last = items[0].offset, items[-1].offset
        self._pieces: dict[Variant, tuple[bytes, ...]] = {}

    def pieces(self, variant: Variant) -> tuple[bytes, ...]:
        """The frames of all items, in one piece unless it would be too large."""
        if (pieces := self._pieces.get(variant)) is None:
            pieces = self.items[0].frames(variant)
            if len(self.items) > 1:
                pieces = (b"".join(item.frames(variant)[0] for item in self.items),)
            self._pieces[variant] = pieces
        return pieces


def batches(entries: Sequence[Entry]) -> Iterator[Batch]:
    """Cut a page into batches."""
    items: list[SharedItem] = []
    room = PIECE
    for entry in entries:
        size = len(entry.data) * (4 if isinstance(entry.data, str) else 1) + 32  # with its heads, at most
        if items and size > room:
            yield Batch(items)
            items, room = [], PIECE
        items.append(SharedItem(entry))
        room -= size
    if items:
        yield Batch(items)
