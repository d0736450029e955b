"""Encoded frames that wait to be sent, in the order in which they may leave.

Control frames have a lane of their own that goes before data, though never into the middle of a frame
(RFC 6455 section 5.4). Every Ping gets its Pong while the transport takes what it is offered; while it takes
nothing, only the latest Pong is kept (section 5.5.3), so a flood of Pings costs nothing. Close comes after
the data or, if urgent, takes its place; nothing follows it.

An entry of a lane is a piece and its `Kind`. The kind of the entry that left last says whether a control
frame may leave now: after a `PART` it may not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, TypeAlias

from wsstream.codec.batch import CLOSED_FOR_END
from wsstream.codec.frames import Opcode
from wsstream.codec.speedups import FrameBatch
from wsstream.protocol.file_frames import FileFrames, FileRange

__all__ = ["FrameQueue", "Piece"]

Piece: TypeAlias = bytes | memoryview | FileRange | FileFrames
"""What is offered to the transport as one item: a buffer, or a part of a file."""

_MAX_BUFFERS = 64  # for one gathering write
_MAX_OFFERED = 256  # pieces
_SMALL = 2048  # bytes; pieces up to this size are joined: the copy costs less than one more buffer
_MAX_PONGS = 16  # for the Pings of one read; of more, the earliest are not answered


class Kind(Enum):
    """What the piece of an entry is."""

    PART = auto()
    """Bytes of a data frame, and more of the same frame follow."""
    END = auto()
    """Data frames, or the last bytes of one."""
    FILE_FRAMES = auto()
    """Data frames with their payload in a file."""
    FILE_END = auto()
    """The payload of one such frame, or the last bytes of it."""
    PONG = auto()
    PING = auto()
    CLOSE = auto()


# Names of this module are found faster than attributes of the class.
_PART, _END, _FILE_FRAMES, _FILE_END = Kind.PART, Kind.END, Kind.FILE_FRAMES, Kind.FILE_END
_PONG, _PING, _CLOSE = Kind.PONG, Kind.PING, Kind.CLOSE
_CONTROL = frozenset({_PONG, _PING, _CLOSE})

_Entry: TypeAlias = tuple[Any, Kind]  # the kind says which Piece it is


class FrameQueue:
    """Frames on their way to the transport.

    Args:
        next_key: for the frames of `batch`, if they are masked.

    Attributes:
        batch: small messages after all other data; they leave as one piece, into which no control frame
            goes. Closed when nothing may follow any more.
        files: how many entries are parts of files; while there are any, offer `pieces`, not `buffers`.
        sent: bytes that have left.
        dropped: bytes of data that were put and will never leave.
        message_cut: an urgent Close dropped the rest of a message of which a part has left.
    """

    __slots__ = (
        "_control",
        "_data",
        "_head",
        "_last",
        "_stalled",
        "batch",
        "dropped",
        "files",
        "message_cut",
    )

    def __init__(self, next_key: Callable[[], bytes] | None = None) -> None:
        self.batch = FrameBatch(next_key)
        self.dropped = 0
        self._reset()

    def _reset(self) -> None:
        self.files = 0
        self.message_cut = False
        self._control: list[_Entry] = []  # Pongs, then at most one Ping, then an urgent Close
        self._data: list[_Entry] = []  # and at its end a Close that is not urgent
        self._last = _END  # the kind of the entry that began to leave last
        self._head: memoryview | FileRange | None = None  # the rest of that entry
        self._stalled = False  # the transport took nothing since the last offer
        self.batch.others = 0  # without the batch

    @property
    def sent(self) -> int:
        """Bytes that have left, in all."""
        return self.batch.sent

    @property
    def size(self) -> int:
        """Bytes that wait, in both lanes."""
        return self.batch.others + len(self.batch)

    @property
    def ready(self) -> bool:
        """Whether `buffers` offers something: not if only control frames wait, after an incomplete frame."""
        return bool(self._head or self._data or self.batch or (self._control and self._last is not _PART))

    @property
    def sendable(self) -> int:
        """Bytes that wait; 0 if they are only control frames after an incomplete frame.

        Those wait for the application to complete the frame; it must not wait for them.
        """
        size = self.batch.others + len(self.batch)  # as `size`, without another call
        return size if size and self.ready else 0

    @property
    def ping_waits(self) -> bool:
        """Whether a Ping was put and nothing of it has left."""
        return any(kind is _PING for _, kind in self._control[-2:])  # only Close can follow it

    @property
    def pong_waits(self) -> bool:
        """Whether a Pong was put and nothing of it has left."""
        return bool(self._control) and self._control[0][1] is _PONG

    def _count_pongs(self) -> int:
        count = len(self._control)
        while count and self._control[count - 1][1] is not _PONG:  # at most Ping and Close
            count -= 1
        return count

    def put_data(self, piece: bytes | memoryview, *, ends_frame: bool = True) -> None:
        """Queue a frame, or with `ends_frame` false a part of one. The bytes of `piece` must not change."""
        if self.batch:
            self._take_batch()
        self._data.append((piece, _END if ends_frame else _PART))
        self.batch.others += len(piece)

    def put_frames(self, headers: Sequence[bytes], payloads: Sequence[memoryview]) -> None:
        """Queue data frames, each given by its header and its payload, which is not empty."""
        if self.batch:
            self._take_batch()
        for header, payload in zip(headers, payloads, strict=True):
            self._data += ((header, _PART), (payload, _END))
        self.batch.others += sum(map(len, headers)) + sum(map(len, payloads))

    def put_file(self, frames: FileFrames) -> None:
        """Queue data frames whose payload is in a file."""
        if self.batch:
            self._take_batch()
        self._data.append((frames, _FILE_FRAMES))
        self.batch.others += len(frames)
        self.files += 1

    def _take_batch(self) -> None:
        piece = self.batch.take()
        self._data.append((piece, _END))
        self.batch.others += len(piece)

    def put_pong(self, frame: bytes) -> None:
        """Queue a Pong after those that wait, or in their place while the transport takes nothing."""
        # Section 5.5.3: an endpoint may answer only the Ping that it received last.
        waiting = self._count_pongs()
        surplus = waiting if self._stalled else waiting + 1 - _MAX_PONGS
        if surplus > 0:
            self.batch.others -= sum(len(piece) for piece, _ in self._control[:surplus])
            del self._control[:surplus]
            waiting -= surplus
        self._control.insert(waiting, (frame, _PONG))
        self.batch.others += len(frame)

    def put_ping(self, frame: bytes) -> None:
        """Queue a Ping, in place of one that waits."""
        pongs = self._count_pongs()
        if self.ping_waits:
            self.batch.others -= len(self._control.pop(pongs)[0])
        self._control.insert(pongs, (frame, _PING))
        self.batch.others += len(frame)

    def put_close(self, frame: bytes, *, urgent: bool) -> bool:
        """Queue the Close frame after the data; if `urgent`, in place of all data but a frame half gone.

        Returns false if Close can never leave, because the frame before it is not complete.
        """
        self.batch.closed_for |= CLOSED_FOR_END
        if self.batch:
            self._take_batch()
        if urgent:
            self._drop_data()
        if (self._data[-1][1] if self._data else self._last) is _PART:
            return False
        (self._control if urgent else self._data).append((frame, _CLOSE))
        self.batch.others += len(frame)
        return True

    def _drop_data(self) -> None:
        """Drop the data, except for the rest of a frame of which a part has left."""
        if not self._data and self._last is not _PART:
            self.message_cut = False
            return
        kept = 0
        if self._last is _PART:
            ends = (number for number, (_, kind) in enumerate(self._data, 1) if kind is not _PART)
            kept = next(ends, 0)
        frame_cut = self._last is _PART and not kept
        dropped = self._data[kept:]
        self.message_cut = frame_cut or (bool(dropped) and _is_continuation(*dropped[0]))
        size = sum(len(piece) for piece, _ in dropped)
        self.batch.others -= size
        self.dropped += size
        self.files -= sum(kind is _FILE_FRAMES or kind is _FILE_END for _, kind in dropped)
        del self._data[kept:]

    def clear(self) -> None:
        """Drop everything queued and accept nothing more. The counters of sent bytes are kept."""
        self.batch.closed_for |= CLOSED_FOR_END
        if self.size:
            entries: list[_Entry] = [(self._head or b"", self._last), (self.batch.take(), _END), *self._data]
            self.dropped += sum(len(piece) for piece, kind in entries if kind not in _CONTROL)
        self._reset()

    def copy_rest(self) -> None:
        """Copy the buffers that have not left: their owner changes them from now on."""
        if self.batch.others:
            if isinstance(self._head, memoryview):
                self._head = memoryview(bytes(self._head))
            self._data = [(bytes(p) if isinstance(p, memoryview) else p, kind) for p, kind in self._data]

    # -- to the transport --------------------------------------------------------------------

    def buffers(self) -> list[bytes | memoryview]:
        """What to offer to the transport next, in order; at most 64 buffers. `advance` tells what it took.

        Only while `files` is 0.
        """
        pieces: list[Any] = self.pieces()
        return _joined(pieces)

    def pieces(self) -> list[Piece]:
        """As `buffers`, with the parts of files, in up to 256 pieces."""
        if self.batch:
            self._take_batch()
        if not self.batch.others:
            return []
        self._stalled = True
        data, mid_frame = self._data, self._last is _PART
        if len(data) == 1 and not mid_frame and self._head is None and not self._control:
            return [data[0][0]]  # the usual case: one piece of data and nothing else
        result: list[Piece] = [] if self._head is None else [self._head]
        if not mid_frame:
            result += [frame for frame, _ in self._control]
            result += [piece for piece, _ in data[: _MAX_OFFERED - len(result)]]
            return result
        for piece, kind in data[: _MAX_OFFERED - len(result)]:
            result.append(piece)
            if kind is not _PART:
                break  # at the end of the frame it is the turn of the control frames
        return result

    def advance(self, count: int) -> None:
        """The first `count` bytes of `buffers()` or `pieces()` have left, at least 1."""
        self._stalled = False
        self.batch.others -= count
        self.batch.sent += count
        if not self.batch.others and not self.files:  # the usual case: all of it has left
            self._head = None
            if left := self._data or self._control:  # in the order of `pieces`
                self._last = left[-1][1]
                self._control, self._data = [], []
            return
        while count:
            if (head := self._head) is not None:
                piece: Any = head
                self._head = None
            else:
                # In the order of `pieces`.
                lane = self._control if self._control and self._last is not _PART else self._data
                assert lane, "more was sent than offered"
                piece, self._last = lane.pop(0)
            size = len(piece)
            if size <= count:
                count -= size
                if self.files and (self._last is _FILE_FRAMES or self._last is _FILE_END):
                    self.files -= 1
            elif self._last is _FILE_FRAMES:
                count = self._unfold(piece, count)
            else:
                self._head = piece[count:] if self._last is _FILE_END else memoryview(piece)[count:]
                return

    def _unfold(self, frames: FileFrames, count: int) -> int:
        """Put back what is left when `count` bytes have left; return how many of them the first frame has.

        The control frames that were offered before `frames` have left.
        """
        begun, payload, rest = frames.after(count)
        left: list[_Entry] = []
        if payload is not None:
            left += [(frames.header, _PART), (payload, _FILE_END)]
        if rest is not None:
            left.append((rest, _FILE_FRAMES))
        self._data[:0] = left
        self.files += (payload is not None) + (rest is not None) - 1
        return begun


def _is_continuation(start: Any, kind: Kind) -> bool:
    """Whether a frame that begins with the entry `start` continues a message."""
    header = start.header if kind is _FILE_FRAMES else start
    return int(header[0]) & 15 == Opcode.CONTINUATION


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
            buffers.append(small[0] if len(small) == 1 else b"".join(small))
            small = []
        buffers.append(piece)
    if small:
        buffers.append(b"".join(small))
    return buffers[:_MAX_BUFFERS]
