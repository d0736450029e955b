"""Bytes to messages, chunks and control frames (sections 5.2 to 5.6 and 8.1).

The decoder never waits for the rest of a data frame: it returns the part that has arrived, so a frame of any
declared length costs no memory here. It keeps only an incomplete header or control frame (at most 139
bytes). A violation is an event, not an exception: the decoder finds it at the first byte that proves it, and
returns everything before it first.
"""

from __future__ import annotations

from wsstream.close_codes import CloseCode, is_close_code
from wsstream.codec.events import PIECE_OVERHEAD, Chunk, Close, Event, Kind, Ping, Pong, Violation
from wsstream.codec.frames import MAX_CONTROL_PAYLOAD, MAX_HEADER, Opcode
from wsstream.codec.read_step import MAX_EVENTS
from wsstream.codec.speedups import COMPILED, apply_mask, scan_messages
from wsstream.codec.utf8 import UTF8Validator

__all__ = ["MAX_EVENTS", "MAX_STEPS", "Decoder"]

MAX_STEPS = 128
"""The most steps of one call outside of `scan_messages`: a control frame is one, a fragment one or two.

A step, with the connection's answer to a Ping, takes about 5 µs, and so all of them half a millisecond."""

_MAX_KEPT = MAX_HEADER + MAX_CONTROL_PAYLOAD  # bytes; a longer control frame is a violation
_NO_TEXT = UTF8Validator()  # until a text message has begun; it is fed nothing
_KINDS: dict[int, Kind] = {Opcode.TEXT: "text", Opcode.BINARY: "binary"}


class _Broken(Exception):
    """Carries a Violation to `decode`, which makes it the last event."""

    def __init__(self, code: int, reason: str) -> None:
        self.violation = Violation(code, reason)


def _protocol_error(reason: str) -> _Broken:
    return _Broken(CloseCode.PROTOCOL_ERROR, reason)


