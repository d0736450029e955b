"""A limit on the rate of a file's bytes: a token bucket, whose clock is an argument."""

from __future__ import annotations

from math import inf
from typing import Final

import anyio
from anyio import current_time

from wsstream.arguments import check_int
from wsstream.files.protocol.window import SEGMENT

__all__ = ["MIN_RATE", "RateLimit"]

MIN_RATE: Final = 1024
"""Bytes a second: the lowest limit. With less, a segment of one step would take seconds."""

_STEPS = 20  # a second
_BURST = 0.1  # seconds whose bytes may go at once, after a pause


class RateLimit:
    """Bytes a second that may pass, in steps of a twentieth of a second. Used by one task at a time.

    Args:
        rate: bytes a second, at least 1,024.

    Raises:
        TypeError, ValueError: `rate` is not such a number.

    Attributes:
        step: the most bytes to take at once.
    """

    __slots__ = ("_free_at", "_rate", "step")

    def __init__(self, rate: int) -> None:
        check_int("limit_rate", rate, MIN_RATE)
        self.step = max(MIN_RATE, min(SEGMENT, rate // _STEPS))
        self._rate = rate
        self._free_at = -inf  # when all that was taken has passed

    def take(self, size: int, now: float) -> float:
        """Take `size` bytes; return how many seconds to wait before they may pass."""
        due = max(self._free_at, now - _BURST)
        self._free_at = due + size / self._rate
        return max(0.0, due - now)

    async def wait(self, size: int) -> None:
        """Take `size` bytes, and return when they may pass. If cancelled, they count as passed."""
        if (delay := self.take(size, current_time())) > 0:
            await anyio.sleep(delay)
