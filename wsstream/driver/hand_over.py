"""How much may wait before a control frame: the size of frames, and what the kernel holds unsent.

A Pong waits for the end of the frame that is leaving and for what the kernel has not sent. If both are large,
sending is fast: it takes fewer calls, and the peer sleeps less often. But to a slow reader, or on a slow
connection, the Pong would then wait for seconds. So both follow the rate at which the peer's system
acknowledges bytes, as far as the kernel tells it, within fixed limits:

- from `NOTSENT` up, each of the two is what the peer takes in 10 ms;
- below 1 MiB/s the kernel holds what the peer takes in 1/8 s. Frames do not shrink: the application chose
  their least size.
"""

from __future__ import annotations

from typing import Final

from wsstream.driver.flow import FRAME_SIZE, FlowControl
from wsstream.transports.base import NOTSENT, Delivery

__all__ = ["FIRST_LOOK", "LEAST", "LOOK_AGAIN", "MOST", "HandOver"]

FIRST_LOOK: Final = 256 * 1024
"""Bytes that have to be sent before the rate means something, unless the transport is full before."""

LOOK_AGAIN: Final = 0.02
"""Seconds after a look in which the transport, when it takes bytes again, is not looked at another time."""

LEAST: Final = 16 * 1024
"""Bytes; less would take more calls, and the frame is four times as long by default."""

MOST: Final = 1 << 20
"""Bytes; more makes sending no faster."""

_PERIOD: Final = 10_000  # microseconds
_SLOW_PERIOD: Final = 125_000  # microseconds
_TICK: Final = 4000  # microseconds; the kernel's clock for `Delivery.time` ticks as slowly as this


class HandOver:
    """The two bounds of one connection. They begin with what suits a connection whose rate is not known.

    Args:
        flow: names the least and the largest frame.
        grows: whether more may wait than at the beginning.

    Attributes:
        unsent: bytes that the kernel may hold unsent.
    """

    __slots__ = ("_flow", "_last", "_most", "_size", "_time", "unsent")

    def __init__(self, flow: FlowControl, *, grows: bool = True) -> None:
        self.unsent = NOTSENT
        self._flow = flow
        # Frames below the usual size are for a peer with a limit.
        self._most = MOST if grows and flow.frame_size >= FRAME_SIZE else NOTSENT
        self._last = Delivery(0, 0)
        self._size = 0  # bytes that were delivered: the later ones count more
        self._time = 0  # microseconds that this took

    @property
    def frame_size(self) -> int:
        """Bytes of payload in one frame."""
        flow = self._flow
        if self.unsent <= NOTSENT:
            return flow.frame_size
        return min(max(self.unsent, flow.frame_size), flow.max_frame_size)

    @property
    def step(self) -> int | None:
        """Bytes to offer at a time, when the transport has called; ``None``: as many as it takes.

        The kernel fills a packet of 64 KiB without a look at its limit.
        """
        return self.unsent // 2 if self.unsent < NOTSENT else None

    # Each of these returns whether the bounds are others now.

    def look(self, delivery: Delivery, *, grows: bool = True, full: bool = False) -> bool:
        """Set the bounds by the rate since the last look. Of the time before, each look halves the weight.

        They grow to twice their size at most, once the peer has taken as much as they are now: what fills the
        buffers on the way to a slow reader goes fast, too. They shrink below `NOTSENT` only while the
        transport is `full`: else the application is what is slow.
        """
        delivered = delivery.size - self._last.size
        if not delivered:
            return False
        self._note(delivered, delivery.time - self._last.time)
        self._last = delivery
        time = max(self._time, _TICK)
        if self.unsent == MOST and self._size * _PERIOD >= MOST * time:
            return False  # the usual case where it matters
        in_period, when_slow = self._size * _PERIOD // time, self._size * _SLOW_PERIOD // time
        least = LEAST if self.unsent < NOTSENT or (full and when_slow < NOTSENT) else NOTSENT
        most = self.unsent
        if delivered >= self.unsent:
            most = min(2 * self.unsent, self._most if grows else NOTSENT)
        unsent = least
        while unsent < most and 2 * unsent <= max(in_period, min(when_slow, NOTSENT)):
            unsent *= 2
        return self._set(unsent)

    def _note(self, delivered: int, took: int) -> None:
        # However long the past, it counts as a short time: small messages may each be acknowledged late.
        past = min(self._time, _SLOW_PERIOD)
        size = self._size * past // self._time if self._time else self._size
        self._size, self._time = size // 2 + delivered, past // 2 + took

    def halve(self) -> bool:
        """Output has stood still for a while."""
        return self._set(max(min(self.unsent, NOTSENT), self.unsent // 2))

    def shrink(self) -> bool:
        """A file follows: measured, it leaves fastest while the kernel holds little."""
        return self._set(min(self.unsent, NOTSENT))

    def _set(self, unsent: int) -> bool:
        before, self.unsent = self.unsent, unsent
        return unsent != before
