"""The messages that have arrived and were not read yet: the receiving side's bounded buffer. No I/O."""

from __future__ import annotations

from typing import Protocol, cast

from wsstream.codec.events import PIECE_OVERHEAD, Chunk, Event, Kind
from wsstream.codec.speedups import UnreadQueue
from wsstream.codec.unread import CLOSED_FOR_MESSAGE, UNLIMITED, size_of
from wsstream.driver.flow import FlowControl
from wsstream.driver.incoming import IncomingMessage, PlainMessage, WholeMessage
from wsstream.driver.inflating import INFLATED_PIECE, CompressedMessage
from wsstream.protocol.inflate import Inflater

__all__ = ["Inbox", "Reader"]


class Reader(Protocol):
    """Who takes a message in pieces."""

    def _give_way(self) -> None:
        """Skip the rest of the message, as the next one is asked for.

        Raises:
            anyio.BusyResourceError: by another task than the reader's.
        """


class Inbox:
    """A queue of whole messages and chunks, and the message that is being taken from it piece by piece.

    Args:
        flow: the water marks.
        inflater: for compressed messages, if they were agreed on.
        limit: the most bytes of a message that `queue` returns by itself; ``None``: no limit.

    Attributes:
        queue: whole messages, and the chunks of others, in the order of arrival. Its `take_message_now` is
            the short way for most messages; it is closed while a message is taken piece by piece.
        message: the message that is taken piece by piece.
        reader: who takes it, if it is one reader's alone.
        discarding: everything is dropped, for good.
    """

    __slots__ = ("_at_eof", "_flow", "_inflater", "discarding", "message", "queue", "reader")

    def __init__(self, flow: FlowControl, inflater: Inflater | None = None, limit: int | None = None) -> None:
        self._flow = flow
        self._inflater = inflater
        self._at_eof = False  # nothing more will arrive
        self.queue = UnreadQueue(UNLIMITED if limit is None else limit)
        self.message: IncomingMessage | None = None
        self.reader: Reader | None = None
        self.discarding = False
        if inflater is not None:
            self.queue.inflate = self._inflate_whole

    # -- how full it is ------------------------------------------------------------------------

    @property
    def cost(self) -> int:
        """Payload bytes in the queue, plus 64 for each piece."""
        return self.queue.cost

    @property
    def high_water(self) -> int:
        """The cost at which reading has to stop."""
        return self._flow.receive_high_water

    @property
    def room(self) -> int:
        """The cost that is left up to the high-water mark."""
        return UNLIMITED if self.discarding else self._flow.receive_high_water - self.queue.cost

    def is_full(self, undecoded: int) -> bool:
        """Whether the high-water mark is reached.

        Above the low-water mark the `undecoded` bytes count too: tiny frames grow when they are decoded.
        Below it they do not, or nothing might ever resume reading.
        """
        cost, flow = self.queue.cost, self._flow
        if self.discarding:
            return False
        if cost <= flow.receive_low_water:
            return cost >= flow.receive_high_water
        return cost + undecoded >= flow.receive_high_water

    @property
    def is_low(self) -> bool:
        """Whether it is down to the low-water mark."""
        return self.queue.cost <= self._flow.receive_low_water

    def pause(self) -> None:
        """Reading stops: `queue` refuses to cross the low-water mark, so that reading can be resumed."""
        self.queue.low_water = self._flow.receive_low_water

    def resume(self) -> None:
        """Reading goes on: `queue` may be emptied."""
        self.queue.low_water = -1

    @property
    def more_ready(self) -> bool:
        """Whether the last call left data for the next one, to bound its own time: no need to wait."""
        return self.message is not None and self.message.more_ready

    # -- filling -----------------------------------------------------------------------------

    def put(self, events: list[Event], cost: int, *, control: bool = True) -> None:
        """Append the messages and chunks among `events`, which cost `cost`; without `control` all are."""
        if self.discarding:
            return
        if control:
            events = [event for event in events if isinstance(event, str | bytes | Chunk)]
        self.queue.extend(cast("list[str | bytes | Chunk]", events), cost)
        message = self.message
        if message is not None and message.abandoned and not message.is_costly_to_skip:
            self._skip(message)

    def discard(self) -> None:
        """Drop everything that has arrived and that will arrive."""
        self.discarding = True
        self.queue.clear()
        self.forget()

    def end(self) -> None:
        """Nothing more will arrive."""
        self._at_eof = True
        self._release_at_end()

    # -- taking --------------------------------------------------------------------------------

    def take_message(self, limit: int | None) -> str | bytes | None:
        """The next message whole, or what is left of the one that was begun; ``None``: not complete yet.

        Raises:
            MessageTooBig: it has more than `limit` bytes.
            InvalidUTF8, ProtocolViolation: it cannot be inflated to what it should be.
        """
        if self.message is None:
            whole = self.queue.take_message(UNLIMITED if limit is None else limit)
            if whole is not None:
                return whole
        kind = self.begin()
        if kind is None or (payload := self.take_rest(limit)) is None:
            return None
        self.forget()
        return payload.decode() if kind == "text" else payload

    def begin(self) -> Kind | None:
        """Begin to take the next message, unless one was begun; its kind, or ``None``: not yet.

        Raises:
            ProtocolViolation: a message that is being skipped cannot be inflated.
        """
        message = self.message
        if message is not None and message.abandoned and not self._skip(message):
            return None
        if self.message is None and (item := self.queue.front()) is not None:
            self._begin(item)
        return None if self.message is None else self.message.kind

    def take_chunk(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of the message that was begun; ``b""``: nothing of it has arrived.

        Raises:
            InvalidUTF8, ProtocolViolation: it cannot be inflated to what it should be.
        """
        return b"" if self.message is None else self.message.take_chunk(max_bytes)

    def take_rest(self, limit: int | None) -> bytes | None:
        """What is left of the message that was begun; ``None``: its end has not arrived.

        Raises:
            MessageTooBig: that is more than `limit` bytes.
            InvalidUTF8, ProtocolViolation: it cannot be inflated to what it should be.
        """
        return None if self.message is None else self.message.take_rest(limit)

    @property
    def is_complete(self) -> bool:
        """Whether all of the message that was begun has been taken."""
        return self.message is not None and self.message.is_complete

    def finish(self) -> None:
        """Take no more of the message that was begun; its rest is dropped, also what is still to come."""
        if self.message is not None:
            self.message.abandon()
            if not self.message.is_costly_to_skip:
                self._skip(self.message)

    def begin_rest(self, kind: Kind) -> None:
        """Take the rest of a message piece by piece, whose beginning a relay has taken."""
        if self.message is None:
            self._set_message(PlainMessage(self.queue, kind))

    # -- the message that is taken piece by piece ------------------------------------------------

    def _begin(self, item: str | bytes | Chunk) -> None:
        if isinstance(item, Chunk) and item.compressed:
            assert self._inflater is not None, "the decoder lets no compressed message through"
            self._set_message(CompressedMessage(self.queue, item.kind, self._inflater))
        elif isinstance(item, Chunk):
            self._set_message(PlainMessage(self.queue, item.kind))
        else:
            self.queue.take_raw()
            self.queue.cost -= size_of(item) + PIECE_OVERHEAD
            if isinstance(item, str):
                self._set_message(WholeMessage(self.queue, "text", item.encode()))
            else:
                self._set_message(WholeMessage(self.queue, "binary", item))

    def _set_message(self, message: IncomingMessage) -> None:
        self.message = message
        self.queue.closed_for |= CLOSED_FOR_MESSAGE

    def _skip(self, message: IncomingMessage) -> bool:
        if not message.skip():
            return False
        self.forget()
        return True

    def forget(self) -> None:
        """The message that was begun is complete, or its rest is taken in another way."""
        if self.message is not None:
            self.message.forget()
            self.message = None
            self.queue.closed_for &= ~CLOSED_FOR_MESSAGE
        self._release_at_end()

    def _inflate_whole(self, chunk: Chunk, limit: int) -> str | bytes | None:
        """The message of a chunk that the queue has taken, if it breaks no rule and is small.

        ``None``: it has more than `limit` bytes, or as many as a piece, or something is wrong with it. It
        becomes the one that was begun, and the call that asks it for more finds out.
        """
        kind, data, _, _ = chunk
        payload, whole = b"", False
        error: ValueError | None = None
        assert self._inflater is not None
        try:
            payload, whole = self._inflater.take_whole(
                data, limit + 1 if limit < INFLATED_PIECE else INFLATED_PIECE
            )
            if whole:
                message = payload.decode() if kind == "text" else payload
                if self._at_eof:
                    self._release_at_end()
                return message
        except ValueError as exc:
            error = exc
        self._set_message(
            CompressedMessage.begun(self.queue, kind, self._inflater, payload, whole=whole, error=error)
        )
        return None

    def _release_at_end(self) -> None:
        """Once no message will be inflated any more, give back the inflater's memory."""
        ended = self.discarding or (self._at_eof and not self.queue and self.message is None)
        if ended and self._inflater is not None:
            self._inflater.release()
            self.queue.inflate = None
