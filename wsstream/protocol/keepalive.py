"""When to send a Ping, and when to give the peer up. The time is an argument, in seconds.

Only our own Pings are here; the connection answers the peer's (:mod:`~wsstream.protocol.connection`).

One rule: `interval` seconds after the peer's last byte a Ping is due, whether or not output lets it leave,
and another one each `interval`; `timeout` seconds after the first of them the peer is given up, unless it
shows a sign of life. *A byte that comes from the peer is one, and so is a byte that moves on towards it while
output is blocked*: a peer that reads slowly but steadily is alive, however much of our data its Pong waits
behind. That holds for `REACH` bytes after the Ping; no buffer on the way holds more.

While reading is paused the clock stands still: the peer is not dead, this side is not listening. `interval`
seconds after its last frame it then sends a Pong, which asks nothing and shows the peer that it lives.

Nobody reports when output moves on inside the kernel, so the owner of the clock looks, four times in the
shorter of the two periods while output is blocked. What moved since the last look counts from that look on:
no peer is given up later than `interval` + `timeout` after its last sign of life. Only a peer that paused for
long before gets more: the system of a slow reader opens its window when a good part of it is free, so a
reader of 100 kB/s takes half a megabyte every five seconds. It may take half as long again as its longest
pause so far, up to twice `interval` + `timeout`.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf

__all__ = ["REACH", "STANDSTILL", "Action", "Keepalive"]

REACH = 64 << 20
"""Bytes after a Ping that still count as signs of life when they move on. A peer that took more and sent no
Pong has something that reads for it, but is not there itself."""

STANDSTILL = 30.0
"""Seconds in which neither side reads and neither can send, after which the log says so."""

_LONGEST_PERIOD = 40.0  # seconds; bounds the time between two looks if there are no Pings


class Action(Enum):
    """What is due."""

    NOTHING = auto()
    PING = auto()
    PONG = auto()
    """An unsolicited Pong (RFC 6455 section 5.5.3): traffic that asks nothing of the peer."""
    STANDSTILL = auto()
    """Both directions stand still: nobody here reads, and the peer does not either. Due once."""
    TIMEOUT = auto()


class _Peer(Enum):
    ALIVE = auto()
    """Bytes came, or moved on, since the last Ping was due."""
    ASKED = auto()
    """A Ping was due, and the peer has shown no sign of life since."""


class _Output(Enum):
    FREE = auto()
    BLOCKED = auto()
    """At the last look, bytes waited for the peer."""
    REPORTED = auto()
    """Blocked, and the standstill has been reported."""


# A name of the module is found faster than a member of an enum.
_ALIVE, _ASKED, _FREE = _Peer.ALIVE, _Peer.ASKED, _Output.FREE


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
        "_asked_since",
        "_gap",
        "_interval",
        "_last_look",
        "_last_ping",
        "_last_received",
        "_last_sent",
        "_moved",
        "_moved_at",
        "_moved_before_ping",
        "_output",
        "_owes_pong",
        "_pace",
        "_paused_since",
        "_peer",
        "timeout",
    )

    def __init__(self, interval: float | None, timeout: float | None, now: float) -> None:
        self._interval = inf if interval is None else interval
        self.timeout = inf if timeout is None else timeout
        self._pace = min(self._interval, self.timeout, _LONGEST_PERIOD) / 4
        self._peer = _ALIVE
        self._asked_since = inf  # when the first Ping since ASKED was due, later by the time of the pauses
        self._moved_before_ping = 0  # bytes that had moved on when that Ping left
        self._last_received = now  # when bytes came, or reading was resumed
        self._last_ping = -inf  # when one was due
        self._last_sent = now  # when frames left
        self._paused_since: float | None = None
        self._owes_pong = False  # reading was paused since frames left: the peer's Pings may wait unseen
        # of the output
        self._output = _FREE
        self._last_look = now
        self._moved = 0
        self._moved_at = now
        self._gap = 0.0  # the longest time in which blocked output stood still and then moved on

    def received(self, now: float) -> None:
        """Bytes came."""
        self._last_received = now
        self._peer = _ALIVE

    def sent(self, now: float) -> None:
        """Frames left. That alone is no sign of life: the kernel takes them without the peer."""
        self._last_sent = now
        self._owes_pong = self._paused_since is not None

    def pause(self, now: float) -> None:
        """Reading stops; bytes cannot be seen any more."""
        if self._paused_since is None:
            self._paused_since = now
            self._owes_pong = True

    def resume(self, now: float) -> None:
        """Reading goes on."""
        if self._paused_since is not None:
            if self._peer is _Peer.ASKED:
                self._asked_since += now - max(self._paused_since, self._asked_since)
            self._paused_since = None
            self._last_received = now
            if self._output is _Output.REPORTED:
                self._output = _Output.BLOCKED

    @property
    def watches_output(self) -> bool:
        """Whether output was blocked at the last look, so that there will be another one."""
        return self._output is not _Output.FREE

    @property
    def standing_since(self) -> float:
        """When blocked output moved on last."""
        return self._moved_at

    def look(self, now: float, moved: int, blocked: bool, ping_waits: bool) -> None:
        """Take note of the output. May be called at any time.

        Args:
            now: the time.
            moved: bytes in all that have moved on, as far as this side can tell.
            blocked: whether more bytes wait for the peer.
            ping_waits: whether the last Ping is among those.
        """
        moved = max(moved, self._moved)
        if ping_waits:
            self._moved_before_ping = moved
        if self._output is _Output.FREE:
            self._gap = 0.0
            self._moved_at = now
        elif moved > self._moved:
            if self._peer is _Peer.ASKED and moved - self._moved_before_ping <= REACH:
                self._asked_since = max(self._asked_since, self._last_look)
            self._gap = max(self._gap, now - self._moved_at)
            self._moved_at = now
        if not blocked:
            self._output = _Output.FREE
        elif self._output is _Output.FREE or moved > self._moved:
            self._output = _Output.BLOCKED
        self._moved, self._last_look = moved, now

    @property
    def _patience(self) -> float:
        """Seconds from `_asked_since` until the peer is given up."""
        if not self._gap:
            return self.timeout
        return max(self.timeout, min(1.5 * self._gap, 2 * (self._interval + self.timeout)))

    @property
    def deadline(self) -> float:
        """When `look`, if output is blocked, and then `tick` should be called next."""
        deadline = inf if self._output is _FREE else self._last_look + self._pace
        if self._owes_pong:
            deadline = min(deadline, self._last_sent + self._interval)
        if self._paused_since is None:
            next_ping = self._next_ping
            if next_ping < deadline:
                deadline = next_ping
            if self._peer is _ASKED:
                deadline = min(deadline, self._asked_since + self._patience)
        return deadline

    @property
    def _next_ping(self) -> float:
        received, ping = self._last_received, self._last_ping
        return (received if received > ping else ping) + self._interval

    def tick(self, now: float) -> Action:
        """An action that is due `now`, and counts as done. Call this until it returns NOTHING."""
        if self._paused_since is None:
            if self._peer is _Peer.ASKED and now >= self._asked_since + self._patience:
                return Action.TIMEOUT
            if now >= self._next_ping:
                self._last_ping = now
                if self._peer is _Peer.ALIVE:
                    self._peer = _Peer.ASKED
                    self._asked_since, self._moved_before_ping = now, self._moved
                return Action.PING
        elif self._output is _Output.BLOCKED and now >= max(self._paused_since, self._moved_at) + STANDSTILL:
            self._output = _Output.REPORTED
            return Action.STANDSTILL
        if self._owes_pong and now >= self._last_sent + self._interval:
            self.sent(now)
            return Action.PONG
        return Action.NOTHING
