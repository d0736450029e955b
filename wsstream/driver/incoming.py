"""The message that is being taken from the inbox piece by piece. No I/O, no waiting.

It is an object of its own, not a state of the call that reads it: a call that was cancelled has lost nothing,
and the next one may be of another kind. A plain message is its chunks. A compressed one is inflated when the
reader asks for it, so while it waits it takes no more room than on the wire.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, auto

from wsstream.codec.events import PIECE_OVERHEAD, Chunk, Kind
from wsstream.codec.unread import UNLIMITED, UnreadQueue
from wsstream.driver.fairness import PIECES_PER_CALL
from wsstream.errors import MessageTooBig

__all__ = ["IncomingMessage", "PlainMessage", "Progress", "WholeMessage"]


class Progress(Enum):
    """How much of a message has been taken from the queue."""

    ARRIVING = auto()
    """Its last chunk has not."""
    ARRIVED = auto()
    """All of it has; a compressed message is not inflated to its end."""
    WHOLE = auto()
    """All of it has, and is in the buffer or was handed to the reader."""


class IncomingMessage(ABC):
    """One message of the peer.

    Args:
        queue: where its chunks are, first.
        kind: ``"text"`` or ``"binary"``.

    Attributes:
        kind: as given.
        abandoned: nobody wants the rest; it is dropped as it arrives.
        more_ready: the last call left data for the next one, to bound its own time: no need to wait.
    """

    __slots__ = ("_buffer", "_progress", "_queue", "_start", "abandoned", "kind", "more_ready")

    def __init__(self, queue: UnreadQueue, kind: Kind) -> None:
        self.kind: Kind = kind
        self.abandoned = False
        self.more_ready = False
        self._queue = queue
        self._progress = Progress.ARRIVING
        self._buffer: bytes | bytearray = b""  # bytes taken from the queue,
        self._start = 0  # and how much of that the reader has

    @property
    def is_complete(self) -> bool:
        """Whether the reader has all of it."""
        return self._progress is Progress.WHOLE and not self._buffer

    @abstractmethod
    def take_chunk(self, max_bytes: int) -> bytes:
        """Up to `max_bytes`; ``b""`` if nothing of it has arrived, or it is complete."""

    def abandon(self) -> None:
        """Drop the rest, also what is still to arrive: see `skip`."""
        self.abandoned = True
        self._clear()

    @abstractmethod
    def skip(self) -> bool:
        """Of an abandoned message, drop what has arrived; returns whether that was all of it.

        Raises:
            ProtocolViolation: it had to be inflated, and that failed.
        """

    @property
    def is_costly_to_skip(self) -> bool:
        """Whether skipping takes time, because the message has to be inflated. A reader then does it."""
        return False

    def forget(self) -> None:  # noqa: B027 - most messages keep nothing elsewhere
        """The reader has all of it, or wants no more of it."""

    @abstractmethod
    def _next_piece(self, limit: int | None) -> bytes | None:
        """The next piece for a reader that wants the rest whole, at most one byte above `limit`."""

    def take_rest(self, limit: int | None) -> bytes | None:
        """The rest of it; ``None``: its end has not arrived, or more is ready.

        Raises:
            MessageTooBig: the rest has more than `limit` bytes.
        """
        self.more_ready = False
        self._check(limit)
        room, pieces = self._step, PIECES_PER_CALL
        while (piece := self._next_piece(limit)) is not None:
            self._gather(piece)
            self._check(limit)
            room, pieces = room - len(piece), pieces - 1
            if (room <= 0 or not pieces) and self._progress is not Progress.WHOLE:
                self.more_ready = True
                return None
        if self._progress is not Progress.WHOLE:
            return None
        return self._take_buffer()

    @property
    def _has_arrived(self) -> bool:
        return self._progress is not Progress.ARRIVING

    @property
    def _step(self) -> int:
        return UNLIMITED

    def _check(self, limit: int | None) -> None:
        if limit is not None and len(self._buffer) - self._start > limit:
            what = f"a message has more than {limit} bytes"
            raise MessageTooBig(
                f"{what}: raise max_message_size, or read it in chunks by message()", reason=what
            )

    def _gather(self, piece: bytes) -> None:
        if not self._buffer:
            self._buffer = piece
            return
        if not isinstance(self._buffer, bytearray):
            self._buffer = bytearray(self._buffer)
        self._buffer += piece

    def _take_buffer(self, max_bytes: int = UNLIMITED) -> bytes:
        start, end = self._start, self._start + max_bytes
        if end < len(self._buffer):
            self._start = end
            return bytes(self._buffer[start:end])
        chunk = bytes(self._buffer[start:] if start else self._buffer)
        self._clear()
        return chunk

    def _clear(self) -> None:
        self._buffer, self._start = b"", 0

    def _pop_chunk(self) -> bytes:
        chunk = self._queue.take_raw()
        assert isinstance(chunk, Chunk), "the chunks of a message are not interrupted"
        self._queue.cost -= len(chunk.payload) + PIECE_OVERHEAD
        if chunk.last:
            self._progress = Progress.ARRIVED
        return chunk.payload


class WholeMessage(IncomingMessage):
    """A message that came whole, and is read in chunks all the same."""

    __slots__ = ()

    def __init__(self, queue: UnreadQueue, kind: Kind, payload: bytes) -> None:
        super().__init__(queue, kind)
        self._buffer = payload
        self._progress = Progress.WHOLE

    def take_chunk(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of it."""
        return self._take_buffer(max_bytes)

    def skip(self) -> bool:
        """Nothing is left to drop."""
        return True

    def _next_piece(self, limit: int | None) -> bytes | None:
        return None


class PlainMessage(IncomingMessage):
    """A message that comes in chunks, which the decoder has checked."""

    __slots__ = ()

    def take_chunk(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of its first chunk that is not empty."""
        self.more_ready = False
        pieces = PIECES_PER_CALL
        while not self._buffer and (piece := self._next_piece(None)) is not None:
            self._buffer = piece
            if not (pieces := pieces - 1):
                self.more_ready = not self._buffer
                break
        return self._take_buffer(max_bytes)

    def skip(self) -> bool:
        """Drop what has arrived."""
        while self._next_piece(None) is not None:
            pass
        return self._progress is Progress.WHOLE

    def _next_piece(self, limit: int | None) -> bytes | None:
        if self._progress is Progress.WHOLE or not self._queue:
            return None
        piece = self._pop_chunk()
        if self._progress is Progress.ARRIVED:
            self._progress = Progress.WHOLE
        return piece
