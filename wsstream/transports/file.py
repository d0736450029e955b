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
    """A regular file, which stays open as long as somebody refers to this.

    It has a descriptor of its own: the rest of a frame may leave when the application has closed the file,
    and the number must not have become another file's.
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
        """The bytes of the file, now."""
        return os.fstat(self._fd).st_size

    async def read(self, size: int, at: int) -> bytes:
        """Read up to `size` bytes from `at`; none at the end of the file."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(_BUFFER))
        view = self._buffer[:size]
        count = self._read_now(view, at)
        if count is None:
            count = await to_thread.run_sync(os.preadv, self._fd, [view], at)
        return bytes(view[:count])  # frames refer to what never changes, without another copy

    async def cache(self, start: int, stop: int) -> int:
        """Have the system's cache hold what begins at `start`; where that ends, `stop` at the latest.

        ``sendfile`` would read from the disk what is missing, and block the event loop meanwhile. So each
        step is looked at, at its start and its end, without waiting; if it is not there, a worker thread
        reads it once; always, where the file system cannot tell. In between, or later, something may be
        missing all the same: then the event loop waits for the disk, which is rare and no mistake.
        Returns `start` at the end of the file.
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
        """Read what the cache has; ``None`` if that is nothing, or is not known."""
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
    """`file` by its descriptor, if nothing but the descriptor says what the file object would give.

    Not so for what reads through a filter but has a ``fileno``, like ``gzip``; for pipes and devices; and for
    files without a size, like those of ``/proc``.
    """
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file  # type: ignore[attr-defined]
    if type(raw) is not io.FileIO or not raw.readable() or not hasattr(os, "preadv"):
        return None
    status = os.fstat(raw.fileno())
    return RegularFile(raw.fileno()) if stat.S_ISREG(status.st_mode) and status.st_size else None
