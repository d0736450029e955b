"""The queue of decoded messages that the reader has not taken yet: the hot path of receiving.

`UnreadQueue` and `MessageIterator` have compiled versions, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol

from wsstream.codec.events import PIECE_OVERHEAD, Chunk

__all__ = [
    "CLOSED_FOR_MESSAGE",
    "CLOSED_FOR_RECEIVER",
    "CLOSED_FOR_RELAY",
    "UNLIMITED",
    "MessageIterator",
    "UnreadQueue",
    "size_of",
]

# Reasons for which `take_message_now` takes nothing: the bits of `UnreadQueue.closed_for`.
CLOSED_FOR_MESSAGE = 1
"""The reader is taking a message in chunks, and the rest of it comes first."""
CLOSED_FOR_RECEIVER = 2
"""A task is already waiting for the next message."""
CLOSED_FOR_RELAY = 4
"""A relay forwards all messages."""

UNLIMITED = 1 << 62
"""Bytes: more than any message has."""


class UnreadQueue:
    """Complete messages and chunks of others, in the order of arrival.

    Attributes:
        cost: their bytes of payload, plus 64 for each.
        limit: bytes; `take_message_now` refuses larger messages.
        low_water: `take_message_now` refuses to bring `cost` down to this many bytes, so that the caller
            notices and resumes reading.
        closed_for: the reasons for which `take_message_now` takes nothing, as bits such as
            CLOSED_FOR_MESSAGE; 0: none.
        parked: whether an iterator waits in this queue.
        inflate: a function of the only chunk of a compressed message, which was taken, and a limit in bytes.
            It returns the message, or ``None`` if inflating it needs more than one step. Without it,
            compressed messages are not taken here.
    """

    __slots__ = ("_items", "closed_for", "cost", "inflate", "limit", "low_water")

    parked = False  # see `wake`

    def __init__(self, limit: int = UNLIMITED) -> None:
        self.cost = 0
        self.limit = limit
        self.low_water = -1
        self.closed_for = 0
        self.inflate: Callable[[Chunk, int], str | bytes | None] | None = None
        self._items: deque[str | bytes | Chunk] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str | bytes | Chunk]:
        """Iterate over the items as they are now, in order, and take none of them."""
        return iter(list(self._items))

    def extend(self, items: list[str | bytes | Chunk], cost: int) -> None:
        """Append `items`, which cost `cost`: their bytes of payload, plus 64 for each."""
        self._items.extend(items)
        self.cost += cost

    def take_message_now(self) -> str | bytes | None:
        """Take the next message if it is complete, within `limit`, and nobody has to know that it is gone.

        ``None``: it is not, or `closed_for` names a reason, or `cost` would reach `low_water`.
        """
        return None if self.closed_for else self._take_message(self.limit, self.low_water)

    def take_message(self, limit: int) -> str | bytes | None:
        """Take the next message, whose beginning was not taken yet, if it is complete and within `limit`.

        ``None``: it is not.
        """
        return self._take_message(limit, -1)

    def _take_message(self, limit: int, low_water: int) -> str | bytes | None:
        if not self._items:
            return None
        first = self._items[0]
        if isinstance(first, Chunk):
            return self._take_chunks(first, limit, low_water)
        size = size_of(first)
        left = self.cost - size - PIECE_OVERHEAD
        if size > limit or left <= low_water:
            return None
        self.cost = left
        return self._items.popleft()  # type: ignore[return-value]

    def _take_chunks(self, first: Chunk, limit: int, low_water: int) -> str | bytes | None:
        """Take a message that came in chunks, which begin with `first`; if it is compressed, in one chunk."""
        kind, _, _, compressed = first
        payloads: list[bytes] = []
        total, left = 0, self.cost
        for chunk in self._items:
            assert isinstance(chunk, Chunk), "the chunks of a message must not be interrupted"
            _, payload, last, _ = chunk
            payloads.append(payload)
            total += len(payload)
            left -= len(payload) + PIECE_OVERHEAD
            if left <= low_water:
                return None
            if compressed and (not last or self.inflate is None):
                return None
            if not compressed and total > limit:
                return None
            if last:
                break
        else:
            return None
        self.cost = left
        for _ in payloads:
            self._items.popleft()
        if compressed:
            assert self.inflate is not None
            return self.inflate(first, limit)
        joined = payloads[0] if len(payloads) == 1 else b"".join(payloads)
        return joined.decode() if kind == "text" else joined

    def front(self) -> str | bytes | Chunk | None:
        """Return the first item, and leave it; ``None``: the queue is empty."""
        return self._items[0] if self._items else None

    def take_raw(self) -> str | bytes | Chunk:
        """Take the first item, a message or a chunk. The caller subtracts its cost from `cost`.

        Raises:
            IndexError: the queue is empty.
        """
        return self._items.popleft()

    def wake(self, at_once: bool = False) -> bool:
        """Wake the iterator that waits in this queue, if one does; returns whether one did.

        Only compiled iterators do, on asyncio. With `at_once` its task runs before this returns: call it so
        in a callback of the event loop, as the last act.
        """
        return False

    def clear(self) -> None:
        """Drop all items. The other attributes stay as they are."""
        self.cost = 0
        self._items.clear()


class Step(Protocol):
    """What fills the queue: see :class:`~wsstream.codec.read_step.ReadStep`."""

    open: bool
    drained: bool
    watched: bool


class MessageIterator:
    """``async for`` over the messages of `queue`.

    A message that `take_message_now` does not return comes from the coroutine function `wait`, which raises
    StopAsyncIteration at the end. What ``anext()`` returns takes nothing before it is awaited.

    While `step` is open, and has drained its source or is watched by the event loop, there is nothing to do
    but wait. The iterator then waits by `park`, whose end means that something may have arrived. On asyncio's
    `loop` the compiled version is what the task waits for itself, and needs no `park`.
    """

    __slots__ = ("_park", "_queue", "_step", "_wait")

    def __init__(
        self,
        queue: UnreadQueue,
        wait: Callable[[], Coroutine[Any, Any, str | bytes]],
        step: Step | None = None,
        park: Callable[[], Awaitable[None]] | None = None,
        loop: Any = None,
    ) -> None:
        self._queue = queue
        self._wait = wait
        self._step = step
        self._park = park

    def __aiter__(self) -> MessageIterator:
        return self

    async def __anext__(self) -> str | bytes:
        message = self._queue.take_message_now()
        if message is None and self._only_waits():
            assert self._park is not None
            self._queue.closed_for |= CLOSED_FOR_RECEIVER
            try:
                await self._park()
            finally:
                self._queue.closed_for &= ~CLOSED_FOR_RECEIVER
            message = self._queue.take_message_now()
        return await self._wait() if message is None else message

    def _only_waits(self) -> bool:
        step, queue = self._step, self._queue
        if step is None or not step.open or queue.closed_for or len(queue):
            return False
        return step.drained or step.watched


def size_of(message: str | bytes) -> int:
    """Return the size of a message in bytes, for text as UTF-8."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode())
