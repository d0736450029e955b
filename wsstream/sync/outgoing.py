"""Messages on their way from threads to the event loop: many for each trip.

A thread puts a small message into a queue of at most `send_high_water` bytes and goes on; one callback of the
event loop hands all of them over to the connection. One that comes alone leaves in its thread, without the
queue, while the event loop is asleep. When the queue is full, because the connection takes nothing more,
threads wait. All else (a large message, one in chunks, a file) takes the turn: it begins when the queue is
empty, and other threads wait for its end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import NamedTuple

from wsstream.codec.events import PIECE_OVERHEAD, Kind
from wsstream.codec.speedups import COMPILED
from wsstream.driver.ending import Ending
from wsstream.driver.fairness import SENDS_BETWEEN_YIELDS
from wsstream.driver.sender import Sender
from wsstream.driver.signals import Signal
from wsstream.errors import NOT_CLOSED, ClosedLocally, ConnectionClosed
from wsstream.sync.background import Background

__all__ = ["Outgoing"]


class _Waiting(NamedTuple):
    """A message in the queue: `item` is what ``send`` takes, `payload` its bytes."""

    item: str | bytes
    kind: Kind
    payload: bytes
    compress: bool


class Outgoing:
    """What threads send.

    Attributes:
        largest: bytes; a larger message takes the turn.
        closing: this side has begun to close, and accepts nothing more.
    """

    def __init__(self, background: Background, sender: Sender, ending: Ending) -> None:
        self._background = background
        self._gate = background.gate
        self._sender = sender
        self._ending = ending
        self._bound = sender.high_water
        self.largest = min(self._bound, sender.outbox.frame_size)
        self._queue: deque[_Waiting] = deque()
        self._lock = threading.RLock()  # not the condition, which Ctrl-C may leave locked
        self._changed = threading.Condition(self._lock)
        self._put_in = 0  # bytes that threads have put into the queue, in all
        self._taken_out = 0  # bytes that the event loop has taken from it
        self._holder: int | None = None  # the thread that has the turn
        self._waiting = 0  # threads
        self._scheduled = False  # the event loop will look at the queue
        self._emptied = Signal()
        self._directly = COMPILED and sender.batch.fileno is not None  # Ctrl-C cannot cut the call in two
        sender.batch.send_rest = self._send_rest
        self.closing = False

    @property
    def size(self) -> int:
        """Bytes in the queue."""
        return self._put_in - self._taken_out

    @property
    def threads_waiting(self) -> int:
        """Threads that wait for room or for the turn."""
        return self._waiting

    # -- in threads ----------------------------------------------------------------------------

    def put(self, item: str | bytes, payload: bytes, compress: bool, timeout: float | None) -> None:
        """Accept a message of at most `largest` bytes, as soon as there is room.

        Raises:
            TimeoutError: there was none within `timeout` seconds; nothing of it is sent.
            ConnectionBroken, ClosedLocally: the connection has ended.
            RuntimeError: this thread has an unfinished message.
        """
        self._check_usable()
        if self._directly and not self._scheduled and self._gate.asleep and self._send_directly(item):
            return
        kind: Kind = "text" if type(item) is str else "binary"
        size = len(payload) + PIECE_OVERHEAD
        with self._lock:
            if self._holder is not None or self.size + size > self._bound:
                self._wait(lambda: self._holder is None and self._has_room(size), timeout)
            self._check_open()
            if not self._scheduled:  # first: Ctrl-C must leave no message that nobody will look at
                self._background.post(self._hand_over)
                self._scheduled = True
            self._queue.append(_Waiting(item, kind, payload, compress))
            self._put_in += size

    def _send_directly(self, item: str | bytes) -> bool:
        """Send a message in this thread, if nothing waits but the event loop; false: it goes another way.

        Whatever comes, also Ctrl-C, nothing of the message has left or all of it, or the connection breaks.
        """
        gate, batch = self._gate, self._sender.batch
        with gate.lock:
            if not gate.asleep or self._scheduled or self._queue or len(batch):
                return False
            if self._holder is not None or self.closing:
                return False
            left_at, sent = batch.left_at, batch.sent
            try:
                full = batch.put(item)
            except BaseException:
                if batch.left_at != left_at and batch.sent == sent:  # a part has left, and the rest is lost
                    self._background.post_if_alive(self._ending.abort)
                raise
        if full:
            batch.sends_until_yield = SENDS_BETWEEN_YIELDS  # no task waits for this thread
        return full is not None

    def _send_rest(self, frame: bytes, sent: int, error: Exception | None) -> None:
        """As `Pump.send_rest`, in any thread."""
        pump = self._sender.pump
        if self._background.is_current:
            pump.send_rest(frame, sent, error)
        else:
            self._background.post_if_alive(
                lambda: pump.rest_was_kept(error)
            )  # not before this thread is done
            pump.keep_rest(frame, sent)

    def _has_room(self, size: int) -> bool:
        return not self._queue or self.size + size <= self._bound

    @contextmanager
    def turn(self, timeout: float | None = None) -> Iterator[None]:
        """For a block in which this thread sends one message, in its own way.

        Raises:
            TimeoutError: another thread has had the turn for `timeout` seconds.
            ConnectionBroken, ClosedLocally: the connection has ended.
            RuntimeError: this thread has the turn already.
        """
        self.take_turn(timeout)
        try:
            yield
        finally:
            self.pass_turn()

    def take_turn(self, timeout: float | None) -> None:
        """Begin what `turn` does."""
        self._check_usable()
        with self._lock:
            if self._holder is not None:
                self._wait(lambda: self._holder is None, timeout)
            self._check_open()
            self._holder = threading.get_ident()

    def pass_turn(self) -> None:
        """End what `turn` does."""
        if not self._background.forked:
            with self._lock:
                self._holder = None
                self._changed.notify_all()

    def _check_usable(self) -> None:
        if self._background.forked:
            self._background.post(self._hand_over)  # raises
        if self._holder is not None and self._holder == threading.get_ident():
            raise RuntimeError("this thread must finish its MessageWriter before it sends another message")

    def _check_open(self) -> None:
        self._ending.check_open()
        if self.closing:
            raise ClosedLocally("the connection was closed on this side", NOT_CLOSED)

    def _wait(self, condition: Callable[[], bool], timeout: float | None) -> None:
        """Wait, holding the lock between two waits, until `condition` holds or the connection has ended."""
        deadline = None if timeout is None else monotonic() + timeout
        self._waiting += 1
        try:
            while self._ending.is_open and not self.closing and not condition():
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"the message could not be sent within {timeout:g} s")
                self._changed.wait(left)
        finally:
            self._waiting -= 1

    # -- in the event loop ---------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Hand over what needs no waiting; leave the rest to a task."""
        try:
            while self._queue:
                full = self._hand_over_first()
                if full is not False:
                    self._background.spawn(self._go_on)
                    return
        except ConnectionClosed:
            self._clear()
        self._rest()

    def _hand_over_first(self) -> bool | None:
        """Hand over the first message; ``None``: it has to wait. True: the batch should leave."""
        item, kind, payload, compress = self._queue[0]
        full = self._sender.batch.put(item)
        if full is None:
            full = self._sender.send_now(kind, payload, compress=compress)
        if full is not None:
            self._remove_first()
        return full

    async def _go_on(self) -> None:
        sender = self._sender
        try:
            await sender.flush_and_yield()
            while self._queue:
                full = self._hand_over_first()
                if full is None:
                    await self._wait_for_turn_or_room()
                elif full:
                    await sender.flush_and_yield()
                self._wake()
        except ConnectionClosed:
            self._clear()
        self._rest()

    async def _wait_for_turn_or_room(self) -> None:
        """Keep neither: so Close can follow at any time, see `hand_over_all`."""
        if self._sender.outbox.turn.taken:
            await self._sender.begin("binary", compress=False)
            self._sender.give_up_turn()
        else:
            await self._sender.wait_for_room()

    def _remove_first(self) -> None:
        message = self._queue.popleft()
        self._taken_out += len(message.payload) + PIECE_OVERHEAD

    def _rest(self) -> None:
        """The queue is empty: the next message calls the event loop again."""
        with self._lock:
            self._scheduled = False
            if self._queue:  # put there since the last look
                self._scheduled = True
                self._background.post(self._hand_over)
            else:
                self._taken_out = self._put_in  # Ctrl-C may have come before a message was counted
            if self._waiting:
                self._changed.notify_all()
        if not self._queue:
            self._emptied.notify()

    def _wake(self) -> None:
        if self._waiting:
            with self._lock:
                self._changed.notify_all()

    def _clear(self) -> None:
        """The connection has ended: what is here cannot be sent."""
        while self._queue:
            self._remove_first()

    @property
    def must_wait(self) -> bool:
        """What was accepted can be handed over only after a message that has the turn."""
        return bool(self._queue) and self._ending.is_open and self._sender.outbox.turn.taken

    def hand_over_all(self) -> None:
        """Hand over all that was accepted, as Close follows, whether or not there is room."""
        connection = self._sender.connection
        while self._queue:
            if self._ending.is_open and not self._sender.outbox.turn.taken:
                _, kind, payload, compress = self._queue[0]
                connection.send_message(kind, payload, compress=compress)
            self._remove_first()

    async def wait_empty(self) -> None:
        """Wait until all that was accepted has been handed over."""
        while self._queue:
            await self._emptied.wait()
