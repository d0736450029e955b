"""The only place where a protocol connection meets a transport.

Theory. Four rules keep a connection whole whatever is cancelled, and make it fast:

1. *Reading and decoding are one synchronous step*, `read_now`, that anybody may take: the reader
   task when the socket becomes readable, and a consumer that finds its inbox empty, before it waits.
   A step that cannot be interrupted cannot be cut in two, so the one read buffer serves all
   connections of a thread, and bulk data flows without a task switch for each read.
2. *Reading stops by bytes.* A step reads no more than there is room for below the high-water mark,
   and decodes until the mark is reached; undecoded bytes wait in `_tail`. Then the reader sleeps, the
   TCP window closes and the peer blocks. At the low-water mark it goes on. So Pings are answered and a
   Close is seen whether or not the application reads, as long as its unread data is below the mark.
3. *Sending is a hand-over.* `send` waits for its turn and for room; then, in one synchronous step,
   the message belongs to the driver and goes out whole. `pump` encodes and offers to the transport what
   it takes without waiting; what it does not take is left to the writer task. Only the application's
   *waiting* can be cancelled, never its bytes: no application task writes to the transport in a way
   that can be interrupted.
4. *An end is a fact, not an exception in a task.* Whatever goes wrong is concluded once, in
   `_conclude` (`info`, `cause`), everybody is woken, and each call raises what it then sees. The two
   loops and the callbacks raise nothing: also a mistake of this library ends the connection, with a log line.

The reader task lives as long as the connection and also keeps the time (keepalive and the closing
handshake). The writer task is started when the transport first takes less than it is offered, or when
messages first come in a batch: those behind the first are left to it, to leave together. Where the
transport can have the event loop call back, there are no tasks: the callbacks take the same steps, without
a switch of tasks for each, and an idle connection is smaller.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from math import inf
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from wsstream.close_codes import CloseCode
from wsstream.codec.batch import CLOSED_FOR_END, FULL, LARGEST
from wsstream.codec.decoder import MAX_STEPS
from wsstream.codec.events import Close, Event, Kind, Ping, Pong, Violation
from wsstream.codec.unread import UNLIMITED
from wsstream.driver.flow import FlowControl
from wsstream.driver.inbox import Inbox
from wsstream.driver.outbox import Outbox, OutgoingMessage
from wsstream.driver.pings import PingRecord, Pings
from wsstream.driver.signals import Latch, Signal, clock, spawn
from wsstream.errors import (
    NOT_CLOSED,
    ClosedLocally,
    CloseInfo,
    ConnectionBroken,
    InvalidUTF8,
    KeepaliveTimeout,
    MessageAborted,
    MessageTooBig,
    ProtocolViolation,
    ReceiveTimeout,
    StreamEnded,
    WebSocketError,
)
from wsstream.log import Log
from wsstream.protocol.arrival import Arrival, ReceiveRate
from wsstream.protocol.connection import Connection
from wsstream.protocol.file_frames import FileEnded, FileRange
from wsstream.protocol.keepalive import STANDSTILL, Action, Keepalive
from wsstream.protocol.state import State
from wsstream.transports.base import Transport
from wsstream.transports.eventloop import Task, event_loop

__all__ = ["Driver"]

_READ_BUFFER = 256 * 1024  # bytes; a larger one leaves the processor's cache
_LEAST_READ = 1024  # bytes; the room below the mark may be less, a read is not
_PUMP_STEP = 512 * 1024  # bytes framed or sent in one synchronous step, so that other tasks get their turn
_COPY_STEP = 256 * 1024  # where frames are masked or compressed
_FILE_STEP = 1 << 20  # where nothing is copied
_TAKEN_IN_A_ROW = 1 << 20  # bytes of messages read in chunks without a checkpoint
_BURST = 50e-6  # seconds between sends
_SENDS_IN_A_ROW = 256  # without a checkpoint, when none of them has to wait,
_SEND_SIZE = 1024  # bytes; a larger one counts as several
_RELEASE_TIMEOUT = 2.0  # seconds for a transport to release what it holds
_STALL_TIMEOUT = 2.0  # seconds in which blocked output has to move on, at the end
_LAST_WORD = 0.1  # seconds for the application to answer what came before a violation
_LAST_BYTES = 1 << 20  # read and dropped behind the end, so that a reset does not overtake our Close
_LAST_READS = 64  # of what the peer sent before sending to it failed
_NOTHING = memoryview(b"")
_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError)

log = Log("wsstream.connection")

_connection_ids = count(1)
_T = TypeVar("_T")


class _ReadBuffer(threading.local):
    def __init__(self) -> None:
        # Once a block of this size was freed, glibc takes smaller ones from the heap instead of mapping each:
        # that spares a page fault for every 4 KiB of the chunks.
        block = bytearray(2 * _READ_BUFFER)
        del block
        self.view = memoryview(bytearray(_READ_BUFFER))


_shared = _ReadBuffer()


class Driver:
    """Moves the bytes of one open connection.

    Args:
        transport: owned by the driver from now on.
        connection: its opening handshake is done.
        received: bytes that came behind the handshake.
        flow: the water marks.
        max_message_size: bytes of a message that is asked for whole.
        close_timeout: seconds for the closing handshake.
        ping_interval, ping_timeout: see :class:`~wsstream.protocol.keepalive.Keepalive`.
        receive_timeout, receive_rate: see :class:`~wsstream.protocol.arrival.Arrival`.

    Attributes:
        info: how the connection ended; set as soon as that is certain.
        cause: what was found out then.
        closed_locally: this side has asked for the end.
        inbox: what has arrived.
        outbox: what was handed over.
        paused: reading has stopped at the high-water mark.
        finished: set when the transport is released and no task is left.
    """

    __slots__ = (
        "__weakref__",
        "_aborted",
        "_alarm",
        "_alarm_time",
        "_arrival",
        "_arrived",
        "_close_deadline",
        "_close_timeout",
        "_consumer_reads",
        "_density",
        "_drained",
        "_ending_since",
        "_found",
        "_full",
        "_gone",
        "_keepalive",
        "_last_bytes",
        "_last_send",
        "_loop",
        "_now",
        "_output",
        "_pings",
        "_progress",
        "_reader_waits",
        "_releasing",
        "_resumed",
        "_stall_deadline",
        "_step_due",
        "_tail",
        "_taken",
        "_tasks",
        "_timer",
        "_violation_deadline",
        "_write_failed",
        "_writer_runs",
        "bytes_received",
        "cause",
        "closed_locally",
        "connection",
        "finished",
        "flow",
        "id",
        "inbox",
        "info",
        "max_message_size",
        "outbox",
        "paused",
        "reads_chunks",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        connection: Connection,
        received: bytes = b"",
        *,
        flow: FlowControl,
        max_message_size: int | None,
        close_timeout: float | None,
        ping_interval: float | None,
        ping_timeout: float | None,
        receive_timeout: float | None = None,
        receive_rate: ReceiveRate | None = None,
    ) -> None:
        self.id = f"{next(_connection_ids):x}"
        self.transport = transport
        self.connection = connection
        self.flow = flow
        self.max_message_size = max_message_size
        self.info: CloseInfo | None = None
        self.cause: BaseException | None = None
        self.closed_locally = False
        self.finished = Latch()
        self._aborted = False
        self._gone = False  # the transport is closed
        self._tasks = 0
        self._releasing = False
        # reading
        self.inbox = Inbox(connection.inflater, UNLIMITED if max_message_size is None else max_message_size)
        self.bytes_received = len(received)
        self.paused = False
        self._tail = memoryview(received)  # arrived and not decoded
        self._found: Violation | None = None  # what the peer did, not yet acted on
        self._last_bytes = _LAST_BYTES
        self._density = 0.25  # bytes read for each byte of cost, of late; cautious at first
        self.reads_chunks = False  # somebody reads the message in front in chunks
        self._drained = False  # the transport had nothing more at the last read
        self._reader_waits = False  # for the transport
        self._consumer_reads = False  # the reader leaves it one turn, or both would read in crumbs
        self._taken = 0
        self._arrived = Signal()
        self._resumed = Signal()
        # writing
        self.outbox = Outbox(connection, flow)
        self._progress = Signal()
        self._output = Signal()
        self._writer_runs = False
        self._write_failed = False
        connection.queue.batch.sends_until_yield = _SENDS_IN_A_ROW
        connection.queue.batch.capacity = flow.send_high_water
        self._last_send = -inf
        self._full = False  # the transport took less than it was offered
        # time
        self._now = clock()
        self._keepalive = Keepalive(ping_interval, ping_timeout, self._now())
        self._arrival = (
            Arrival(receive_timeout, receive_rate) if receive_timeout is not None or receive_rate else None
        )
        self._close_timeout = inf if close_timeout is None else close_timeout
        self._close_deadline = inf
        self._violation_deadline = inf
        self._stall_deadline = inf  # when to look whether output is blocked, at the end
        self._ending_since = inf
        self._timer: anyio.CancelScope | None = None  # of the reader task
        self._loop: Any = None  # instead of tasks, it calls back
        self._alarm: Any = None
        self._alarm_time = inf
        self._step_due = False
        self._pings = Pings()

    def start(self) -> None:
        """Begin to read, with the event loop's callbacks if there are any, else with the reader task."""
        if self.transport.watch_readable(self._on_readable):
            self._loop = event_loop().callbacks()
            self._reschedule()
            self._see_to_tail()
        else:
            self._spawn(self._read_loop, "reader")

    # -- what is true now --------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent."""
        return self.info is None and not self.closed_locally and self.connection.state is State.OPEN

    @property
    def close_timeout(self) -> float:
        """Seconds for the closing handshake."""
        return self._close_timeout

    @property
    def unsent(self) -> int:
        """Bytes that were handed over and have not left for the kernel."""
        return self.connection.queue.sendable + self.transport.unsent + self.outbox.size

    @property
    def _has_output(self) -> bool:
        """Whether the transport has something to take: a Pong may have to wait for the rest of a frame."""
        return self.connection.queue.ready or self.transport.unsent > 0 or self.outbox.size > 0

    @property
    def sends_files(self) -> bool:
        """Whether parts of files can be handed over."""
        small = self.flow.frame_size <= LARGEST  # two system calls for each frame would cost more than a copy
        return self.transport.sends_files and not self.connection.copies and not small

    @property
    def tasks_waiting_receive(self) -> int:
        """Tasks that wait for data."""
        return self._arrived.tasks_waiting

    @property
    def tasks_waiting_send(self) -> int:
        """Tasks that wait for their turn or for room."""
        return self.outbox.turn.tasks_waiting + self._progress.tasks_waiting

    def receive_error(self) -> WebSocketError | None:
        """What a call that finds no data raises; ``None`` if some may come."""
        if self.closed_locally:
            return ClosedLocally("the connection was closed on this side", self.info or NOT_CLOSED)
        if self.info is None:
            return None
        if self.info.clean:
            return StreamEnded("the peer closed the connection", self.info)
        return self._broken("the connection broke")

    def send_error(self) -> WebSocketError:
        """What a call raises that cannot send."""
        if self.closed_locally:
            return ClosedLocally("the connection was closed on this side", self.info or NOT_CLOSED)
        clean = self.info is not None and self.info.clean
        return self._broken("the peer closed the connection" if clean else "the connection broke")

    def check_open(self) -> None:
        """Raise what a call to send raises, unless the connection is open."""
        if not self.is_open:
            raise self.send_error()

    def _broken(self, message: str) -> ConnectionBroken:
        error = ConnectionBroken(message, self.info or NOT_CLOSED)
        error.__cause__ = self.cause
        return error

    # -- reading -----------------------------------------------------------------------------

    def read_now(self) -> bool:
        """Take one step of reading if there is something to read; whether there was."""
        if self.paused or self._gone or self._found:
            return False
        try:
            return self._decode_tail() if self._tail else self._read_transport()
        except _LOST as error:
            self.drop(error.__cause__ or error)
        except Exception as error:
            self._crash(error)
        return True

    def _decode_tail(self) -> bool:
        tail, self._tail = self._tail, _NOTHING
        self._decode(tail, shared=False)
        return True

    def _read_transport(self) -> bool:
        view = _shared.view[: self._read_size()]
        size = self.transport.recv_into(view)
        self._drained = size is None or size < len(view)
        if size is None:
            return False
        if size == 0:
            self.drop()
            return True
        self.bytes_received += size
        self._keepalive.received(self._now())
        if self.connection.state in (State.FAILED, State.CLOSE_DONE):
            self._last_bytes -= size
            if self._last_bytes < 0:
                self.drop()
                return True
        self._decode(view[:size], shared=True)
        return True

    def _watch_arrival(self, arrival: Arrival, size: int) -> None:
        connection = self.connection
        arrival.received(
            self._now(),
            size,
            inside=connection.receiving,
            crossed=connection.crossed,
            in_chunks=self.reads_chunks,
        )
        self._reschedule()

    async def more_or_raise(self) -> None:
        """Return when something may have arrived; raise if nothing can. If cancelled, nothing is lost."""
        if self.inbox.busy:
            await checkpoint()
            return
        if self._found:
            await self.drain()
            self._fail_for_found()
        if (error := self.receive_error()) is not None:
            raise error
        if self.read_now():
            self._see_to_tail()
            self._consumer_reads = True
            await checkpoint()
            self._consumer_reads = False
        else:
            await self._arrived.wait()

    def consumed(self) -> None:
        """Something was taken from the inbox: go on reading at the low-water mark."""
        if self.paused and self.inbox.held <= self.flow.receive_low_water:
            self._unpause()
            self._keepalive.resume(self._now())
            if self._arrival is not None:
                self._arrival.resume(self._now())
            self._go_on_reading()
            self._see_to_tail()

    def _go_on_reading(self) -> None:
        if self._loop is not None and not self._gone:
            self.transport.watch_readable(self._on_readable)
        self._resumed.notify()

    def _see_to_tail(self) -> None:
        """Have what a step left over decoded; the reader task may be waiting for the transport."""
        if not self._tail or self.paused:
            return
        if self._loop is not None:
            if not self._step_due:
                self._step_due = True
                self._loop.call_soon(self._on_step)
        elif self._timer is not None and self._reader_waits:
            self._timer.cancel()

    def discard(self) -> None:
        """Drop what has arrived and what will."""
        self.inbox.discard()
        self.consumed()

    def _read_size(self) -> int:
        """What will cost a little less than there is room for, so that no part waits undecoded."""
        return max(min(int(self._room() * self._density), _READ_BUFFER), _LEAST_READ)

    def _room(self) -> int:
        return UNLIMITED if self.inbox.discarding else self.flow.receive_high_water - self.inbox.held

    def _is_full(self) -> bool:
        """Whether the mark is reached. What is not decoded counts too: tiny frames grow when they are."""
        held, flow = self.inbox.held, self.flow
        if held <= flow.receive_low_water or self.inbox.discarding:
            return self._room() <= 0
        return held + len(self._tail) >= flow.receive_high_water

    def _decode(self, data: memoryview, *, shared: bool) -> None:
        inbox, connection = self.inbox, self.connection
        events = connection.receive(data, self._room(), fail=False)
        inbox.put(events, connection.cost, control=connection.control)
        if connection.cost > connection.consumed:
            self._density = connection.consumed / connection.cost * 0.98
        else:
            self._density = 1.0
        if connection.consumed < len(data):
            rest = data[connection.consumed :]
            self._tail = memoryview(bytes(rest)) if shared else rest
        if self._arrival is not None:
            self._watch_arrival(self._arrival, len(data) if shared else 0)
        if self._is_full():
            self._pause()
        if connection.control:
            for event in events:
                if isinstance(event, Pong | Close | Violation):
                    self._handle(event)
        if connection.queue.size or connection.state is not State.OPEN:
            self.pump()
        self._arrived.notify()

    def _pause(self) -> None:
        self.paused = True
        self.inbox.queue.low_water = self.flow.receive_low_water
        self._keepalive.pause(self._now())
        if self._arrival is not None:
            self._arrival.pause(self._now())
        self._reschedule()

    def _unpause(self) -> None:
        self.paused = False
        self.inbox.queue.low_water = -1

    def _handle(self, event: Event) -> None:
        match event:
            case Pong():
                self._pings.receive_pong(event.payload, self._now())
            case Close():
                self._conclude(None)
            case Violation():
                self._find(event)
                if self.inbox.discarding:
                    self._fail_for_found()

    def _find(self, violation: Violation) -> None:
        self._found = violation
        self._violation_deadline = self._now() + _LAST_WORD
        self._reschedule()

    def _fail_for_found(self) -> None:
        """Fail the connection for what the peer did.

        What was complete before a violation is delivered, and answered if the application does so before
        it asks for more: Close would go ahead of the answer. It has a tenth of a second; nothing is read.
        """
        found, self._found, self._violation_deadline = self._found, None, inf
        if found is not None:
            self.connection.fail(found)
            kind = InvalidUTF8 if found.code == CloseCode.INVALID_PAYLOAD else ProtocolViolation
            self._conclude(kind(found.reason))
            self.pump()

    # -- sending -----------------------------------------------------------------------------

    def send_now(self, kind: Kind, payload: bytes | memoryview, *, compress: bool = True) -> bool | None:
        """Hand over a whole message if that needs no waiting; ``None``: it does, and nothing happened.

        True: `let_others_run` is due. What comes alone leaves at once; what comes in a batch is left to the
        writer, to leave together.
        """
        if not self.is_open:
            raise self.send_error()
        if self.outbox.turn.taken or len(payload) > self.flow.frame_size or not self._has_room():
            return None
        now = self._now()
        alone, self._last_send = now - self._last_send > _BURST, now
        self.connection.send_message(kind, payload, compress=compress, alone=alone)
        if alone or self.connection.queue.size >= FULL:
            self.pump()
        else:
            self._wake_writer()
        batch = self.connection.queue.batch
        batch.sends_until_yield -= 1
        return batch.sends_until_yield <= 0

    async def let_others_run(self) -> None:
        """Send what a batch has gathered; after many sends in a row also a checkpoint."""
        batch = self.connection.queue.batch
        self._last_send = self._now()
        self.pump()
        if batch.sends_until_yield <= 0:
            batch.sends_until_yield = _SENDS_IN_A_ROW
            await checkpoint()

    async def send_message(self, kind: Kind, payload: bytes | memoryview, *, compress: bool = True) -> None:
        """Send a whole message: wait for the turn and for room, hand it over, wait until little is left.

        If cancelled before the hand-over, nothing of it is sent; afterwards all of it is.
        """
        compress = compress and self.connection.compresses(len(payload))
        message = await self.begin_message(kind, compress=compress)
        try:
            await self.wait_for_room()
        except BaseException:
            self.forget_message()
            raise
        await self.hand_over(message, payload, finished=True)

    async def begin_message(
        self, kind: Kind, declared: int | None = None, *, compress: bool = True
    ) -> OutgoingMessage:
        """Wait for the turn. If cancelled, it is not taken."""
        await self.outbox.turn.acquire()
        self.check_open()
        self.outbox.message = OutgoingMessage(kind, declared, compress=compress)
        return self.outbox.message

    def forget_message(self) -> None:
        """Give back the turn of a message of which nothing was handed over."""
        self.outbox.message = None
        self.outbox.turn.release()

    async def wait_for_room(self) -> None:
        """Once the high-water mark is reached, wait until no more than the low-water mark is unsent."""
        self.check_open()
        if not self._has_room():
            while self.unsent > self.flow.send_low_water and self.is_open:
                await self._progress.wait()
            self.check_open()

    async def hand_over(self, message: OutgoingMessage, data: bytes | memoryview, *, finished: bool) -> None:
        """Take over `data` at once, then wait until no more than the high-water mark is left."""
        queue = self.connection.queue
        dropped = queue.dropped
        message.append(data)
        message.finished = finished
        try:
            self.pump()
            if self.unsent <= self.flow.send_high_water:
                queue.batch.sends_until_yield -= 1 + len(data) // _SEND_SIZE
                if queue.batch.sends_until_yield <= 0:
                    await self.let_others_run()
                return
            while not (lost := queue.dropped != dropped or self._is_forgotten(message)):
                if self.unsent <= self.flow.send_high_water:
                    break
                await self._progress.wait()
            if lost:
                raise self.send_error()
        finally:
            message.detach()

    def _is_forgotten(self, message: OutgoingMessage) -> bool:
        """Whether a part of it will not even become a frame."""
        return message.size > 0 and self.outbox.message is not message

    async def hand_over_file(self, message: OutgoingMessage, part: FileRange) -> None:
        """Take over a part of a file that is not empty, then wait until all of it has left for the kernel.

        However long it is, no memory is needed for it.
        """
        message.put_file(part)
        self.pump()
        while self.outbox.message is message and (message.size or self.connection.queue.files):
            await self._progress.wait()
        if self.outbox.message is not message:
            raise self.send_error()

    async def flush(self, message: OutgoingMessage) -> None:
        """Wait until all that was handed over has left for the kernel, small as it may be."""
        message.flushing = True
        try:
            self.pump()
            await self.drain()
        finally:
            message.flushing = False

    async def drain(self) -> None:
        """Wait until all that was handed over has left for the kernel, or the connection has ended."""
        while self.unsent and self.info is None:
            await self._progress.wait()
        await checkpoint()

    async def ping(self) -> float:
        """Send a Ping, wait for its Pong, return the seconds between. If cancelled, the Ping is sent."""
        self.check_open()
        start = self._now()
        record = self._send_ping()
        await record.wait()
        if record.answered is None:
            raise self.send_error()
        return record.answered - start

    def _send_ping(self) -> PingRecord:
        if self.connection.queue.ping_waits and (latest := self._pings.latest) is not None:
            return latest
        record = self._pings.new()
        self.connection.send(Ping(record.payload))
        self.pump()
        return record

    def _has_room(self) -> bool:
        return self.unsent < self.flow.send_high_water

    def pump(self) -> None:
        """Make frames of what there is room for and offer them to the transport, without waiting."""
        if self._gone or self._write_failed:
            return
        queue, transport, outbox = self.connection.queue, self.transport, self.outbox
        budget = _COPY_STEP if self.connection.copies else _PUMP_STEP
        if outbox.message is not None and outbox.message.file is not None:
            budget = _FILE_STEP
        left = False
        try:
            while budget > 0:
                framed = 0
                if outbox.message is not None or outbox.closing is not None:
                    idle = not queue.sendable and not transport.unsent
                    framed = outbox.fill(idle=idle, taking=not self._full, limit=budget)
                if queue.files:
                    sent = transport.send_pieces(queue.pieces())
                elif buffers := queue.buffers():
                    sent = transport.send(buffers)
                else:
                    break
                self._full = not sent
                if not sent:
                    break
                left = True
                queue.advance(sent)
                budget -= max(sent, framed)
        except _LOST as error:
            self._lost(error.__cause__ or error)
        except FileEnded as error:  # inside a frame: nothing can follow, not even Close
            self._lost(error)
        except Exception as error:
            self._crash(error)
        else:
            if left:
                self._keepalive.sent(self._now())
            self._after_sending()

    def _after_sending(self) -> None:
        queue = self.connection.queue
        unsent = self.unsent
        queue.batch.capacity = self.flow.send_high_water - unsent
        if unsent <= self.flow.send_low_water:
            self._progress.notify()
        if unsent and self._has_output:
            self._wake_writer()
            if not self._keepalive.watches_output:
                self._look()
                self._reschedule()
            if self.info is not None:
                self._start_stall_clock()
        elif self.connection.state is not State.OPEN:
            self._after_close()

    def _after_close(self) -> None:
        """All has left. The server closes TCP first (section 7.1.1); both do if Close cannot be sent."""
        connection = self.connection
        if connection.close_sent is None or (connection.state is State.CLOSE_DONE and not connection.client):
            self.drop()
        elif connection.state is State.FAILED:
            self.transport.send_eof()

    def _wake_writer(self) -> None:
        if self._loop is not None:
            self.transport.watch_writable(self._on_writable)
        elif self._writer_runs:
            self._output.notify()
        else:
            self._writer_runs = True
            self._spawn(self._write_loop, "writer")

    # -- the end -----------------------------------------------------------------------------

    def close(self, code: int | None, reason: str, *, hurried: bool = False) -> None:
        """Begin to close: Close follows what has been accepted, what comes in is dropped.

        If `hurried`, the connection is dropped once output has been blocked for 2 seconds.
        """
        self._fail_for_found()
        if self.is_open:
            self.outbox.close(Close(1000 if code is None and reason else code, reason))
            self._start_close_clock()
        if hurried:
            self._start_stall_clock()
        self._leave()

    def abort_sending(self, code: int | None, reason: str) -> None:
        """Begin to close: Close goes out in place of what has not left."""
        self._fail_for_found()
        if self.is_open:
            self.outbox.end()
            self.connection.send_close(Close(1000 if code is None and reason else code, reason), urgent=True)
            self._start_close_clock()
        self._leave()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._aborted = self._aborted or not self._gone
        self.drop()
        self._leave()

    def take(self, call: Callable[..., _T], *arguments: Any) -> _T | None:
        """Call something of the inbox; what it finds wrong fails the connection.

        ``None`` if that is still to come: `more_or_raise` does it when what was sent before has left.
        """
        try:
            return call(*arguments)
        except MessageTooBig as error:
            self.fail(error)
            self.discard()  # also if the end was certain before: the rest is not another message
            raise
        except (InvalidUTF8, ProtocolViolation) as error:
            if self.is_open:
                # As for what was found on arrival: the answer to the messages before it goes first.
                self._find(Violation(error.default_code, error.reason or str(error)))
                self.discard()
                return None
            self.fail(error)
            self.discard()  # also if the end was certain before: what follows is not what was sent
            raise self._broken("the connection broke") from error

    def is_turn_over(self, size: int) -> bool:
        """Count bytes that are about to be taken; whether it is now the turn of other tasks."""
        self._taken += size
        if self._taken <= _TAKEN_IN_A_ROW:
            return False
        self._taken = 0
        return True

    def fail(
        self,
        error: MessageTooBig | MessageAborted | ReceiveTimeout | InvalidUTF8 | ProtocolViolation,
    ) -> None:
        """Fail the connection for a reason found on this side."""
        self._fail_for_found()
        if self.info is None and self.connection.state in (State.OPEN, State.CLOSE_SENT):
            self.connection.fail(Violation(error.default_code, error.reason or str(error)))
            self._conclude(error)
            self.discard()
            self.pump()

    def drop(self, cause: BaseException | None = None) -> None:
        """Close the transport; the connection has ended."""
        if self._gone:
            return
        self._gone = True
        self._fail_for_found()
        self.connection.receive_eof()
        self._conclude(cause)
        self.connection.queue.clear()
        self.connection.queue.dropped += self.transport.unsent
        try:
            self.transport.close()
        except Exception as error:
            log.error("connection %s: the transport could not be closed", self.id, cause=error)
        self._resumed.notify()
        self._output.notify()
        self._stop_alarm()
        if not self._tasks:
            self.finished.set()

    async def wait_finished(self) -> None:
        """Wait until the connection is gone. If cancelled, it is dropped."""
        try:
            await self.finished.wait()
        except BaseException:
            self.abort()
            raise

    async def wait_closed(self) -> CloseInfo:
        """Wait until the connection is gone; raise if the end was neither clean nor asked for."""
        await self.finished.wait()
        assert self.info is not None
        if not self.info.clean and not self._aborted:
            raise self._broken("the connection broke")
        return self.info

    def _leave(self) -> None:
        """This side has had enough."""
        self.closed_locally = True
        self.connection.queue.batch.closed_for |= CLOSED_FOR_END
        self.discard()
        self.pump()
        self._arrived.notify()
        self._progress.notify()

    def _lost(self, error: BaseException) -> None:
        """Sending failed. What the peer sent before that, perhaps a Close, is still there to be read."""
        self._write_failed = True
        steps = 0
        for _ in range(_LAST_READS):
            if not self.read_now() or (steps := steps + self.connection.steps) >= MAX_STEPS:
                break
        self.drop(error)

    def _conclude(self, cause: BaseException | None) -> None:
        """The end is certain; what has arrived can still be read."""
        if self.info is None:
            self.info = self._close_info()
            self.cause = cause
            self._start_close_clock()
        self.inbox.end()
        self.outbox.end()
        self._pings.dissolve()
        self._unpause()
        self._arrived.notify()
        self._progress.notify()
        self._go_on_reading()

    def _close_info(self) -> CloseInfo:
        connection = self.connection
        if connection.violation is not None:
            return CloseInfo(int(connection.violation.code), connection.violation.reason, False)
        if (close := connection.close_received) is not None:
            clean = connection.close_sent is not None and not connection.message_cut
            return CloseInfo(1005 if close.code is None else close.code, close.reason, clean)
        return CloseInfo(1006, "", False)

    # -- time --------------------------------------------------------------------------------

    def _start_close_clock(self) -> None:
        if self._close_deadline == inf:
            self._close_deadline = self._now() + self._close_timeout
        self._reschedule()

    def _start_stall_clock(self) -> None:
        """From now on nobody waits for a peer that does not read: it has said its last word, or has to go."""
        if self._stall_deadline == inf:
            self._ending_since = self._now()
            self._stall_deadline = self._ending_since + _STALL_TIMEOUT / 4
            self._reschedule()

    def _check_stall(self, now: float) -> None:
        keepalive = self._keepalive
        self._look()
        if not keepalive.watches_output:
            self._stall_deadline = inf
        elif now >= max(self._ending_since, keepalive.standing_since) + _STALL_TIMEOUT:
            self.drop()
        else:
            self._stall_deadline = now + _STALL_TIMEOUT / 4

    def _look(self) -> None:
        """See how far output has moved on towards the peer."""
        backlog = self.transport.backlog()
        queue = self.connection.queue
        moved = queue.sent - self.transport.unsent - backlog.size
        blocked = self.unsent > 0 or backlog.waits
        self._keepalive.look(self._now(), moved, blocked, queue.ping_waits)

    def _deadline(self) -> float:
        deadline = min(self._close_deadline, self._violation_deadline, self._stall_deadline)
        if self.connection.state is State.OPEN:
            deadline = min(deadline, self._keepalive.deadline)
            if self._arrival is not None:
                deadline = min(deadline, self._arrival.deadline)
        return deadline

    def _reschedule(self) -> None:
        """Be woken at the deadline; a later one than before is seen to when the earlier one is over."""
        deadline = self._deadline()
        if self._timer is not None and deadline < self._timer.deadline:
            self._timer.deadline = deadline
        elif self._loop is not None and deadline < self._alarm_time and not self._gone:
            self._stop_alarm()
            self._alarm_time = deadline
            self._alarm = self._loop.call_at(deadline, self._on_time)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm, self._alarm_time = None, inf

    def _tick(self) -> None:
        now = self._now()
        if now >= self._violation_deadline:
            self._fail_for_found()
        elif now >= self._close_deadline:
            self.drop()
        elif now >= self._stall_deadline:
            self._check_stall(now)
        elif self.connection.state is State.OPEN:
            if self._arrival is not None and now >= self._arrival.deadline:
                self.fail(ReceiveTimeout("a message of the peer took too long to arrive"))
            if self._keepalive.watches_output:
                self._look()
            while self.connection.state is State.OPEN:
                if (action := self._keepalive.tick(now)) is Action.NOTHING:
                    break
                self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Action.PING:
                self._send_ping()
                self._look()
            case Action.PONG if not self.connection.queue.pong_waits:
                self.connection.send(Pong())
                self.pump()
            case Action.STANDSTILL:
                log.warning(
                    "connection %s: both directions have stood still for %s s: nobody reads here, and the "
                    "peer does not read either. Receive in one task while another one sends.",
                    self.id,
                    f"{STANDSTILL:g}",
                )
            case Action.TIMEOUT:
                seconds = f"{self._keepalive.timeout:g} s"
                self.drop(KeepaliveTimeout(f"the peer gave no sign of life within {seconds} after a Ping"))

    # -- the two tasks -----------------------------------------------------------------------

    async def _read_loop(self) -> None:
        try:
            while not self._gone:
                with anyio.CancelScope(deadline=self._deadline()) as self._timer:
                    await self._read()
                self._tick()
        except _LOST as error:
            self.drop(error.__cause__ or error)
        except Exception as error:
            self._crash(error)

    async def _read(self) -> None:
        while not self._gone:
            if self.paused or self._found:
                await self._resumed.wait()
            elif self._drained and not self._tail:
                self._drained = False
                self._reader_waits = True
                try:
                    await self.transport.wait_readable()
                finally:
                    self._reader_waits = False
            elif self._consumer_reads:
                self._consumer_reads = False
                await checkpoint()
            elif self.read_now() and (self._tail or not self._drained) and not self._gone:
                await checkpoint()

    async def _write_loop(self) -> None:
        try:
            while not self._gone:
                if self._has_output:
                    if self._full or self.transport.unsent:
                        await self.transport.wait_writable()
                    else:  # a batch: let it grow for one more turn
                        await checkpoint()
                    self.pump()
                else:
                    await self._output.wait()
        except _LOST as error:
            self._lost(error.__cause__ or error)
        except Exception as error:
            self._crash(error)

    def _spawn(self, loop: Task, role: str) -> None:
        self._tasks += 1
        spawn(loop, f"wsstream {role} {self.id}", self._end_task)

    def _end_task(self) -> None:
        """A task has ended, in whatever way. The last one releases the transport."""
        self.drop()
        self._tasks -= 1
        if self._tasks:
            return
        if self.transport.released or self._releasing:
            self.finished.set()
        else:
            self._releasing = True
            self._spawn(self._release, "release")

    async def _release(self) -> None:
        try:
            with anyio.move_on_after(_RELEASE_TIMEOUT, shield=True):
                await self.transport.aclose()
        except Exception as error:
            log.error("connection %s: the transport could not be closed", self.id, cause=error)

    def _crash(self, error: Exception) -> None:
        """End the connection for a mistake of this library, which no task and no callback lets out."""
        log.error("connection %s: dropped, wsstream failed", self.id, cause=error)
        self.drop(error)

    # -- the same steps, called by the event loop ----------------------------------------------

    def _on_readable(self) -> None:
        if self.paused or self._found or self._gone:
            self.transport.unwatch_readable()
            return
        if self._consumer_reads:
            self._consumer_reads = False
            return
        self.read_now()
        self._see_to_tail()

    def _on_step(self) -> None:
        self._step_due = self._consumer_reads = False
        self._on_readable()

    def _on_writable(self) -> None:
        self.pump()
        if self._gone or self._write_failed or not self._has_output:
            self.transport.unwatch_writable()

    def _on_time(self) -> None:
        self._alarm, self._alarm_time = None, inf
        try:
            self._tick()
            self._reschedule()
        except Exception as error:
            self._crash(error)
