"""From the outbox to the transport: the step of sending, and how far the output has moved."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import monotonic

from wsstream.codec.batch import CLOSED_FOR_END, LARGEST
from wsstream.driver.ending import Ending
from wsstream.driver.engine import NO_FAILURES, Engine, Failures, Output
from wsstream.driver.fairness import COMPRESS_STEP, FILE_STEP, SEND_STEP
from wsstream.driver.flow import FlowControl
from wsstream.driver.hand_over import FIRST_LOOK, LOOK_AGAIN, HandOver
from wsstream.driver.heartbeat import Heartbeat
from wsstream.driver.outbox import Outbox
from wsstream.driver.signals import Signal
from wsstream.protocol.connection import Connection
from wsstream.protocol.state import State
from wsstream.transports.base import NOTSENT, Transport
from wsstream.transports.slices import slices

__all__ = ["Pump"]

_OPEN = State.OPEN  # a name of the module is found faster than a member of an enum


class Pump:
    """Empties the outbox of one connection.

    Args:
        transport, connection, outbox, ending, heartbeat, engine: the connection's.
        flow: the water marks.
        failures: told what a step raised: the transport takes no more for good, a file that is being sent has
            ended inside a frame, or this library made a mistake.

    Attributes:
        progress: notified when no more than the low-water mark is unsent.
        followers: called then, too, and when sending has ended: the relays to this connection.
    """

    __slots__ = (
        "_connection",
        "_ending",
        "_engine",
        "_failures",
        "_flow",
        "_full",
        "_grows",
        "_hand_over",
        "_heartbeat",
        "_look_again",
        "_next_look",
        "_outbox",
        "_stopped",
        "_transport",
        "followers",
        "progress",
    )

    def __init__(
        self,
        transport: Transport,
        connection: Connection,
        outbox: Outbox,
        flow: FlowControl,
        ending: Ending,
        heartbeat: Heartbeat,
        engine: Engine,
        failures: Failures,
    ) -> None:
        self.progress = Signal()
        self.followers: tuple[Callable[[], None], ...] = ()
        self._transport = transport
        self._connection = connection
        self._outbox = outbox
        self._flow = flow
        self._ending = ending
        self._heartbeat = heartbeat
        self._engine = engine
        self._failures = failures
        self._stopped = False  # the transport takes nothing any more
        self._full = False  # the transport took less than it was offered
        batch = connection.queue.batch
        batch.capacity = flow.send_high_water
        batch.largest = min(LARGEST, flow.frame_size)
        batch.clock, batch.loop_clock = monotonic, heartbeat.now
        batch.send, batch.send_rest = transport.send_directly, self.send_rest
        batch.fileno = transport.fileno
        self._hand_over: HandOver | None = None  # made at the first look, which most connections never need
        # Compressing the usual frame takes longer than sending a large one.
        self._grows = connection.inflater is None
        # The next look is due after a number of bytes sent; or at a time, if the transport was full.
        self._next_look: float = FIRST_LOOK
        self._look_again = -inf

    @property
    def unsent(self) -> int:
        """Bytes that were handed over and have not left for the kernel."""
        return self._connection.queue.sendable + self._transport.unsent + self._outbox.size

    @property
    def sends_files(self) -> bool:
        """Whether parts of files can be handed over."""
        if self._flow.frame_size <= LARGEST:  # two system calls for each frame would cost more than a copy
            return False
        return self._transport.sends_files and not self._connection.copies

    def has_room(self) -> bool:
        """Whether less than the high-water mark is unsent."""
        return self.unsent < self._flow.send_high_water

    @property
    def _has_output(self) -> bool:
        """Whether the transport has something to take: a Pong may have to wait for the rest of a frame."""
        return self._connection.queue.ready or self._transport.unsent > 0 or self._outbox.size > 0

    @property
    def output(self) -> Output:
        """What sending needs next."""
        if self._stopped or not self._has_output:
            return Output.NOTHING
        return Output.BLOCKED if self._full or self._transport.unsent else Output.SOON

    # -- the step ------------------------------------------------------------------------------

    def step(self, *, called: bool = False) -> int:
        """Make as many frames as there is room for and offer them to the transport, without waiting.

        Args:
            called: the transport has said that it takes more.

        Returns what is `unsent` now.
        """
        if not self._stopped:
            try:
                left = self._offer(called)
            except Exception as error:
                self._failures.writing_failed(error)
            else:
                if left:
                    self._heartbeat.keepalive.sent(self._heartbeat.now())
                return self._after_step()
        return self.unsent

    def send_rest(self, frame: bytes, sent: int, error: Exception | None) -> None:
        """Queue a frame of which `sent` bytes have left; `error`: the transport takes no more."""
        self.keep_rest(frame, sent)
        self.rest_was_kept(error)

    def keep_rest(self, frame: bytes, sent: int) -> None:
        """The first half of `send_rest`; the event loop does the second one before anything else."""
        queue = self._connection.queue
        queue.put_data(frame)
        if sent:
            queue.advance(sent)
        self._full = True

    def rest_was_kept(self, error: Exception | None) -> None:
        """The second half of `send_rest`."""
        if error is not None:
            self._failures.writing_failed(error)
        else:
            self._after_step()

    def fail(self) -> None:
        """Send nothing any more: the transport takes nothing for good."""
        self._stopped = True
        self._connection.queue.batch.closed_for |= CLOSED_FOR_END

    def _offer(self, called: bool) -> bool:
        """Returns whether some bytes left."""
        queue, transport, outbox = self._connection.queue, self._transport, self._outbox
        budget = SEND_STEP if self._connection.inflater is None else COMPRESS_STEP
        if queue.files or (outbox.message is not None and outbox.message.file is not None):
            budget = FILE_STEP
            if self._hand_over is not None and self._hand_over.shrink():
                self._apply(self._hand_over)
        if queue.sent >= self._next_look or (
            called and self._full and self._heartbeat.now() >= self._look_again
        ):
            self._adapt(grows=budget != FILE_STEP)
        step = None if self._hand_over is None else self._hand_over.step
        if step is not None:
            if self._full and not called:
                return False
            budget = step
        left = False
        while budget > 0:
            framed = 0
            if outbox.message is not None or outbox.closing is not None:
                idle = not queue.sendable and not transport.unsent
                framed = outbox.fill(idle=idle, taking=not self._full, limit=budget)
            if queue.files:
                sent = transport.send_pieces(queue.pieces())
            elif buffers := queue.buffers():
                if step is not None:
                    buffers = [next(slices(buffers, step))]
                sent = transport.send(buffers)
            else:
                break
            self._full = not sent
            if not sent:
                break
            left = True
            queue.advance(sent)
            budget -= max(sent, framed)
        if step is not None and queue.sendable:
            self._full = True
        return left

    def _adapt(self, *, grows: bool) -> None:
        """Let more wait on a fast connection, and less on a slow one, from the next frame on."""
        delivery = self._transport.delivery()
        if delivery is None:
            self._next_look = self._look_again = inf
            return
        if self._hand_over is None:
            self._hand_over = HandOver(self._flow, grows=self._grows)
        hand_over = self._hand_over
        if hand_over.look(delivery, grows=grows, full=self._full):
            self._apply(hand_over)
        self._next_look = self._connection.queue.sent + hand_over.unsent
        self._look_again = self._heartbeat.now() + LOOK_AGAIN if hand_over.unsent >= NOTSENT else inf

    def _apply(self, hand_over: HandOver) -> None:
        self._transport.limit_unsent(hand_over.unsent)
        self._outbox.frame_size = hand_over.frame_size

    def _after_step(self) -> int:
        """Returns what is `unsent`."""
        unsent = self.unsent
        self._connection.queue.batch.capacity = self._flow.send_high_water - unsent
        if unsent <= self._flow.send_low_water:
            self.notify()
        if unsent and self._has_output:
            self._engine.write_soon()
            if not self._heartbeat.keepalive.watches_output:
                self.look()
                self._engine.wake_at(self._heartbeat.deadline)
            if self._ending.info is not None:
                self._ending.hurry()
        elif self._connection.state is not _OPEN:
            self._after_close()
        return unsent

    def _after_close(self) -> None:
        """All output has left. Section 7.1.1: the server closes TCP first. So does a side without a Close."""
        connection = self._connection
        if connection.state is State.VIOLATED:
            return
        if connection.close_sent is None or (connection.state is State.CLOSE_DONE and not connection.client):
            self._ending.drop()
        elif connection.state is State.FAILED:
            self._transport.send_eof()

    def notify(self) -> None:
        """Have those who wait for output look again."""
        self.progress.notify()
        for follow in self.followers:
            follow()

    def look(self, *, due: bool = False) -> None:
        """See how far output has moved on towards the peer. Less may wait if it stands still when `due`."""
        backlog, queue = self._transport.backlog(), self._connection.queue
        moved = queue.sent - self._transport.unsent - backlog.size
        blocked = self.unsent > 0 or backlog.waits
        now, keepalive = self._heartbeat.now(), self._heartbeat.keepalive
        keepalive.look(now, moved, blocked, queue.ping_waits)
        stands = keepalive.watches_output and keepalive.standing_since < now
        if due and stands and self._hand_over is not None and self._hand_over.halve():
            self._apply(self._hand_over)

    # -- the end -------------------------------------------------------------------------------

    def drop(self) -> None:
        """Drop everything: the transport is about to be closed."""
        self._stopped = True
        queue = self._connection.queue
        queue.clear()
        queue.dropped += self._transport.unsent

    def finish(self) -> None:
        """Nothing is left of the connection: refer to no more than data."""
        self._failures = NO_FAILURES
        self._connection.queue.batch.send_rest = None
