"""What was decoded and not taken yet: the queue between decoder and reader, and the hot path of taking.

Like `scan.py` and `masking.py` this has a compiled twin, which does the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from wsstream.codec.events import PIECE_OVERHEAD, Chunk

__all__ = [
    "CLOSED_FOR_MESSAGE",
    "CLOSED_FOR_RECEIVER",
    "UNLIMITED",
    "MessageIterator",
    "UnreadQueue",
    "size_of",
]

# Reasons for which `take_message_now` gives nothing: the bits of `UnreadQueue.closed_for`.
CLOSED_FOR_MESSAGE = 1
"""A message is being taken apart, and its rest comes first."""
CLOSED_FOR_RECEIVER = 2
"""A task waits for the next message."""

UNLIMITED = 1 << 62
"""Bytes: more than there can be."""


class UnreadQueue:
    """Whole messages and chunks of others, in the order of arrival.

    Attributes:
        cost: their bytes of payload, plus 64 for each.
        limit: a message of more bytes is not for `take_message_now`.
        low_water: `take_message_now` refuses to bring `cost` down to this many bytes, so that the caller
            notices and resumes reading.
        closed_for: the reasons for which `take_message_now` gives nothing, as bits such as
            CLOSED_FOR_MESSAGE; 0: none.
        inflate: is given the only chunk of a compressed message, which was taken, and a limit; gives the
            message, or ``None`` if that is not to be had in one step. Without it none is inflated here.
    """

    __slots__ = ("_items", "closed_for", "cost", "inflate", "limit", "low_water")

    def __init__(self, limit: int = UNLIMITED) -> None:
        self.cost = 0
        self.limit = limit
        self.low_water = -1
        self.closed_for = 0
        self.inflate: Callable[[Chunk, int], str | bytes | None] | None = None
        self._items: deque[str | bytes | Chunk] = deque()  # last: what is dropped may call us

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str | bytes | Chunk]:
        """The pieces as they are now, in order; none is taken."""
        return iter(list(self._items))

    def extend(self, items: list[str | bytes | Chunk], cost: int) -> None:
        """Append `items`, which cost `cost`: their bytes, plus 64 for each."""
        self._items.extend(items)
        self.cost += cost

    def take_message_now(self) -> str | bytes | None:
        """Take the next message, if it is here to its end, may be taken whole, and no one has to know."""
        return None if self.closed_for else self._take_message(self.limit, self.low_water)

    def take_message(self, limit: int) -> str | bytes | None:
        """Take the next message, which begins in front; ``None``: not here to its end, or above `limit`."""
        return self._take_message(limit, -1)

    def _take_message(self, limit: int, low_water: int) -> str | bytes | None:
        if not self._items:
            return None
        front = self._items[0]
        if isinstance(front, Chunk):
            return self._take_chunks(front, limit, low_water)
        size = size_of(front)
        left = self.cost - size - PIECE_OVERHEAD
        if size > limit or left <= low_water:
            return None
        self.cost = left
        return self._items.popleft()  # type: ignore[return-value]

    def _take_chunks(self, front: Chunk, limit: int, low_water: int) -> str | bytes | None:
        """A message that came in chunks; if compressed, in one."""
        chunks: list[bytes] = []
        left = self.cost
        for chunk in self._items:
            assert isinstance(chunk, Chunk), "the chunks of a message are not interrupted"
            chunks.append(chunk.payload)
            left -= len(chunk.payload) + PIECE_OVERHEAD
            limit -= 0 if front.compressed else len(chunk.payload)
            if limit < 0 or left <= low_water or (front.compressed and not (chunk.last and self.inflate)):
                return None
            if chunk.last:
                break
        else:
            return None
        self.cost = left
        for _ in chunks:
            self._items.popleft()
        if front.compressed:
            assert self.inflate is not None
            return self.inflate(front, limit)
        payload = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return payload.decode() if front.kind == "text" else payload

    def front(self) -> str | bytes | Chunk | None:
        """What is in front; ``None``: nothing is here."""
        return self._items[0] if self._items else None

    def take_raw(self) -> str | bytes | Chunk:
        """Take the front, whatever it is; the caller counts it (`cost`). IndexError: there is none."""
        return self._items.popleft()

    def clear(self) -> None:
        """Drop everything."""
        self.cost = 0
        self._items.clear()


class MessageIterator:
    """``async for`` over the messages of `queue`; the coroutine function `wait` gives what cannot be popped.

    `wait` raises StopAsyncIteration at the end. What ``anext()`` gives takes nothing before it is awaited.
    """

    __slots__ = ("_queue", "_wait")

    def __init__(self, queue: UnreadQueue, wait: Callable[[], Coroutine[Any, Any, str | bytes]]) -> None:
        self._queue = queue
        self._wait = wait

    def __aiter__(self) -> MessageIterator:
        return self

    async def __anext__(self) -> str | bytes:
        message = self._queue.take_message_now()
        return await self._wait() if message is None else message


def size_of(message: str | bytes) -> int:
    """The bytes of a whole message's payload."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode())
