"""Small messages that leave together: the hot path of sending, which has a compiled twin."""

from __future__ import annotations

from collections.abc import Callable

from wsstream.codec.framing import make_frame

__all__ = ["FULL", "LARGEST", "Burst"]

FULL = 64 * 1024
"""Bytes for one system call: a burst of so many should leave."""

LARGEST = 16 * 1024
"""Bytes: larger messages are not copied together."""

_TEXT = 0x81  # FIN and the opcode
_BINARY = 0x82


class Burst:
    """Whole frames, each a small message, one behind the other. `begin` puts the first, `put` the others.

    Args:
        next_key: gives the masking key of each frame; without it they are not masked.

    Attributes:
        shut: the number of reasons for which `put` takes nothing.
        room: bytes; `put` takes nothing when so many wait here.
        left: how many messages may follow before other tasks should have their turn; `put` counts down.
    """

    __slots__ = ("_buffer", "_next_key", "left", "room", "shut")

    def __init__(self, next_key: Callable[[], bytes] | None = None) -> None:
        self._buffer = bytearray()
        self._next_key = next_key
        self.shut = 0
        self.room = FULL
        self.left = 0

    def __len__(self) -> int:
        return len(self._buffer)

    def begin(self, first: int, payload: bytes | memoryview) -> None:
        """Append a frame whose first byte is `first`, whatever its size and whatever waits."""
        self._buffer += make_frame(first, payload, None if self._next_key is None else self._next_key())

    def put(self, item: object) -> bool | None:
        """Append a message to those that wait; ``None``: this one has to go another way.

        True: it was taken, and the burst should leave or it is the turn of other tasks.

        Raises:
            UnicodeEncodeError: a ``str`` with a lone surrogate.
        """
        if self.shut or not 0 < len(self._buffer) < self.room:
            return None
        if type(item) is str:
            payload = item.encode()
            first = _TEXT
        elif type(item) is bytes:
            payload = item
            first = _BINARY
        else:
            return None
        if len(payload) > LARGEST:
            return None
        self.begin(first, payload)
        self.left -= 1
        return self.left <= 0 or len(self._buffer) >= min(self.room, FULL)

    def take(self) -> bytes:
        """What waits; nothing waits any more."""
        frames = bytes(self._buffer)
        self._buffer.clear()
        return frames
