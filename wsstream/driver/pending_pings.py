"""Pings that await their Pong (RFC 6455 sections 5.5.2 and 5.5.3)."""

from __future__ import annotations

from anyio.lowlevel import checkpoint

from wsstream.driver.signals import Signal

__all__ = ["PingRecord", "Pings"]


class PingRecord:
    """One Ping.

    Attributes:
        payload: 8 bytes, unlike those of the connection's other Pings.
        waiters: tasks that wait for the Pong.
        over: the Pong has come, or none will.
        answered: the time of the Pong, in the event loop's seconds.
    """

    __slots__ = ("_done", "answered", "over", "payload", "waiters")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.waiters = 0
        self.over = False
        self.answered: float | None = None
        self._done: Signal | None = None  # made when a task waits: none does for the Pings of the keepalive

    async def wait(self) -> None:
        """Return when the Pong has come, or none will come any more. If cancelled, only the waiting ends."""
        if self.over:
            await checkpoint()
            return
        if self._done is None:
            self._done = Signal()
        self.waiters += 1
        try:
            await self._done.wait()
        finally:
            self.waiters -= 1

    def end(self, answered: float | None) -> None:
        """The Pong came at the time `answered`, or (``None``) none will come any more."""
        self.over = True
        self.answered = answered
        if self._done is not None:
            self._done.notify()


class Pings:
    """The Pings of a connection, in the order in which they were sent."""

    __slots__ = ("_made", "_records")

    def __init__(self) -> None:
        self._records: list[PingRecord] = []
        self._made = 0

    @property
    def latest(self) -> PingRecord | None:
        """The Ping that was made last, unless it is answered; a peer can guess that of one not yet sent."""
        return self._records[-1] if self._records else None

    def new(self) -> PingRecord:
        """Make another one. Those that nobody waits for are forgotten."""
        self._made += 1
        record = PingRecord(self._made.to_bytes(8, "big"))
        self._records = [*(record for record in self._records if record.waiters), record]
        return record

    def receive_pong(self, payload: bytes, now: float) -> None:
        """A Pong answers the Ping with its payload and all before that; others are ignored."""
        for index, latest in enumerate(self._records, 1):
            if latest.payload == payload:
                for record in self._records[:index]:
                    record.end(now)
                del self._records[:index]
                return

    def wake_all(self) -> None:
        """No Pong will come any more."""
        for record in self._records:
            record.end(None)
        self._records.clear()
