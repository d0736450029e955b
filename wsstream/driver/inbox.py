"""What has arrived and was not read yet: the receiving side's bounded buffer. No I/O, no waiting.

The message that is being read is a state of the inbox, not of the reading call: a call that was
cancelled has lost nothing, and the next one may be of another kind. Compressed data waits as it came
and is inflated when it is asked for, so it takes no more room than it took on the wire.
"""

from __future__ import annotations

from typing import cast

from wsstream.codec.events import PIECE_OVERHEAD, Chunk, Event, Kind
from wsstream.codec.speedups import UnreadQueue
from wsstream.codec.unread import CLOSED_FOR_MESSAGE, UNLIMITED, size_of
from wsstream.codec.utf8 import UTF8Validator
from wsstream.errors import InvalidUTF8, MessageTooBig, ProtocolViolation
from wsstream.protocol.deflate import Inflater

__all__ = ["Inbox"]

_PIECE = 65536  # bytes inflated at once
_STEP = 256 * 1024  # bytes inflated without giving other tasks their turn
_PIECES = 512  # chunks taken without giving other tasks their turn


class Inbox:
    """A queue of whole messages and chunks, with the message that is being taken apart in front.

    Args:
        inflater: for compressed messages, if they were agreed on.
        limit: the most bytes of a message that `queue` gives by itself.

    Attributes:
        queue: whole messages, and the chunks of others, in the order of arrival. Its `pop` is the short
            way for most messages; it is shut while a message is being taken apart.
        discarding: everything is dropped, for good.
        busy: the last call has left data for the next one, to bound its own time; no need to wait.
    """

    __slots__ = (
        "_compressed",
        "_ended",
        "_error",
        "_front",
        "_inflated",
        "_inflater",
        "_kind",
        "_last",
        "_skipping",
        "_start",
        "_utf8",
        "busy",
        "discarding",
        "queue",
    )

    def __init__(self, inflater: Inflater | None = None, limit: int = UNLIMITED) -> None:
        self._inflater = inflater
        self.queue = UnreadQueue(limit)
        self.discarding = False
        self.busy = False
        self._last = False  # nothing more will arrive
        self._skipping = False  # the rest of a message that nobody wants is still to come
        self._kind: Kind | None = None  # of the message in front
        self._front: bytes | bytearray = b""  # what was taken from the queue,
        self._start = 0  # and how much of that was handed on
        self._ended = False  # its last chunk has been taken from the queue
        self._compressed = False
        self._inflated = False  # of a compressed message: to its end
        self._error: InvalidUTF8 | ProtocolViolation | None = None  # found in it, not raised yet
        self._utf8 = UTF8Validator()
        if inflater is not None:
            self.queue.inflate = self._inflate_whole

    @property
    def held(self) -> int:
        """Payload bytes in the queue, plus 64 for each piece."""
        return self.queue.cost

    # -- filling -----------------------------------------------------------------------------

    def put(self, events: list[Event], cost: int, *, control: bool = True) -> None:
        """Append the messages and chunks among `events`, which cost `cost`; without `control` all are."""
        if not self.discarding:
            if control:
                events = [event for event in events if isinstance(event, str | bytes | Chunk)]
            self.queue.extend(cast("list[str | bytes | Chunk]", events), cost)
            if self._skipping and not self._must_inflate():
                self.finish()

    def discard(self) -> None:
        """Drop everything that is there and that will come."""
        self.discarding = True
        self.queue.clear()
        self._forget()

    def end(self) -> None:
        """Nothing more will arrive."""
        self._last = True
        if not self.queue and self._kind is None:
            self._release()

    # -- whole messages ----------------------------------------------------------------------

    def take_message(self, limit: int | None) -> str | bytes | None:
        """The next message whole; ``None``: it is not complete yet.

        Raises:
            MessageTooBig: it has more than `limit` bytes.
        """
        if self._kind is None:
            message = self.queue.take_message(UNLIMITED if limit is None else limit)
            if message is not None:
                return message
        kind = self.begin()
        if kind is None or (payload := self.take_rest(limit)) is None:
            return None
        self._forget()
        return payload.decode() if kind == "text" else payload

    def take_rest(self, limit: int | None) -> bytes | None:
        """What is left of the message in front; ``None``: its end is not here yet.

        Raises:
            MessageTooBig: that is more than `limit` bytes.
        """
        self.busy = False
        _check(len(self._front) - self._start, limit)
        room, pieces = _STEP if self._compressed else UNLIMITED, _PIECES
        while (piece := self._next_piece(limit)) is not None:
            self._gather(piece)
            _check(len(self._front) - self._start, limit)
            room, pieces = room - len(piece), pieces - 1
            if (room <= 0 or not pieces) and not self._is_whole():
                self.busy = True
                return None
        if not self._is_whole():
            return None
        _check(len(self._front) - self._start, limit)
        rest = bytes(self._front[self._start :] if self._start else self._front)
        self._front, self._start = b"", 0
        return rest

    def _next_piece(self, limit: int | None) -> bytes | None:
        """The next piece for a message that is wanted whole, one byte above `limit` at the most."""
        if self._compressed:
            have = len(self._front) - self._start
            return self._inflate(_PIECE if limit is None else limit - have + 1) or None
        return self._pop_chunk().payload if self.queue and not self._ended else None

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
        return self._is_whole() and not self._front

    @property
    def partial(self) -> bool:
        """Whether a message is in front, or being skipped, whose end has not arrived."""
        return self._kind is not None and not self._ended

    def begin(self) -> Kind | None:
        """Put the next message in front unless one is there; its kind, or ``None``: not yet."""
        self.busy = False
        if self._skipping and not self._skip():
            return None
        if self._kind is None and (item := self.queue.front()) is not None:
            if isinstance(item, Chunk):
                self._begin(item)
            else:
                self.queue.closed_for |= CLOSED_FOR_MESSAGE
                message = self._pop_whole()
                self._kind = "text" if isinstance(message, str) else "binary"
                self._front = message.encode() if isinstance(message, str) else message
                self._ended = True
        return self._kind

    def _begin(self, chunk: Chunk) -> None:
        self.queue.closed_for |= CLOSED_FOR_MESSAGE
        self._kind = chunk.kind
        self._compressed = chunk.compressed
        self._utf8 = UTF8Validator()

    def take_chunk(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of the message in front; ``b""`` when nothing of it is here."""
        self.busy = False
        if self._compressed and not self._front:
            return self._inflate_all(min(max_bytes, _STEP))
        pieces = _PIECES
        while not self._front and self.queue and not self._ended:
            self._front = self._pop_chunk().payload
            if not (pieces := pieces - 1):
                self.busy = not self._front
                break
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
        self._skipping = self._kind is not None
        if self._must_inflate() and not self._inflated:
            return
        while self.queue and not self._ended:
            self._pop_chunk()
        if self._ended:
            self._forget()

    def _skip(self) -> bool:
        """Go on skipping the message in front; whether that is done. (Without takeover `put` does it.)"""
        if self._must_inflate():
            for _ in range(_STEP // _PIECE):
                if not self._inflate(_PIECE):
                    break
            else:
                self.busy = True
            if self._inflated:
                self._forget()
        return not self._skipping

    # -- compressed messages -----------------------------------------------------------------

    def _must_inflate(self) -> bool:
        """Whether the message in front has to be inflated even if nobody wants it (takeover)."""
        return self._compressed and self._inflater is not None and self._inflater.remembers

    def _is_whole(self) -> bool:
        return self._inflated if self._compressed else self._ended

    def _inflate_whole(self, chunk: Chunk, limit: int) -> str | bytes | None:
        """A message that came in one chunk, which was taken from the queue.

        ``None``: it has more than `limit` bytes, or more than a piece, or breaks a rule; what was found is
        in front, and the next call that asks for more of the message finds the rest.
        """
        inflater = self._inflater
        assert inflater is not None
        payload, whole = b"", False
        error: InvalidUTF8 | ProtocolViolation | None = None
        try:
            payload, whole = inflater.take_whole(chunk.payload, min(limit + 1, _PIECE))
            if whole:
                message = payload.decode() if chunk.kind == "text" else payload
                if self._last and not self.queue:
                    self._release()
                return message
        except UnicodeDecodeError:
            error = InvalidUTF8("a text message is not UTF-8")
        except ValueError as exc:
            error = ProtocolViolation(str(exc))
        self._begin(chunk)
        self._front, self._ended, self._inflated = payload, True, whole
        if error is None and chunk.kind == "text" and not self._utf8.feed(payload, last=False):
            error = InvalidUTF8("a text message is not UTF-8")
        if error is not None:
            self._front, self._error = b"", error
        return None

    def _inflate(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of the message in front; ``b""``: nothing more is here, or it is at its end."""
        inflater = self._inflater
        assert inflater is not None
        if self._error is not None and not (self._skipping and isinstance(self._error, InvalidUTF8)):
            raise self._error
        while not self._inflated:
            try:
                chunk = inflater.take(min(max_bytes, _PIECE))
                if not chunk and self._ended:
                    inflater.end()
                    self._inflated = True
            except ValueError as error:
                raise ProtocolViolation(str(error)) from error
            if chunk or self._inflated:
                self._check_text(chunk, last=self._inflated)
                return chunk
            if not self.queue:
                break
            inflater.feed(self._pop_chunk().payload)
        return b""

    def _inflate_all(self, max_bytes: int) -> bytes:
        """Like `_inflate`, but less than `max_bytes` only if no more is here: so the end is seen with it."""
        pieces = [piece := self._inflate(max_bytes)]
        while piece and (max_bytes := max_bytes - len(piece)):
            pieces.append(piece := self._inflate(max_bytes))
        return b"".join(pieces)

    def _check_text(self, chunk: bytes, *, last: bool) -> None:
        if self._kind == "text" and not self._skipping and not self._utf8.feed(chunk, last=last):
            raise InvalidUTF8("a text message is not UTF-8")

    def _pop_whole(self) -> str | bytes:
        message = self.queue.take_raw()
        assert not isinstance(message, Chunk)
        self.queue.cost -= size_of(message) + PIECE_OVERHEAD
        return message

    def _pop_chunk(self) -> Chunk:
        chunk = self.queue.take_raw()
        assert isinstance(chunk, Chunk), "the chunks of a message are not interrupted"
        self.queue.cost -= len(chunk.payload) + PIECE_OVERHEAD
        self._ended = chunk.last
        return chunk

    def _forget(self) -> None:
        if self._kind is not None:
            self._kind = None
            self.queue.closed_for &= ~CLOSED_FOR_MESSAGE
        self._front, self._start, self._error = b"", 0, None
        if self._compressed and self._inflater is not None:
            self._inflater.forget()
        self._ended = self._skipping = self._compressed = self._inflated = self.busy = False
        if self.discarding or (self._last and not self.queue):
            self._release()

    def _release(self) -> None:
        """No message will be inflated any more."""
        if self._inflater is not None:
            self._inflater.release()
            self.queue.inflate = None


def _check(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        what = f"a message has more than {limit} bytes"
        raise MessageTooBig(f"{what}: raise max_message_size, or read it in chunks by message()", reason=what)
