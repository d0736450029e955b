"""The only place where a protocol connection meets a transport.

Theory. Four rules keep a connection whole whatever is cancelled, and make it fast:

1. *Reading and decoding are one synchronous step*, `Intake.step`, that anybody may take: the engine when
   the transport has something, and a receiving task that finds its inbox empty, before it waits. A step that
   cannot be interrupted cannot be cut in two, so one read buffer serves all connections of a thread, and
   bulk data flows without a task switch for each read.
2. *Reading stops by bytes.* A step reads no more than fits below the high-water mark, and decodes
   until the mark is reached; undecoded bytes wait. Then nobody reads, the TCP window closes and the
   peer blocks. At the low-water mark reading goes on. So Pings are answered and a Close is seen whether or
   not the application reads, as long as its unread data is below the mark.
3. *Sending is a hand-over.* `send` waits for its turn and for room; then, in one synchronous step, the
   message belongs to the driver and goes out whole. `Pump.step` makes frames and offers to the transport
   what it takes without waiting; the rest is left to the engine. Only the application's *waiting* can be
   cancelled, never its bytes: no application task writes to the transport in a way that can be interrupted.
4. *An end is a fact, not an exception in a task.* Whatever goes wrong is concluded once, in `Ending`,
   everybody is woken, and each call raises what it then sees. Engines raise nothing: also a mistake of this
   library ends the connection, with a log line.

The rooms, each of which knows those below it and none above::

    relay                       takes from one driver's receiver and hands over to another's sender
    driver                      builds them, ties them, and does what concerns both directions
    receiver   sender           what streams use: taking from the inbox; handing over to the outbox
    intake     pump             transport to inbox; outbox to transport
    inbox  heartbeat  outbox    what waits to be read; the clocks; what waits to be sent
    hand_over                   how much may wait before a control frame
    ending                      how it ends, and what calls raise
    tasks  callbacks            the two engines: who calls the steps
"""

from __future__ import annotations

from typing import Final

import anyio

from wsstream.codec.events import Close
from wsstream.codec.speedups import ReadStep
from wsstream.driver.callbacks import CallbackEngine
from wsstream.driver.ending import Ending
from wsstream.driver.endtimer import EndTimer
from wsstream.driver.engine import Engine, Next, Output
from wsstream.driver.heartbeat import Heartbeat
from wsstream.driver.inbox import Inbox
from wsstream.driver.intake import Intake, new_read_step
from wsstream.driver.options import ConnectionOptions
from wsstream.driver.outbox import Outbox
from wsstream.driver.phase import Phase
from wsstream.driver.pump import Pump
from wsstream.driver.receiver import Receiver
from wsstream.driver.sender import Sender
from wsstream.driver.tasks import TaskEngine
from wsstream.errors import KeepaliveTimeout, ReceiveTimeout
from wsstream.log import Log
from wsstream.protocol.connection import Connection
from wsstream.protocol.file_frames import FileEnded
from wsstream.protocol.keepalive import STANDSTILL, Action
from wsstream.protocol.state import State
from wsstream.transports.base import Transport
from wsstream.transports.eventloop import EventLoop, event_loop
from wsstream.transports.frame_log import with_frame_log

__all__ = ["Driver"]

_RELEASE_TIMEOUT = 2.0  # seconds for a transport to release what it holds
_DROPPED = Phase.DROPPED  # a name of the module is found faster than a member of an enum
_LOST: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError)

log = Log("wsstream.connection")


