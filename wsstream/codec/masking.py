"""Masking (section 5.3): XOR with a key of 4 bytes, at any offset into the payload."""

from __future__ import annotations

from functools import cache

__all__ = ["apply_mask"]

_SMALL = 1024  # bytes; measured: above it the four strided passes are faster than one big integer


def apply_mask(payload: bytes | memoryview, key: bytes, offset: int = 0) -> bytes:
    """Mask or unmask `payload`, whose first byte is byte number `offset` of its frame's payload.

    `key` has 4 bytes. The result is a new ``bytes`` of the same length.
    """
    size = len(payload)
    if shift := offset & 3:
        key = key[shift:] + key[:shift]
    if size <= _SMALL:
        mask = (key * (size + 3 >> 2))[:size]
        return (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")
    result = bytearray(payload)
    for lane in range(4):
        result[lane::4] = result[lane::4].translate(_xor_table(key[lane]))
    return bytes(result)


@cache
def _xor_table(byte: int) -> bytes:
    return bytes(byte ^ other for other in range(256))
