"""Parts of files in the output queue. Only the transport reads their bytes, when they leave."""

from __future__ import annotations

from typing import Protocol

__all__ = ["SENDFILE_SIZE", "FileEnded", "FileFrames", "FileRange", "HasDescriptor"]


SENDFILE_SIZE = 60 * 1024
"""Bytes of a file in one call of ``sendfile``. With a header they fit into one packet buffer of Linux, which
has at most 17 pages and 64 KiB; a few bytes more need a second one and nearly double the cost."""


class HasDescriptor(Protocol):
    """Keeps a file open as long as the object lives."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


class FileEnded(EOFError):
    """The file became shorter after a frame's header promised its length to the peer."""


class FileRange:
    """The bytes of `file` from `start` to `stop`. Slices like a ``memoryview``.

    They are read when they leave, so a change of the file until then is sent.
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
    """Frames of one size, which have the same `header`. They are one entry, as each entry costs time.

    Args:
        header: that of each frame.
        payload: the payloads of all frames; its length is a multiple of `size`.
        size: bytes of payload in each frame.
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
        """What is left after `count` bytes have left.

        Returns:
            How many of these bytes belong to a frame that is incomplete, the payload of that frame, and the
            frames after it; ``None`` for a payload or frames that do not exist.
        """
        frames, begun = divmod(count, len(self.header) + self.size)
        payload = self.payload[frames * self.size :]
        part = payload[: self.size] if begun else None
        rest = payload[self.size :] if begun else payload
        return begun, part, FileFrames(self.header, rest, self.size) if rest else None
