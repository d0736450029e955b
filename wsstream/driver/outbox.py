"""The message that is being sent, and whose turn is next: the sending side's order. No I/O.

One message has the turn at a time; others wait, first in, first out. What the application has handed over
belongs to the outbox and goes out whole, whatever becomes of the call that handed it over.
"""

from __future__ import annotations

from wsstream.codec.batch import LARGEST
from wsstream.codec.events import Close
from wsstream.driver.flow import FlowControl
from wsstream.driver.outgoing import OutgoingMessage
from wsstream.driver.turn import Turn
from wsstream.protocol.connection import Connection
from wsstream.protocol.file_frames import SENDFILE_SIZE
from wsstream.protocol.state import State

__all__ = ["Outbox"]

_LARGEST_FILE_FRAME = 1 << 20  # bytes; a Pong waits for the end of it
_PAGE = 4096  # bytes


class Outbox:
    """Messages that the application has handed over and no frame contains yet.

    Attributes:
        turn: whose message is next.
        message: the message that has the turn, unless all of it is in frames.
        closing: the Close that follows all accepted messages.
        frame_size: bytes of payload in one frame of a complete message, or of a large frame that a relay
            passes on; it may be changed at any time. Chunks keep to `FlowControl.frame_size`: many peers
            hold a frame until all of it has come, and whoever sends chunks may do so to keep them small.
    """

    __slots__ = ("_connection", "_flow", "closing", "frame_size", "message", "turn")

    def __init__(self, connection: Connection, flow: FlowControl) -> None:
        self._connection = connection
        self._flow = flow
        self.turn = Turn(connection.queue.batch)
        self.message: OutgoingMessage | None = None
        self.closing: Close | None = None
        self.frame_size = flow.frame_size

    @property
    def size(self) -> int:
        """Bytes that no frame contains yet."""
        return 0 if self.message is None else self.message.size

    def close(self, close: Close) -> None:
        """Send `close` after the accepted messages. Messages that wait for their turn are not accepted."""
        self.closing = close
        self.turn.wake_all()
        if self.message is not None:
            self.message.flushing = True

    def end(self) -> None:
        """Drop everything: nothing can be sent any more."""
        self.message = None
        self.turn.wake_all()

    def fill(self, *, idle: bool, taking: bool = False, limit: int = 1 << 62) -> int:
        """Make frames up to the high-water mark; a small chunk waits for more unless all is `idle`.

        While the transport is `taking` what it is offered, frames are made up to four times the mark, or up
        to `limit` if they are neither copies nor large, so that fewer calls hand over more. No others are
        made ahead: they keep their size, though the peer may become slow. Stops at `limit` bytes of payload,
        and returns how many went into frames: far more than the mark fit below it when they are compressed.
        """
        connection, framed = self._connection, 0
        while (
            framed < limit
            and self._worth_a_frame(idle)
            and (room := self._room(taking, limit) - connection.queue.sendable) > 0
        ):
            framed += self._make_frames(min(limit - framed, room))
            idle = False
        if self.closing is not None and connection.state is State.OPEN and self._accepted_is_framed():
            self.message = None
            connection.send_close(self.closing)
        return framed

    def _worth_a_frame(self, idle: bool) -> bool:
        message = self.message
        if message is None:
            return False
        if message.finished:
            return True
        if message.file is not None:
            return True
        return message.size >= self._flow.frame_size or (message.size > 0 and (idle or message.flushing))

    @property
    def _file_frame(self) -> int:
        """Bytes of a file in each frame: whole steps, or else whole pages."""
        size = min(self._flow.frame_size, _LARGEST_FILE_FRAME)
        return size - size % (SENDFILE_SIZE if size >= SENDFILE_SIZE else _PAGE)

    def _is_copied(self) -> bool:
        if self._connection.copies or self._flow.frame_size <= LARGEST:
            return True
        return self.message is not None and self.message.borrowed

    def _room(self, taking: bool, limit: int) -> int:
        """Bytes that may wait in frames."""
        if self.message is not None and self.message.file is not None:  # each of its frames is small
            return 1 << 62
        mark = self._flow.send_high_water
        if not taking:
            return mark
        large = self.frame_size > self._flow.frame_size
        return 4 * mark if large or self._is_copied() else max(4 * mark, limit)

    def _accepted_is_framed(self) -> bool:
        return self.message is None or (not self.message.size and not self.message.finished)

    def _make_frames(self, limit: int) -> int:
        """Make a frame, or several from a large buffer if they need no copy; return the bytes of payload."""
        message, connection = self.message, self._connection
        assert message is not None
        if message.file is not None:
            part = message.take_file(-(-limit // self._file_frame) * self._file_frame)
            connection.send_file(message.kind, part, self._file_frame)
            return len(part)
        size = self.frame_size if message.finished else self._flow.frame_size
        if message.declared is None and not self._is_copied():
            fragments = message.take_equal(size, limit)
            if fragments:
                connection.send_fragments(message.kind, fragments)
                return len(fragments) * size
        if message.declared is not None and not message.taken:
            connection.begin_frame(message.kind, message.declared)
        payload = message.take(size)
        last = message.finished and not message.size
        if message.declared is None:
            connection.send_data(message.kind, payload, last=last, compress=message.compress)
        elif payload:
            connection.send_part(payload)
        if last:
            self.message = None
            self.turn.release()
        return len(payload)
