"""What a connection's clocks say: when to send a Ping, when to give the peer up, and who waits for a Pong.

The rules are the protocol's (:mod:`~wsstream.protocol.keepalive`, :mod:`~wsstream.protocol.arrival`); here
they get the time of the event loop.
"""

from __future__ import annotations

from math import inf

from wsstream.codec.speedups import ReadStep
from wsstream.driver.options import ConnectionOptions
from wsstream.driver.pending_pings import Pings
from wsstream.protocol.arrival import Arrival
from wsstream.protocol.budget import Budget
from wsstream.protocol.connection import Connection
from wsstream.protocol.keepalive import Keepalive
from wsstream.protocol.state import State
from wsstream.transports.eventloop import Clock

__all__ = ["Heartbeat"]

_NEVER = -inf


class Heartbeat:
    """The clocks of one open connection.

    Args:
        connection: its protocol. When it is not open, no clock runs.
        options: the intervals and timeouts.
        clock: the time, in seconds.
        read_step: knows when bytes came.

    Attributes:
        now: the time, as a function.
        arrival: the clock of the message that is arriving, if `options` limit its time or the peer's rate.
        budget: how much the peer may send now, if its rate is limited.
    """

    __slots__ = ("_connection", "_keepalive", "_pings", "_read_step", "arrival", "budget", "now")

    def __init__(
        self, connection: Connection, options: ConnectionOptions, clock: Clock, read_step: ReadStep
    ) -> None:
        timeout, rate = options.receive_timeout, options.receive_rate
        self.now = clock
        self._pings: Pings | None = None
        self._connection = connection
        self._read_step = read_step
        self._keepalive = Keepalive(options.ping_interval, options.ping_timeout, clock())
        self.arrival = Arrival(timeout, rate) if timeout is not None or rate else None
        self.budget = Budget.of(rate, clock())

    @property
    def keepalive(self) -> Keepalive:
        """When to send a Ping, and when to give the peer up. It knows of all that has come and left."""
        keepalive, step, batch = self._keepalive, self._read_step, self._connection.queue.batch
        if step.received_at > _NEVER:
            keepalive.received(step.received_at)
            step.received_at = _NEVER
        if batch.left_at > _NEVER:
            keepalive.sent(batch.left_at)
            batch.left_at = _NEVER
        return keepalive

    @property
    def pings(self) -> Pings:
        """The Pings that wait for their Pong."""
        if self._pings is None:
            self._pings = Pings()
        return self._pings

    def end(self) -> None:
        """Let the tasks that wait for a Pong see how the connection ends."""
        if self._pings is not None:
            self._pings.wake_all()

    def decoded(self, arrival: Arrival, size: int, *, in_chunks: bool) -> None:
        """`size` bytes were decoded, perhaps of a message that is read `in_chunks`."""
        connection = self._connection
        arrival.received(
            self.now(),
            size,
            inside=connection.receiving,
            crossed=connection.crossed,
            in_chunks=in_chunks,
        )

    def pause(self) -> None:
        """Reading stops: the peer cannot be heard."""
        now = self.now()
        self.keepalive.pause(now)
        if self.arrival is not None:
            self.arrival.pause(now)

    def resume(self) -> None:
        """Reading goes on."""
        now = self.now()
        self.keepalive.resume(now)
        if self.arrival is not None:
            self.arrival.resume(now)

    @property
    def blocked_since(self) -> float | None:
        """When blocked output last moved on; ``None``: nothing is blocked."""
        return self.keepalive.standing_since if self.keepalive.watches_output else None

    @property
    def deadline(self) -> float:
        """When one of the clocks has something due."""
        if self._connection.state is not State.OPEN:
            return inf
        if self.arrival is None:
            return self.keepalive.deadline
        return min(self.keepalive.deadline, self.arrival.deadline)

    def is_overdue(self, now: float) -> bool:
        """Whether the message that is arriving has taken too long."""
        return self.arrival is not None and now >= self.arrival.deadline