class Decoder:
    """An incremental decoder of one direction of a connection.

    Before each byte it is in one of four states, or finished:

    =================  ======================================  ======================================
    state              fields                                  the next byte belongs to
    =================  ======================================  ======================================
    between messages   `_kind` is None, `_left` 0              a new message or a control frame
    between fragments  `_kind` is set, `_left` 0               a continuation or a control frame
    inside a payload   `_left` is above 0                      the payload of a data frame
    inside a header    `_kept` is not empty                    the same header or control frame
    finished           `finished`                              nothing: it is ignored
    =================  ======================================  ======================================

    Args:
        masked: whether frames must be masked (section 5.1): true on a server, false on a client.
        rsv1: whether an extension marks compressed messages with RSV1 (RFC 7692 section 6).

    Attributes:
        consumed: bytes of its data that the last `decode` has used; the caller passes the rest again.
        cost: bytes of payload that the last `decode` returned, plus 64 for each message and chunk.
        control: whether the last `decode` returned anything but messages and chunks.
        crossed: whether the last `decode` passed the end of a message, or of a control frame between two.
        finished: whether a Close or a violation was found; all further data is ignored.
        most_events: how many events one `decode` returns at most, up to MAX_EVENTS; may be set at any time.
        steps: how many of :data:`MAX_STEPS` the last `decode` has taken.
    """

    __slots__ = (
        "_compressed",
        "_fin",
        "_kept",
        "_key",
        "_kind",
        "_left",
        "_length",
        "_masked",
        "_offset",
        "_opcode",
        "_rsv1",
        "_utf8",
        "consumed",
        "control",
        "cost",
        "crossed",
        "finished",
        "most_events",
        "steps",
    )

    def __init__(self, *, masked: bool, rsv1: bool = False) -> None:
        self._masked = bool(masked)  # compared with a bool
        self._rsv1 = rsv1
        # the message that has begun and not ended
        self._kind: Kind | None = None
        self._compressed = False
        self._utf8 = _NO_TEXT
        # the last header
        self._opcode = 0
        self._fin = True
        self._length = 0
        self._key = b""
        # the data frame that has begun and not ended: bytes that are missing, and bytes that have arrived
        self._left = 0
        self._offset = 0
        self._kept = b""  # an incomplete header or control frame
        self.consumed = 0
        self.cost = 0
        self.control = False
        self.crossed = False
        self.finished = False
        self.most_events = MAX_EVENTS
        self.steps = 0

    @property
    def inside_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._kind is not None

    @property
    def inside_frame(self) -> bool:
        """Whether a header or a control frame has begun and is incomplete."""
        return bool(self._kept)

    # -- payload that somebody else takes ------------------------------------------------------

    @property
    def payload_due(self) -> int:
        """Bytes that are missing of the binary data frame that has begun; 0: of no such frame."""
        return self._left if self._kind == "binary" and not self._compressed else 0

    @property
    def rest_due(self) -> int:
        """Bytes that are missing of the last frame of a binary message; 0: none has begun."""
        return self.payload_due if self._fin else 0

    def enter_frame(self, data: memoryview, pos: int, least: int) -> int:
        """Begin the frame at `pos` for a caller that takes its payload by `pass_payload`.

        Returns where the payload begins. `pos` itself: nothing has happened, the frame is for `decode`. It is
        not a binary data frame of `least` bytes or the last of its message, or it breaks a rule.
        """
        first = data[pos]
        continues = first & 0x0F == Opcode.CONTINUATION
        if self._kept or self._left or first & 0x7F not in (Opcode.CONTINUATION, Opcode.BINARY):
            return pos
        if continues and (self._kind != "binary" or self._compressed):
            return pos
        try:
            size = self._parse_header(data, pos)
        except _Broken:  # `decode` finds it again
            return pos
        if not size or (self._length < least and not (continues and self._fin)):
            return pos
        self._kind = "binary"
        self._left = self._length
        self._offset = 0
        return pos + size

    def pass_payload(self, size: int) -> tuple[bytes | None, bool]:
        """The caller takes `size` bytes of payload, at most those that are due.

        Returns the key that they are masked with, if they are, and whether they end the message.
        """
        key = None
        if self._masked:
            turned = self._offset & 3
            key = self._key[turned:] + self._key[:turned]
        self._left -= size
        self._offset += size
        last = self._fin and not self._left
        if last:
            self._kind = None
            self.crossed = True
        return key, last

    # -- events ----------------------------------------------------------------------------------

    def decode(self, data: bytes | memoryview, room: int) -> list[Event]:
        """Return the events in `data`, in the order of the wire; `consumed` says how far it was decoded.

        A message in one frame that is complete in `data` is one ``str`` or ``bytes``, or if compressed one
        :class:`Chunk`. Other messages come as chunks; only an empty fragment makes an empty one. A Close or a
        Violation is the last event of all.

        Args:
            data: bytes that arrived; nothing of it is kept but a copy.
            room: the call stops once `cost` has reached this many bytes. It also stops after
                `most_events` events or MAX_STEPS steps.
        """
        events: list[Event] = []
        self.control = self.crossed = False
        self.cost = 0
        pos, end = 0, len(data)
        self.steps, most_events = 0, self.most_events
        if not COMPILED and self._left < end:
            data = bytes(data)  # for Python code, slices of bytes are cheaper than those of a memoryview
        try:
            while pos < end and self.cost < room and not self.finished:
                if self.steps == MAX_STEPS or len(events) >= most_events:
                    break
                if not self._left and not self._kept and self._kind is None:
                    start, room_left, most = pos, room - self.cost, most_events - len(events)
                    pos, cost = scan_messages(data, pos, self._masked, self._rsv1, room_left, most, events)
                    self.cost += cost
                    if pos != start:
                        self.crossed = True
                        continue
                self.steps += 1
                if self._left:
                    pos = self._take_payload(data, pos, events)
                elif self._kept:
                    pos = self._resume(data, events)
                else:
                    pos = self._take_frame(data, pos, events)
        except _Broken as broken:
            self.control = self.finished = True
            events.append(broken.violation)
        self.consumed = end if self.finished else pos
        return events

    # -- one frame ---------------------------------------------------------------------------

    def _resume(self, data: bytes | memoryview, events: list[Event]) -> int:
        """Complete the kept header or control frame; return the position after it in `data`."""
        kept = self._kept
        bridge = kept + bytes(data[: _MAX_KEPT - len(kept)])
        self._kept = b""
        size = self._parse_header(bridge, 0)
        if size and self._opcode & 8:
            size = self._take_control(bridge, size, events)
        if not size:
            self._kept = bridge
            return len(bridge) - len(kept)
        pos = size - len(kept)
        return pos if self._opcode & 8 else self._begin_payload(data, pos, events)

    def _take_frame(self, data: bytes | memoryview, pos: int, events: list[Event]) -> int:
        """Decode a header and, of a control frame, the payload; return the position after that."""
        size = self._parse_header(data, pos)
        if size and not self._opcode & 8:
            return self._begin_payload(data, pos + size, events)
        if size:
            size = self._take_control(data[pos : pos + _MAX_KEPT], size, events)
        if not size:
            self._kept = bytes(data[pos:])
            return len(data)
        return pos + size

    def _parse_header(self, data: bytes | memoryview, pos: int) -> int:
        """Read a header into the fields; return its size, or 0 if it is incomplete."""
        available = len(data) - pos
        first = data[pos]
        opcode = first & 0x0F
        # Section 5.2: reserved bits are 0 unless an extension gives them a meaning. RFC 7692 section 6: RSV1
        # marks a compressed message, in the first of its frames only, and never a control frame.
        if first & 0x70 and (first & 0x30 or not self._rsv1 or opcode not in _KINDS):
            raise _protocol_error("a reserved bit is set and no extension defines it")
        if opcode & 8:
            # Section 5.2: a frame with an unknown opcode fails the connection.
            if opcode > Opcode.PONG:
                raise _protocol_error(f"opcode {opcode} is reserved")
            # Section 5.5: a control frame is never fragmented.
            if not first & 0x80:
                raise _protocol_error("a control frame is fragmented")
        elif opcode > Opcode.BINARY:
            raise _protocol_error(f"opcode {opcode} is reserved")
        # Section 5.4: opcode 0 continues a message, and nothing but continuation frames does; the fragments
        # of two messages are not interleaved. Control frames may come between fragments.
        elif opcode == Opcode.CONTINUATION:
            if self._kind is None:
                raise _protocol_error("a continuation frame without a message to continue")
        elif self._kind is not None:
            raise _protocol_error("a message begins inside a fragmented message")
        if available < 2:
            return 0
        second = data[pos + 1]
        # Section 5.1: a client masks all its frames, a server none; the other side fails the connection.
        if (second > 127) is not self._masked:
            raise _protocol_error(
                "a client's frame is not masked" if self._masked else "a server's frame is masked"
            )
        length = second & 127
        size = 2
        if opcode & 8:
            # Section 5.5: the payload of a control frame is at most 125 bytes long.
            if length > MAX_CONTROL_PAYLOAD:
                raise _protocol_error("a control frame has more than 125 bytes")
            # Section 5.5.1: the body of a Close frame, if it has one, begins with a code of two bytes.
            if opcode == Opcode.CLOSE and length == 1:
                raise _protocol_error("the body of a Close frame has one byte")
        elif length > 125:
            size = 4 if length == 126 else 10
            length = _extended_length(data[pos + 2 : pos + size], size - 2)
        if self._masked:
            size += 4
        if available < size:
            return 0
        if self._masked:
            self._key = bytes(data[pos + size - 4 : pos + size])
        self._opcode = opcode
        if opcode in _KINDS:
            self._compressed = bool(first & 0x40)
        self._fin = first > 127
        self._length = length
        return size

    # -- data frames -------------------------------------------------------------------------

    def _begin_payload(self, data: bytes | memoryview, pos: int, events: list[Event]) -> int:
        """Begin a data frame, whose header ends at `pos`; return the position after the decoded bytes."""
        length = self._length
        if self._kind is None:
            if self._fin and len(data) - pos >= length:
                events.append(self._complete_message(data[pos : pos + length]))
                self.cost += length + PIECE_OVERHEAD
                self.crossed = True
                return pos + length
            self._kind = _KINDS[self._opcode]
            self._utf8 = UTF8Validator()
        self._left = length
        self._offset = 0
        if length == 0:  # `decode` sees no payload to take, but an empty fragment may end the message
            events.append(self._chunk(b""))
        return pos

    def _complete_message(self, payload: bytes | memoryview) -> str | bytes | Chunk:
        """Return the message in an unfragmented frame."""
        message = apply_mask(payload, self._key) if self._masked else payload
        if self._compressed:
            return Chunk(_KINDS[self._opcode], bytes(message), True, True)
        if self._opcode == Opcode.BINARY:
            return bytes(message)
        try:  # section 8.1: text that is not UTF-8 fails the connection, with 1007 (section 7.4.1)
            return str(message, "utf-8")
        except UnicodeDecodeError:
            raise _Broken(CloseCode.INVALID_PAYLOAD, "a text message is not UTF-8") from None

    def _take_payload(self, data: bytes | memoryview, pos: int, events: list[Event]) -> int:
        """Append a chunk with the rest of the payload, or with as much of it as has arrived."""
        piece = data[pos : pos + self._left]
        size = len(piece)
        payload = apply_mask(piece, self._key, self._offset) if self._masked else bytes(piece)
        self._left -= size
        self._offset += size
        events.append(self._chunk(payload))
        return pos + size

    def _chunk(self, payload: bytes) -> Chunk:
        """Return the next chunk of the message that has begun; it may end the message."""
        kind = self._kind
        assert kind is not None
        # Section 5.6: a code point of text may be cut by frames, but the message as a whole is valid UTF-8.
        last = self._fin and self._left == 0
        if kind == "text" and not self._compressed and not self._utf8.feed(payload, last=last):
            raise _Broken(CloseCode.INVALID_PAYLOAD, "a text message is not UTF-8")
        if last:
            self._kind = None
            self.crossed = True
        self.cost += len(payload) + PIECE_OVERHEAD
        return Chunk(kind, payload, last, self._compressed)

    # -- control frames ----------------------------------------------------------------------

    def _take_control(self, data: bytes | memoryview, start: int, events: list[Event]) -> int:
        """Decode a control frame, whose payload begins at `start`; return its end, or 0: it is incomplete."""
        payload = bytes(data[start : start + self._length])
        if self._masked:
            payload = apply_mask(payload, self._key)
        complete = len(payload) == self._length
        # An incomplete Close is checked, too: one with a wrong code fails at the byte that proves it.
        close = _parse_close(payload, complete) if self._opcode == Opcode.CLOSE else None
        if not complete:
            return 0
        self.control = True
        self.crossed = self.crossed or self._kind is None
        if close is not None:
            self.finished = True  # section 5.5.1: no frames follow a Close; whatever comes is discarded
            events.append(close)
        else:
            events.append(Ping(payload) if self._opcode == Opcode.PING else Pong(payload))
        return start + self._length


