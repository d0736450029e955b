"""From one connection to another: what `pipe` does between two WebSockets.

A message of one connection, the source, goes on to the other, the sink, in one of two ways:

- *The general way*: decoded into the source's inbox, taken from there by the task in `Relay.run`, and
  handed over to the sink as any message is.
- *The direct way*: the payload of large binary frames never becomes an object. `Relay.step`, which the
  source's intake calls in place of a read, reads a block, masks it once with both keys, and hands it over to
  the sink as whole frames, in one synchronous step. No task is woken for it.

Each frame of the sink begins and ends within a step, so whoever cancels the task finds none that is half
made. The source is read directly only while the sink has nothing unsent; so what a relay holds is at most the
part of one block that the sink did not take. While the sink is busy, reading pauses inside a frame whose rest
does not fit below the source's mark anyway; otherwise it goes on in the general way, so that Pings and a
Close behind the frame are seen. Control frames, small frames, text and all that breaks a rule are decoded as
ever.
"""

from __future__ import annotations

import threading
from typing import Final

import anyio

from wsstream.codec.events import Kind
from wsstream.codec.unread import CLOSED_FOR_RELAY, UNLIMITED
from wsstream.driver.intake import Reading
from wsstream.driver.outgoing import OutgoingMessage
from wsstream.driver.receiver import Receiver
from wsstream.driver.sender import Sender
from wsstream.errors import StreamEnded
from wsstream.protocol.state import State

__all__ = ["Relay"]

_LARGEST_BLOCK: Final = 256 * 1024  # bytes; in pure Python, masking holds a block several times over
_LEAST_BLOCK: Final = 128 * 1024  # bytes
_LEAST_FRAME: Final = 16 * 1024  # bytes; smaller frames cost less in the general way
_PIECE: Final = 256 * 1024  # bytes of a compressed message that are inflated at once
_LEAST_COUNTED: Final = 4096  # bytes; as much of other tasks' time as a smaller piece takes

_OPEN, _PAUSED = State.OPEN, Reading.PAUSED  # names of the module are found faster than members of an enum


