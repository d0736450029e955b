"""Frames as raw bytes: built with any mistake in them, and read strictly.

This module does not use the library's codec, so that tests can compare the two. The builders do not check the
rules of RFC 6455: their purpose is to build frames that a sender must not send.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypedDict, Unpack

from wsstream.arguments import check_int

__all__ = [
    "EXAMPLE_KEY",
    "Frame",
    "FrameOptions",
    "PeerError",
    "binary",
    "close",
    "continuation",
    "frame",
    "next_frame",
    "parse_frames",
    "ping",
    "pong",
    "text",
]

EXAMPLE_KEY: Final = bytes.fromhex("37fa213d")
"""The masking key in the examples of RFC 6455 section 5.7."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KINDS: Final = {
    CONTINUATION: "continuation",
    TEXT: "text",
    BINARY: "binary",
    CLOSE: "close",
    PING: "ping",
    PONG: "pong",
}
_LENGTH_FORMATS: Final = {0: "", 2: "!H", 8: "!Q"}


class PeerError(ValueError):
    """The other side sent something that RFC 6455 does not allow."""


class FrameOptions(TypedDict, total=False):
    """The keyword arguments of :func:`frame`, which the shorter builders pass on."""

    fin: bool
    rsv1: bool
    rsv2: bool
    rsv3: bool
    mask: bytes | None
    declared_length: int | None
    length_bytes: int | None


def frame(
    opcode: int,
    payload: bytes | str = b"",
    *,
    fin: bool = True,
    rsv1: bool = False,
    rsv2: bool = False,
    rsv3: bool = False,
    mask: bytes | None = None,
    declared_length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """Build one frame (RFC 6455 section 5.2), legal or not.

    Args:
        opcode: 0 to 15.
        payload: before masking; a ``str`` is encoded in UTF-8.
        fin: whether this is the last frame of its message.
        rsv1: the first reserved bit.
        rsv2: the second reserved bit.
        rsv3: the third reserved bit.
        mask: the masking key, 4 bytes; ``None`` for an unmasked frame.
        declared_length: the payload's length in the header, in bytes; by default the true length.
        length_bytes: the size of the extended payload length: 0, 2 or 8 bytes; by default the smallest.

    Raises:
        ValueError: the arguments do not fit into a header.
    """
    payload = payload.encode() if isinstance(payload, str) else payload
    check_int("opcode", opcode, 0, 15)
    if mask is not None and len(mask) != 4:
        raise ValueError("a masking key must be 4 bytes long")
    length = len(payload) if declared_length is None else declared_length
    first = opcode | fin << 7 | rsv1 << 6 | rsv2 << 5 | rsv3 << 4
    head = bytes([first]) + _length(length, length_bytes, masked=mask is not None)
    return head + payload if mask is None else head + mask + _masked(payload, mask)


def _length(length: int, length_bytes: int | None, *, masked: bool) -> bytes:
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 1 << 16 else 8
    if length_bytes not in _LENGTH_FORMATS:
        raise ValueError(f"length_bytes must be 0, 2 or 8, got {length_bytes}")
    if not 0 <= length < (126 if length_bytes == 0 else 1 << 8 * length_bytes):
        raise ValueError(f"the length must fit into {length_bytes} extra bytes, got {length}")
    if length_bytes == 0:
        return bytes([length | masked << 7])
    indicator = 126 if length_bytes == 2 else 127
    return bytes([indicator | masked << 7]) + struct.pack(_LENGTH_FORMATS[length_bytes], length)


def _masked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(size)


def text(payload: str | bytes = "", **options: Unpack[FrameOptions]) -> bytes:
    """Build a text frame; a `payload` of ``bytes`` need not be UTF-8."""
    return frame(TEXT, payload, **options)


def binary(payload: bytes = b"", **options: Unpack[FrameOptions]) -> bytes:
    """Build a binary frame."""
    return frame(BINARY, payload, **options)


def continuation(payload: str | bytes = b"", **options: Unpack[FrameOptions]) -> bytes:
    """Build a continuation frame: any but the first of a fragmented message."""
    return frame(CONTINUATION, payload, **options)


def close(code: int | None = None, reason: str | bytes = "", **options: Unpack[FrameOptions]) -> bytes:
    """Build a Close frame: without a body if `code` is ``None``, else with any code of 16 bits.

    For a body of another form use :func:`frame` with opcode 8.

    Raises:
        ValueError: `reason` is not empty, but `code` is ``None``.
    """
    if code is None:
        if reason:
            raise ValueError("a reason must have a code before it")
        return frame(CLOSE, **options)
    body = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, struct.pack("!H", code) + body, **options)


