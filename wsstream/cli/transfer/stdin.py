"""stdin for a worker thread, which can be told to stop waiting."""

from __future__ import annotations

import os
import select
import stat
from types import TracebackType

__all__ = ["StandardInput"]


class StandardInput:
    """Reads stdin as a file object does. `stop` ends a read that waits for a slow writer.

    Attributes:
        size: how many bytes are left, if stdin is a file; ``None`` for a pipe or a terminal.
        begun: whether something was read.
    """

    def __init__(self) -> None:
        self._stopped, self._stop = os.pipe()
        self.size = _rest_of_file()
        self.begun = False

    def read(self, size: int) -> bytes:
        """Return the next 1 to `size` bytes, ``b""`` at the end.

        Raises:
            InterruptedError: `stop` was called.
            OSError: it cannot be read.
        """
        ready, _, _ = select.select([0, self._stopped], [], [])
        if self._stopped in ready:
            raise InterruptedError
        self.begun = True
        return os.read(0, size)

    def stop(self) -> None:
        """End a read, in another thread, and all that follow."""
        os.write(self._stop, b"x")

    def __enter__(self) -> StandardInput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._stopped)
        os.close(self._stop)


def _rest_of_file() -> int | None:
    status = os.fstat(0)
    if not stat.S_ISREG(status.st_mode):
        return None
    left = status.st_size - os.lseek(0, 0, os.SEEK_CUR)
    return left if left > 0 else None  # those of /proc have 0, and bytes nevertheless
