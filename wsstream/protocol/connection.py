"""The rules of RFC 6455 for an open connection, without I/O: what to answer, what may be sent.

Bytes go in through :meth:`Connection.receive`, which returns events; the same events go out through
:meth:`Connection.send`; what has to be written waits in :attr:`Connection.queue`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from wsstream.codec.batch import CLOSED_FOR_COMPRESSION, CLOSED_FOR_END, LARGEST
from wsstream.codec.decoder import Decoder
from wsstream.codec.encoder import encode_close, encode_frame, first_byte
from wsstream.codec.events import Chunk, Close, Event, Kind, Ping, Pong, Violation
from wsstream.codec.frames import Opcode
from wsstream.codec.framing import encode_header
from wsstream.codec.speedups import apply_mask, mask_in_place
from wsstream.codec.unread import UNLIMITED
from wsstream.protocol.deflate import Agreed, Deflater
from wsstream.protocol.file_frames import FileFrames, FileRange
from wsstream.protocol.frame_queue import FrameQueue
from wsstream.protocol.inflate import Inflater
from wsstream.protocol.masking_keys import next_masking_key
from wsstream.protocol.state import DELIVERS, RECEIVES, Input, State, WrongState, next_state

__all__ = ["Connection"]

_OPCODES: Final[dict[Kind, Opcode]] = {"text": Opcode.TEXT, "binary": Opcode.BINARY}
_OPEN: Final = State.OPEN  # a name of the module is found faster than a member of an enum


class Connection:
    """One endpoint of a connection whose opening handshake is done.

    Args:
        client: the role; a client masks what it sends (section 5.1).
        deflate: what was agreed on for permessage-deflate.
        next_key: returns a masking key of 4 bytes for each frame of a client.

    Attributes:
        state: see :class:`~wsstream.protocol.state.State`.
        queue: what is to be written to the transport.
        consumed: bytes of the last `receive`'s data that are done with.
        cost: what the last `receive` handed on, in bytes, plus 64 for each piece.
        control: whether the events of the last `receive` were others than messages and chunks.
        close_sent, close_received: the Close frames; `close_sent` is set when it is queued.
        violation: the rule that the peer broke, or why this endpoint failed the connection.
        decoder: of the peer's bytes; a relay takes the payload of large frames from it.
        inflater: for the compressed messages of the peer, if they were agreed on.
    """

    __slots__ = (
        "_compressing",
        "_declared",
        "_deflater",
        "_frame_key",
        "_frame_offset",
        "_message_cut",
        "_next_key",
        "_sending",
        "client",
        "close_received",
        "close_sent",
        "consumed",
        "control",
        "cost",
        "decoder",
        "inflater",
        "queue",
        "state",
        "violation",
    )

    def __init__(
        self,
        *,
        client: bool,
        deflate: Agreed | None = None,
        next_key: Callable[[], bytes] = next_masking_key,
    ) -> None:
        self.client = client
        self.state = _OPEN
        self.queue = FrameQueue(next_key if client else None)
        if deflate is not None:
            self.queue.batch.closed_for |= CLOSED_FOR_COMPRESSION
        self.consumed = 0
        self.cost = 0
        self.control = False
        self.close_sent: Close | None = None
        self.close_received: Close | None = None
        self.violation: Violation | None = None
        self._message_cut = False
        self.inflater = (
            None if deflate is None else Inflater(deflate.receive_window, deflate.receive_takeover)
        )
        self._deflater = None if deflate is None else Deflater(deflate)
        self.decoder = Decoder(masked=not client, rsv1=deflate is not None)
        self._next_key: Callable[[], bytes | None] = next_key if client else _no_key
        self._sending: Kind | None = None  # the message of which a fragment was sent and not the last
        self._compressing = False  # that message
        self._declared = 0  # bytes that are due of a frame of declared size
        self._frame_key: bytes | None = None
        self._frame_offset = 0

    @property
    def steps(self) -> int:
        """What the last `receive` took of the time that one call may take, see :data:`MAX_STEPS`."""
        return self.decoder.steps

    @property
    def receiving(self) -> bool:
        """Whether a message of the peer, or a frame, has begun to arrive and not ended."""
        return self.decoder.inside_message or self.decoder.inside_frame

    @property
    def crossed(self) -> bool:
        """Whether the last `receive` came past the end of a message."""
        return self.decoder.crossed

    @property
    def message_cut(self) -> bool:
        """Whether a Close came or went inside a message, whose end will never come."""
        return self._message_cut or self.queue.message_cut

    @property
    def mid_frame(self) -> bool:
        """Whether a frame of declared size has been begun and not completed."""
        return self._declared > 0

    @property
    def sending(self) -> bool:
        """Whether a message has been begun and not completed."""
        return self._sending is not None

    @property
    def copies(self) -> bool:
        """Whether frames are always copies of what they are made of: masked, or perhaps compressed."""
        return self.client or self._deflater is not None

    def compresses(self, size: int) -> bool:
        """Whether a whole message of `size` bytes is large enough to be compressed, if that was agreed on."""
        return self._deflater is not None and size >= self._deflater.min_size

    # -- receiving ---------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview, room: int) -> list[Event]:
        """Decode `data` until `cost` reaches `room` bytes, and answer Ping and Close.

        Messages are returned while the state `DELIVERS` them; otherwise data is dropped. A Violation is
        always the last event. It moves an open connection to VIOLATED; `fail` is then due, which may wait
        for the answers to earlier messages.
        """
        decoder, state = self.decoder, self.state
        events: list[Event]
        if state is _OPEN or state in DELIVERS:  # the first test spares a look into the set
            events = decoder.decode(data, room)
            self.cost = decoder.cost
        elif state in RECEIVES:
            decoded = decoder.decode(data, UNLIMITED)
            events = [event for event in decoded if not isinstance(event, str | bytes | Chunk)]
            self.cost = 0
        else:
            self.consumed, self.cost, self.control = len(data), 0, False
            return []
        self.consumed, self.control = decoder.consumed, decoder.control
        if self.control:
            for event in events:
                self._react(event)
        return events

    def receive_eof(self) -> None:
        """The transport has ended."""
        self.state = next_state(self.state, Input.EOF)
        self.queue.batch.closed_for |= CLOSED_FOR_END
        self._deflater = None

    def note_violation(self, violation: Violation) -> None:
        """The peer broke a rule: receive nothing more. `fail` is due.

        The last one noted counts. A caller finds one late only in a message that it inflates, which came
        before what the decoder has found meanwhile.
        """
        self.state = next_state(self.state, Input.VIOLATION)
        self.violation = violation

    def _react(self, event: Event) -> None:
        match event:
            case Ping():
                # Section 5.5.2: a Pong with the same data answers a Ping, unless a Close was received.
                # Nothing is decoded after a Close.
                self.queue.put_pong(encode_frame(Opcode.PONG, event.payload, self._next_key()))
            case Close():
                self._receive_close(event)
            case Violation():
                self.note_violation(event)

    def _receive_close(self, close: Close) -> None:
        # Section 5.5.1: an endpoint that receives a Close and has not sent one sends one in response, with
        # the status code that it received, and may finish no message that it is sending.
        answer_due = self.state is State.OPEN
        self.state = next_state(self.state, Input.RECEIVE_CLOSE)
        self.close_received = close
        if answer_due:
            self._message_cut = self.decoder.inside_message
            self.send_close(close, urgent=True)

    # -- sending -----------------------------------------------------------------------------

    def send(self, event: Event) -> None:
        """Queue what `event` says: a whole message as one frame, a chunk as a fragment, a control frame.

        Raises:
            WrongState: the state does not allow it, it would break into another message, or it is a
                compressed chunk, which only the connection it came from can read.
            UnicodeEncodeError: a ``str`` with a lone surrogate.
        """
        match event:
            case str():
                self.send_message("text", event.encode())
            case bytes():
                self.send_message("binary", event)
            case Chunk():
                if event.compressed:
                    raise WrongState("a chunk has to be inflated before it is sent on")
                self.send_data(event.kind, event.payload, last=event.last)
            case Ping():
                self._require(Input.SEND_CONTROL)
                self.queue.put_ping(encode_frame(Opcode.PING, event.payload, self._next_key()))
            case Pong():
                self._require(Input.SEND_CONTROL)
                self.queue.put_pong(encode_frame(Opcode.PONG, event.payload, self._next_key()))
            case Close():
                self.send_close(event)
            case Violation():  # pragma: no branch - there is no other event
                self.fail(event)

    def send_message(
        self, kind: Kind, payload: bytes | memoryview, *, compress: bool = True, alone: bool = True
    ) -> None:
        """Queue a whole message as one frame; compressed, if that was agreed on and it is large enough.

        Unless it is to leave `alone`, a small message may wait in `queue.batch` for others.
        """
        self._require_message_boundary()
        if self._deflater is not None or self.state is not _OPEN:  # not the usual case
            self.send_data(kind, payload, last=True, compress=compress and self.compresses(len(payload)))
        elif alone or len(payload) > LARGEST:
            self._put_frame(_OPCODES[kind], payload, fin=True)
        else:
            self.queue.batch.begin(first_byte(_OPCODES[kind]), payload)

    def send_data(
        self, kind: Kind, payload: bytes | memoryview, *, last: bool, compress: bool = True
    ) -> None:
        """Queue one frame with the next `payload` of a message, and the end of the message if `last`.

        The first frame of a message decides by `compress` whether it is compressed, if that was agreed on.
        """
        first = self._sending is None
        opcode = self._begin_frame(kind, last)
        if first:
            self._compressing = compress and self._deflater is not None
        if self._compressing and self._deflater is not None:
            payload = self._deflater.compress(payload, last=last)
        self._put_frame(opcode, payload, fin=last, rsv1=first and self._compressing)

    @property
    def agreed_deflate(self) -> Agreed | None:
        """What was agreed on for permessage-deflate, as long as messages can be sent."""
        return None if self._deflater is None else self._deflater.agreed

    def keep_no_context(self) -> None:
        """From now on, compress each message by itself: others may have been compressed elsewhere."""
        if self._deflater is not None:
            self._deflater.keep_no_context(now=self._sending is None)

    def send_fragments(self, kind: Kind, payloads: Sequence[memoryview]) -> None:
        """Queue a frame for each of `payloads`, which are of one size, never change, and are not the last.

        For an endpoint that does not copy, see `copies`.
        """
        size = len(payloads[0])
        first = encode_header(first_byte(self._begin_frame(kind, False), fin=False), size, None)
        others = encode_header(first_byte(Opcode.CONTINUATION, fin=False), size, None)
        self.queue.put_frames([first] + [others] * (len(payloads) - 1), payloads)

    def send_file(self, kind: Kind, payload: FileRange, size: int) -> None:
        """Queue frames of `size` bytes each, but for the last, which is not the last of the message.

        For an endpoint that does not copy, see `copies`.
        """
        opcode = self._begin_frame(kind, False)
        while payload:
            size = min(size, len(payload))
            # The first of a message has a header of its own.
            end = size if opcode != Opcode.CONTINUATION else len(payload) // size * size
            header = encode_header(first_byte(opcode, fin=False), size, None)
            self.queue.put_file(FileFrames(header, payload[:end], size))
            opcode, payload = Opcode.CONTINUATION, payload[end:]

    def _put_frame(self, opcode: int, payload: bytes | memoryview, *, fin: bool, rsv1: bool = False) -> None:
        key = self._next_key()  # section 5.1: a client masks every frame, a server none
        if key is None and len(payload) > LARGEST and _is_immutable(payload):  # without a copy
            header = encode_header(first_byte(opcode, fin=fin, rsv1=rsv1), len(payload), None)
            self.queue.put_data(header, ends_frame=False)
            self.queue.put_data(payload)
        else:
            self.queue.put_data(encode_frame(opcode, payload, key, fin=fin, rsv1=rsv1))

    def pass_on(self, kind: Kind, payload: memoryview, size: int, key: bytes | None, *, last: bool) -> None:
        """Queue frames with the next `payload` of a message, and the end of the message if `last`.

        Args:
            payload: masked in place, once with `key` and this side's own key together. It may be empty.
            size: bytes of payload in one frame, at most; a multiple of 4, which is a key's length.
            key: what unmasks `payload`; ``None`` if it is not masked.
        """
        opcode, total = self._begin_frame(kind, last), len(payload)
        headers, pieces = [], []
        for at in range(0, total or 1, size):
            piece, own = payload[at : at + size], self._next_key()
            if mask := own if key is None else key if own is None else _both(key, own):
                mask_in_place(piece, mask)
            fin = last and at + size >= total
            headers.append(encode_header(first_byte(opcode, fin=fin), len(piece), own))
            pieces.append(piece)
            opcode = Opcode.CONTINUATION
        if total:
            self.queue.put_frames(headers, pieces)
        else:
            self.queue.put_data(headers[0])

    def begin_frame(self, kind: Kind, size: int) -> None:
        """Queue the header of a message that is one frame of `size` bytes; `send_part` is to follow."""
        self._require_message_boundary()
        opcode = self._begin_frame(kind, True)
        self._frame_key = self._next_key()
        self._frame_offset = 0
        self._declared = size
        self.queue.put_data(encode_header(first_byte(opcode), size, self._frame_key), ends_frame=size == 0)

    def send_part(self, payload: bytes | memoryview) -> None:
        """Queue the next bytes of the frame that `begin_frame` began, not more than are due."""
        self._require(Input.SEND_DATA)
        if not 0 < len(payload) <= self._declared:
            raise WrongState(f"{len(payload)} bytes for a frame that has {self._declared} left")
        key = self._frame_key
        part: bytes | memoryview
        if key is not None:
            part = apply_mask(payload, key, self._frame_offset)
        else:
            part = payload if _is_immutable(payload) else bytes(payload)
        self._frame_offset += len(part)
        self._declared -= len(part)
        self.queue.put_data(part, ends_frame=self._declared == 0)

    def send_close(self, close: Close, *, urgent: bool = False) -> None:
        """Queue Close after everything queued or, if `urgent`, in place of the data that has not left.

        Close is not sent (`close_sent` stays ``None``) where a frame of declared size is incomplete,
        unless it is dropped before it began to leave: only dropping the transport is left then.
        """
        self.state = next_state(self.state, Input.SEND_CLOSE)
        self._put_close(close, urgent)

    def fail(self, violation: Violation | None = None) -> None:
        """_Fail the WebSocket Connection_ (section 7.1.7): send Close at once if possible, ignore all input.

        The reason is the violation that was noted; without one it is `violation`, a reason of this side.
        """
        self.state = next_state(self.state, Input.FAIL)
        self.violation = reason = self.violation or violation
        assert reason is not None, "a connection fails for a reason"
        if self.close_sent is None:  # section 5.5.1: nothing follows a Close, also no other Close
            self._put_close(Close(reason.code, reason.reason), urgent=True)

    def _put_close(self, close: Close, urgent: bool) -> None:
        frame = encode_frame(Opcode.CLOSE, encode_close(close.code, close.reason), self._next_key())
        if self.queue.put_close(frame, urgent=urgent):
            self.close_sent = close
        self._deflater = None  # its memory is not needed any more
        self._message_cut = self._message_cut or self.sending or self.mid_frame

    def _begin_frame(self, kind: Kind, last: bool) -> int:
        self._require(Input.SEND_DATA)
        if self._sending != kind:
            self._require_message_boundary()
        # Section 5.4: the first frame has the opcode of the message, all others are continuations.
        opcode = Opcode.CONTINUATION if self._sending else _OPCODES[kind]
        self._sending = None if last else kind
        return opcode

    def _require_message_boundary(self) -> None:
        # Section 5.4: the fragments of one message are not interleaved with those of another.
        if self._sending is not None or self._declared:
            raise WrongState("another message is not finished")

    def _require(self, happening: Input) -> None:
        # In OPEN, data and control frames may be sent and change no state: the table need not be asked.
        if self.state is not _OPEN:
            self.state = next_state(self.state, happening)


def _no_key() -> None:
    return None


def _both(key: bytes, other: bytes) -> bytes:
    return (int.from_bytes(key) ^ int.from_bytes(other)).to_bytes(4)


def _is_immutable(payload: bytes | memoryview) -> bool:
    return isinstance(payload, bytes) or isinstance(payload.obj, bytes)
