"""When to send a Ping, and when to give the peer up. The time is an argument, in seconds.

One rule: `interval` seconds without a byte from the peer, and a Ping is due, whether or not output lets it
leave; another one each `interval`; `timeout` seconds after the first of them the peer is given up, unless
there is a sign of life. *A byte that comes from the peer is one, and so is a byte that moves on towards it
while output is blocked*: a peer that reads slowly but steadily is alive, however much of our data its Pong
waits behind. That holds for `REACH` bytes behind the Ping; no buffer on the way holds more.

While reading is paused the clock stands still: the peer is not dead, we are only not listening. What goes out
`interval` seconds after our last frame then is a Pong: it asks nothing, and the peer sees that we live.

Nobody tells when output moves on inside the kernel, so the owner of the clock looks, four times in the
shorter of the two periods while output is blocked. What moved since the last look counts from that look on:
no peer is given up later than `interval` + `timeout` after its last sign of life. Only one that took its time
before gets more: the system of a slow reader opens its window when a good part of it is free, so a reader of
100 kB/s takes half a megabyte every five seconds. It may take half as long again as the longest time so far,
up to twice `interval` + `timeout`.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf

__all__ = ["REACH", "STANDSTILL", "Action", "Keepalive"]

REACH = 64 << 20
"""Bytes behind a Ping that still count as signs of life when they move on. A peer that took more and gave no
Pong has something that reads for it, but is not there itself."""

STANDSTILL = 30.0
"""Seconds in which neither side reads and neither can send, after which the log says so."""

_LONGEST_PERIOD = 40.0  # seconds; bounds the time between two looks where there are no Pings


class Action(Enum):
    """What is due."""

    NOTHING = auto()
    PING = auto()
    PONG = auto()
    """An unsolicited Pong (RFC 6455 section 5.5.3): traffic that asks nothing of the peer."""
    STANDSTILL = auto()
    """Both directions stand still: nobody here reads, and the peer does not either. Told once."""
    TIMEOUT = auto()


class Keepalive:
    """The keepalive of one connection.

    Args:
        interval: send a Ping after this many seconds without a sign of life; ``None``: never.
        timeout: give up this many seconds after the Ping was due, without a sign of life; ``None``: never.
        now: the time.

    Attributes:
        timeout: as given; infinite for ``None``.
    """

    __slots__ = (
        "_asked",
        "_asked_behind",
        "_blocked",
        "_gap",
        "_heard",
        "_interval",
        "_looked",
        "_moved",
        "_moved_at",
        "_owes_pong",
        "_pace",
        "_paused",
        "_pinged",
        "_reported",
        "_spoke",
        "timeout",
    )

    def __init__(self, interval: float | None, timeout: float | None, now: float) -> None:
        self._interval = inf if interval is None else interval
        self.timeout = inf if timeout is None else timeout
        self._pace = min(self._interval, self.timeout, _LONGEST_PERIOD) / 4
        self._heard = now  # something came, or we began to listen again
        self._pinged = -inf
        self._asked: float | None = None  # the clock of the first Ping since then: when it began
        self._asked_behind = 0  # bytes that had moved on when that Ping left
        self._paused: float | None = None  # since when reading is
        self._spoke = now  # the last frame left
        self._owes_pong = False  # reading was paused since then: the peer's Pings may wait unseen
        # of the output
        self._blocked = False
        self._gap = 0.0  # the longest time in which blocked output stood still and then moved on
        self._looked = now
        self._moved = 0
        self._moved_at = now
        self._reported = False  # the standstill

    def received(self, now: float) -> None:
        """Bytes came."""
        self._heard = now
        self._asked = None

    def sent(self, now: float) -> None:
        """Frames left. That alone is no sign of life: the kernel takes them without the peer."""
        self._spoke = now
        self._owes_pong = self._paused is not None

    def pause(self, now: float) -> None:
        """Reading stops; bytes cannot be seen any more."""
        if self._paused is None:
            self._paused = now
            self._owes_pong = True

    def resume(self, now: float) -> None:
        """Reading goes on."""
        if self._paused is not None:
            if self._asked is not None:
                self._asked += now - max(self._paused, self._asked)
            self._paused = None
            self._heard = now
            self._reported = False

    @property
    def watches_output(self) -> bool:
        """Whether output was blocked at the last look, so that there will be another one."""
        return self._blocked

    @property
    def standing_since(self) -> float:
        """Since when blocked output has not moved on."""
        return self._moved_at

    def look(self, now: float, moved: int, blocked: bool, ping_waits: bool) -> None:
        """Take note of the output. May be called at any time.

        Args:
            now: the time.
            moved: bytes in all that have moved on, as far as this side can tell.
            blocked: whether more of them wait for the peer.
            ping_waits: whether the last Ping is among those.
        """
        moved = max(moved, self._moved)
        if ping_waits:
            self._asked_behind = moved
        if self._blocked and moved > self._moved:
            if self._asked is not None and moved - self._asked_behind <= REACH:
                self._asked = max(self._asked, self._looked)
            self._gap = max(self._gap, now - self._moved_at)
            self._moved_at = now
            self._reported = False
        elif not self._blocked:
            self._gap = 0.0
            self._moved_at = now
        self._moved, self._blocked, self._looked = moved, blocked, now

    @property
    def _patience(self) -> float:
        if not self._gap:
            return self.timeout
        return max(self.timeout, min(1.5 * self._gap, 2 * (self._interval + self.timeout)))

    @property
    def deadline(self) -> float:
        """When `look`, if output is blocked, and then `tick` should be called next."""
        deadline = self._looked + self._pace if self._blocked else inf
        if self._owes_pong:
            deadline = min(deadline, self._spoke + self._interval)
        if self._paused is None:
            deadline = min(deadline, max(self._heard, self._pinged) + self._interval)
            if self._asked is not None:
                deadline = min(deadline, self._asked + self._patience)
        return deadline

    def tick(self, now: float) -> Action:
        """What is due `now`; what it returns counts as done. To be repeated until that is nothing."""
        if self._paused is None:
            if self._asked is not None and now >= self._asked + self._patience:
                return Action.TIMEOUT
            if now >= max(self._heard, self._pinged) + self._interval:
                self._pinged = now
                if self._asked is None:
                    self._asked, self._asked_behind = now, self._moved
                return Action.PING
        elif self._stands_still(now):
            self._reported = True
            return Action.STANDSTILL
        if self._owes_pong and now >= self._spoke + self._interval:
            self.sent(now)
            return Action.PONG
        return Action.NOTHING

    def _stands_still(self, now: float) -> bool:
        assert self._paused is not None
        since = max(self._paused, self._moved_at)
        return self._blocked and not self._reported and now >= since + STANDSTILL
