"""The message that is being sent, and whose turn is next: the sending side's order. No I/O.

One message has the turn at a time; others wait, first in, first out. What was handed over belongs to
the outbox and goes out whole, whatever becomes of the call that handed it over.
"""

from __future__ import annotations

from collections import deque

import anyio

from wsstream.codec.batch import CLOSED_FOR_TURN, LARGEST, FrameBatch
from wsstream.codec.events import Close, Kind
from wsstream.codec.utf8 import split_point
from wsstream.driver.flow import FlowControl
from wsstream.protocol.connection import Connection
from wsstream.protocol.file_frames import FILE_STEP, FileRange
from wsstream.protocol.state import State

__all__ = ["Outbox", "OutgoingMessage", "Turn"]

_LARGEST_FILE_FRAME = 1 << 20  # bytes; a Pong waits for the end of it
_PAGE = 4096  # bytes
_SMALL = 4096  # bytes; smaller chunks are copied together


class Turn:
    """Who may send: one at a time, first in, first out. It is passed on by whoever completes a message.

    `batch` is shut while the turn is taken.
    """

    __slots__ = ("_batch", "_waiting", "taken")

    def __init__(self, batch: FrameBatch) -> None:
        self.taken = False
        self._batch = batch
        self._waiting: list[anyio.Event] = []  # empty, it has a tenth of the size of a deque

    @property
    def tasks_waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def acquire(self) -> None:
        """Wait for the turn. If cancelled, the turn is not taken."""
        if not self.taken:
            self.taken = True
            self._batch.closed_for |= CLOSED_FOR_TURN
            return
        event = anyio.Event()
        self._waiting.append(event)
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.release()
            else:
                self._waiting.remove(event)
            raise

    def release(self) -> None:
        """Pass the turn on."""
        if self._waiting:
            self._waiting.pop(0).set()
        else:
            self.taken = False
            self._batch.closed_for &= ~CLOSED_FOR_TURN

    def dissolve(self) -> None:
        """Let everybody go at once: the connection has ended, and they will see that."""
        for event in self._waiting:
            event.set()
        self._waiting.clear()


