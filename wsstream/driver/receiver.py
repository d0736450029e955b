"""From the transport to the application: reading, decoding, stopping at the water marks, and taking.

Whoever takes something from the inbox does so by a method here, which also resumes reading when the inbox is
down to the low-water mark. The one exception is the queue's `take_message_now`, which refuses to cross it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint

from wsstream.codec.decoder import MAX_STEPS
from wsstream.codec.events import Close, Kind, Pong, Violation
from wsstream.codec.unread import CLOSED_FOR_RECEIVER
from wsstream.driver.ending import Ending
from wsstream.driver.engine import Engine, Next
from wsstream.driver.fairness import BYTES_BETWEEN_YIELDS, READS_AFTER_SEND_FAILURE, Allowance
from wsstream.driver.heartbeat import Heartbeat
from wsstream.driver.inbox import Inbox
from wsstream.driver.options import ConnectionOptions
from wsstream.driver.phase import Phase
from wsstream.driver.sender import Sender
from wsstream.driver.signals import Signal
from wsstream.errors import InvalidUTF8, MessageTooBig, ProtocolViolation
from wsstream.protocol.connection import Connection
from wsstream.protocol.state import State
from wsstream.transports.base import Transport

__all__ = ["Reading", "Receiver"]

_READ_BUFFER = 256 * 1024  # bytes; a larger one leaves the processor's cache
_LEAST_READ = 1024  # bytes; the room below the mark may be less, a read is not
_FIRST_DENSITY = 0.25  # before anything was decoded: cautious, as if messages were tiny
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


class Reader(Protocol):
    """Who takes a message in pieces."""

    def _give_way(self) -> None:
        """Skip the rest of the message, as the next one is asked for.

        Raises:
            anyio.BusyResourceError: by another task than the reader's.
        """


class Receiver:
    """The receiving half of a connection.

    Args:
        transport, connection, ending, heartbeat, engine, sender: the connection's.
        options: the water marks, and the size of messages.
        received: bytes that came after the opening handshake.
        on_failure: called with what a step raised: the connection is lost, or this library made a mistake.

    Attributes:
        inbox: what has arrived and was not taken.
        reading: whether the transport is read.
        reader: who takes the message that was begun in pieces.
        bytes_received: from the transport, since the opening handshake.
    """

    __slots__ = (
        "_allowance",
        "_arrived",
        "_connection",
        "_density",
        "_drained",
        "_ending",
        "_engine",
        "_heartbeat",
        "_limit",
        "_on_failure",
        "_sender",
        "_transport",
        "_undecoded",
        "_waiting",
        "bytes_received",
        "inbox",
        "reader",
        "reading",
    )

    def __init__(
        self,
        transport: Transport,
        connection: Connection,
        options: ConnectionOptions,
        received: bytes,
        ending: Ending,
        heartbeat: Heartbeat,
        engine: Engine,
        sender: Sender,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.inbox = Inbox(options.flow, connection.inflater, options.max_message_size)
        self.reading = _ON
        self.reader: Reader | None = None
        self.bytes_received = len(received)
        self._limit = options.max_message_size
        self._transport = transport
        self._connection = connection
        self._ending = ending
        self._heartbeat = heartbeat
        self._engine = engine
        self._sender = sender
        self._on_failure = on_failure
        self._arrived = Signal()
        self._waiting = False  # a task waits for data
        self._undecoded = memoryview(received)
        self._drained = False  # the transport had no more at the last read
        self._density = _FIRST_DENSITY  # bytes read for each byte of cost, at the last step
        self._allowance = Allowance(BYTES_BETWEEN_YIELDS)

    def start(self) -> None:
        """Decode what came after the opening handshake."""
        if self._undecoded:
            self._engine.decode_soon()

    @property
    def tasks_waiting(self) -> int:
        """Tasks that wait for data."""
        return self._arrived.tasks_waiting

    # -- the step ------------------------------------------------------------------------------

    def step(self) -> Next:
        """Take a step of reading: decode what was read before, or else read and decode."""
        self._read_now()
        return self._next()

    def _next(self) -> Next:
        if self.reading is not _ON:
            return _SLEEP
        if self._undecoded:
            return _DECODE
        return _WAIT if self._drained else _READ

    def _read_now(self) -> bool:
        """Take a step if there is something to read; returns whether there was."""
        if self.reading is not _ON:
            return False
        try:
            if not self._undecoded:
                return self._read()
            undecoded, self._undecoded = self._undecoded, _NOTHING
            self._decode(undecoded, shared=False)
        except Exception as error:
            self._on_failure(error)
        return True

    def _read(self) -> bool:
        view = _shared.view[: self._read_size()]
        size = self._transport.recv_into(view)
        self._drained = size is None or size < len(view)
        if size is None:
            return False
        if size == 0:
            self._ending.drop()
            return True
        self.bytes_received += size
        self._heartbeat.keepalive.received(self._heartbeat.now())
        if self._connection.state is not _OPEN and not self._ending.linger(size):
            self._ending.drop()
            return True
        self._decode(view[:size], shared=True)
        return True

    def _read_size(self) -> int:
        """What will cost a little less than there is room for, so that no part waits undecoded."""
        return max(min(int(self.inbox.room * self._density), _READ_BUFFER), _LEAST_READ)

    def _decode(self, data: memoryview, *, shared: bool) -> None:
        """Decode up to the high-water mark. `data` may be `shared`: another read will overwrite it."""
        inbox, connection = self.inbox, self._connection
        events = connection.receive(data, inbox.room)
        inbox.put(events, connection.cost, control=connection.control)
        consumed, cost = connection.consumed, connection.cost
        self._density = consumed / cost * _SAFETY if cost > consumed else 1.0
        if consumed < len(data):
            rest = data[consumed:]
            self._undecoded = memoryview(bytes(rest)) if shared else rest
        if (arrival := self._heartbeat.arrival) is not None:
            self._heartbeat.decoded(arrival, len(data) if shared else 0, in_chunks=self.reader is not None)
            self._engine.wake_at(self._heartbeat.deadline)
        if inbox.is_full(len(self._undecoded)):
            self._pause()
        if connection.control:
            for event in events:
                if isinstance(event, Pong | Close | Violation):
                    self._handle(event)
        if connection.queue.size or connection.state is not _OPEN:
            self._sender.step()
        self._arrived.notify()

    def _handle(self, event: Pong | Close | Violation) -> None:
        match event:
            case Pong():
                self._heartbeat.pings.receive_pong(event.payload, self._heartbeat.now())
            case Close():
                self._ending.receive_close()
            case Violation():
                self._stop_for_violation()

    def _stop_for_violation(self) -> None:
        self.reading = _OFF
        self.inbox.resume()
        self._ending.receive_violation()
        if self.inbox.discarding:  # nothing is left to be answered
            self._ending.fail_for_violation()

    # -- stopping and going on -------------------------------------------------------------------

    def _pause(self) -> None:
        self.reading = _PAUSED
        self.inbox.pause()
        self._heartbeat.pause()
        self._engine.wake_at(self._heartbeat.deadline)

    def _resume_if_low(self) -> None:
        """Something was taken from the inbox: resume reading at the low-water mark."""
        if self.reading is _PAUSED and self.inbox.is_low:
            self._heartbeat.resume()
            self._resume()

    def _resume(self) -> None:
        self.reading = _ON
        self.inbox.resume()
        self._engine.resume_reading()
        if self._undecoded:
            self._engine.decode_soon()

    # -- waiting -------------------------------------------------------------------------------

    async def wait_for_data(self) -> None:
        """Return when something may have arrived. If cancelled, nothing is lost.

        Raises:
            StreamEnded, ConnectionBroken, ClosedLocally: nothing can arrive any more.
        """
        self._waiting = True
        self.inbox.queue.closed_for |= CLOSED_FOR_RECEIVER
        try:
            if self.inbox.more_ready:
                await checkpoint()
                return
            if self._connection.state is State.VIOLATED:
                # Its Close must not overtake the answers to the messages before the violation.
                await self._sender.drain()
                self._ending.fail_for_violation()
            if (error := self._ending.receive_error()) is not None:
                raise error
            if self._read_now():
                await self._yield_after_read()
            else:
                await self._arrived.wait()
        finally:
            self._waiting = False
            self.inbox.queue.closed_for &= ~CLOSED_FOR_RECEIVER

    async def _yield_after_read(self) -> None:
        engine, after = self._engine, self._next()
        if after is _DECODE:
            engine.decode_soon()
        engine.step_was_taken(after)
        await checkpoint()
        engine.step_is_over()

    async def yield_after(self, size: int) -> None:
        """A checkpoint, if with `size` bytes more it is the turn of other tasks."""
        if self._allowance.spend(size):
            self._waiting = True
            try:
                await checkpoint()
            finally:
                self._waiting = False

    def check_not_busy(self) -> None:
        """Raise ``anyio.BusyResourceError`` if another task waits for data: it would take what is its."""
        if self._waiting:
            raise anyio.BusyResourceError("receiving from")

    def start_taking(self) -> None:
        """The next message is asked for: skip the rest of one whose reader is open.

        Raises:
            anyio.BusyResourceError: another task waits for data, or reads a message.
        """
        if self.reader is not None:
            self.reader._give_way()
        if self._waiting:
            raise anyio.BusyResourceError("receiving from")

    # -- taking --------------------------------------------------------------------------------

    def take_message(self) -> str | bytes | None:
        """The next message whole; ``None``: it is not complete yet.

        Raises:
            MessageTooBig: it is larger than ``max_message_size``; the connection fails with 1009.
            ConnectionBroken: a rule is broken in it, and the connection has ended.
        """
        try:
            message = self.inbox.take_message(self._limit)
        except (MessageTooBig, InvalidUTF8, ProtocolViolation) as error:
            self._fail_for(error)
            return None
        self._resume_if_low()
        return message

    def begin(self) -> Kind | None:
        """Begin to take the next message in pieces; its kind, or ``None``: none has begun to arrive.

        Raises:
            ConnectionBroken: as `take_message`.
        """
        try:
            kind = self.inbox.begin()
        except (InvalidUTF8, ProtocolViolation) as error:
            self._fail_for(error)
            return None
        self._resume_if_low()
        return kind

    def take_chunk(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of the message that was begun; ``b""``: nothing of it has arrived.

        Raises:
            ConnectionBroken: as `take_message`.
        """
        try:
            chunk = self.inbox.take_chunk(max_bytes)
        except (InvalidUTF8, ProtocolViolation) as error:
            self._fail_for(error)
            return b""
        self._resume_if_low()
        return chunk

    def take_rest(self) -> bytes | None:
        """What is left of the message that was begun; ``None``: its end has not arrived.

        Raises:
            MessageTooBig, ConnectionBroken: as `take_message`.
        """
        try:
            rest = self.inbox.take_rest(self._limit)
        except (MessageTooBig, InvalidUTF8, ProtocolViolation) as error:
            self._fail_for(error)
            return None
        self._resume_if_low()
        return rest

    def finish(self, reader: object) -> None:
        """`reader` takes no more of the message that was begun: its rest is dropped."""
        if self.reader is reader:
            self.reader = None
            self.inbox.finish()
            self._resume_if_low()

    def discard(self) -> None:
        """Drop what has arrived and what will."""
        self.inbox.discard()
        self._resume_if_low()

    def _fail_for(self, error: MessageTooBig | InvalidUTF8 | ProtocolViolation) -> None:
        """A message cannot be taken. Raise, unless the answers to the messages before it go first."""
        if isinstance(error, MessageTooBig):
            self._ending.fail(error)
            self.discard()  # also if the end was certain before: the rest is not another message
            raise error
        if self._ending.is_open:
            self._connection.note_violation(Violation(error.default_code, error.reason or str(error)))
            self._stop_for_violation()
            self.discard()
            return
        self._ending.fail(error)
        self.discard()  # also if the end was certain before: what follows is not what was sent
        raise self._ending.broken() from error

    # -- the end -------------------------------------------------------------------------------

    def wake_all(self) -> None:
        """Let the tasks that wait see how the connection ends."""
        self._arrived.notify()

    def end(self) -> None:
        """How the connection ends is certain: what has arrived can be taken, and what comes is dropped."""
        self.inbox.end()
        if self._ending.phase < Phase.DROPPED:
            self._resume()
        self._arrived.notify()

    def drop(self) -> None:
        """The transport is about to be closed: read no more."""
        self.reading = _OFF

    def read_last(self) -> None:
        """Sending failed. Read what the peer sent before that, perhaps a Close."""
        steps = 0
        for _ in range(READS_AFTER_SEND_FAILURE):
            if not self._read_now() or (steps := steps + self._connection.steps) >= MAX_STEPS:
                break
