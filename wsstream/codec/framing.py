"""The bytes of a frame (section 5.2): the hot path of sending, which has a compiled twin."""

from __future__ import annotations

from wsstream.codec.masking import apply_mask

__all__ = ["append_frame", "encode_header"]


def encode_header(first: int, length: int, key: bytes | None) -> bytes:
    """The header of a frame with `length` bytes of payload, in the shortest form.

    `first` is its first byte: FIN, the reserved bits and the opcode. It is masked if there is a `key`.
    """
    if key is not None and len(key) != 4:
        raise ValueError("a masking key has 4 bytes")
    mask = 0x80 if key is not None else 0
    if length < 126:
        header = bytes((first, mask | length))
    elif length < 0x10000:
        header = bytes((first, mask | 126)) + length.to_bytes(2, "big")
    else:
        header = bytes((first, mask | 127)) + length.to_bytes(8, "big")
    return header if key is None else header + key


def append_frame(buffer: bytearray, first: int, payload: bytes | memoryview, key: bytes | None) -> int:
    """Append a whole frame to `buffer`, masked if there is a `key`; return its size in bytes.

    Raises:
        BufferError: `payload` is not contiguous, or `buffer` cannot grow, as when `payload` is a view
            of it. Nothing was appended.
    """
    with memoryview(payload) as view:
        if not view.c_contiguous:
            raise BufferError("payload is not contiguous")
        header = encode_header(first, len(view), key)
        body = view if key is None else apply_mask(view, key)
        buffer += header
        buffer += body
        return len(header) + len(body)
