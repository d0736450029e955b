"""Parts of files that stand in the output queue for their bytes, which only the transport reads."""

from __future__ import annotations

from typing import Protocol

__all__ = ["FILE_STEP", "FileEnded", "FileFrames", "FileRange", "HasDescriptor"]


FILE_STEP = 60 * 1024
"""Bytes of a file that leave at once: with a header they fit into one packet buffer of Linux, of at most
17 pages and 64 KiB. A few bytes more, which need another one, nearly double the cost.
"""


class HasDescriptor(Protocol):
    """What keeps a file open while somebody refers to it."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


class FileEnded(EOFError):
    """The file has become shorter than a part of it whose length was promised to the peer."""


class FileRange:
    """The bytes of `file` from `start` to `stop`. Slices like a ``memoryview``.

    The bytes that leave are those that the file has at that moment.
    """

    __slots__ = ("file", "start", "stop")

    def __init__(self, file: HasDescriptor, start: int, stop: int) -> None:
        self.file = file
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> FileRange:
        start, stop, _ = part.indices(self.stop - self.start)
        return FileRange(self.file, self.start + start, self.start + stop)


class FileFrames:
    """Whole frames of one size, each with the same `header`: many in one piece, since each costs time.

    Args:
        header: of each frame.
        payload: of all of them, a multiple of `size`.
        size: bytes of payload of each frame.
    """

    __slots__ = ("header", "payload", "size")

    def __init__(self, header: bytes, payload: FileRange, size: int) -> None:
        self.header = header
        self.payload = payload
        self.size = size

    def __len__(self) -> int:
        payload = self.payload.stop - self.payload.start
        return payload + payload // self.size * len(self.header)

    def after(self, count: int) -> tuple[int, FileRange | None, FileFrames | None]:
        """When `count` bytes have left: how many are of an incomplete frame, its payload, and the rest."""
        frames, begun = divmod(count, len(self.header) + self.size)
        payload = self.payload[frames * self.size :]
        part = payload[: self.size] if begun else None
        rest = payload[self.size :] if begun else payload
        return begun, part, FileFrames(self.header, rest, self.size) if rest else None