def _extended_length(data: bytes | memoryview, size: int) -> int:
    """Return the length in the 2 or 8 bytes of `size`, of which `data` may lack some."""
    # Section 5.2: the most significant bit of 64 is 0, and a length uses as few bytes as possible. So 126 is
    # the least in 2 bytes, and one of 8 bytes does not begin with six zeros.
    if size == 8 and data and data[0] > 127:
        raise _protocol_error("a 64-bit length has its most significant bit set")
    length = int.from_bytes(data, "big")
    if size == 2 and len(data) == 2 and length < 126:
        raise _protocol_error("a length is not in its shortest form")
    if size == 8 and len(data) >= 6 and not any(data[:6]):
        raise _protocol_error("a length is not in its shortest form")
    return length


def _parse_close(payload: bytes, complete: bool) -> Close:
    """Return the Close in the body of a frame, or in the part of it that has arrived (section 5.5.1)."""
    if not payload:
        return Close()
    # Section 7.4: 1000 to 1014, without 1004, 1005 and 1006, and 3000 to 4999 may be sent. The first byte of
    # a code alone proves that it is below 768, between 1024 and 2815, or above 5119.
    if payload[0] != 1000 >> 8 and not 3000 >> 8 <= payload[0] <= 4999 >> 8:
        raise _protocol_error(f"a close code that begins with {payload[0]:#04x} must not be on the wire")
    if len(payload) == 1:
        return Close()
    code = int.from_bytes(payload[:2], "big")
    if not is_close_code(code):  # sections 7.4.1 and 7.4.2
        raise _protocol_error(f"close code {code} must not be on the wire")
    # Section 5.5.1: the reason is UTF-8.
    if len(payload) > 2 and not UTF8Validator().feed(payload[2:], last=complete):
        raise _Broken(CloseCode.INVALID_PAYLOAD, "a close reason is not UTF-8")
    return Close(code, payload[2:].decode()) if complete else Close(code)
