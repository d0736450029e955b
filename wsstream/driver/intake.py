"""From the transport to the inbox: reading, decoding, and stopping at the water marks."""

from __future__ import annotations

import threading
from enum import Enum, auto
from typing import Protocol

from anyio.lowlevel import checkpoint

from wsstream.codec.decoder import MAX_STEPS
from wsstream.codec.events import Close, Pong, Violation
from wsstream.driver.ending import Ending
from wsstream.driver.engine import Engine, Failures, Next
from wsstream.driver.fairness import READS_AFTER_SEND_FAILURE
from wsstream.driver.heartbeat import Heartbeat
from wsstream.driver.inbox import Inbox
from wsstream.driver.phase import Phase
from wsstream.driver.pump import Pump
from wsstream.driver.signals import Signal
from wsstream.protocol.connection import Connection
from wsstream.protocol.state import State
from wsstream.transports.base import Transport

__all__ = ["Intake", "Reading"]

_READ_BUFFER = 256 * 1024  # bytes; a larger one leaves the processor's cache
_LEAST_READ = 1024  # bytes; the room below the mark may be less, a read is not
_FIRST_DENSITY = 0.25  # until the first step: as if messages were tiny, so that they fit in any case
_SAFETY = 0.98  # a read may cost a little more than the last one did, and still fits
_NOTHING = memoryview(b"")


class _ReadBuffer(threading.local):
    """The buffer into which the connections of one thread read: a step decodes all it reads."""

    def __init__(self) -> None:
        # Once a block of this size was freed, glibc takes smaller ones from the heap instead of mapping each:
        # that spares a page fault for every 4 KiB of the chunks.
        block = bytearray(2 * _READ_BUFFER)
        del block
        self.view = memoryview(bytearray(_READ_BUFFER))


_shared = _ReadBuffer()


class Reading(Enum):
    """Whether the transport is read."""

    ON = auto()
    PAUSED = auto()
    """The high-water mark is reached; at the low-water mark reading goes on."""
    OFF = auto()
    """The peer broke a rule, or the transport is closed."""


# The interpreter finds a name of the module faster than a member of an enum, and these are on the hot path.
_ON, _PAUSED, _OFF = Reading.ON, Reading.PAUSED, Reading.OFF
_READ, _DECODE, _WAIT, _SLEEP = Next.READ, Next.DECODE, Next.WAIT, Next.SLEEP
_OPEN = State.OPEN


class Relaying(Protocol):
    """Who forwards what arrives."""

    def step(self) -> bool | None:
        """Read, and return whether something may be in the inbox; ``None``: do it yourself."""


