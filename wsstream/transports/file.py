"""Reading a regular file without blocking the event loop, and mostly without a worker thread."""

from __future__ import annotations

import errno
import io
import os
import stat

from anyio import to_thread

__all__ = ["RegularFile", "regular_file"]

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)  # 0: not on this system
_STEP = 1 << 20  # bytes read in one trip to a worker thread
_BUFFER = 512 * 1024  # bytes; a larger one leaves the processor's cache


class RegularFile:
    """A regular file, open for as long as this object exists.

    It has a descriptor of its own: the application may close its file before the rest of a frame has left,
    and then another file may get the number.
    """

    __slots__ = ("_buffer", "_fd", "_nowait")

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)
        self._nowait = bool(_NOWAIT)
        self._buffer: memoryview | None = None

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    @property
    def size(self) -> int:
        """The current size of the file in bytes."""
        return os.fstat(self._fd).st_size

    async def read(self, size: int, at: int) -> bytes:
        """Read up to `size` bytes from `at`; ``b""`` at the end of the file."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(_BUFFER))
        view = self._buffer[:size]
        count = self._read_now(view, at)
        if count is None:
            count = await to_thread.run_sync(os.preadv, self._fd, [view], at)
        return bytes(view[:count])  # immutable, so that frames can refer to them without another copy

    async def cache(self, start: int, stop: int) -> int:
        """Make sure that the page cache holds the bytes from `start`; return where the cached part ends.

        That is `stop` at most, and `start` at the end of the file. ``sendfile`` would read missing bytes from
        the disk and block the event loop meanwhile. So the first and the last byte of each step are probed
        without waiting. If one is missing, or the file system cannot tell, a worker thread reads the step.
        Bytes in between may be missing, or be dropped later: then the event loop waits for the disk, which
        is rare and harmless.
        """
        end = start
        while end < stop:
            step = min(end + _STEP, stop)
            if not (self._is_cached(end) and self._is_cached(step - 1)):
                break
            end = step
        if end > start:
            return end
        return await to_thread.run_sync(self._read_through, start, min(start + _STEP, stop))

    def _is_cached(self, at: int) -> bool:
        return self._read_now(memoryview(bytearray(1)), at) == 1

    def _read_now(self, view: memoryview, at: int) -> int | None:
        """Read only from the page cache; ``None`` if it has nothing, or the system cannot tell."""
        if self._nowait:
            try:
                return os.preadv(self._fd, [view], at, _NOWAIT)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                self._nowait = False
        return None

    def _read_through(self, start: int, stop: int) -> int:
        view = memoryview(bytearray(min(_BUFFER, stop - start)))
        if hasattr(os, "posix_fadvise"):  # pragma: no branch - it is missing on macOS
            os.posix_fadvise(self._fd, start, 2 * _STEP, os.POSIX_FADV_WILLNEED)  # the next step too
        while start < stop and (count := os.preadv(self._fd, [view[: stop - start]], start)):
            start += count
        return start


def regular_file(file: object) -> RegularFile | None:
    """Return `file` by its descriptor, if reading the descriptor yields the same bytes as reading the object.

    ``None`` for objects that decode, like ``gzip``'s, though they have a ``fileno``; for pipes and devices;
    and for files without a size, like those in ``/proc``.
    """
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file  # type: ignore[attr-defined]
    if type(raw) is not io.FileIO or not raw.readable() or not hasattr(os, "preadv"):
        return None
    status = os.fstat(raw.fileno())
    return RegularFile(raw.fileno()) if stat.S_ISREG(status.st_mode) and status.st_size else None
