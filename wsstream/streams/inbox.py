"""What has arrived and was not read yet: the receiving side's bounded buffer. No I/O, no waiting.

The message that is being read is a state of the inbox, not of the reading call: a call that was
cancelled has lost nothing, and the next one may be of another kind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from wsstream.codec.decoder import PIECE_OVERHEAD
from wsstream.codec.events import Chunk, Event, Kind
from wsstream.errors import MessageTooBig

__all__ = ["Inbox"]


class Inbox:
    """A queue of whole messages and chunks, with the message that is being taken apart in front.

    Attributes:
        queue: whole messages, and the chunks of others, in the order of arrival.
        held: payload bytes in the queue, plus 64 for each piece.
        discarding: everything is dropped, for good.
    """

    __slots__ = ("_ended", "_front", "_kind", "_skipping", "_start", "discarding", "held", "queue")

    def __init__(self) -> None:
        self.queue: deque[str | bytes | Chunk] = deque()
        self.held = 0
        self.discarding = False
        self._skipping = False  # the rest of a message that nobody wants is still to come
        self._kind: Kind | None = None  # of the message in front
        self._front: bytes | bytearray = b""  # what was taken from the queue,
        self._start = 0  # and how much of that was handed on
        self._ended = False  # its last chunk has been taken from the queue

    # -- filling -----------------------------------------------------------------------------

    def put(self, events: Iterable[Event], cost: int) -> None:
        """Append the messages and chunks among `events`, which cost `cost`."""
        if not self.discarding:
            self.queue.extend(event for event in events if isinstance(event, str | bytes | Chunk))
            self.held += cost
            if self._skipping:
                self.finish()

    def discard(self) -> None:
        """Drop everything that is there and that will come."""
        self.discarding = True
        self.queue.clear()
        self.held = 0
        self._forget()

    # -- whole messages ----------------------------------------------------------------------

    def take_message(self, limit: int | None) -> str | bytes | None:
        """The next message whole; ``None``: it is not complete yet.

        Raises:
            MessageTooBig: it has more than `limit` bytes.
        """
        if self._kind is None and self.queue and not isinstance(self.queue[0], Chunk):
            message = self._pop_whole()
            _check(_size(message), limit)
            return message
        kind = self.begin()
        payload = self.take_rest(limit)
        if payload is None:
            return None
        self._forget()
        return payload.decode() if kind == "text" else payload

    def take_rest(self, limit: int | None) -> bytes | None:
        """What is left of the message in front; ``None``: its end is not here yet.

        Raises:
            MessageTooBig: that is more than `limit` bytes.
        """
        while self.queue and not self._ended and self.begin() is not None:
            self._gather(self._pop_chunk().payload)
            _check(len(self._front) - self._start, limit)
        if not self._ended:
            return None
        _check(len(self._front) - self._start, limit)
        rest = bytes(self._front[self._start :] if self._start else self._front)
        self._front, self._start = b"", 0
        return rest

    def _gather(self, payload: bytes) -> None:
        if not self._front:
            self._front = payload
            return
        if not isinstance(self._front, bytearray):
            self._front = bytearray(self._front)
        self._front += payload

    # -- chunk by chunk ----------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether the message in front has been handed on to its end."""
        return self._ended and not self._front

    @property
    def partial(self) -> bool:
        """Whether a message is in front, or being skipped, whose end has not arrived."""
        return self._kind is not None and not self._ended

    def begin(self) -> Kind | None:
        """Put the next message in front unless one is there; its kind, or ``None``: not yet."""
        if self._skipping:
            return None
        if self._kind is None and self.queue:
            item = self.queue[0]
            if isinstance(item, Chunk):
                self._kind = item.kind
            else:
                message = self._pop_whole()
                self._kind = "text" if isinstance(message, str) else "binary"
                self._front = message.encode() if isinstance(message, str) else message
                self._ended = True
        return self._kind

    def take_chunk(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of the message in front; ``b""`` when nothing of it is here."""
        while not self._front and self.queue and not self._ended:
            self._front = self._pop_chunk().payload
        start, end = self._start, self._start + max_bytes
        if end < len(self._front):
            self._start = end
            return bytes(self._front[start:end])
        chunk = bytes(self._front[start:] if start else self._front)
        self._front, self._start = b"", 0
        return chunk

    def finish(self) -> None:
        """Be done with the message in front, dropping the rest, also what is still to come."""
        self._front, self._start = b"", 0
        while self.queue and not self._ended:
            self._pop_chunk()
        if self._ended:
            self._forget()
        else:
            self._skipping = self._kind is not None

    def _pop_whole(self) -> str | bytes:
        message = self.queue.popleft()
        assert not isinstance(message, Chunk)
        self.held -= _size(message) + PIECE_OVERHEAD
        return message

    def _pop_chunk(self) -> Chunk:
        chunk = self.queue.popleft()
        assert isinstance(chunk, Chunk), "the chunks of a message are not interrupted"
        self.held -= len(chunk.payload) + PIECE_OVERHEAD
        self._ended = chunk.last
        return chunk

    def _forget(self) -> None:
        self._kind = None
        self._front, self._start = b"", 0
        self._ended = self._skipping = False


def _size(message: str | bytes) -> int:
    """The bytes of a whole message's payload."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode())


def _check(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise MessageTooBig(f"a message has more than {limit} bytes")
