"""Pings that await their Pong (RFC 6455 sections 5.5.2 and 5.5.3)."""

from __future__ import annotations

from collections import deque
from itertools import count

import anyio

__all__ = ["PingRecord", "Pings"]


class PingRecord:
    """One Ping.

    Attributes:
        payload: 8 bytes, unlike those of the connection's other Pings.
        waiters: tasks that wait for the Pong.
        done: set when there is nothing to wait for any more.
        answered: the time of the Pong, in the event loop's seconds.
    """

    __slots__ = ("answered", "done", "payload", "waiters")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.waiters = 0
        self.done = anyio.Event()
        self.answered: float | None = None


class Pings:
    """The Pings of a connection, in the order in which they were sent."""

    __slots__ = ("_numbers", "_records")

    def __init__(self) -> None:
        self._records: deque[PingRecord] = deque()
        self._numbers = count(1)

    @property
    def latest(self) -> PingRecord | None:
        """The Ping that was made last, unless it is answered; a peer can guess that of one not yet sent."""
        return self._records[-1] if self._records else None

    def new(self) -> PingRecord:
        """Make another one. Those that nobody waits for are forgotten."""
        self._records = deque(record for record in self._records if record.waiters)
        self._records.append(PingRecord(next(self._numbers).to_bytes(8, "big")))
        return self._records[-1]

    def receive_pong(self, payload: bytes, now: float) -> None:
        """A Pong answers the Ping with its payload and all before that; others are ignored."""
        if any(record.payload == payload for record in self._records):
            answered = b""
            while answered != payload:
                record = self._records.popleft()
                answered = record.payload
                record.answered = now
                record.done.set()

    def dissolve(self) -> None:
        """No Pong will come any more."""
        for record in self._records:
            record.done.set()
        self._records.clear()
