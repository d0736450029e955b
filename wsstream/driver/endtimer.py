"""The deadlines of a connection's end."""

from __future__ import annotations

from enum import Enum, auto
from math import inf

from wsstream.transports.eventloop import Clock

__all__ = ["Due", "EndTimer"]

_GRACE = 0.1  # seconds for the application to answer the messages that came before a violation
_STALL_TIMEOUT = 2.0  # seconds in which blocked output has to move on, once nobody waits for the peer


class Due(Enum):
    """What is due."""

    NOTHING = auto()
    FAILING = auto()
    """To fail the connection for a violation."""
    DROPPING = auto()
    """To drop it: the closing handshake took too long."""
    LOOK = auto()
    """To look whether blocked output has moved on, and tell `has_stalled`."""


class EndTimer:
    """When the parts of the end are due. Started once, each runs until `stop`.

    Args:
        close_timeout: seconds for the closing handshake; ``None``: no limit.
        clock: the time, in seconds.

    Attributes:
        close_timeout: seconds; infinite for ``None``.
        deadline: when something is due next.
    """

    __slots__ = ("_closing", "_grace", "_hurried_since", "_look", "_now", "close_timeout", "deadline")

    def __init__(self, close_timeout: float | None, clock: Clock) -> None:
        self.close_timeout = inf if close_timeout is None else close_timeout
        self._now = clock
        self._hurried_since = inf
        self._grace = self._closing = self._look = self.deadline = inf

    def start_grace(self) -> None:
        """The peer broke a rule. The application may still answer what came before."""
        self._grace = self._now() + _GRACE
        self._set_deadline()

    def start_closing(self) -> None:
        """The closing handshake begins, if it has not begun."""
        self._grace = inf
        if self._closing == inf:
            self._closing = self._now() + self.close_timeout
        self._set_deadline()

    def hurry(self) -> None:
        """Blocked output has to move on from now on."""
        if self._look == inf:
            self._hurried_since = self._now()
            self._look = self._hurried_since + _STALL_TIMEOUT / 4
            self._set_deadline()

    def stop(self) -> None:
        """Nothing is due any more."""
        self._grace = self._closing = self._look = self.deadline = inf

    def _set_deadline(self) -> None:
        self.deadline = min(self._grace, self._closing, self._look)

    def due(self, now: float) -> Due:
        """What is due `now`."""
        if now >= self._grace:
            return Due.FAILING
        if now >= self._closing:
            return Due.DROPPING
        return Due.LOOK if now >= self._look else Due.NOTHING

    def has_stalled(self, now: float, blocked_since: float | None) -> bool:
        """Whether output has been blocked for too long; it is not, if that is since ``None``."""
        self._look = inf if blocked_since is None else now + _STALL_TIMEOUT / 4
        self._set_deadline()
        return blocked_since is not None and now >= max(self._hurried_since, blocked_since) + _STALL_TIMEOUT
