"""Cut a sequence of buffers into slices of a fixed size, copying only slices that span several buffers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["slices"]


def slices(buffers: Sequence[bytes | memoryview], size: int) -> Iterator[bytes | memoryview]:
    """Yield the bytes of `buffers` in slices of `size` bytes; the last may be shorter.

    A slice within one buffer is a view of it, others are copies. No slice is empty.
    """
    parts: list[memoryview] = []
    room = size
    for buffer in buffers:
        rest = memoryview(buffer)
        while not parts and len(rest) >= size:  # most slices of a large buffer
            yield rest[:size]
            rest = rest[size:]
        while rest:
            part = rest[:room]
            rest = rest[room:]
            parts.append(part)
            room -= len(part)
            if not room:
                yield _joined(parts)
                parts, room = [], size
    if parts:
        yield _joined(parts)


def _joined(parts: list[memoryview]) -> bytes | memoryview:
    return parts[0] if len(parts) == 1 else b"".join(parts)
