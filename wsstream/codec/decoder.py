"""Bytes to whole messages, chunks and control frames (sections 5.2 to 5.6 and 8.1).

A data frame is never waited for: what has arrived of its payload is handed on, so a frame of any
declared length costs no memory here. Only a header or a control frame that is not complete is kept
(at most 139 bytes). A violation is an outcome, not an exception: everything before it is handed on
first, and it is found at the first byte that proves it.
"""

from __future__ import annotations

from wsstream.close_codes import CloseCode, is_close_code
from wsstream.codec.events import PIECE_OVERHEAD, Chunk, Close, Event, Kind, Ping, Pong, Violation
from wsstream.codec.frames import MAX_CONTROL_PAYLOAD, MAX_HEADER, Opcode
from wsstream.codec.speedups import COMPILED, apply_mask, scan_messages
from wsstream.codec.utf8 import UTF8Validator

__all__ = ["MAX_EVENTS", "MAX_STEPS", "Decoder"]

MAX_EVENTS = 1024
"""Events of one call, so that a read full of tiny frames does not hold up other tasks."""
MAX_STEPS = 128
"""Steps of one call outside of `scan_messages`: a control frame is one, a fragment one or two. With what a
connection does for a Ping such a step takes 5 µs, and so all of them about half a millisecond."""

_MAX_KEPT = MAX_HEADER + MAX_CONTROL_PAYLOAD
_KINDS: dict[int, Kind] = {Opcode.TEXT: "text", Opcode.BINARY: "binary"}


class _Broken(Exception):
    """Carries a Violation from where it is found to the loop."""

    def __init__(self, code: int, reason: str) -> None:
        self.violation = Violation(code, reason)


def _protocol_error(reason: str) -> _Broken:
    return _Broken(CloseCode.PROTOCOL_ERROR, reason)


