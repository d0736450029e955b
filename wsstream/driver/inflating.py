"""A compressed message that is being taken from the inbox: it is inflated when the reader asks for it."""

from __future__ import annotations

from wsstream.codec.events import Kind
from wsstream.codec.unread import UnreadQueue
from wsstream.codec.utf8 import UTF8Validator
from wsstream.driver.fairness import INFLATE_STEP
from wsstream.driver.incoming import IncomingMessage, Progress
from wsstream.errors import InvalidUTF8, ProtocolViolation
from wsstream.protocol.inflate import Inflater

__all__ = ["INFLATED_PIECE", "CompressedMessage"]

INFLATED_PIECE = 65536
"""Bytes inflated in one call of zlib."""


class CompressedMessage(IncomingMessage):
    """A message that comes compressed (RFC 7692 section 6.2), and in text unchecked.

    Args:
        queue, kind: as of every message.
        inflater: that of the connection, which is between two messages.
    """

    __slots__ = ("_error", "_inflater", "_utf8")

    def __init__(self, queue: UnreadQueue, kind: Kind, inflater: Inflater) -> None:
        super().__init__(queue, kind)
        self._inflater = inflater
        self._utf8 = UTF8Validator()
        self._error: InvalidUTF8 | ProtocolViolation | None = None  # found in it, not raised yet

    @classmethod
    def begun(
        cls,
        queue: UnreadQueue,
        kind: Kind,
        inflater: Inflater,
        payload: bytes,
        *,
        whole: bool,
        error: ValueError | None,
    ) -> CompressedMessage:
        """A message in one chunk, which was taken from the queue, and of which `payload` was inflated.

        `whole`: that is all of it. `error`: what was found wrong with it, which the next call raises.
        """
        message = cls(queue, kind, inflater)
        message._progress = Progress.WHOLE if whole else Progress.ARRIVED
        if error is None and (kind == "binary" or message._utf8.feed(payload, last=False)):
            message._buffer = payload
        elif error is None or isinstance(error, UnicodeDecodeError):
            message._error = InvalidUTF8("a text message is not UTF-8")
        else:
            message._error = ProtocolViolation(str(error))
        return message

    def take_chunk(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of it, less only if no more has arrived: so the reader sees the end with it."""
        self.more_ready = False
        if self._buffer:
            return self._take_buffer(max_bytes)
        max_bytes = min(max_bytes, INFLATE_STEP)
        pieces = [piece := self._inflate(max_bytes)]
        while piece and (max_bytes := max_bytes - len(piece)):
            pieces.append(piece := self._inflate(max_bytes))
        return b"".join(pieces)

    def skip(self) -> bool:
        """Drop what has arrived. With context takeover, later messages refer to it, so it is inflated."""
        if not self._inflater.remembers:
            while self._queue and not self._has_arrived:
                self._pop_chunk()
            return self._has_arrived
        self.more_ready = False
        for _ in range(INFLATE_STEP // INFLATED_PIECE):
            if not self._inflate(INFLATED_PIECE):
                break
        else:
            self.more_ready = True
        return self._progress is Progress.WHOLE

    @property
    def is_costly_to_skip(self) -> bool:
        """Whether it has to be inflated."""
        return self._inflater.remembers and self._progress is not Progress.WHOLE

    def forget(self) -> None:
        """Make the inflater ready for another message."""
        self._inflater.forget()

    @property
    def _step(self) -> int:
        return INFLATE_STEP

    def _next_piece(self, limit: int | None) -> bytes | None:
        have = len(self._buffer) - self._start
        return self._inflate(INFLATED_PIECE if limit is None else limit - have + 1) or None

    def _inflate(self, max_bytes: int) -> bytes:
        """Up to `max_bytes`; ``b""``: nothing more has arrived, or it is at its end."""
        if self._error is not None and not (self.abandoned and isinstance(self._error, InvalidUTF8)):
            raise self._error
        while self._progress is not Progress.WHOLE:
            try:
                chunk = self._inflater.take(min(max_bytes, INFLATED_PIECE))
                if not chunk and self._progress is Progress.ARRIVED:
                    self._inflater.end()
                    self._progress = Progress.WHOLE
            except ValueError as error:
                raise ProtocolViolation(str(error)) from error
            if chunk or self._progress is Progress.WHOLE:
                self._check_text(chunk)
                return chunk
            if not self._queue:
                break
            self._inflater.feed(self._pop_chunk())
        return b""

    def _check_text(self, chunk: bytes) -> None:
        last = self._progress is Progress.WHOLE
        if self.kind == "text" and not self.abandoned and not self._utf8.feed(chunk, last=last):
            raise InvalidUTF8("a text message is not UTF-8")