class Intake:
    """Fills the inbox of one connection.

    Args:
        transport, connection, inbox, ending, heartbeat, engine, pump: the connection's.
        received: bytes that came after the opening handshake.
        failures: told what a step raised: the connection is lost, or this library made a mistake.

    Attributes:
        reading: whether the transport is read.
        bytes_received: from the transport, since the opening handshake.
        relay: reads in place of the intake, where it can.
        arrived: notified when something may be in the inbox, or how the connection ends is certain.
    """

    __slots__ = (
        "_connection",
        "_density",
        "_drained",
        "_ending",
        "_engine",
        "_failures",
        "_heartbeat",
        "_inbox",
        "_pump",
        "_transport",
        "_undecoded",
        "arrived",
        "bytes_received",
        "reading",
        "relay",
    )

    def __init__(
        self,
        transport: Transport,
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
        self.bytes_received = len(received)
        self.arrived = Signal()
        self.relay: Relaying | None = None
        self._transport = transport
        self._connection = connection
        self._inbox = inbox
        self._ending = ending
        self._heartbeat = heartbeat
        self._engine = engine
        self._pump = pump
        self._failures = failures
        self._undecoded = memoryview(received)
        self._drained = False  # the transport had no more at the last read
        self._density = _FIRST_DENSITY  # bytes read for each byte of cost, at the last step

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
        return _WAIT if self._drained else _READ

    def read_now(self) -> bool:
        """Take a step if there is something to read; returns whether there was any."""
        if self.reading is not _ON:
            return False
        try:
            if not self._undecoded:
                if self.relay is not None and (news := self.relay.step()) is not None:
                    return news
                return self._read()
            undecoded, self._undecoded = self._undecoded, _NOTHING
            self.decode(undecoded, shared=False)
        except Exception as error:
            self._failures.reading_failed(error)
        return True

    def _read(self) -> bool:
        view = _shared.view[: self.read_size]
        size = self.fill(view)
        if not size:
            return size == 0
        if self._connection.state is not _OPEN and not self._ending.linger(size):
            self._ending.drop()
            return True
        self.decode(view[:size], shared=True)
        return True

    def fill(self, view: memoryview) -> int | None:
        """Read from the transport; ``None``: nothing has arrived, 0: its end, which has been dealt with."""
        size = self._transport.recv_into(view)
        self._drained = size is None or size < len(view)
        if size == 0:
            self._ending.drop()
        elif size:
            self.bytes_received += size
            self._heartbeat.keepalive.received(self._heartbeat.now())
        return size

    @property
    def read_size(self) -> int:
        """How many bytes to read so that they cost a little less than the room, and none wait undecoded."""
        return max(min(int(self._inbox.room * self._density), _READ_BUFFER), _LEAST_READ)

    def decode(self, data: memoryview, *, shared: bool) -> None:
        """Decode up to the high-water mark. `data` may be `shared`: another read will overwrite it."""
        inbox, connection = self._inbox, self._connection
        events = connection.receive(data, inbox.room)
        inbox.put(events, connection.cost, control=connection.control)
        consumed, cost = connection.consumed, connection.cost
        self._density = consumed / cost * _SAFETY if cost > consumed else 1.0
        if consumed < len(data):
            rest = data[consumed:]
            self._undecoded = memoryview(bytes(rest)) if shared else rest
        self.passed_on(len(data) if shared else 0)
        if inbox.is_full(len(self._undecoded)):
            self.pause()
        if connection.control:
            for event in events:
                if isinstance(event, Pong | Close | Violation):
                    self._handle(event)
        if connection.queue.size or connection.state is not _OPEN:
            self._pump.step()
        self.arrived.notify()

    def passed_on(self, size: int) -> None:
        """Count `size` bytes for the time that the message may take, which are decoded or were relayed."""
        if (arrival := self._heartbeat.arrival) is not None:
            self._heartbeat.decoded(arrival, size, in_chunks=self._inbox.reader is not None)
            self._engine.wake_at(self._heartbeat.deadline)

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
        self._inbox.resume()
        self._ending.receive_violation()
        if self._inbox.discarding:  # nothing is left to be answered
            self._ending.fail_for_violation()

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
        self._inbox.pause()
        self._heartbeat.pause()
        self._engine.wake_at(self._heartbeat.deadline)

    def resume_if_low(self) -> None:
        """Something was taken from the inbox: resume reading at the low-water mark."""
        if self.reading is _PAUSED and self._inbox.is_low:
            self.resume()

    def resume(self) -> None:
        """Read on."""
        self.reading = _ON
        self._heartbeat.resume()
        self._inbox.resume()
        self._engine.resume_reading()
        if self._undecoded:
            self._engine.decode_soon()

    # -- the end -------------------------------------------------------------------------------

    def end(self) -> None:
        """How the connection ends is certain: what comes is dropped, up to a limit."""
        if self._ending.phase < Phase.DROPPED:
            self.resume()

    def drop(self) -> None:
        """The transport is about to be closed: read no more."""
        self.reading = _OFF

    def read_last(self) -> None:
        """Sending failed. Read what the peer sent before that, perhaps a Close."""
        steps, self.relay = 0, None
        for _ in range(READS_AFTER_SEND_FAILURE):
            if not self.read_now() or (steps := steps + self._connection.steps) >= MAX_STEPS:
                break