class Decoder:
    """An incremental decoder of one direction of a connection.

    Args:
        masked: whether frames must be masked: true on a server. Others are a violation (section 5.1).
        rsv1: whether an extension marks compressed messages with RSV1 (RFC 7692 section 6).

    Attributes:
        consumed: bytes of the last `decode`'s data that are done with.
        cost: payload bytes handed on by the last `decode`, plus 64 for each piece.
        control: whether the last `decode` gave anything else than messages and chunks.
        crossed: whether the last `decode` came past the end of a message, or of a control frame between two.
        finished: a Close or a violation was found; all further data is ignored.
        steps: what the last `decode` spent of :data:`MAX_STEPS`.
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
        "steps",
    )

    def __init__(self, *, masked: bool, rsv1: bool = False) -> None:
        self._masked = masked
        self._rsv1 = rsv1
        self._compressed = False  # the message that has begun
        self._kept = b""  # the beginning of a header or of a control frame
        self._kind: Kind | None = None  # of the message that has begun and not ended
        self._utf8 = UTF8Validator()
        # the data frame that has begun and not ended
        self._opcode = 0
        self._fin = True
        self._length = 0
        self._left = 0
        self._offset = 0
        self._key = b""
        self.consumed = 0
        self.cost = 0
        self.control = False
        self.crossed = False
        self.finished = False
        self.steps = 0

    @property
    def inside_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._kind is not None

    @property
    def inside_frame(self) -> bool:
        """Whether the beginning of a header or of a control frame has arrived, and no more of it."""
        return bool(self._kept)

    def decode(self, data: bytes | memoryview, room: int) -> list[Event]:
        """Decode `data` until `cost` reaches `room` or enough was done for one call; see `consumed`.

        The events are in the order of the wire. A message whose frame lies whole in `data` is one
        ``str`` or ``bytes``, or if compressed one :class:`Chunk`; other messages come as chunks, without
        empty ones except for empty fragments. Close and Violation are the last event ever.
        """
        events: list[Event] = []
        self.control = self.crossed = False
        self.cost = 0
        pos, end = 0, len(data)
        self.steps = 0
        if not COMPILED and self._left < end:
            data = bytes(data)  # its slices cost less than those of a memoryview
        try:
            while pos < end and self.cost < room and not self.finished:
                if self.steps == MAX_STEPS or len(events) >= MAX_EVENTS:
                    break
                if not self._left and not self._kept and self._kind is None:
                    start, room_left, most = pos, room - self.cost, MAX_EVENTS - len(events)
                    pos, cost = scan_messages(data, pos, self._masked, room_left, most, events)
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
        """Complete the header or the control frame whose beginning was kept."""
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
        """Read a header into the fields; return its size, or 0 if it is not complete."""
        available = len(data) - pos
        first = data[pos]
        opcode = first & 0x0F
        if first & 0x70 and (first & 0x30 or not self._rsv1 or opcode not in _KINDS):
            raise _protocol_error("a reserved bit is set and no extension defines it")
        if opcode & 8:
            if opcode > Opcode.PONG:
                raise _protocol_error(f"opcode {opcode} is reserved")
            if not first & 0x80:
                raise _protocol_error("a control frame is fragmented")
        elif opcode > Opcode.BINARY:
            raise _protocol_error(f"opcode {opcode} is reserved")
        elif opcode == Opcode.CONTINUATION:
            if self._kind is None:
                raise _protocol_error("a continuation frame without a message to continue")
        elif self._kind is not None:
            raise _protocol_error("a message begins inside a fragmented message")
        if available < 2:
            return 0
        second = data[pos + 1]
        if (second > 127) is not self._masked:
            raise _protocol_error(
                "a client's frame is not masked" if self._masked else "a server's frame is masked"
            )
        length = second & 127
        size = 2
        if opcode & 8:
            if length > MAX_CONTROL_PAYLOAD:
                raise _protocol_error("a control frame has more than 125 bytes")
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
        """The header of a data frame has been read and `pos` is behind it."""
        length = self._length
        if self._kind is None:
            if self._fin and len(data) - pos >= length:
                events.append(self._whole_message(data[pos : pos + length]))
                self.cost += length + PIECE_OVERHEAD
                self.crossed = True
                return pos + length
            self._kind = _KINDS[self._opcode]
            self._utf8 = UTF8Validator()
        self._left = length
        self._offset = 0
        if length == 0:
            events.append(self._chunk(b""))
        return pos

    def _whole_message(self, payload: bytes | memoryview) -> str | bytes | Chunk:
        message = apply_mask(payload, self._key) if self._masked else payload
        if self._compressed:
            return Chunk(_KINDS[self._opcode], bytes(message), True, True)
        if self._opcode == Opcode.BINARY:
            return bytes(message)
        try:
            return str(message, "utf-8")
        except UnicodeDecodeError:
            raise _Broken(CloseCode.INVALID_PAYLOAD, "a text message is not UTF-8") from None

    def _take_payload(self, data: bytes | memoryview, pos: int, events: list[Event]) -> int:
        """Hand on what is there of the frame that has begun."""
        piece = data[pos : pos + self._left]
        size = len(piece)
        payload = apply_mask(piece, self._key, self._offset) if self._masked else bytes(piece)
        self._left -= size
        self._offset += size
        events.append(self._chunk(payload))
        return pos + size

    def _chunk(self, payload: bytes) -> Chunk:
        kind = self._kind
        assert kind is not None
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
        """A control frame begins `data`; return its size, or 0 if it is not complete."""
        payload = bytes(data[start : start + self._length])
        if self._masked:
            payload = apply_mask(payload, self._key)
        complete = len(payload) == self._length
        close = _parse_close(payload, complete) if self._opcode == Opcode.CLOSE else None
        if not complete:
            return 0
        self.control = True
        self.crossed = self.crossed or self._kind is None
        if close is not None:
            self.finished = True
            events.append(close)
        else:
            events.append(Ping(payload) if self._opcode == Opcode.PING else Pong(payload))
        return start + self._length


def _extended_length(data: bytes | memoryview, size: int) -> int:
    """Section 5.2: the minimal number of bytes, and the most significant bit of 64 is 0."""
    if size == 8 and data and data[0] > 127:
        raise _protocol_error("a 64-bit length has its most significant bit set")
    length = int.from_bytes(data, "big")
    if size == 2 and len(data) == 2 and length < 126:
        raise _protocol_error("a length is not in its shortest form")
    if size == 8 and len(data) >= 6 and not any(data[:6]):
        raise _protocol_error("a length is not in its shortest form")
    return length


def _parse_close(payload: bytes, complete: bool) -> Close:
    """The body of a Close frame, or as much of it as has arrived (sections 5.5.1 and 7.4)."""
    if not payload:
        return Close()
    if payload[0] != 1000 >> 8 and not 3000 >> 8 <= payload[0] <= 4999 >> 8:  # 1015 to 2999 are not used
        raise _protocol_error(f"a close code that begins with {payload[0]:#04x} must not be on the wire")
    if len(payload) == 1:
        return Close()
    code = int.from_bytes(payload[:2], "big")
    if not is_close_code(code):
        raise _protocol_error(f"close code {code} must not be on the wire")
    if not UTF8Validator().feed(payload[2:], last=complete):
        raise _Broken(CloseCode.INVALID_PAYLOAD, "a close reason is not UTF-8")
    return Close(code, payload[2:].decode()) if complete else Close(code)
