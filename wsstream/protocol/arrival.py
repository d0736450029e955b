"""How long a message may take to arrive. The time is an argument, in seconds.

Any byte is a sign of life for :mod:`~wsstream.protocol.keepalive`, so a peer may drip a message for as long
as it likes. An application that does not want that limits the time of a message, or sets a least rate. The
clock stands still while reading is paused: then it is this side that does not take the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from wsstream.arguments import check_number

__all__ = ["GRACE", "Arrival", "ReceiveRate"]

GRACE = 5.0
"""Seconds that a message may take before a least rate counts: the network may pause for a moment."""


@dataclass(frozen=True, slots=True)
class ReceiveRate:
    """The least rate at which a server wants messages to arrive.

    Attributes:
        at_least: bytes per second. A message may take 5 seconds, and one more for each `at_least` bytes of
            it that have arrived. The time in which reading is paused does not count.

    Raises:
        TypeError: `at_least` is not a number.
        ValueError: `at_least` is not greater than 0.
    """

    at_least: float

    def __post_init__(self) -> None:
        check_number("at_least", self.at_least, positive=True)


class Arrival:
    """The clock of the message that is arriving.

    Args:
        timeout: seconds from a message's first byte to its end or, if it is read in chunks, without
            progress; ``None``: no limit.
        rate: the least rate, or ``None``.
    """

    __slots__ = ("_at_least", "_began", "_paused_since", "_received", "_timeout", "_touched")

    def __init__(self, timeout: float | None, rate: ReceiveRate | None) -> None:
        self._timeout = inf if timeout is None else timeout
        self._at_least = inf if rate is None else rate.at_least
        self._began = inf  # when the message began, plus the time of the pauses; inf between messages
        self._touched = inf  # when the timeout began to count
        self._received = 0  # bytes of the message
        self._paused_since: float | None = None

    def received(self, now: float, size: int, *, inside: bool, crossed: bool, in_chunks: bool) -> None:
        """Bytes came.

        Args:
            now: the time.
            size: their number.
            inside: whether a message, or a frame, has begun and not ended.
            crossed: whether the bytes included the end of a message.
            in_chunks: whether the application reads the message in chunks.
        """
        if not inside:
            self._began = self._touched = inf
            return
        if crossed or self._began == inf:
            self._began = self._touched = now
            self._received = 0
        self._received += size
        if in_chunks:
            self._touched = now

    def pause(self, now: float) -> None:
        """Reading stops."""
        if self._paused_since is None:
            self._paused_since = now

    def resume(self, now: float) -> None:
        """Reading goes on."""
        if self._paused_since is not None:
            self._began += now - self._paused_since
            self._touched += now - self._paused_since
            self._paused_since = None

    @property
    def deadline(self) -> float:
        """When the message will have taken too long; infinite if it may go on."""
        if self._paused_since is not None or self._began == inf:
            return inf
        late = inf if self._at_least == inf else self._began + GRACE + self._received / self._at_least
        return min(self._touched + self._timeout, late)
