"""A regular file, open for reading, and the name of its version."""

from __future__ import annotations

import hashlib
import os
from types import TracebackType

from wsstream.files.storage.os_errors import storage_call

__all__ = ["Source"]


class Source:
    """A regular file, open for reading. Reads never move a position: several threads may read.

    Attributes:
        fd: the descriptor, which belongs to this object.
        size: in bytes, when the file was opened.
        mtime_ns: the time of its last change, in nanoseconds since 1970.
        etag: names this version of the file. It changes with the file's bytes, its size, its times and its
            place on the disk; two changes within one tick of the system's clock (4 ms or less) may look like
            one.
    """

    __slots__ = ("etag", "fd", "mtime_ns", "size")

    def __init__(self, fd: int) -> None:
        status = os.fstat(fd)
        self.fd = fd
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.etag = _etag(status)

    @storage_call
    def read_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        """Read into `buffer` from `offset`; return how many bytes, 0 at the end of the file."""
        return os.preadv(self.fd, [buffer], offset)

    @storage_call
    def pread(self, size: int, offset: int) -> bytes:
        """Read up to `size` bytes from `offset`; ``b""`` at the end of the file."""
        return os.pread(self.fd, size, offset)

    @storage_call
    def changed(self) -> bool:
        """Whether the file is another version by now. The sender asks at the end."""
        return _etag(os.fstat(self.fd)) != self.etag

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _etag(status: os.stat_result) -> str:
    version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(repr(version).encode()).hexdigest()[:32]
