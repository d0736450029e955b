"""Credit: how far the sender may be ahead of the receiver. The time is an argument, in seconds.

The sender may send a segment while ``sent - written + segment <= window``. The receiver tells `written` and
`window`, so at most `window` bytes are on the way or in its memory.

The window is what the receiver wrote in the last two to three seconds, from 512 KiB up to a limit. More would
only stand in front of Pings, acks and Close frames: 8 MiB take 27 s at 300 kB/s, and proxies with shorter
timeouts cut such a connection.
"""

from __future__ import annotations

from typing import Final

from wsstream.files.errors import TransferError
from wsstream.files.protocol.messages import Ack

__all__ = ["ACK_IDLE", "ACK_MOVING", "MAX_WINDOW", "MIN_WINDOW", "SEGMENT", "Credit", "Grant"]

SEGMENT: Final = 256 << 10
"""Bytes in one binary message, by default."""
MIN_WINDOW: Final = 512 << 10
MAX_WINDOW: Final = 64 << 20
ACK_MOVING: Final = 1.0
"""Seconds between two acks while there is news."""
ACK_IDLE: Final = 10.0
"""Seconds between two acks at any time."""

_PERIOD: Final = 1.0  # seconds; the rate is measured over the current period and the two before


class Credit:
    """The sender's side: what it has sent, and what it may send.

    Args:
        offset: where the transfer starts.
        window: that of the `Accept`.
        segment: bytes in one binary message.
        size: of the file; ``None``: not known.

    Attributes:
        sent, written, durable: offsets in the file.
        window: the receiver's latest.
    """

    __slots__ = ("_segment", "_size", "durable", "sent", "window", "written")

    def __init__(self, offset: int, window: int, segment: int, size: int | None) -> None:
        self.sent = self.written = offset
        self.durable = 0
        self.window = window
        self._segment = segment
        self._size = size

    def next_segment(self) -> int:
        """Bytes of the next segment that may be sent now; 0: none. Less may be sent, too.

        A segment is never cut to what is left of the window, or small ones would beget small ones.
        """
        remaining = self._segment if self._size is None else self._size - self.sent
        size = min(self._segment, remaining)
        return size if self.sent - self.written + size <= self.window else 0

    def send(self, size: int) -> None:
        """A segment was handed over.

        Raises:
            ValueError: it is larger than :meth:`next_segment`, or empty.
        """
        most = self.next_segment()
        if not 0 < size <= most:
            raise ValueError(f"a segment must have 1 to {most} bytes now, got {size}")
        self.sent += size

    def acknowledge(self, ack: Ack) -> None:
        """The receiver has told how far it is.

        Raises:
            TransferError: that cannot be (``protocol``).
        """
        if not self.written <= ack.written <= self.sent or ack.durable < self.durable:
            raise TransferError("protocol", "an ack goes back, or beyond what was sent")
        if ack.window is not None:
            if ack.window < self._segment:
                raise TransferError("protocol", "the window is smaller than a segment")
            self.window = ack.window
        self.written, self.durable = ack.written, ack.durable


class Grant:
    """The receiver's side: how much it lets the sender send, and when to tell it.

    Args:
        offset: where the transfer starts.
        window: that of the `Accept`.
        segment: the most bytes in one binary message.
        limit: the largest window; at least two segments count.
        now: the time.

    Attributes:
        received, written, durable: offsets in the file.
        window: the latest that the sender was told.
        limit: may be changed at any time, for what is granted from then on.
    """

    __slots__ = (
        "_acked",
        "_acked_at",
        "_news",
        "_period_end",
        "_periods",
        "_reach",
        "_segment",
        "durable",
        "limit",
        "received",
        "window",
        "written",
    )

    def __init__(self, offset: int, window: int, segment: int, limit: int, now: float) -> None:
        self.received = self.written = self.durable = offset
        self.window = window
        self.limit = limit
        self._segment = segment
        self._reach = offset + window  # no byte at or after this offset was ever allowed
        self._acked = offset
        self._acked_at = now
        self._news = False  # since the last ack
        self._periods = [0, 0, 0]  # bytes written in the current period and the two before
        self._period_end = now + _PERIOD

    def receive(self, size: int) -> None:
        """A segment arrived.

        Raises:
            TransferError: it is empty, too large, or was sent without credit (``protocol``).
        """
        if not 0 < size <= self._segment:
            raise TransferError("protocol", f"a segment has {size} bytes, not 1 to {self._segment}")
        if self.received + size > self._reach:
            raise TransferError("protocol", "data was sent without credit")
        self.received += size

    def write(self, size: int, now: float) -> None:
        """So many more bytes were written, or dropped: they are not in memory any more.

        Raises:
            ValueError: more than were received.
        """
        if not 0 <= size <= self.received - self.written:
            raise ValueError(f"at most {self.received - self.written} bytes can be written, got {size}")
        self._turn(now)
        self.written += size
        self._periods[0] += size
        self._news = self._news or size > 0

    def sync(self, offset: int) -> None:
        """All bytes before `offset` are on stable storage.

        Raises:
            ValueError: `offset` goes back, or beyond what was written.
        """
        if not self.durable <= offset <= self.written:
            raise ValueError(f"durable must be {self.durable} to {self.written}, got {offset}")
        self._news = self._news or offset > self.durable
        self.durable = offset

    @property
    def deadline(self) -> float:
        """When the next ack is due, if nothing more is written."""
        return self._acked_at + (ACK_MOVING if self._news else ACK_IDLE)

    def ack_is_due(self, now: float) -> bool:
        """After a quarter of the window, 1 s after the last one if there is news, else after 10 s."""
        return 4 * (self.written - self._acked) >= self.window or now >= self.deadline

    def ack(self, id: int, now: float) -> Ack:
        """The ack to send now. It counts as sent."""
        self._turn(now)
        window = self._next_window()
        changed, self.window = window != self.window, window
        self._reach = max(self._reach, self.written + window)
        self._acked, self._acked_at, self._news = self.written, now, False
        return Ack(id, self.written, self.durable, window if changed else None)

    def _next_window(self) -> int:
        least = max(MIN_WINDOW, 2 * self._segment)
        return max(least, min(sum(self._periods), self.limit))

    def _turn(self, now: float) -> None:
        """Begin a new period if the current one is over."""
        if now >= self._period_end:
            over = 1 + int((now - self._period_end) // _PERIOD)
            self._periods = ([0] * min(over, 3) + self._periods)[:3]
            self._period_end += over * _PERIOD
