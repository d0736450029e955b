"""From the transport to the inbox: reading, decoding, and stopping at the water marks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from anyio.lowlevel import checkpoint

from wsstream.codec.decoder import MAX_STEPS
from wsstream.codec.events import Close, Pong, Violation
from wsstream.codec.read_step import density_of, size_of_read
from wsstream.codec.speedups import ReadStep
from wsstream.driver.ending import Ending
from wsstream.driver.engine import NO_FAILURES, Engine, Failures, Next
from wsstream.driver.fairness import READS_AFTER_SEND_FAILURE
from wsstream.driver.heartbeat import Heartbeat
from wsstream.driver.inbox import Inbox
from wsstream.driver.phase import Phase
from wsstream.driver.pump import Pump
from wsstream.driver.ratelimit import RateLimit, ends_message
from wsstream.driver.signals import Signal
from wsstream.heap import keep_freed
from wsstream.protocol.connection import Connection
from wsstream.protocol.state import State
from wsstream.transports.base import Transport

__all__ = ["Intake", "Reading", "new_read_step"]

_READ_BUFFER = 256 * 1024  # bytes; a larger one leaves the processor's cache
_NOTHING = memoryview(b"")


class _ReadBuffer(threading.local):
    """The buffer into which the connections of one thread read: a step decodes all it reads."""

    def __init__(self) -> None:
        keep_freed(4 * _READ_BUFFER)
        self.view = memoryview(bytearray(_READ_BUFFER))


_shared = _ReadBuffer()


def new_read_step(transport: Transport, connection: Connection, inbox: Inbox) -> ReadStep:
    """Return what receives from `transport` into the buffer of this thread, and fills `inbox`."""
    step = ReadStep(
        inbox.queue,
        connection.queue.batch,
        not connection.client,
        connection.inflater is not None,
        transport.receive,
        _shared.view,
    )
    step.high_water = inbox.high_water
    return step


class Reading(Enum):
    """Whether the transport is read."""

    ON = auto()
    PAUSED = auto()
    """The high-water mark is reached, and reading goes on at the low-water mark; or the peer has sent all
    that it may for now, and reading goes on at `RateLimit.resumes_at`."""
    OFF = auto()
    """The peer broke a rule, or the transport is closed."""


# The interpreter finds a name of the module faster than a member of an enum, and these are on the hot path.
_ON, _PAUSED, _OFF = Reading.ON, Reading.PAUSED, Reading.OFF
_READ, _DECODE, _WAIT, _SLEEP = Next.READ, Next.DECODE, Next.WAIT, Next.SLEEP
_OPEN = State.OPEN
_DROPPED = Phase.DROPPED


class Relaying(Protocol):
    """Who forwards what arrives."""

    def step(self) -> bool | None:
        """Read, and return whether something may be in the inbox; ``None``: do it yourself."""


class Intake:
    """Fills the inbox of one connection.

    Args:
        transport, read_step, connection, inbox, ending, heartbeat, engine, pump: the connection's.
        received: bytes that came after the opening handshake.
        failures: told what a step raised: the connection is lost, or this library made a mistake.

    Attributes:
        reading: whether the transport is read.
        relay: reads in place of the intake, where it can.
        arrived: notified when something may be in the inbox, or how the connection ends is certain.
        on_arrival: called then, too.
        read_step: receives, and decodes the usual messages.
        limit: of the rate at which the peer sends, if there is one.
    """

    __slots__ = (
        "_connection",
        "_ending",
        "_engine",
        "_failures",
        "_heartbeat",
        "_inbox",
        "_pump",
        "_transport",
        "_undecoded",
        "arrived",
        "limit",
        "on_arrival",
        "read_step",
        "reading",
        "relay",
    )

    def __init__(
        self,
        transport: Transport,
        read_step: ReadStep,
        connection: Connection,
        inbox: Inbox,
        received: bytes,
        ending: Ending,
        heartbeat: Heartbeat,
        engine: Engine,
        pump: Pump,
        failures: Failures,
    ) -> None:
        self.reading = _ON
        self.arrived = Signal()
        self.on_arrival: Callable[[], object] | None = None
        self.relay: Relaying | None = None
        self._transport = transport
        self._connection = connection
        self._inbox = inbox
        self._ending = ending
        self._heartbeat = heartbeat
        self._engine = engine
        self._pump = pump
        self._failures = failures
        self._undecoded = memoryview(received) if received else _NOTHING
        self.read_step = read_step
        self.limit: RateLimit | None = None
        if (budget := heartbeat.budget) is not None:
            self.limit = RateLimit(budget, heartbeat.now, connection, inbox, read_step)
        read_step.owner = self
        read_step.bytes_received = len(received)
        read_step.drained = True  # by the opening handshake; the engine finds what has come since
        self.choose_way()

    def start(self) -> None:
        """Decode what came after the opening handshake."""
        if self._undecoded:
            self._engine.decode_soon()

    # -- the step ------------------------------------------------------------------------------

    def step(self) -> Next:
        """Take a step of reading: decode bytes that were read earlier; if there are none, read and decode."""
        self.read_now()
        return self.next()

    def next(self) -> Next:
        """What reading needs next."""
        if self.reading is not _ON:
            return _SLEEP
        if self._undecoded:
            return _DECODE
        return _WAIT if self.read_step.drained else _READ

    def read_now(self) -> bool:
        """Take a step if there is something to read; returns whether there was any."""
        if self.reading is not _ON:
            return False
        try:
            if not self._undecoded:
                if self.relay is not None and (news := self.relay.step()) is not None:
                    return news
                return self.read_step.take()
            undecoded, self._undecoded = self._undecoded, _NOTHING
            self.decode(undecoded, shared=False)
        except Exception as error:
            self._failures.reading_failed(error)
        return True

    def take_rest(self, data: memoryview) -> None:
        """Decode the bytes that came and begin with no plain message, or pause: the mark is reached.

        The next step overwrites `data`.
        """
        if self._connection.state is not _OPEN and not self._ending.linger(len(data)):
            self._ending.drop()
        else:
            self.decode(data, shared=True)

    def end_of_stream(self) -> None:
        """The transport has ended."""
        self._ending.drop()

    def step_failed(self, error: Exception) -> None:
        """A step of reading raised `error`."""
        self._failures.reading_failed(error)

    def wake_receiver(self) -> None:
        """Wake those who wait for data."""
        self._inbox.queue.wake()
        self.arrived.notify()
        if self.on_arrival is not None:
            self.on_arrival()

    def keep_beginnings(self, keep: bool) -> None:
        """Keep the beginning of a message for the next read; or decode it, as its parts are asked for."""
        self.read_step.keeps = keep
        if not keep and (beginning := self.read_step.release()):
            self.decode(memoryview(beginning), shared=False)

    def choose_way(self) -> None:
        """Let the next messages go straight to the queue, if all is as usual; else once a message ends."""
        step = self.read_step
        step.due = self._connection.decoder.rest_due if step.keeps else 0
        step.open = (
            self.reading is _ON
            and self.relay is None
            and not self._undecoded
            and not self._connection.receiving
            and self._connection.state is _OPEN
            and not self._inbox.discarding
            and self._heartbeat.arrival is None
        )
        if self.limit is not None:
            self.limit.bound_step()

    def fill(self, view: memoryview) -> int | None:
        """Read from the transport; ``None``: nothing has arrived, 0: its end, which has been dealt with."""
        step = self.read_step
        if self.limit is not None:
            view = view[: step.due]
        size = self._transport.recv_into(view)
        step.drained = size is None or size < len(view)
        if size == 0:
            self._ending.drop()
        elif size:
            step.bytes_received += size
            step.received_at = self._heartbeat.now()
        return size

    @property
    def read_size(self) -> int:
        """How many bytes the next step reads."""
        return size_of_read(self._inbox.room, self.read_step.density, _READ_BUFFER)

    def decode(self, data: memoryview, *, shared: bool) -> None:
        """Decode up to the high-water mark. `data` may be `shared`: another read will overwrite it."""
        inbox, connection = self._inbox, self._connection
        events = connection.receive(data, inbox.room)
        inbox.put(events, connection.cost, control=connection.control)
        consumed, cost = connection.consumed, connection.cost
        if consumed:
            self.read_step.density = density_of(consumed, cost)
        if consumed < len(data):
            rest = data[consumed:]
            self._undecoded = memoryview(bytes(rest)) if shared else rest
        ended = 0 if self.limit is None else sum(map(ends_message, events))
        self.passed_on(len(data) if shared else 0, ended)
        if inbox.is_full(len(self._undecoded)):
            self.pause()
        if connection.control:
            for event in events:
                if isinstance(event, Pong | Close | Violation):
                    self._handle(event)
            if self._ending.phase >= _DROPPED:
                return  # every task was woken
        self.choose_way()
        if connection.queue.size or connection.state is not _OPEN:
            self._pump.step()
        self.wake_receiver()

    def passed_on(self, size: int, ended: int) -> None:
        """Count `size` bytes, which are decoded or were relayed, and `ended` messages for the limits."""
        if (arrival := self._heartbeat.arrival) is not None:
            self._heartbeat.decoded(arrival, size, in_chunks=self._inbox.reader is not None)
            self._engine.wake_at(self._heartbeat.deadline)
            if (limit := self.limit) is not None:
                if limit.spend(ended):
                    self._engine.wake_at(limit.resumes_at)
                    self.pause()
                else:
                    limit.bound_step()

    def _handle(self, event: Pong | Close | Violation) -> None:
        match event:
            case Pong():
                self._heartbeat.pings.receive_pong(event.payload, self._heartbeat.now())
            case Close():
                self._ending.receive_close()
            case Violation():
                self.stop_for_violation()

    def stop_for_violation(self) -> None:
        """The peer broke a rule, as the protocol has noted: read no more until the connection has failed."""
        self.reading = _OFF
        self.read_step.open = False
        self._inbox.resume()
        self._ending.receive_violation()
        if self._inbox.discarding:  # nothing is left to be answered
            self._ending.fail_for_violation()

    def read_more(self) -> bool:
        """Take a step, unless the last one drained the transport; returns whether anything arrived."""
        if self.read_step.drained and not self._undecoded:
            return False
        return self.read_now()

    async def yield_after_step(self) -> None:
        """A checkpoint after a step that a receiving task took itself."""
        engine, after = self._engine, self.next()
        if after is _DECODE:
            engine.decode_soon()
        engine.step_was_taken(after)
        await checkpoint()
        engine.step_is_over()

    # -- stopping and going on -------------------------------------------------------------------

    def pause(self) -> None:
        """Read no more until `resume`."""
        self.reading = _PAUSED
        self.read_step.open = False
        self._inbox.pause()
        self._heartbeat.pause()
        self._engine.wake_at(self._heartbeat.deadline)

    def resume_if_low(self) -> None:
        """Something was taken from the inbox: resume reading at the low-water mark."""
        if self.reading is _PAUSED and self._inbox.is_low:
            self.resume()

    def resume(self) -> None:
        """Read on, unless the peer may not send more yet: then `on_time` does."""
        if self.limit is not None:
            if self.limit.forbids:
                return
            self.limit.lift()
        self.reading = _ON
        self._heartbeat.resume()
        self.choose_way()
        self._inbox.resume()
        self._engine.resume_reading()
        if self._undecoded:
            self._engine.decode_soon()

    def on_time(self, limit: RateLimit) -> None:
        """The peer may send more: read on, unless the inbox is full."""
        limit.lift()
        if self.reading is _PAUSED and not self._inbox.is_full(len(self._undecoded)):
            self.resume()

    # -- the end -------------------------------------------------------------------------------

    def end(self) -> None:
        """How the connection ends is certain: what comes is dropped, up to a limit."""
        if self._ending.phase < _DROPPED and (self.reading is not _ON or self._undecoded):
            self.resume()
        else:
            self.choose_way()

    def drop(self) -> None:
        """The transport is about to be closed: read no more."""
        self.reading = _OFF
        self.read_step.open = False

    def finish(self) -> None:
        """Nothing is left of the connection: refer to no more than data."""
        self._failures = NO_FAILURES
        self.read_step.owner = self.read_step.otherwise = None
        self.on_arrival = None

    def read_last(self) -> None:
        """Sending failed. Read what the peer sent before that, perhaps a Close."""
        steps, self.relay = 0, None
        for _ in range(READS_AFTER_SEND_FAILURE):
            if not self.read_now() or (steps := steps + self._connection.steps) >= MAX_STEPS:
                break
