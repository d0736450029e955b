"""Masking (section 5.3): XOR with a key of 4 bytes, at any offset into the payload.

Both functions have a compiled version, too.
"""

from __future__ import annotations

from functools import cache

__all__ = ["apply_mask", "mask_in_place"]

_SMALL = 1024  # bytes; measured: from here on, four strided passes are faster than one big integer


def apply_mask(payload: bytes | memoryview, key: bytes, offset: int = 0) -> bytes:
    """Return `payload` masked, or unmasked if it was masked, as new ``bytes`` of the same length.

    `key` is 4 bytes long. `offset` is the position of `payload` in the payload of its frame.
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


def mask_in_place(payload: memoryview, key: bytes) -> None:
    """Mask the bytes of `payload`, or unmask them if they were masked. `key` is 4 bytes long."""
    payload[:] = apply_mask(payload, key)


@cache
def _xor_table(byte: int) -> bytes:
    return bytes(byte ^ other for other in range(256))
