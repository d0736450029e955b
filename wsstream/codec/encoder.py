"""Frames to bytes (section 5.2). The masking key is an argument; ``None`` means unmasked."""

from __future__ import annotations

from wsstream.codec.frames import MAX_CONTROL_PAYLOAD, Opcode
from wsstream.codec.twin import apply_mask

__all__ = ["encode_close", "encode_frame", "encode_header"]


def encode_header(
    opcode: int, length: int, key: bytes | None, *, fin: bool = True, rsv1: bool = False
) -> bytes:
    """The header of a frame with `length` bytes of payload, in the shortest form."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    mask = 0x80 if key is not None else 0
    if length < 126:
        header = bytes((first, mask | length))
    elif length < 0x10000:
        header = bytes((first, mask | 126)) + length.to_bytes(2, "big")
    else:
        header = bytes((first, mask | 127)) + length.to_bytes(8, "big")
    return header if key is None else header + key


def encode_frame(
    opcode: int, payload: bytes | memoryview, key: bytes | None, *, fin: bool = True, rsv1: bool = False
) -> bytes:
    """A whole frame. A control frame's payload is at most 125 bytes, which the caller has checked."""
    assert opcode < Opcode.CLOSE or len(payload) <= MAX_CONTROL_PAYLOAD
    header = encode_header(opcode, len(payload), key, fin=fin, rsv1=rsv1)
    if key is not None:
        return header + apply_mask(payload, key)
    return b"".join((header, payload))


def encode_close(code: int | None, reason: str) -> bytes:
    """The payload of a Close frame (section 5.5.1); a `code` of ``None`` makes it empty."""
    return b"" if code is None else code.to_bytes(2, "big") + reason.encode()
