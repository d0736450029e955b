"""The greatest rate of a peer: how much each step of reading may take, and until when reading pauses."""

from __future__ import annotations

from math import inf

from wsstream.codec.decoder import MAX_EVENTS
from wsstream.codec.events import Chunk, Event
from wsstream.codec.speedups import ReadStep
from wsstream.driver.inbox import Inbox
from wsstream.protocol.budget import Budget
from wsstream.protocol.connection import Connection
from wsstream.protocol.state import State
from wsstream.transports.eventloop import Clock

__all__ = ["RateLimit", "ends_message"]

_OPEN = State.OPEN  # a name of the module is found faster than a member of an enum


class RateLimit:
    """The limit of one connection. Once that closes it counts no more, or the Close would come late.

    Args:
        budget: what the peer may send.
        clock: the time, in seconds.
        connection, inbox, read_step: the connection's.

    Attributes:
        resumes_at: reading pauses until then; infinite: it does not pause for the rate.
    """

    __slots__ = ("_budget", "_connection", "_inbox", "_now", "_read_step", "resumes_at")

    def __init__(
        self, budget: Budget, clock: Clock, connection: Connection, inbox: Inbox, read_step: ReadStep
    ) -> None:
        self._budget = budget
        self._now = clock
        self._connection = connection
        self._inbox = inbox
        self._read_step = read_step
        self.resumes_at = inf

    @property
    def _counts(self) -> bool:
        return self._connection.state is _OPEN and not self._inbox.discarding

    @property
    def forbids(self) -> bool:
        """Whether reading has to pause."""
        return self.resumes_at < inf and self._counts

    def spend(self, ended: int) -> bool:
        """Count the bytes that came and the messages that `ended`; returns whether reading has to pause."""
        now = self._now()
        resumes_at = self._budget.spend(now, self._read_step.bytes_received, ended)
        if resumes_at > now and self._counts:
            self.resumes_at = resumes_at
            return True
        return False

    def bound_step(self) -> None:
        """Let the next step of reading take no more than the peer may send."""
        step, decoder = self._read_step, self._connection.decoder
        if self._counts:
            size, messages = self._budget.room(self._now())
            step.due = min(step.due or size, size)
            decoder.most_events = min(messages, MAX_EVENTS)
        else:
            decoder.most_events = MAX_EVENTS

    def lift(self) -> None:
        """Reading need not pause any more, until the peer has again sent too much."""
        self.resumes_at = inf


def ends_message(event: Event) -> bool:
    """Whether a message ends with `event`."""
    return event.last if isinstance(event, Chunk) else isinstance(event, str | bytes)
