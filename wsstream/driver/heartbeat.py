"""What a connection's clocks say: when to send a Ping, when to give the peer up, and who waits for a Pong.

The rules are the protocol's (:mod:`~wsstream.protocol.keepalive`, :mod:`~wsstream.protocol.arrival`); here
they get the time of the event loop.
"""

from __future__ import annotations

from math import inf

from wsstream.driver.options import ConnectionOptions
from wsstream.driver.pings import Pings
from wsstream.protocol.arrival import Arrival
from wsstream.protocol.connection import Connection
from wsstream.protocol.keepalive import Action, Keepalive
from wsstream.protocol.state import State
from wsstream.transports.eventloop import Clock

__all__ = ["Heartbeat"]


class Heartbeat:
    """The clocks of one open connection.

    Args:
        connection: its protocol. When it is not open, no clock runs.
        options: the intervals and timeouts.
        clock: the time, in seconds.

    Attributes:
        now: the time, as a function.
        pings: the Pings that wait for their Pong.
        arrival: the clock of the message that is arriving, if its time is limited.
    """

    __slots__ = ("_connection", "_keepalive", "arrival", "now", "pings")

    def __init__(self, connection: Connection, options: ConnectionOptions, clock: Clock) -> None:
        timeout, rate = options.receive_timeout, options.receive_rate
        self.now = clock
        self.pings = Pings()
        self._connection = connection
        self._keepalive = Keepalive(options.ping_interval, options.ping_timeout, clock())
        self.arrival = Arrival(timeout, rate) if timeout is not None or rate else None

    # -- what happens --------------------------------------------------------------------------

    def received(self) -> None:
        """Bytes came from the peer."""
        self._keepalive.received(self.now())

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
        self._keepalive.pause(now)
        if self.arrival is not None:
            self.arrival.pause(now)

    def resume(self) -> None:
        """Reading goes on."""
        now = self.now()
        self._keepalive.resume(now)
        if self.arrival is not None:
            self.arrival.resume(now)

    def sent(self) -> None:
        """Frames left for the kernel."""
        self._keepalive.sent(self.now())

    def look(self, moved: int, *, blocked: bool) -> None:
        """Take note of the output: `moved` bytes in all came nearer to the peer, more are `blocked`."""
        self._keepalive.look(self.now(), moved, blocked, self._connection.queue.ping_waits)

    # -- what is due ---------------------------------------------------------------------------

    @property
    def watches_output(self) -> bool:
        """Whether output was blocked at the last `look`, so that another one is due."""
        return self._keepalive.watches_output

    @property
    def blocked_since(self) -> float | None:
        """When blocked output last moved on; ``None``: nothing is blocked."""
        return self._keepalive.standing_since if self._keepalive.watches_output else None

    @property
    def timeout(self) -> float:
        """Seconds without a sign of life, after a Ping was due, until the peer is given up."""
        return self._keepalive.timeout

    @property
    def deadline(self) -> float:
        """When `look`, if output is blocked, and then `tick` should be called next."""
        if self._connection.state is not State.OPEN:
            return inf
        if self.arrival is None:
            return self._keepalive.deadline
        return min(self._keepalive.deadline, self.arrival.deadline)

    def is_overdue(self, now: float) -> bool:
        """Whether the message that is arriving has taken too long."""
        return self.arrival is not None and now >= self.arrival.deadline

    def tick(self, now: float) -> Action:
        """What the keepalive has due `now`. To be repeated until that is nothing."""
        return self._keepalive.tick(now) if self._connection.state is State.OPEN else Action.NOTHING
