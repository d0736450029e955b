"""From the application to the outbox: the turn, the room, and the hand-over.

Sending has three doors, for speed; all lead into one queue of frames and out by one step:

- `FrameBatch.put`, which `Writable` calls by itself, takes a small message while others wait to leave, in one
  compiled call.
- `Sender.send_now` takes a message that fits into one frame and has not to wait: no coroutine is made.
- `Sender.begin` and `Sender.append` are for everything else: long messages, chunks, and senders that wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from time import monotonic
from typing import Protocol

from anyio.lowlevel import checkpoint

from wsstream.codec.batch import CLOSED_FOR_END, CLOSED_FOR_TURN, FULL, FrameBatch
from wsstream.codec.events import Close, Kind, Ping, Pong
from wsstream.driver.ending import Ending
from wsstream.driver.engine import Engine
from wsstream.driver.fairness import BYTES_PER_SEND, SENDS_BETWEEN_YIELDS
from wsstream.driver.flow import FlowControl
from wsstream.driver.heartbeat import Heartbeat
from wsstream.driver.outbox import Outbox
from wsstream.driver.outgoing import OutgoingMessage
from wsstream.driver.pending_pings import PingRecord
from wsstream.driver.pump import Pump
from wsstream.errors import MessageAborted
from wsstream.protocol.connection import Connection
from wsstream.protocol.file_frames import FileRange

__all__ = ["Sender"]


_BURST_AGE = 1e-3  # seconds; then the messages of a burst leave, though more may follow


class Writer(Protocol):
    """Who sends a message in chunks."""

    def _refuse_deadlock(self) -> None:
        """Raise RuntimeError, if the running task is the writer's: another message would wait for itself."""


