"""When to send a Ping and when to give the peer up. The time is an argument, in seconds.

Any byte received is a sign of life. The clock of an outstanding Ping starts when it has left, and it
stands still while reading is paused: a slow reader's peer is not dead, we are only not listening.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf

__all__ = ["Action", "Keepalive"]


class Action(Enum):
    """What is due."""

    NOTHING = auto()
    PING = auto()
    PONG = auto()
    """An unsolicited Pong (RFC 6455 section 5.5.3): traffic for middle boxes that asks nothing."""
    TIMEOUT = auto()


class Keepalive:
    """The keepalive of one connection.

    Args:
        interval: send a Ping when nothing was received for so long; ``None``: never.
        timeout: give up when nothing is received for so long after the Ping left; ``None``: never.
        now: the time.
    """

    __slots__ = ("_interval", "_paused", "_ping_left", "_ping_queued", "_quiet_since", "_timeout")

    def __init__(self, interval: float | None, timeout: float | None, now: float) -> None:
        self._interval = inf if interval is None else interval
        self._timeout = inf if timeout is None else timeout
        self._quiet_since = now  # nothing was received, or sent in its place, since then
        self._ping_queued = False
        self._ping_left: float | None = None
        self._paused: float | None = None

    def received(self, now: float) -> None:
        """Bytes came."""
        self._quiet_since = now
        self._ping_left = None

    def pause(self, now: float) -> None:
        """Reading stops; bytes cannot be seen any more."""
        if self._paused is None:
            self._paused = self._quiet_since = now

    def resume(self, now: float) -> None:
        """Reading goes on."""
        if self._paused is not None:
            if self._ping_left is not None:
                self._ping_left += now - max(self._paused, self._ping_left)
            self._paused = None
            self._quiet_since = now

    def ping_left(self, now: float) -> None:
        """The Ping that `tick` asked for has left for the peer."""
        if self._ping_queued:
            self._ping_queued = False
            self._ping_left = now

    @property
    def deadline(self) -> float:
        """When `tick` should be called next."""
        if self._paused is None and self._ping_left is not None:
            if self._timeout < inf:
                return self._ping_left + self._timeout
            return self._ping_left + self._interval
        if self._paused is None and self._ping_queued:
            return inf
        return self._quiet_since + self._interval

    def tick(self, now: float) -> Action:
        """What is due `now`; what it returns counts as done."""
        if now < self.deadline:
            return Action.NOTHING
        if self._paused is not None:
            self._quiet_since = now
            return Action.PONG
        if self._ping_left is not None and self._timeout < inf:
            return Action.TIMEOUT
        self._ping_queued = True
        self._ping_left = None
        return Action.PING