class _Block(threading.local):
    """The buffer into which the relays of one thread read: a step is done with all of it."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_LARGEST_BLOCK))


_shared = _Block()


class Relay:
    """Forwards the messages of one connection to another, with their kinds and boundaries.

    Args:
        receiver: the source's.
        sender: the sink's.
    """

    __slots__ = (
        "_block",
        "_decoder",
        "_direct",
        "_ended",
        "_inbox",
        "_inside",
        "_intake",
        "_message",
        "_occupied",
        "_outbox",
        "_paused",
        "_pump",
        "_receiver",
        "_sender",
        "_sink",
        "_source",
    )

    def __init__(self, receiver: Receiver, sender: Sender) -> None:
        self._receiver, self._inbox, self._intake = receiver, receiver.inbox, receiver.intake
        self._sender, self._outbox, self._pump = sender, sender.outbox, sender.pump
        self._source, self._sink = receiver.connection, sender.connection
        self._decoder = self._source.decoder
        self._direct = (
            self._source.inflater is None
            and self._sink.inflater is None
            and self._outbox.frame_size >= _LEAST_FRAME
        )
        self._block = _shared.view if self._direct else memoryview(b"")
        self._ended = 0  # messages whose end the last step passed on
        self._inside: Kind | None = None  # the source's message that has been forwarded in part
        self._message: OutgoingMessage | None = None  # the same at the sink, once it has begun there
        self._occupied = False  # the task holds a piece that it has not handed over
        self._paused = False  # reading waits for the sink

    # -- the task ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Forward every message until the source ends cleanly.

        If cancelled, or if one side fails, inside a message, it is aborted at the sink (Close 1011), and its
        rest is skipped at the source.

        Raises:
            ConnectionBroken, ClosedLocally: one of the two has ended otherwise.
            anyio.BusyResourceError: another task receives from the source.
            RuntimeError: this task has a writer of the sink open.
        """
        receiver = self._receiver
        receiver.start_taking()
        self._attach()
        try:
            while True:
                while (kind := receiver.begin()) is None:
                    await receiver.wait_for_data()
                await self._forward_piece(kind)
        except StreamEnded:
            if self._inside is not None:
                raise
        finally:
            self._detach()

    def _attach(self) -> None:
        self._inbox.reader = self
        self._inbox.queue.closed_for |= CLOSED_FOR_RELAY
        if self._direct:
            self._intake.relay = self
            self._intake.choose_way()
            self._pump.followers += (self._go_on,)

    def _detach(self) -> None:
        self._intake.relay = None
        self._intake.choose_way()
        self._pump.followers = tuple(f for f in self._pump.followers if f != self._go_on)
        self._inbox.queue.closed_for &= ~CLOSED_FOR_RELAY
        if self._inside is not None:
            self._inbox.begin_rest(self._inside)
        self._receiver.finish(self)
        if self._message is not None:
            self._sender.abandon(self._message)

    def _give_way(self) -> None:
        raise anyio.BusyResourceError("receiving from")

    async def _forward_piece(self, kind: Kind) -> None:
        """Take what has arrived of a message, up to a chunk, and hand it over to the sink."""
        self._occupied = True
        try:
            piece = self._receiver.take_chunk(UNLIMITED if self._direct else _PIECE)
            last = self._inbox.is_complete
            whole = last and self._inside is None
            if last or self._direct:  # where it is direct, `_inside` knows what comes next
                self._inbox.forget()
            self._inside = None if last else kind
            if whole:
                await self._sender.send_whole(kind, piece, compress=True)
            elif piece or last:
                await self._send_piece(kind, piece, last=last)
            else:
                self._occupied = False
                await self._receiver.wait_for_data()
        finally:
            self._occupied = False
        self._go_on()
        await self._receiver.yield_after(max(len(piece), _LEAST_COUNTED))

    async def _send_piece(self, kind: Kind, piece: bytes, *, last: bool) -> None:
        sender = self._sender
        if self._message is None:
            sender.check_no_deadlock()
            self._message = await sender.begin(kind, compress=True)
        await sender.wait_for_room()
        message = self._message
        if last:
            self._message = None
        self._occupied = False
        await sender.append(message, piece, finished=last)

    # -- the direct way ------------------------------------------------------------------------

    def step(self) -> bool | None:
        """Take a step of reading in the direct way; ``None``: the general way is due.

        Returns whether there may be news for the task. Called by the intake, which has nothing undecoded.
        """
        decoder, inbox = self._decoder, self._inbox
        self._paused = False
        if self._source.state is not _OPEN or inbox.discarding or not self._sender.is_open:
            return None
        due = decoder.payload_due
        if self._is_busy:
            if due < max(inbox.room, 1):
                return None
            self._paused = True
            self._intake.pause()
            return False
        if decoder.inside_message is not (self._inside is not None):  # a message that is being skipped
            return None
        if self._message is None and self._outbox.turn.taken:
            return None
        return self._read(min(due + self._intake.read_size, max(self._outbox.frame_size, _LEAST_BLOCK)))

    @property
    def _is_busy(self) -> bool:
        """Whether something goes first that is not in the sink's hands yet, or that it has not got rid of."""
        return self._occupied or len(self._inbox.queue) > 0 or self._pump.unsent > 0

    def _read(self, size: int) -> bool:
        block = self._block[: min(size, _LARGEST_BLOCK)]
        count = self._intake.fill(block)
        if not count:
            return count == 0
        self._decoder.crossed = False
        self._ended = 0
        passed = self._pass_on(block[:count])
        if passed:
            self._pump.step()
            self._sink.queue.copy_rest()
            self._intake.passed_on(passed, self._ended)
        if passed < count:
            self._intake.decode(block[passed:count], shared=True)
            return True
        return False

    def _pass_on(self, data: memoryview) -> int:
        """Queue frames with as much of `data` as belongs to large binary frames; return how much that is."""
        decoder, outbox = self._decoder, self._outbox
        pos, end = 0, len(data)
        while pos < end:
            if not decoder.payload_due:
                if self._message is None and outbox.turn.taken:
                    break
                start = decoder.enter_frame(data, pos, _LEAST_FRAME)
                if start == pos:
                    break
                pos, self._inside = start, "binary"
                if pos == end and decoder.payload_due:
                    break
            piece = data[pos : pos + decoder.payload_due]
            pos += len(piece)
            self._put(piece)
        return pos

    def _put(self, payload: memoryview) -> None:
        """Queue frames with `payload`, which is masked in place."""
        outbox = self._outbox
        if self._message is None:
            outbox.turn.take()
            self._message = outbox.message = OutgoingMessage("binary")
        key, last = self._decoder.pass_payload(len(payload))
        size = outbox.frame_size & -4  # whole keys
        self._sink.pass_on("binary", payload, size, key, last=last)
        if last:
            self._ended += 1
            self._inside = self._message = outbox.message = None
            outbox.turn.release()

    def _go_on(self) -> None:
        """The sink or the task has moved on: read, if that was waited for."""
        if not self._paused or self._intake.reading is not _PAUSED:
            return
        if not self._sender.is_open or not self._is_busy:
            self._paused = False
            self._intake.resume()
