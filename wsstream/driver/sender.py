"""From the application to the transport: the turn, the room, the hand-over, and the step of sending.

Sending has three doors, for speed; all lead into one queue of frames and out by one step:

- `FrameBatch.put`, which `Writable` calls by itself, takes a small message while others wait to leave, in one
  compiled call.
- `Sender.send_now` takes a message that fits into one frame and has not to wait: no coroutine is made.
- `Sender.begin` and `Sender.append` are for everything else: long messages, chunks, and senders that wait.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from anyio.lowlevel import checkpoint

from wsstream.codec.batch import CLOSED_FOR_END, FULL, LARGEST, FrameBatch
from wsstream.codec.events import Close, Kind, Ping, Pong
from wsstream.driver.ending import Ending
from wsstream.driver.engine import Engine, Output
from wsstream.driver.fairness import (
    BYTES_PER_SEND,
    COPY_STEP,
    FILE_STEP,
    SEND_STEP,
    SENDS_BETWEEN_YIELDS,
)
from wsstream.driver.flow import FlowControl
from wsstream.driver.heartbeat import Heartbeat
from wsstream.driver.outbox import Outbox
from wsstream.driver.outgoing import OutgoingMessage
from wsstream.driver.pings import PingRecord
from wsstream.driver.signals import Signal
from wsstream.protocol.connection import Connection
from wsstream.protocol.file_frames import FileRange
from wsstream.protocol.state import State
from wsstream.transports.base import Transport

__all__ = ["Sender"]

_OPEN = State.OPEN  # a name of the module is found faster than a member of an enum
_BATCH_GAP = 50e-6  # seconds; messages sent one after the other this soon form a batch


class Writer(Protocol):
    """Who sends a message in chunks."""

    def _refuse_deadlock(self) -> None:
        """Raise RuntimeError, if the running task is the writer's: another message would wait for itself."""


