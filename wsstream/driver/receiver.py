"""From the inbox to the application: waiting for data, and taking it.

Streams take from the inbox by the methods here, which also resume reading when the inbox is down to the
low-water mark. The one exception is the queue's `take_message_now`, which refuses to cross the mark.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from wsstream.codec.events import PIECE_OVERHEAD, Kind, Violation
from wsstream.codec.speedups import MessageIterator
from wsstream.codec.unread import CLOSED_FOR_RECEIVER
from wsstream.driver.ending import Ending
from wsstream.driver.engine import Next
from wsstream.driver.fairness import BYTES_BETWEEN_YIELDS, STEPS_BETWEEN_YIELDS
from wsstream.driver.inbox import Inbox, Reader
from wsstream.driver.intake import Intake
from wsstream.driver.sender import Sender
from wsstream.errors import InvalidUTF8, MessageTooBig, ProtocolViolation
from wsstream.protocol.connection import Connection
from wsstream.protocol.state import State

__all__ = ["Receiver"]

_T = TypeVar("_T")
_DECODE = Next.DECODE  # a name of the module is found faster than a member


class Receiver:
    """The receiving half of a connection, as the streams use it.

    Args:
        inbox, intake, connection, ending, sender: the connection's.
        limit: the most bytes of a message that is taken whole; ``None``: no limit.
        task_loop: asyncio's event loop, if that runs.

    Attributes:
        inbox: what has arrived and was not taken.
        intake: what fills it.
    """

    __slots__ = (
        "_bytes_until_yield",
        "_connection",
        "_ending",
        "_limit",
        "_sender",
        "_steps_until_yield",
        "_task_loop",
        "inbox",
        "intake",
    )

    def __init__(
        self,
        inbox: Inbox,
        intake: Intake,
        connection: Connection,
        ending: Ending,
        sender: Sender,
        limit: int | None,
        task_loop: Any,
    ) -> None:
        self.inbox = inbox
        self.intake = intake
        self._connection = connection
        self._ending = ending
        self._sender = sender
        self._limit = limit
        self._bytes_until_yield = BYTES_BETWEEN_YIELDS
        self._steps_until_yield = STEPS_BETWEEN_YIELDS
        self._task_loop = task_loop

    @property
    def connection(self) -> Connection:
        """The connection's protocol."""
        return self._connection

    @property
    def tasks_waiting(self) -> int:
        """Tasks that wait for data."""
        return self.intake.arrived.tasks_waiting + self.inbox.queue.parked

    # -- waiting -------------------------------------------------------------------------------

    def messages(self, wait: Callable[[], Coroutine[Any, Any, str | bytes]]) -> MessageIterator:
        """The messages, as ``async for`` takes them; `wait` is for what the iterator cannot do by itself."""
        intake = self.intake
        intake.keep_beginnings(True)
        return MessageIterator(self.inbox.queue, wait, intake.read_step, intake.arrived.wait, self._task_loop)

    async def wait_for_data(self) -> None:
        """Return when something may have arrived. If cancelled, nothing is lost.

        Raises:
            StreamEnded, ConnectionBroken, ClosedLocally: nothing can arrive any more.
        """
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
                try:
                    raise error
                finally:
                    del error  # its traceback refers to this frame
            if self.intake.read_more():
                if self._is_other_tasks_turn():
                    await self.intake.yield_after_step()
            else:
                await self.intake.arrived.wait()
        finally:
            self.inbox.queue.closed_for &= ~CLOSED_FOR_RECEIVER

    def _is_other_tasks_turn(self) -> bool:
        """Whether other tasks run after a step, which was taken by the task that receives."""
        self._steps_until_yield -= 1
        in_chunks = self.inbox.message is not None
        if in_chunks and self._steps_until_yield > 0 and self.intake.next() is not _DECODE:
            return False
        self._steps_until_yield = STEPS_BETWEEN_YIELDS
        self._bytes_until_yield = BYTES_BETWEEN_YIELDS
        return True

    async def yield_after(self, size: int) -> None:
        """A checkpoint, if with `size` bytes more it is the turn of other tasks."""
        self._bytes_until_yield -= size
        if self._bytes_until_yield <= 0:
            self._bytes_until_yield = BYTES_BETWEEN_YIELDS
            self.inbox.queue.closed_for |= CLOSED_FOR_RECEIVER
            try:
                await checkpoint()
            finally:
                self.inbox.queue.closed_for &= ~CLOSED_FOR_RECEIVER

    # -- without a task --------------------------------------------------------------------------

    def start_watching(self) -> bool:
        """Have `Intake.on_arrival` called when a message arrives.

        False: one may be here, or all is not as usual. A thread that acts in place of the event loop may call
        this. Only one may watch or wait at a time.
        """
        step, inbox = self.intake.read_step, self.inbox
        if (
            not (step.open and step.keeps)
            or inbox.queue.closed_for & ~CLOSED_FOR_RECEIVER
            or len(inbox.queue)
        ):
            return False
        inbox.queue.closed_for |= CLOSED_FOR_RECEIVER
        return True

    def stop_watching(self) -> None:
        """Messages may be taken again."""
        self.inbox.queue.closed_for &= ~CLOSED_FOR_RECEIVER

    def check_not_busy(self) -> None:
        """Raise ``anyio.BusyResourceError`` if another task waits for data: it would take what is its."""
        if self.inbox.queue.closed_for & CLOSED_FOR_RECEIVER:
            raise anyio.BusyResourceError("receiving from")

    def start_taking(self) -> None:
        """The next message is asked for: skip the rest of one whose reader is open.

        Raises:
            anyio.BusyResourceError: another task waits for data, or reads a message.
        """
        if self.inbox.reader is not None:
            self.inbox.reader._give_way()
        self.check_not_busy()

    # -- taking --------------------------------------------------------------------------------

    def take_message(self) -> str | bytes | None:
        """The next message whole; ``None``: it is not complete yet.

        Raises:
            MessageTooBig: it is larger than ``max_message_size``; the connection fails with 1009.
            ConnectionBroken: a rule is broken in it, and the connection has ended.
        """
        self.intake.keep_beginnings(True)
        return self._take(self.inbox.take_message, self._limit)

    def take_messages(self, most: int) -> list[str | bytes]:
        """The next messages that are complete now, none of them above the limit; perhaps there are none.

        It stops once they have `most` bytes, 64 for each message included. None is taken that would bring the
        queue down to the low-water mark while reading is paused: `take_message` resumes it.
        """
        taken: list[str | bytes] = []
        queue = self.inbox.queue
        while most > 0 and (message := queue.take_message_now()) is not None:
            taken.append(message)
            most -= len(message) + PIECE_OVERHEAD
        return taken

    def begin(self) -> Kind | None:
        """Begin to take the next message in pieces; its kind, or ``None``: none has begun to arrive.

        Raises:
            ConnectionBroken: as `take_message`.
        """
        self.intake.keep_beginnings(False)
        return self._take(self.inbox.begin)

    def take_chunk(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of the message that was begun; ``b""``: nothing of it has arrived.

        Raises:
            ConnectionBroken: as `take_message`.
        """
        return self._take(self.inbox.take_chunk, max_bytes) or b""

    def take_rest(self) -> bytes | None:
        """What is left of the message that was begun; ``None``: its end has not arrived.

        Raises:
            MessageTooBig, ConnectionBroken: as `take_message`.
        """
        return self._take(self.inbox.take_rest, self._limit)

    def refuse(self, error: MessageTooBig) -> None:
        """The message that was begun is larger than the caller takes: the connection fails with 1009."""
        self._ending.fail(error)
        self.discard()  # also if the end was certain before: the rest is not another message

    def finish(self, reader: Reader) -> None:
        """`reader` takes no more of the message that was begun: its rest is dropped."""
        if self.inbox.reader is reader:
            self.inbox.reader = None
            self.inbox.finish()
            self.intake.resume_if_low()

    def discard(self) -> None:
        """Drop what has arrived and what will."""
        self.inbox.discard()
        self.intake.choose_way()
        self.intake.resume_if_low()

    def _take(self, take: Callable[..., _T], *arguments: object) -> _T | None:
        """Take from the inbox; ``None``: nothing has arrived, or answers to earlier messages go first."""
        try:
            taken = take(*arguments)
        except (MessageTooBig, InvalidUTF8, ProtocolViolation) as error:
            self._fail_for(error)
            return None
        self.intake.resume_if_low()
        return taken

    def _fail_for(self, error: MessageTooBig | InvalidUTF8 | ProtocolViolation) -> None:
        """A message cannot be taken. Raise, unless the answers to the messages before it go first."""
        if isinstance(error, MessageTooBig):
            self.refuse(error)
            raise error
        if self._ending.is_open:
            self._connection.note_violation(Violation(error.code, error.reason or str(error)))
            self.intake.stop_for_violation()
            self.discard()
            return
        self._ending.fail(error)
        self.discard()  # also if the end was certain before: the next bytes are not a message
        raise self._ending.broken() from error

    # -- the end -------------------------------------------------------------------------------

    def end(self) -> None:
        """How the connection ends is certain: what has arrived can be taken, and what comes is dropped."""
        self.inbox.end()
        self.intake.end()
        self.wake_all()

    def wake_all(self) -> None:
        """Let the tasks that wait see how the connection ends."""
        self.intake.wake_receiver()
