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
from wsstream.codec.frames import MAX_HEADER
from wsstream.codec.scan import incomplete_binary, scan
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


def size_of_read(room: int, density: float, most: int, kept: int = 0, alike: int = 0) -> int:
    """Return how many bytes to read behind those `kept`, at most `most` with them.

    They cost a little less than `room`, so that none wait undecoded. If all messages are as large as those
    before, which were of `alike` bytes, the read ends with one.
    """
    size = min(max(int(room * density) - kept, LEAST_READ), most - kept)
    extra = (kept + size) % alike if alike else 0
    return size if size - extra < LEAST_READ else size - extra


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

    A read often ends inside a message. Where the application takes messages whole, the *beginning* of a
    plain binary message is kept as it came, and the next read is put behind it. It costs the memory of
    what has arrived, which had room below the mark. It is kept once more only if it has grown by half, so
    that bytes which drip in are not copied again and again.

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
        due: bytes; the next read ends with them, since the message does that began elsewhere. 0: none.
        density: bytes received for each byte of cost, at the last step.
        drained: at the last read, nothing more had arrived.
        watched: the event loop calls `on_readable` as long as there is anything to read.
        keeps: whether the beginning of a message may be kept.
        bytes_received: in all.
        received_at: when bytes came last, by the event loop's clock; to be set back to -inf by
            whoever takes note of it.
        otherwise: what `on_readable` calls while the step is not open, or to be skipped.
    """

    __slots__ = (
        "_alike",
        "_batch",
        "_beginning",
        "_buffer",
        "_masked",
        "_queue",
        "_receive",
        "_rsv1",
        "bytes_received",
        "density",
        "drained",
        "due",
        "high_water",
        "keeps",
        "open",
        "otherwise",
        "owner",
        "received_at",
        "skip",
        "watched",
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
        self._beginning = b""
        self.open = self.skip = self.watched = self.keeps = False
        self.high_water = self.due = self._alike = 0
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

    def release(self) -> bytes:
        """Return the beginning that is kept, ``b""`` if none is, and keep it no more: decode it."""
        beginning, self._beginning = self._beginning, b""
        return beginning

    def _take(self, *, at_once: bool) -> bool:
        owner = self.owner
        assert owner is not None
        queue = self._queue
        room = self.high_water - queue.cost
        before = len(self._beginning)
        wanted = size_of_read(room, self.density, len(self._buffer), before, 0 if self.due else self._alike)
        if self.due:
            wanted = min(wanted, self.due)
        try:
            size = self._receive(self._buffer[before:], wanted)
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
        self._buffer[:before] = self.release()
        data, pos = self._buffer[: before + size], 0
        if self.open and room > 0:
            messages: list[Event] = []
            pos, cost = scan(data, 0, self._masked, self._rsv1, room, MAX_EVENTS, messages)
            if pos:
                queue.extend(messages, cost)  # type: ignore[arg-type]
                self.density = density_of(pos, cost)
                self._alike = pos // len(messages)
            rest = data[pos:]
            if queue.cost < self.high_water and (not rest or self._keep(rest, 0 if pos else before)):
                if pos and queue.closed_for & CLOSED_FOR_RECEIVER and not queue.wake(at_once):
                    owner.wake_receiver()
                return True
            data = rest
        owner.take_rest(data)
        return True

    def _keep(self, data: memoryview, before: int) -> bool:
        """Keep `data` for the next read if it is the beginning of a message; returns whether it is.

        `before`: the bytes of it that were kept already.
        """
        if not self.keeps or len(data) - before < before // 2:
            return False
        most = min(self.high_water, self._queue.limit, len(self._buffer) - MAX_HEADER)
        if not 0 < incomplete_binary(data, self._masked) <= most:
            return False
        self._beginning = bytes(data)
        return True
