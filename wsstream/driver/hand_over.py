"""How much may wait before a control frame: the size of frames, and what the kernel holds unsent.

A Pong waits for the end of the frame that is leaving and for what the kernel has not sent. If both are large,
sending is fast: it takes fewer calls, and the peer sleeps less often. But to a slow reader, or on a slow
connection, the Pong would then wait for seconds. So each of the two is what the peer takes in 10 ms, as far
as the kernel has measured that, within fixed limits.
"""

from __future__ import annotations

from typing import Final

from wsstream.driver.flow import FRAME_SIZE, FlowControl
from wsstream.transports.base import NOTSENT, Delivery

__all__ = ["FIRST_LOOK", "MOST", "HandOver"]

FIRST_LOOK: Final = 256 * 1024
"""Bytes that have to be sent before the rate means something."""

MOST: Final = 1 << 20
"""Bytes; more makes sending no faster."""

_PERIOD: Final = 10_000  # microseconds
_TICK: Final = 4000  # microseconds; the kernel's clock for `Delivery.time` ticks as slowly as this


class HandOver:
    """The two bounds of one connection. They begin at their least, for a connection whose rate is not known.

    Args:
        flow: names the least and the largest frame.

    Attributes:
        unsent: bytes that the kernel may hold unsent.
    """

    __slots__ = ("_flow", "_last", "_size", "_time", "unsent")

    def __init__(self, flow: FlowControl) -> None:
        self.unsent = NOTSENT
        self._flow = flow
        self._last = Delivery(0, 0)
        self._size = 0  # bytes that were delivered: the later ones count more
        self._time = 0  # microseconds that this took

    @staticmethod
    def is_for(flow: FlowControl) -> bool:
        """Whether anything may grow: not for a peer that wants frames smaller than the usual ones."""
        return flow.frame_size >= FRAME_SIZE

    @property
    def frame_size(self) -> int:
        """Bytes of payload in one frame."""
        flow = self._flow
        if self.unsent == NOTSENT:
            return flow.frame_size
        return min(max(self.unsent, flow.frame_size), flow.max_frame_size)

    # Each of these returns whether the bounds are others now.

    def look(self, delivery: Delivery) -> bool:
        """Set the bounds by the rate since the last look. Of the time before, each look halves the weight.

        They grow to twice their size at most, once the peer has taken as much as they are now: what fills the
        buffers on the way to a slow reader goes fast, too.
        """
        last, self._last = self._last, delivery
        delivered = delivery.size - last.size
        most = min(2 * self.unsent, MOST) if delivered >= self.unsent else self.unsent
        self._size = self._size // 2 + delivered
        self._time = self._time // 2 + delivery.time - last.time
        in_period = self._size * _PERIOD // max(self._time, _TICK)
        unsent = NOTSENT
        while unsent < most and 2 * unsent <= in_period:
            unsent *= 2
        return self._set(unsent)

    def halve(self) -> bool:
        """Output has stood still for a while."""
        return self._set(max(NOTSENT, self.unsent // 2))

    def reset(self) -> bool:
        """A file follows: measured, it leaves fastest while the kernel holds little."""
        return self._set(NOTSENT)

    def _set(self, unsent: int) -> bool:
        before, self.unsent = self.unsent, unsent
        return unsent != before
