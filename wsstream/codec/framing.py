"""The bytes of a frame (section 5.2). `make_frame` has a compiled twin."""

from __future__ import annotations

from wsstream.codec.masking import apply_mask

__all__ = ["encode_header", "make_frame"]


def encode_header(first: int, length: int, key: bytes | None) -> bytes:
    """The header of a frame with `length` bytes of payload, in the shortest form.

    `first` is its first byte: FIN, the reserved bits and the opcode. It is masked if there is a `key`.
    """
    if key is not None and len(key) != 4:
        raise ValueError("a masking key must be 4 bytes long")
    mask = 0x80 if key is not None else 0
    if length < 126:
        header = bytes((first, mask | length))
    elif length < 0x10000:
        header = bytes((first, mask | 126)) + length.to_bytes(2, "big")
    else:
        header = bytes((first, mask | 127)) + length.to_bytes(8, "big")
    return header if key is None else header + key


def make_frame(first: int, payload: bytes | memoryview, key: bytes | None) -> bytes:
    """A whole frame, masked if there is a `key`.

    Raises:
        BufferError: `payload` is not contiguous.
    """
    with memoryview(payload) as view:
        if not view.c_contiguous:
            raise BufferError("payload is not contiguous")
        body = view if key is None else apply_mask(view, key)
        return b"".join((encode_header(first, len(view), key), body))
