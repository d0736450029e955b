"""The message that is being sent: what the application has handed over of it, and no frame contains yet."""

from __future__ import annotations

from collections import deque

from wsstream.codec.events import Kind
from wsstream.codec.utf8 import split_point
from wsstream.protocol.file_frames import FileRange

__all__ = ["OutgoingMessage"]

_SMALL = 4096  # bytes; smaller chunks are copied together


class OutgoingMessage:
    """A message that is being sent, of which the application may hand over more.

    Attributes:
        kind: ``"text"`` or ``"binary"``.
        declared: the size in bytes of a message that is sent as one frame, else ``None``.
        file: the rest of the part of a file that was handed over; such a message has no other data.
        compress: whether it may be compressed.
        borrowed: a piece is a mutable buffer of the application.
        finished: the application has handed over all of it.
        flushing: send the pieces even if they are small.
        size: bytes that no frame contains yet.
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
        """Add `data`. Large mutable data is not copied until `detach` copies the rest of it."""
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
        """Send `part` next; everything before it is in frames."""
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
        """Copy the rest of mutable data: its owner may change it from now on."""
        if self.borrowed:
            self._pieces = deque(bytes(p) if isinstance(p, memoryview) else p for p in self._pieces)
            self.borrowed = False

    def take_equal(self, size: int, limit: int) -> list[memoryview]:
        """Take pieces of `size` bytes each, `limit` bytes or a little more, from a large first buffer.

        The buffer is never emptied. Text is not taken this way: it is cut between code points.
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
