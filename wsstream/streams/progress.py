"""Telling an application how far a transfer is."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from wsstream.transports.eventloop import event_loop

__all__ = ["ProgressReport"]

_INTERVAL = 0.05  # seconds; 20 calls a second are enough for what people look at


class ProgressReport:
    """Calls `progress` with a number of bytes: at most 20 times a second, and once more at the end.

    Args:
        progress: the application's function. ``None``: nothing is called.
        clock: the time in seconds; by default that of the event loop that runs.
    """

    __slots__ = ("_clock", "_due", "_last", "_progress")

    def __init__(
        self, progress: Callable[[int], object] | None, clock: Callable[[], float] | None = None
    ) -> None:
        self._progress = progress
        self._clock = clock or event_loop().clock()
        self._due = -inf
        self._last = -1

    @property
    def wanted(self) -> bool:
        """There is a function to call."""
        return self._progress is not None

    def update(self, count: int) -> None:
        """`count` bytes are done; report them, unless the last report was just now."""
        if self._progress is not None and (now := self._clock()) >= self._due:
            self._due = now + _INTERVAL
            self._last = count
            self._progress(count)

    def complete(self, count: int) -> None:
        """`count` bytes are all; report them, unless the last report said so."""
        if self._progress is not None and count != self._last:
            self._progress(count)
