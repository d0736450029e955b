"""A folder on a disk that is as slow as somebody wants it to be, for the demo."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from time import sleep
from typing import Any

from wsstream.files.storage.partial import Partial
from wsstream.files.storage.safe_root import SafeRoot

__all__ = ["Disk", "SlowRoot"]

_STEP = 0.02  # seconds, after which another rate counts


class Disk:
    """How fast the disk is.

    Attributes:
        rate: bytes a second that all files together may write; ``None``: no limit. May be set at any time.
    """

    def __init__(self) -> None:
        self.rate: int | None = None
        self._lock = Lock()  # one file after the other

    def wait(self, size: int) -> None:
        """Wait as long as writing `size` bytes takes, in a worker thread."""
        left = float(size)
        with self._lock:
            while left > 0 and (rate := self.rate) is not None:
                seconds = min(_STEP, left / rate)
                sleep(seconds)
                left -= rate * seconds


class SlowRoot(SafeRoot):
    """A folder on `disk`; else as :class:`SafeRoot`."""

    def __init__(self, path: str, disk: Disk) -> None:
        super().__init__(path)
        self._disk = disk

    def partial(self, *args: Any, **keywords: Any) -> Partial:
        """As that of :class:`SafeRoot`, but writing to it takes its time."""
        return _SlowPartial(super().partial(*args, **keywords), self._disk)


class _SlowPartial(Partial):
    def __init__(self, partial: Partial, disk: Disk) -> None:
        super().__init__(partial._file, partial._folders, partial._target)
        self._disk = disk

    def write(self, chunks: Sequence[bytes | bytearray | memoryview]) -> None:
        for chunk in chunks:
            self._disk.wait(len(chunk))
            super().write([chunk])