class Sender:
    """The sending half of a connection, as the streams use it.

    Args:
        connection, outbox, pump, ending, heartbeat, engine: the connection's.
        flow: the water marks.

    Attributes:
        outbox: what the application has handed over and no frame contains yet.
        pump: what empties it.
        writer: who sends the message that was begun, in chunks.
    """

    __slots__ = (
        "_burst_began",
        "_connection",
        "_ending",
        "_engine",
        "_flow",
        "_heartbeat",
        "outbox",
        "pump",
        "writer",
    )

    def __init__(
        self,
        connection: Connection,
        outbox: Outbox,
        pump: Pump,
        flow: FlowControl,
        ending: Ending,
        heartbeat: Heartbeat,
        engine: Engine,
    ) -> None:
        self.outbox = outbox
        self.pump = pump
        self.writer: Writer | None = None
        self._connection = connection
        self._flow = flow
        self._ending = ending
        self._heartbeat = heartbeat
        self._engine = engine
        self._burst_began = -inf
        connection.queue.batch.sends_until_yield = SENDS_BETWEEN_YIELDS

    @property
    def connection(self) -> Connection:
        """The connection's protocol."""
        return self._connection

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent."""
        return self._ending.is_open

    @property
    def high_water(self) -> int:
        """Unsent bytes, above which senders wait."""
        return self._flow.send_high_water

    @property
    def can_hand_over(self) -> bool:
        """Whether `hand_over` may be called: it is open, and no other message has the turn."""
        return not self._connection.queue.batch.closed_for & (CLOSED_FOR_END | CLOSED_FOR_TURN)

    @property
    def batch(self) -> FrameBatch:
        """Takes small messages while others wait to leave, see the module's docstring."""
        return self._connection.queue.batch

    @property
    def tasks_waiting(self) -> int:
        """Tasks that wait for their turn or for room."""
        return self.outbox.turn.tasks_waiting + self.pump.progress.tasks_waiting

    # -- whole messages ------------------------------------------------------------------------

    def send_now(self, kind: Kind, payload: bytes | memoryview, *, compress: bool) -> bool | None:
        """Take over a whole message if that needs no waiting; ``None``: it does, and nothing happened.

        True: `flush_and_yield` is due. A message that comes alone leaves at once. One that follows another
        within `GAP` is left to the engine, to leave with the others of its burst, unless the burst is
        large enough or `_BURST_AGE` old.

        Raises:
            ConnectionBroken, ClosedLocally: the connection is not open.
            RuntimeError: as `check_no_deadlock` does.
        """
        self.check_no_deadlock()
        self._ending.check_open()
        if self.outbox.turn.taken or len(payload) > self._flow.frame_size or not self.pump.has_room():
            return None
        now = monotonic()  # in real time: the clock of some event loops stands still while a task runs
        queue = self._connection.queue
        alone = queue.batch.take_alone(now)
        self._connection.send_message(kind, payload, compress=compress, alone=alone)
        if alone or queue.size >= FULL or monotonic() - self._burst_began > _BURST_AGE:
            self._burst_began = now
            self.pump.step()
        else:
            self._engine.write_soon()
        queue.batch.last_send = monotonic()
        queue.batch.sends_until_yield -= 1
        return queue.batch.sends_until_yield <= 0

    def hand_over(self, pieces: Iterable[bytes]) -> bool:
        """Take over whole messages as frames of a server, at once and whatever is unsent.

        Each piece is one frame or several. Nothing is copied: many connections can be given the same pieces.
        False: another message has the turn, or the connection is not open, and nothing happened.
        """
        if not self.can_hand_over:
            return False
        for piece in pieces:
            self._connection.queue.put_data(piece)
        self.pump.step()
        return True

    async def send_whole(self, kind: Kind, payload: bytes | memoryview, *, compress: bool) -> None:
        """Send a whole message: at once if that needs no waiting, or else as `send` does.

        Raises:
            ConnectionBroken, ClosedLocally, RuntimeError: as `send_now` and `send` do.
        """
        full = self.send_now(kind, payload, compress=compress)
        if full is None:
            await self.send(kind, payload, compress=compress)
        elif full:
            await self.flush_and_yield()

    async def flush_and_yield(self) -> None:
        """Send what a burst has gathered; after many messages in a row also a checkpoint."""
        batch = self._connection.queue.batch
        self.pump.step()
        self._burst_began = batch.last_send = monotonic()
        if batch.sends_until_yield <= 0:
            await self._yield()

    async def _yield(self) -> None:
        self._connection.queue.batch.sends_until_yield = SENDS_BETWEEN_YIELDS
        await checkpoint()

    async def send(self, kind: Kind, payload: bytes | memoryview, *, compress: bool) -> None:
        """Send a whole message: wait for the turn and for room, take it over, wait until little is left.

        If cancelled while it waits for turn or room, nothing of the message is sent; later, all of it is.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended.
        """
        size, queue = len(payload), self._connection.queue
        if size <= self.outbox.frame_size and not self.outbox.turn.taken and self.pump.has_room():
            self._ending.check_open()
            dropped = queue.dropped
            self._connection.send_message(kind, payload, compress=compress)
            await self._wait_until_left(self.pump.step(), size, dropped)
            return
        compress = compress and self._connection.compresses(size)
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

    def abandon(self, message: OutgoingMessage) -> None:
        """Leave `message` unfinished: the connection fails with 1011, unless it has ended. Never waits."""
        if self.is_sending(message):
            self._ending.fail(MessageAborted("a message was left unfinished"))

    async def wait_for_room(self) -> None:
        """Once the high-water mark is reached, wait until no more than the low-water mark is unsent.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended.
        """
        self._ending.check_open()
        if not self.pump.has_room():
            while self.pump.unsent > self._flow.send_low_water and self._ending.is_open:
                await self.pump.progress.wait()
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
            await self._wait_until_left(self.pump.step(), len(data), dropped, message)
        finally:
            message.detach()

    async def _wait_until_left(
        self, unsent: int, size: int, dropped: int, message: OutgoingMessage | None = None
    ) -> None:
        """After `size` bytes were taken over, wait until no more than the high-water mark is `unsent`.

        Raises:
            ConnectionBroken, ClosedLocally: more than `dropped` bytes were dropped in all, or a part of
                `message` will not even become a frame.
        """
        batch = self._connection.queue.batch
        if unsent <= self._flow.send_high_water:
            batch.sends_until_yield -= 1 + size // BYTES_PER_SEND
            if batch.sends_until_yield <= 0:
                await self._yield()
            return
        while not self._is_lost(dropped, message):
            if self.pump.unsent <= self._flow.send_high_water:
                return
            await self.pump.progress.wait()
        raise self._ending.send_error()

    def _is_lost(self, dropped: int, message: OutgoingMessage | None) -> bool:
        if self._connection.queue.dropped != dropped:
            return True
        return message is not None and message.size > 0 and not self.is_sending(message)

    async def append_file(self, message: OutgoingMessage, part: FileRange) -> None:
        """Take over a part of a file that is not empty, then wait until all of it has left for the kernel.

        However long it is, no memory is needed for it. If cancelled, all of it is sent.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended, and some of it was not sent.
        """
        message.put_file(part)
        self.pump.step()
        while self.is_sending(message) and (message.size or self._connection.queue.files):
            await self.pump.progress.wait()
        if not self.is_sending(message):
            raise self._ending.send_error()

    async def flush(self, message: OutgoingMessage) -> None:
        """Wait until all that was taken over has left for the kernel, small as it may be.

        If cancelled, only the waiting ends.
        """
        message.flushing = True
        try:
            self.pump.step()
            await self.drain()
        finally:
            message.flushing = False

    async def drain(self) -> None:
        """Wait until all that was taken over has left for the kernel, or the connection has ended."""
        while self.pump.unsent and self._ending.info is None:
            await self.pump.progress.wait()
        await checkpoint()

    # -- control frames --------------------------------------------------------------------------

    def ping(self) -> PingRecord:
        """Send a Ping; one that has not left serves for several callers."""
        pings = self._heartbeat.pings
        if self._connection.queue.ping_waits and (latest := pings.latest) is not None:
            return latest
        record = pings.new()
        self._connection.send(Ping(record.payload))
        self.pump.step()
        return record

    def pong(self) -> None:
        """Send a Pong that nobody asked for, unless one waits to be sent."""
        if not self._connection.queue.pong_waits:
            self._connection.send(Pong())
            self.pump.step()

    def close(self, close: Close, *, urgent: bool) -> None:
        """Send `close` after all that was taken over or, if `urgent`, in place of what has not left."""
        if urgent:
            self.outbox.end()
            self._connection.send_close(close, urgent=True)
        else:
            self.outbox.close(close)

    # -- the end -------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Accept no more messages."""
        self._connection.queue.batch.closed_for |= CLOSED_FOR_END

    def wake_all(self) -> None:
        """Let the tasks that wait to send see how the connection ends."""
        self.pump.notify()

    def end(self) -> None:
        """Drop what no frame contains, and wake those who wait to send."""
        self.outbox.end()
        self.pump.notify()