def ping(payload: bytes = b"", **options: Unpack[FrameOptions]) -> bytes:
    """Build a Ping frame."""
    return frame(PING, payload, **options)


def pong(payload: bytes = b"", **options: Unpack[FrameOptions]) -> bytes:
    """Build a Pong frame."""
    return frame(PONG, payload, **options)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that was read. `payload` is unmasked; `mask` is its masking key, or ``None``."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv1: bool = False
    mask: bytes | None = None

    @property
    def kind(self) -> str:
        """``"continuation"``, ``"text"``, ``"binary"``, ``"close"``, ``"ping"`` or ``"pong"``."""
        return KINDS[self.opcode]

    @property
    def text(self) -> str:
        """The payload as UTF-8."""
        return self.payload.decode()

    @property
    def close_code(self) -> int | None:
        """The code of a Close frame; ``None`` if it has no body."""
        return int.from_bytes(self.payload[:2]) if self.payload else None

    @property
    def close_reason(self) -> str:
        """The reason of a Close frame."""
        return self.payload[2:].decode()


def parse_frames(data: bytes, *, masked: bool | None = None) -> list[Frame]:
    """Parse `data`, which consists of complete frames.

    Args:
        data: bytes that one endpoint sent after the opening handshake.
        masked: whether the frames have to be masked (those of a client) or must not be; ``None``
            accepts both.

    Raises:
        PeerError: a frame is cut off, or its header breaks a rule. RSV1 is left to the caller, as
            permessage-deflate uses it.
    """
    return list(_frames(data, masked))


def _frames(data: bytes, masked: bool | None) -> Iterator[Frame]:
    position = 0
    while position < len(data):
        found = next_frame(data, position, masked=masked)
        if found is None:
            raise PeerError(f"the frame at byte {position} is cut off")
        parsed, position = found
        yield parsed


def next_frame(
    data: bytes | bytearray, start: int = 0, *, masked: bool | None = None
) -> tuple[Frame, int] | None:
    """Return the frame that begins at `start` and the offset of its end; ``None`` if it is incomplete.

    Raises:
        PeerError: see :func:`parse_frames`; for a bad header even before the payload has arrived.
    """
    if len(data) < start + 2:
        return None
    first, second = data[start], data[start + 1]
    _check_flags(first, has_mask=second >= 128, masked=masked)
    length, indicator = second & 127, second & 127
    position = start + 2
    if indicator > 125:
        size = 2 if indicator == 126 else 8
        if len(data) < position + size:
            return None
        length = int.from_bytes(data[position : position + size])
        position += size
    _check_length(first & 15, length, indicator)
    end = position + 4 * (second >> 7) + length
    if len(data) < end:
        return None
    mask = bytes(data[position : position + 4]) if second >= 128 else None
    payload = bytes(data[end - length : end])
    payload = payload if mask is None else _masked(payload, mask)
    return Frame(first & 15, payload, first >= 128, bool(first & 64), mask), end


def _check_flags(first: int, *, has_mask: bool, masked: bool | None) -> None:
    opcode = first & 15
    if opcode not in KINDS:
        raise PeerError(f"opcode {opcode} is reserved (section 5.2)")
    if first & 48:
        raise PeerError("RSV2 or RSV3 is set (section 5.2)")
    if opcode >= CLOSE and not first & 128:
        raise PeerError(f"a {KINDS[opcode]} frame is a fragment (section 5.5)")
    if masked is not None and masked is not has_mask:
        raise PeerError(f"a {KINDS[opcode]} frame is {'' if has_mask else 'not '}masked (section 5.1)")


def _check_length(opcode: int, length: int, indicator: int) -> None:
    if (indicator == 126 and length < 126) or (indicator == 127 and length < 1 << 16):
        raise PeerError(f"a length of {length} is not encoded in the fewest bytes (section 5.2)")
    if length >> 63:
        raise PeerError("the first bit of the length is set (section 5.2)")
    if opcode >= CLOSE and length > 125:
        raise PeerError(f"a {KINDS[opcode]} frame has {length} bytes of payload (section 5.5)")