class OutgoingMessage:
    """A message of which a part may still be to come.

    Attributes:
        kind: ``"text"`` or ``"binary"``.
        declared: the size in bytes of a message that is sent as one frame, else ``None``.
        file: what is left of the part of a file that was handed over; such a message has no other data.
        compress: whether it may be compressed.
        borrowed: a piece is somebody else's mutable buffer.
        finished: all of it has been handed over.
        flushing: what is there should be sent even if it is little.
        size: bytes that were handed over and are not in a frame yet.
        taken: bytes that are in frames.
    """

    __slots__ = (
        "_pieces",
        "borrowed",
        "compress",
        "declared",
        "file",
        "finished",
        "flushing",
        "kind",
        "size",
        "taken",
    )

    def __init__(self, kind: Kind, declared: int | None = None, *, compress: bool = True) -> None:
        self.kind: Kind = kind
        self.declared = declared
        self.compress = compress
        self.file: FileRange | None = None
        self.borrowed = False
        self.finished = False
        self.flushing = False
        self.size = 0
        self.taken = 0
        self._pieces: deque[bytes | bytearray | memoryview] = deque()

    def append(self, data: bytes | memoryview) -> None:
        """Add `data`. Large mutable data is referred to until `detach` copies what is left of it."""
        size = len(data)
        self.size += size
        if size >= _SMALL:
            self.borrowed = self.borrowed or isinstance(data, memoryview)
            self._pieces.append(data)
        elif self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += data
        elif size:
            self._pieces.append(bytearray(data))

    def put_file(self, part: FileRange) -> None:
        """Have `part` sent next; what came before is in frames."""
        self.file = part
        self.size = len(part)

    def take_file(self, limit: int) -> FileRange:
        """Take up to `limit` bytes of the file."""
        assert self.file is not None
        part, rest = self.file[:limit], self.file[limit:]
        self.size = len(rest)
        self.taken += len(part)
        self.file = rest if rest else None
        return part

    def detach(self) -> None:
        """Copy what is left of mutable data: its owner may change it from now on."""
        if self.borrowed:
            self._pieces = deque(bytes(p) if isinstance(p, memoryview) else p for p in self._pieces)
            self.borrowed = False

    def take_equal(self, size: int, limit: int) -> list[memoryview]:
        """Take pieces of `size` bytes each, `limit` bytes or a little more, from a large buffer in front.

        Some of the buffer is left. Text is not taken: it is cut between code points.
        """
        if self.kind == "text" or not self._pieces:
            return []
        front = memoryview(self._pieces[0])
        taken = min((len(front) - 1) // size, -(-limit // size)) * size
        if taken > 0:
            self._pieces[0] = front[taken:]
            self.size -= taken
            self.taken += taken
        return [front[start : start + size] for start in range(0, taken, size)]

    def take(self, limit: int) -> bytes | memoryview:
        """Take up to `limit` bytes from the front; text is cut between code points if one fits."""
        parts: list[bytes | memoryview] = []
        room = limit
        while self._pieces and room > 0:
            piece = memoryview(self._pieces.popleft())
            size = min(len(piece), room)
            if self.kind == "text":
                size = split_point(piece, room) or (0 if parts else size)
            if size < len(piece):
                rest = piece[size:]
                self._pieces.appendleft(rest if piece.nbytes >= _SMALL else bytearray(rest))
            parts.append(piece[:size])
            room = room - size if size == len(piece) else 0
        result = parts[0] if len(parts) == 1 else b"".join(parts)
        self.size -= len(result)
        self.taken += len(result)
        return result


class Outbox:
    """What was handed over and is not in a frame yet.

    Attributes:
        turn: whose message is next.
        message: the one that has the turn, if anything of it may still come.
        closing: the Close that stands behind all that was accepted.
    """

    __slots__ = ("_connection", "_flow", "closing", "message", "turn")

    def __init__(self, connection: Connection, flow: FlowControl) -> None:
        self._connection = connection
        self._flow = flow
        self.turn = Turn(connection.queue.batch)
        self.message: OutgoingMessage | None = None
        self.closing: Close | None = None

    @property
    def size(self) -> int:
        """Bytes that were handed over and are not in a frame yet."""
        return 0 if self.message is None else self.message.size

    def close(self, close: Close) -> None:
        """Let `close` follow what has been accepted; messages that wait for their turn are not."""
        self.closing = close
        self.turn.dissolve()
        if self.message is not None:
            self.message.flushing = True

    def end(self) -> None:
        """Drop everything: nothing can be sent any more."""
        self.message = None
        self.turn.dissolve()

    def fill(self, *, idle: bool, taking: bool = False, limit: int = 1 << 62) -> int:
        """Make frames up to the high-water mark; a small chunk waits for more unless all is `idle`.

        While the transport is `taking` what it is offered, frames are made up to four times the mark, so
        that fewer calls hand over more. Frames that are no copies are not held up by it at all. Stops at
        `limit` bytes of payload, and returns how many went into frames: compressed, much more than the
        mark fits below it.
        """
        connection, framed = self._connection, 0
        mark = self._flow.send_high_water * (4 if taking else 1)
        while (
            framed < limit
            and self._worth_a_frame(idle)
            and (connection.queue.sendable < mark or not self._is_copied())
        ):
            framed += self._make_frames(limit - framed)
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
        return size - size % (FILE_STEP if size >= FILE_STEP else _PAGE)

    def _is_copied(self) -> bool:
        if self._connection.copies or self._flow.frame_size <= LARGEST:
            return True
        return self.message is not None and self.message.borrowed

    def _accepted_is_framed(self) -> bool:
        return self.message is None or (not self.message.size and not self.message.finished)

    def _make_frames(self, limit: int) -> int:
        """Make one, or of a large buffer several that are no copies; returns the bytes of payload."""
        message, connection = self.message, self._connection
        assert message is not None
        if message.file is not None:
            part = message.take_file(-(-limit // self._file_frame) * self._file_frame)
            connection.send_file(message.kind, part, self._file_frame)
            return len(part)
        if message.declared is None and not self._is_copied():
            fragments = message.take_equal(self._flow.frame_size, limit)
            if fragments:
                connection.send_fragments(message.kind, fragments)
                return len(fragments) * self._flow.frame_size
        if message.declared is not None and not message.taken:
            connection.begin_frame(message.kind, message.declared)
        payload = message.take(self._flow.frame_size)
        last = message.finished and not message.size
        if message.declared is None:
            connection.send_data(message.kind, payload, last=last, compress=message.compress)
        elif payload:
            connection.send_part(payload)
        if last:
            self.message = None
            self.turn.release()
        return len(payload)
