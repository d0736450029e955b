"""stdin for a worker thread, which can be told to stop waiting."""

from __future__ import annotations

import os
import select
from types import TracebackType

__all__ = ["StandardInput"]


class StandardInput:
    """Reads stdin as a file object does. `stop` ends a read that waits for a slow writer."""

    def __init__(self) -> None:
        self._stopped, self._stop = os.pipe()

    def read(self, size: int) -> bytes:
        """Return the next 1 to `size` bytes, ``b""`` at the end.

        Raises:
            InterruptedError: `stop` was called.
            OSError: it cannot be read.
        """
        ready, _, _ = select.select([0, self._stopped], [], [])
        if self._stopped in ready:
            raise InterruptedError
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