class Driver:
    """Moves the bytes of one open connection.

    Args:
        transport: owned by the driver from now on.
        connection: its opening handshake is done.
        received: bytes that came after the handshake.
        options: see :class:`~wsstream.driver.options.ConnectionOptions`.

    Attributes:
        transport, connection: as given.
        ending, receiver, sender: the parts that the streams use.
    """

    __slots__ = (
        "__weakref__",
        "_engine",
        "_heartbeat",
        "_intake",
        "_pump",
        "connection",
        "ending",
        "receiver",
        "sender",
        "transport",
    )

    def __init__(
        self, transport: Transport, connection: Connection, received: bytes, options: ConnectionOptions
    ) -> None:
        loop = event_loop()
        now = loop.clock()
        self.connection = connection
        self.ending = ending = Ending(connection, EndTimer(options.close_timeout, now), self)
        self.transport = transport = with_frame_log(transport, ending.id, received)
        flow = options.flow
        inbox = Inbox(flow, connection.inflater, options.max_message_size)
        read_step = new_read_step(transport, connection, inbox)
        self._heartbeat = heartbeat = Heartbeat(connection, options, now, read_step)
        self._engine = engine = self._make_engine(loop, read_step)
        outbox = Outbox(connection, flow)
        self._pump = pump = Pump(transport, connection, outbox, flow, ending, heartbeat, engine, self)
        self.sender = sender = Sender(connection, outbox, pump, flow, ending, heartbeat, engine)
        self._intake = intake = Intake(
            transport, read_step, connection, inbox, received, ending, heartbeat, engine, pump, self
        )
        self.receiver = Receiver(
            inbox, intake, connection, ending, sender, options.max_message_size, loop.task_loop()
        )

    def _make_engine(self, loop: EventLoop, read_step: ReadStep) -> Engine:
        callbacks = CallbackEngine(self, self.transport, loop, read_step)
        if callbacks.watch():
            return callbacks
        return TaskEngine(self, self.transport, self.ending.id)

    def start(self) -> None:
        """Begin to read."""
        self._engine.start()
        self._intake.start()

    async def ping(self) -> float:
        """Send a Ping, wait for its Pong, return the seconds between. If cancelled, the Ping is sent.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended.
        """
        self.ending.check_open()
        start = self._heartbeat.now()
        record = self.sender.ping()
        await record.wait()
        if record.answered is None:
            raise self.ending.send_error()
        return record.answered - start

    # -- the steps, for the engine ---------------------------------------------------------------

    def read(self) -> Next:
        """Take a step of reading."""
        return self._intake.step()

    def write(self) -> None:
        """Take a step of sending."""
        self._pump.step(called=True)

    @property
    def output(self) -> Output:
        """What sending needs next."""
        return self._pump.output

    @property
    def deadline(self) -> float:
        """When `tick` is to be called next."""
        end, clocks, limit = self.ending.timer.deadline, self._heartbeat.deadline, self._intake.limit
        if limit is not None and limit.resumes_at < clocks:
            clocks = limit.resumes_at
        return end if end < clocks else clocks

    def tick(self) -> None:
        """Do what the clocks have due."""
        heartbeat, connection = self._heartbeat, self.connection
        now = heartbeat.now()
        if (limit := self._intake.limit) is not None and now >= limit.resumes_at:
            self._intake.on_time(limit)
        if now >= self.ending.timer.deadline:
            self.ending.tick(now, self._blocked_since)
        elif connection.state is State.OPEN:
            if heartbeat.is_overdue(now):
                self.ending.fail(ReceiveTimeout("a message of the peer took too long to arrive"))
            keepalive = heartbeat.keepalive
            if keepalive.watches_output:
                self._pump.look(due=True)
            while connection.state is State.OPEN:
                if (action := keepalive.tick(now)) is Action.NOTHING:
                    break
                self._carry_out(action)

    def _blocked_since(self) -> float | None:
        self._pump.look()
        return self._heartbeat.blocked_since

    def _carry_out(self, action: Action) -> None:
        match action:
            case Action.PING:
                self.sender.ping()
                self._pump.look()
            case Action.PONG:
                self.sender.pong()
            case Action.STANDSTILL:
                log.warning(
                    "connection %s: both directions have stood still for %s s: nobody reads here, and the "
                    "peer does not read either. Receive in one task while another one sends.",
                    self.ending.id,
                    f"{STANDSTILL:g}",
                )
            case Action.TIMEOUT:
                seconds = f"{self._heartbeat.keepalive.timeout:g} s"
                self.ending.drop(
                    KeepaliveTimeout(f"the peer gave no sign of life within {seconds} after a Ping")
                )

    def reading_failed(self, error: Exception) -> None:
        """The connection is lost, or a step of reading made a mistake."""
        error = self.transport.failure(error)
        if isinstance(error, _LOST):
            self.ending.drop(error.__cause__ or error)
        else:
            self._crash(error)

    def writing_failed(self, error: Exception) -> None:
        """The transport takes nothing any more, or a step of sending made a mistake.

        What the peer sent before, perhaps a Close, can still be read. When a file that is being sent ended
        inside a frame, nothing can follow, not even Close.
        """
        error = self.transport.failure(error)
        if isinstance(error, (*_LOST, FileEnded)):
            self._pump.fail()
            self._intake.read_last()
            self.ending.drop(error.__cause__ or error)
        else:
            self._crash(error)

    def _crash(self, error: Exception) -> None:
        """End the connection for a mistake of this library, which no task and no callback lets out."""
        log.error("connection %s: dropped, wsstream failed", self.ending.id, cause=error)
        self.ending.drop(error)

    def stopped(self) -> None:
        """A task of the engine has ended, in whatever way."""
        self.ending.drop()

    async def release(self) -> None:
        """Release the closed transport."""
        try:
            with anyio.move_on_after(_RELEASE_TIMEOUT, shield=True):
                await self.transport.aclose()
        except Exception as error:
            log.error("connection %s: the transport could not be closed", self.ending.id, cause=error)

    def finish(self) -> None:
        """Nothing is left. No part refers to the driver any more: its memory is freed without a collector."""
        self.ending.finish(self.receiver.inbox.discard)
        self._intake.finish()
        self._pump.finish()

    # -- what the end asks for -------------------------------------------------------------------

    def on_close(self, close: Close, *, urgent: bool) -> None:
        """Send `close`."""
        self.sender.close(close, urgent=urgent)

    def on_leave(self) -> None:
        """Drop what arrives, send what was accepted, wake every task."""
        self.sender.refuse()
        self.receiver.discard()
        if self.ending.phase >= _DROPPED:
            return  # nothing leaves any more, and no task waits
        self._pump.step()
        self.receiver.wake_all()
        self.sender.wake_all()

    def on_end(self, *, discard: bool) -> None:
        """Wake every task, let what has arrived be read, and send Close, if it is due."""
        self.sender.end()
        self._heartbeat.end()
        self.receiver.end()
        if discard:
            self.receiver.discard()
        if self.ending.phase < _DROPPED:
            self._pump.step()

    def on_drop(self) -> None:
        """Close the transport and stop everything."""
        self._intake.drop()
        self._pump.drop()
        self.sender.wake_all()  # some may wait for what is lost now
        try:
            self.transport.close()
        except Exception as error:
            log.error("connection %s: the transport could not be closed", self.ending.id, cause=error)
        self._engine.stop()

    def wake_at(self, deadline: float) -> None:
        """Look at the clocks at `deadline`."""
        self._engine.wake_at(deadline)
