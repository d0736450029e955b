"""Frames to bytes (section 5.2). The caller provides the masking key; ``None`` means unmasked."""

from __future__ import annotations

from wsstream.codec.frames import MAX_CONTROL_PAYLOAD, Opcode
from wsstream.codec.speedups import make_frame

__all__ = ["encode_close", "encode_frame", "first_byte"]


def first_byte(opcode: int, *, fin: bool = True, rsv1: bool = False) -> int:
    """Return the first byte of a frame; `rsv1` marks a compressed message (RFC 7692 section 6)."""
    return opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)


def encode_frame(
    opcode: int, payload: bytes | memoryview, key: bytes | None, *, fin: bool = True, rsv1: bool = False
) -> bytes:
    """Return a complete frame. The caller has checked that a control frame's payload is at most 125 bytes."""
    assert opcode < Opcode.CLOSE or len(payload) <= MAX_CONTROL_PAYLOAD
    return make_frame(first_byte(opcode, fin=fin, rsv1=rsv1), payload, key)


def encode_close(code: int | None, reason: str) -> bytes:
    """Return the payload of a Close frame (section 5.5.1), which is empty if `code` is ``None``."""
    return b"" if code is None else code.to_bytes(2, "big") + reason.encode()