class Sender:
    """The sending half of a connection.

    Args:
        transport, connection, ending, heartbeat, engine: the connection's.
        flow: the water marks.
        on_failure: called with what a step raised: the transport takes no more for good, a file that is being
            sent has ended inside a frame, or this library made a mistake.

    Attributes:
        outbox: what the application has handed over and no frame contains yet.
        writer: who sends the message that was begun, in chunks.
    """

    __slots__ = (
        "_connection",
        "_ending",
        "_engine",
        "_flow",
        "_full",
        "_heartbeat",
        "_last_send",
        "_on_failure",
        "_progress",
        "_stopped",
        "_transport",
        "outbox",
        "writer",
    )

    def __init__(
        self,
        transport: Transport,
        connection: Connection,
        flow: FlowControl,
        ending: Ending,
        heartbeat: Heartbeat,
        engine: Engine,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.outbox = Outbox(connection, flow)
        self.writer: Writer | None = None
        self._transport = transport
        self._connection = connection
        self._flow = flow
        self._ending = ending
        self._heartbeat = heartbeat
        self._engine = engine
        self._on_failure = on_failure
        self._progress = Signal()
        self._stopped = False  # the transport takes nothing any more
        self._full = False  # the transport took less than it was offered
        self._last_send = -inf
        connection.queue.batch.sends_until_yield = SENDS_BETWEEN_YIELDS
        connection.queue.batch.capacity = flow.send_high_water

    @property
    def batch(self) -> FrameBatch:
        """Takes small messages while others wait to leave, see the module's docstring."""
        return self._connection.queue.batch

    # -- how much waits ------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that were handed over and have not left for the kernel."""
        return self._connection.queue.sendable + self._transport.unsent + self.outbox.size

    @property
    def sends_files(self) -> bool:
        """Whether parts of files can be handed over."""
        if self._flow.frame_size <= LARGEST:  # two system calls for each frame would cost more than a copy
            return False
        return self._transport.sends_files and not self._connection.copies

    @property
    def tasks_waiting(self) -> int:
        """Tasks that wait for their turn or for room."""
        return self.outbox.turn.tasks_waiting + self._progress.tasks_waiting

    def _has_room(self) -> bool:
        return self.unsent < self._flow.send_high_water

    @property
    def _has_output(self) -> bool:
        """Whether the transport has something to take: a Pong may have to wait for the rest of a frame."""
        return self._connection.queue.ready or self._transport.unsent > 0 or self.outbox.size > 0

    @property
    def output(self) -> Output:
        """What sending needs next."""
        if self._stopped or not self._has_output:
            return Output.NOTHING
        return Output.BLOCKED if self._full or self._transport.unsent else Output.SOON

    # -- whole messages ------------------------------------------------------------------------

    def send_now(self, kind: Kind, payload: bytes | memoryview, *, compress: bool) -> bool | None:
        """Take over a whole message if that needs no waiting; ``None``: it does, and nothing happened.

        True: `flush_and_yield` is due. A message that comes alone leaves at once; one in a batch is left to
        the engine, to leave with the others.

        Raises:
            ConnectionBroken, ClosedLocally: the connection is not open.
            RuntimeError: as `check_no_deadlock` does.
        """
        if self.writer is not None:
            self.writer._refuse_deadlock()
        self._ending.check_open()
        if self.outbox.turn.taken or len(payload) > self._flow.frame_size or not self._has_room():
            return None
        now = self._heartbeat.now()
        alone, self._last_send = now - self._last_send > _BATCH_GAP, now
        queue = self._connection.queue
        self._connection.send_message(kind, payload, compress=compress, alone=alone)
        if alone or queue.size >= FULL:
            self.step()
        else:
            self._engine.write_soon()
        queue.batch.sends_until_yield -= 1
        return queue.batch.sends_until_yield <= 0

    async def flush_and_yield(self) -> None:
        """Send what a batch has gathered; after many messages in a row also a checkpoint."""
        batch = self._connection.queue.batch
        self._last_send = self._heartbeat.now()
        self.step()
        if batch.sends_until_yield <= 0:
            batch.sends_until_yield = SENDS_BETWEEN_YIELDS
            await checkpoint()

    async def send(self, kind: Kind, payload: bytes | memoryview, *, compress: bool) -> None:
        """Send a whole message: wait for the turn and for room, take it over, wait until little is left.

        If cancelled while it waits for turn or room, nothing of the message is sent; later, all of it is.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended.
        """
        compress = compress and self._connection.compresses(len(payload))
        message = await self.begin(kind, compress=compress)
        try:
            await self.wait_for_room()
        except BaseException:
            self.give_up_turn()
            raise
        await self.append(message, payload, finished=True)

    def check_no_deadlock(self) -> None:
        """Raise RuntimeError if this task has a writer open: another message would wait for its end."""
        if self.writer is not None:
            self.writer._refuse_deadlock()

    # -- messages in chunks ----------------------------------------------------------------------

    async def begin(self, kind: Kind, declared: int | None = None, *, compress: bool) -> OutgoingMessage:
        """Wait for the turn and begin a message. If cancelled, the turn is not taken.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended.
        """
        await self.outbox.turn.acquire()
        self._ending.check_open()
        self.outbox.message = OutgoingMessage(kind, declared, compress=compress)
        return self.outbox.message

    def give_up_turn(self) -> None:
        """Give back the turn of a message of which nothing was taken over."""
        self.outbox.message = None
        self.outbox.turn.release()

    def is_sending(self, message: OutgoingMessage) -> bool:
        """Whether some of `message` may still be sent."""
        return self.outbox.message is message

    async def wait_for_room(self) -> None:
        """Once the high-water mark is reached, wait until no more than the low-water mark is unsent.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended.
        """
        self._ending.check_open()
        if not self._has_room():
            while self.unsent > self._flow.send_low_water and self._ending.is_open:
                await self._progress.wait()
            self._ending.check_open()

    async def append(self, message: OutgoingMessage, data: bytes | memoryview, *, finished: bool) -> None:
        """Take over `data` at once, then wait until no more than the high-water mark is unsent.

        If cancelled, all of `data` is sent, and its owner may change it.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended, and some of it was not sent.
        """
        queue = self._connection.queue
        dropped = queue.dropped
        message.append(data)
        message.finished = finished
        try:
            self.step()
            if self.unsent <= self._flow.send_high_water:
                queue.batch.sends_until_yield -= 1 + len(data) // BYTES_PER_SEND
                if queue.batch.sends_until_yield <= 0:
                    await self.flush_and_yield()
                return
            while not (lost := queue.dropped != dropped or self._is_forgotten(message)):
                if self.unsent <= self._flow.send_high_water:
                    break
                await self._progress.wait()
            if lost:
                raise self._ending.send_error()
        finally:
            message.detach()

    def _is_forgotten(self, message: OutgoingMessage) -> bool:
        """Whether a part of it will not even become a frame."""
        return message.size > 0 and not self.is_sending(message)

    async def append_file(self, message: OutgoingMessage, part: FileRange) -> None:
        """Take over a part of a file that is not empty, then wait until all of it has left for the kernel.

        However long it is, no memory is needed for it. If cancelled, all of it is sent.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended, and some of it was not sent.
        """
        message.put_file(part)
        self.step()
        while self.is_sending(message) and (message.size or self._connection.queue.files):
            await self._progress.wait()
        if not self.is_sending(message):
            raise self._ending.send_error()

    async def flush(self, message: OutgoingMessage) -> None:
        """Wait until all that was taken over has left for the kernel, small as it may be.

        If cancelled, only the waiting ends.
        """
        message.flushing = True
        try:
            self.step()
            await self.drain()
        finally:
            message.flushing = False

    async def drain(self) -> None:
        """Wait until all that was taken over has left for the kernel, or the connection has ended."""
        while self.unsent and self._ending.info is None:
            await self._progress.wait()
        await checkpoint()

    # -- control frames --------------------------------------------------------------------------

    def ping(self) -> PingRecord:
        """Send a Ping; one that has not left serves for several callers."""
        pings = self._heartbeat.pings
        if self._connection.queue.ping_waits and (latest := pings.latest) is not None:
            return latest
        record = pings.new()
        self._connection.send(Ping(record.payload))
        self.step()
        return record

    def pong(self) -> None:
        """Send a Pong that nobody asked for, unless one waits to be sent."""
        if not self._connection.queue.pong_waits:
            self._connection.send(Pong())
            self.step()

    def close(self, close: Close, *, urgent: bool) -> None:
        """Send `close` after all that was taken over or, if `urgent`, in place of what has not left."""
        if urgent:
            self.outbox.end()
            self._connection.send_close(close, urgent=True)
        else:
            self.outbox.close(close)

    # -- the step ------------------------------------------------------------------------------

    def step(self) -> None:
        """Make frames of what there is room for and offer them to the transport, without waiting."""
        if self._stopped:
            return
        try:
            left = self._offer()
        except Exception as error:
            self._on_failure(error)
        else:
            if left:
                self._heartbeat.keepalive.sent(self._heartbeat.now())
            self._after_step()

    def fail(self) -> None:
        """Send nothing any more: the transport takes nothing for good."""
        self._stopped = True

    def _offer(self) -> bool:
        """Returns whether some bytes left."""
        queue, transport, outbox = self._connection.queue, self._transport, self.outbox
        budget = COPY_STEP if self._connection.copies else SEND_STEP
        if outbox.message is not None and outbox.message.file is not None:
            budget = FILE_STEP
        left = False
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
        return left

    def _after_step(self) -> None:
        unsent = self.unsent
        self._connection.queue.batch.capacity = self._flow.send_high_water - unsent
        if unsent <= self._flow.send_low_water:
            self._progress.notify()
        if unsent and self._has_output:
            self._engine.write_soon()
            if not self._heartbeat.keepalive.watches_output:
                self.look()
                self._engine.wake_at(self._heartbeat.deadline)
            if self._ending.info is not None:
                self._ending.hurry()
        elif self._connection.state is not _OPEN:
            self._after_close()

    def _after_close(self) -> None:
        """All has left. The server closes TCP first (section 7.1.1), and whoever cannot send Close."""
        connection = self._connection
        if connection.state is State.VIOLATED:
            return
        if connection.close_sent is None or (connection.state is State.CLOSE_DONE and not connection.client):
            self._ending.drop()
        elif connection.state is State.FAILED:
            self._transport.send_eof()

    def look(self) -> None:
        """See how far output has moved on towards the peer."""
        backlog, queue = self._transport.backlog(), self._connection.queue
        moved = queue.sent - self._transport.unsent - backlog.size
        blocked = self.unsent > 0 or backlog.waits
        self._heartbeat.keepalive.look(self._heartbeat.now(), moved, blocked, queue.ping_waits)

    # -- the end -------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Accept no more messages."""
        self._connection.queue.batch.closed_for |= CLOSED_FOR_END

    def wake_all(self) -> None:
        """Let the tasks that wait to send see how the connection ends."""
        self._progress.notify()

    def end(self) -> None:
        """Drop what no frame contains, and wake those who wait to send."""
        self.outbox.end()
        self._progress.notify()

    def drop(self) -> None:
        """Drop everything: the transport is about to be closed."""
        self._stopped = True
        queue = self._connection.queue
        queue.clear()
        queue.dropped += self._transport.unsent
