"""From the transport to the queue of messages in one step: the hot path of reading.

`ReadStep` has a compiled version, too. It knows neither transports nor event loops: it calls what it is
given.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from wsstream.codec.batch import FrameBatch
from wsstream.codec.events import Event
from wsstream.codec.scan import scan
from wsstream.codec.unread import CLOSED_FOR_RECEIVER, UnreadQueue

__all__ = ["LEAST_READ", "MAX_EVENTS", "ReadStep", "density_of", "size_of_read"]

MAX_EVENTS = 1024
"""The most events of one call, so that a read full of tiny frames does not hold up other tasks."""

LEAST_READ = 1024
"""Bytes: the room below the mark may be less, a read is not."""

_FIRST_DENSITY = 0.25  # until the first step: as if messages were tiny, so that they fit in any case
_SAFETY = 0.98  # a read may cost a little more than the last one did, and still fits


def density_of(size: int, cost: int) -> float:
    """Return how many bytes to read for each byte of cost, when the last `size` bytes cost `cost`."""
    return size / cost * _SAFETY if cost > size else 1.0


def size_of_read(room: int, density: float, most: int) -> int:
    """Return how many bytes to read: they cost a little less than `room`, so that none wait undecoded."""
    return min(max(int(room * density), LEAST_READ), most)


class Owner(Protocol):
    """Who does all but the usual case."""

    def take_rest(self, data: memoryview) -> None:
        """Decode the bytes that came and begin with no plain message, or stop reading: the mark is reached.

        The next step overwrites `data`.
        """

    def end_of_stream(self) -> None:
        """The transport has ended."""

    def wake_receiver(self) -> None:
        """Wake the task that waits for a message."""

    def step_failed(self, error: Exception) -> None:
        """The step raised `error`."""


class ReadStep:
    """Receives bytes, and puts the messages at their beginning into the queue.

    To the usual case it gives no Python call at all when it is compiled: the event loop calls `on_readable`,
    and the task that waits for the message runs before that returns.

    A *plain* message is one complete frame. The step takes plain messages alone; whatever is
    not plain is left to the `owner`, who has the decoder.

    Args:
        queue: for the messages.
        batch: the sending side, whose next message answers what came.
        masked: whether frames must be masked (RFC 6455 section 5.1).
        rsv1: whether RSV1 marks compressed messages (RFC 7692 section 6).
        receive: as ``socket.recv_into``, receives into a buffer at most a number of bytes, and returns how
            many came; ``None`` or BlockingIOError: none; 0: the stream has ended.
        buffer: to receive into; other steps use it, too.

    Attributes:
        owner: does all else; to be set before the first step.
        open: whether messages may go straight to the queue: none has begun, and the connection is as usual.
        skip: whether `on_readable` shall leave the next turn to `otherwise`.
        high_water: the cost of the queue at which reading has to stop.
        density: bytes received for each byte of cost, at the last step.
        drained: at the last read, nothing more had arrived.
        bytes_received: in all.
        received_at: when bytes came last, by the event loop's clock; to be set back to -inf by
            whoever takes note of it.
        otherwise: what `on_readable` calls while the step is not open, or to be skipped.
    """

    __slots__ = (
        "_batch",
        "_buffer",
        "_masked",
        "_queue",
        "_receive",
        "_rsv1",
        "bytes_received",
        "density",
        "drained",
        "high_water",
        "open",
        "otherwise",
        "owner",
        "received_at",
        "skip",
    )

    def __init__(
        self,
        queue: UnreadQueue,
        batch: FrameBatch,
        masked: bool,
        rsv1: bool,
        receive: Callable[[memoryview, int], int | None],
        buffer: memoryview,
    ) -> None:
        self._queue = queue
        self._batch = batch
        self._masked = masked
        self._rsv1 = rsv1
        self._receive = receive
        self._buffer = buffer
        self.owner: Owner | None = None
        self.open = self.skip = False
        self.high_water = 0
        self.density = _FIRST_DENSITY
        self.drained = False
        self.bytes_received = 0
        self.received_at = -inf
        self.otherwise: Callable[[], object] | None = None

    def on_readable(self) -> object:
        """Take a step, for the event loop: the owner gets what it raises. Returns what `otherwise` does."""
        if self.skip or not self.open:
            return None if self.otherwise is None else self.otherwise()
        try:
            self._take(at_once=True)
        except Exception as error:
            assert self.owner is not None
            self.owner.step_failed(error)
        return None

    def take(self) -> bool:
        """Receive, and decode what came; returns whether anything did.

        Raises:
            Exception: as `receive` and `owner` do.
        """
        return self._take(at_once=False)

    def _take(self, *, at_once: bool) -> bool:
        owner = self.owner
        assert owner is not None
        queue = self._queue
        room = self.high_water - queue.cost
        wanted = size_of_read(room, self.density, len(self._buffer))
        try:
            size = self._receive(self._buffer, wanted)
        except BlockingIOError:
            size = None
        if size is not None and size > wanted:
            raise ValueError("more bytes were received than there was room for")
        self.drained = size is None or size < wanted
        if size is None:
            return False
        if size == 0:
            owner.end_of_stream()
            return True
        self.bytes_received += size
        self.received_at = self._batch.loop_clock()
        self._batch.answers = True
        data = self._buffer[:size]
        if self.open and room > 0:
            messages: list[Event] = []
            pos, cost = scan(data, 0, self._masked, self._rsv1, room, MAX_EVENTS, messages)
            if pos:
                queue.extend(messages, cost)  # type: ignore[arg-type]
                self.density = density_of(pos, cost)
            if pos == size and queue.cost < self.high_water:
                if queue.closed_for & CLOSED_FOR_RECEIVER and not queue.wake(at_once):
                    owner.wake_receiver()
                return True
            data = data[pos:]
        owner.take_rest(data)
        return True
