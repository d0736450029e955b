"""What waits to be sent: encoded frames, in the order in which they may leave.

Control frames have a lane of their own that goes before data, though never into the middle of a
frame (RFC 6455 section 5.4). Every Ping gets its Pong while the transport takes what it is offered;
while it takes nothing only the latest Pong is kept (section 5.5.3), so a flood of Pings costs nothing.
Close stands behind the data or, if urgent, takes its place; nothing follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from wsstream.codec.batch import CLOSED_FOR_END
from wsstream.codec.frames import Opcode
from wsstream.codec.speedups import FrameBatch
from wsstream.protocol.file_frames import FileFrames, FileRange

__all__ = ["FrameQueue", "Piece"]

Piece: TypeAlias = bytes | memoryview | FileRange | FileFrames

_MAX_BUFFERS = 64  # for one gathering write
_MAX_OFFERED = 256  # pieces
_SMALL = 2048  # bytes; such pieces share a buffer
_MAX_PONGS = 16  # for the Pings of one read; of more, the earliest are not answered


class FrameQueue:
    """Frames on their way to the transport.

    Args:
        next_key: for the frames of `batch`, if they are masked.

    Attributes:
        batch: small messages behind all other data; they leave as one piece, into which no control frame
            goes. Shut when nothing may follow any more.
        files: parts of files that wait; while there are any, `pieces` tells what to offer.
        sent: bytes that have left.
        dropped: bytes of data that were put and will never leave.
        message_cut: an urgent Close dropped the rest of a message of which a part has left.
    """

    __slots__ = (
        "_at_border",
        "_close",
        "_close_urgent",
        "_data",
        "_head",
        "_offered",
        "_ping",
        "_pongs",
        "_size",
        "batch",
        "dropped",
        "files",
        "message_cut",
        "sent",
    )

    def __init__(self, next_key: Callable[[], bytes] | None = None) -> None:
        self.batch = FrameBatch(next_key)
        self.sent = 0
        self.dropped = 0
        self._reset()

    def _reset(self) -> None:
        self.files = 0
        self._head: memoryview | FileRange | None = None  # what is left of a piece of which a part has gone
        self._at_border = True  # behind the head, or behind all that has left
        self._offered = False  # and nothing was taken since: the transport is full
        self._pongs: list[bytes] = []
        self._ping: bytes | None = None
        self._data: list[tuple[Piece, bool]] = []  # (piece, it ends its frame)
        self._close: bytes | None = None
        self._close_urgent = False
        self._size = 0  # without the batch
        self.message_cut = False

    @property
    def size(self) -> int:
        """Bytes that wait, in both lanes."""
        return self._size + len(self.batch)

    @property
    def ready(self) -> bool:
        """Whether `buffers` offers something, and not all that waits is behind an incomplete frame."""
        return bool(self._head or self._data or self.batch or (self._at_border and self._has_control()))

    @property
    def sendable(self) -> int:
        """Bytes that wait, but none if all are of control frames behind an incomplete frame.

        Those wait for the application to go on; it must not wait for them.
        """
        return self.size if self.ready else 0

    @property
    def ping_waits(self) -> bool:
        """Whether a Ping has been put and nothing of it has left."""
        return self._ping is not None

    @property
    def pong_waits(self) -> bool:
        """Whether a Pong has been put and nothing of it has left."""
        return bool(self._pongs)

    def put_data(self, piece: bytes | memoryview, *, ends_frame: bool = True) -> None:
        """Queue a frame, or with `ends_frame` false a part of one, which never changes."""
        if self.batch:
            self._take_burst()
        self._data.append((piece, ends_frame))
        self._size += len(piece)

    def put_frames(self, headers: Sequence[bytes], payloads: Sequence[memoryview]) -> None:
        """Queue whole frames of data, each in two parts."""
        for header, payload in zip(headers, payloads, strict=True):
            self.put_data(header, ends_frame=False)
            self.put_data(payload)

    def put_file(self, frames: FileFrames) -> None:
        """Queue frames of data whose payload is in a file."""
        if self.batch:
            self._take_burst()
        self._data.append((frames, True))
        self._size += len(frames)
        self.files += 1

    def _take_burst(self) -> None:
        piece = self.batch.take()
        self._data.append((piece, True))
        self._size += len(piece)

    def put_pong(self, frame: bytes) -> None:
        """Queue a Pong: behind those that wait, or in their place while the transport takes nothing."""
        dropped = len(self._pongs) if self._offered else len(self._pongs) + 1 - _MAX_PONGS
        if dropped > 0:
            self._size -= sum(map(len, self._pongs[:dropped]))
            del self._pongs[:dropped]
        self._pongs.append(frame)
        self._size += len(frame)

    def put_ping(self, frame: bytes) -> None:
        """Queue a Ping in place of one that waits."""
        self._size += len(frame) - len(self._ping or b"")
        self._ping = frame

    def put_close(self, frame: bytes, *, urgent: bool) -> bool:
        """Queue the Close frame; if `urgent`, in place of the data, save the rest of a frame half gone.

        Returns false if Close can never leave, because the frame before it is not complete.
        """
        self.batch.closed_for |= CLOSED_FOR_END
        if self.batch:
            self._take_burst()
        if urgent:
            self._drop_data()
            if not self._at_border and not self._data:
                return False
        elif not (self._data[-1][1] if self._data else self._at_border):
            return False
        self._close = frame
        self._close_urgent = urgent
        self._size += len(frame)
        return True

    def clear(self) -> None:
        """Drop everything that waits, and take nothing more; the counts of what has left stay."""
        self.batch.closed_for |= CLOSED_FOR_END
        data = [self._head or b"", self.batch.take(), *(piece for piece, _ in self._data)]
        self.dropped += sum(map(len, data))
        self._reset()

    def buffers(self) -> list[bytes | memoryview]:
        """What to offer to the transport next, in order; at most 64 buffers. `advance` tells what it took.

        Without parts of files.
        """
        pieces: list[Any] = self.pieces()
        return _joined(pieces)

    def pieces(self) -> list[Piece]:
        """As `buffers`, with the parts of files, in up to 256 pieces."""
        if self.batch:
            self._take_burst()
        if not self._size:
            return []
        self._offered = True
        result: list[Piece] = []
        if len(self._data) == 1 and self._at_border and self._head is None and not self._has_control():
            return [self._data[0][0]]  # mostly it is this
        if self._head is not None:
            result.append(self._head)
        if self._at_border:
            result += self._control()
        for piece, ends_frame in self._data:
            result.append(piece)
            if len(result) >= _MAX_OFFERED or (ends_frame and not self._at_border):
                return result
        if self._close is not None and (self._at_border or self._data) and not self._close_urgent:
            result.append(self._close)
        return result

    def advance(self, count: int) -> None:
        """The first `count` bytes of `buffers()` or `pieces()` have left, at least 1."""
        self._offered = False
        self._size -= count
        self.sent += count
        while count:
            if self._head is not None:
                piece = self._head
            else:
                whole = self._pop()
                if len(whole) <= count:  # most frames: no need of a view
                    count -= len(whole)
                    if self.files and isinstance(whole, FileRange | FileFrames):
                        self.files -= 1
                    continue
                if isinstance(whole, FileFrames):
                    count = self._unfold(whole, count)
                    continue
                piece = whole if isinstance(whole, FileRange) else memoryview(whole)
            size = len(piece)
            self._head = piece[count:] if size > count else None
            if self._head is None and isinstance(piece, FileRange):
                self.files -= 1
            count -= min(size, count)

    def _unfold(self, frames: FileFrames, count: int) -> int:
        """Put back what is left when `count` bytes have left; how many of these are of the first frame then.

        The control frames that were offered before it have left.
        """
        begun, payload, rest = frames.after(count)
        left: list[tuple[Piece, bool]] = []
        if payload is not None:
            left += [(frames.header, False), (payload, True)]
        if rest is not None:
            left.append((rest, True))
        self._data[:0] = left
        self.files += (payload is not None) + (rest is not None) - 1
        return begun

    def _has_control(self) -> bool:
        return bool(self._pongs or self._ping or self._close)

    def _control(self) -> Iterator[bytes]:
        lane = (*self._pongs, self._ping, self._close if self._close_urgent else None)
        return (frame for frame in lane if frame is not None)

    def _pop(self) -> Piece:
        """Take the next piece, in the same order as `buffers`."""
        if self._at_border:
            if self._pongs:
                return self._pongs.pop(0)
            if (frame := self._ping) is not None:
                self._ping = None
                return frame
        if self._data:  # at a border behind an urgent Close there is none
            piece, self._at_border = self._data.pop(0)
            return piece
        frame = self._close
        assert frame is not None, "more was sent than offered"
        self._close = None
        return frame

    def _drop_data(self) -> None:
        kept: list[tuple[Piece, bool]] = []
        if not self._at_border:
            for piece, ends_frame in self._data:
                kept.append((piece, ends_frame))
                if ends_frame:
                    break
            else:
                kept.clear()
        dropped = self._data[len(kept) :]
        frame_cut = not self._at_border and not kept
        self.message_cut = frame_cut or any(_is_continuation(piece) for piece, _ in dropped[:1])
        size = sum(len(piece) for piece, _ in dropped)
        self._size -= size
        self.dropped += size
        self.files -= sum(isinstance(piece, FileRange | FileFrames) for piece, _ in dropped)
        self._data = kept


def _is_continuation(start: Piece) -> bool:
    if isinstance(start, FileFrames):
        start = start.header
    return not isinstance(start, FileRange) and start[0] & 15 == Opcode.CONTINUATION


def _joined(pieces: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """The same bytes in fewer buffers: many small ones cost more than one copy of them."""
    if len(pieces) < 3:
        return pieces
    buffers: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for piece in pieces:
        if len(piece) <= _SMALL:
            small.append(piece)
            continue
        if small:
            buffers.append(b"".join(small))
            small = []
        buffers.append(piece)
    if small:
        buffers.append(b"".join(small))
    return buffers[:_MAX_BUFFERS]
