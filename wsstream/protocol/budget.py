"""How much a peer may send: the limiter of ``receive_rate``. The time is an argument, in seconds.

Two token buckets, for bytes and for messages, each of which holds what may come in one second. Nothing is
refused and nothing is dropped: whoever reads stops until the budget is back, and TCP slows the peer.
"""

from __future__ import annotations

from wsstream.codec.unread import UNLIMITED
from wsstream.protocol.arrival import ReceiveRate

__all__ = ["Budget"]

_PAUSE = 0.1  # seconds: reading goes on when as much has come back as in this time, which bounds the wake-ups


class _Bucket:
    """Tokens that come back at a rate; there may be a debt.

    Attributes:
        left: tokens.
    """

    __slots__ = ("_capacity", "_now", "_rate", "left")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._capacity = self.left = max(rate, 1.0)
        self._now = now

    def refill(self, now: float) -> None:
        self.left = min(self.left + (now - self._now) * self._rate, self._capacity)
        self._now = now

    @property
    def wait(self) -> float:
        """Seconds to wait; 0 while there is a whole token."""
        return 0.0 if self.left >= 1 else (max(self._rate * _PAUSE, 1.0) - self.left) / self._rate


class Budget:
    """What the peer of one connection may send now.

    Args:
        rate: its greatest rates.
        now: the time.
    """

    __slots__ = ("_buckets", "_bytes", "_messages", "_received")

    def __init__(self, rate: ReceiveRate, now: float) -> None:
        self._bytes = None if rate.bytes_at_most is None else _Bucket(rate.bytes_at_most, now)
        self._messages = None if rate.messages_at_most is None else _Bucket(rate.messages_at_most, now)
        self._buckets = tuple(bucket for bucket in (self._bytes, self._messages) if bucket is not None)
        self._received = 0

    def spend(self, now: float, received: int, messages: int) -> float:
        """`received` bytes have come in all, and `messages` more have ended.

        Returns when reading may go on; `now`: it need not stop.
        """
        self._refill(now)
        if self._bytes is not None:
            self._bytes.left -= received - self._received
            self._received = received
        if self._messages is not None:
            self._messages.left -= messages
        return now + max(bucket.wait for bucket in self._buckets)

    def room(self, now: float) -> tuple[int, int]:
        """How many bytes and how many messages may come before it is time to look again; 1 or more each."""
        self._refill(now)
        return _room(self._bytes), _room(self._messages)

    def _refill(self, now: float) -> None:
        for bucket in self._buckets:
            bucket.refill(now)

    @classmethod
    def of(cls, rate: ReceiveRate | None, now: float) -> Budget | None:
        """The budget that `rate` sets; ``None``: it sets none."""
        if rate is None or (rate.bytes_at_most is None and rate.messages_at_most is None):
            return None
        return cls(rate, now)


def _room(bucket: _Bucket | None) -> int:
    return UNLIMITED if bucket is None else max(int(bucket.left), 1)
