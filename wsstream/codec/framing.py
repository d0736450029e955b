"""Frames as bytes (section 5.2). `make_frame` has a compiled version, too."""

from __future__ import annotations

from functools import lru_cache

from wsstream.codec.masking import apply_mask

__all__ = ["encode_header", "make_frame"]


def encode_header(first: int, length: int, key: bytes | None) -> bytes:
    """Return the header of a frame with `length` bytes of payload.

    Args:
        first: the first byte: FIN, the reserved bits and the opcode.
        length: bytes of payload; written in the shortest form, as section 5.2 demands.
        key: the masking key, 4 bytes; ``None``: the frame is not masked.
    """
    if key is not None and len(key) != 4:
        raise ValueError("a masking key must be 4 bytes long")
    start = _header_start(first, length, key is not None)
    return start if key is None else start + key


@lru_cache(maxsize=64)  # the frames of a large message have one size
def _header_start(first: int, length: int, masked: bool) -> bytes:
    """The header without the key."""
    mask = 0x80 if masked else 0
    if length < 126:
        return bytes((first, mask | length))
    if length < 0x10000:
        return bytes((first, mask | 126)) + length.to_bytes(2, "big")
    return bytes((first, mask | 127)) + length.to_bytes(8, "big")


def make_frame(first: int, payload: bytes | memoryview, key: bytes | None) -> bytes:
    """Return a complete frame; the arguments are those of :func:`encode_header`.

    Raises:
        BufferError: `payload` is not contiguous.
    """
    with memoryview(payload) as view:
        if not view.c_contiguous:
            raise BufferError("payload is not contiguous")
        body = view if key is None else apply_mask(view, key)
        return b"".join((encode_header(first, len(view), key), body))
