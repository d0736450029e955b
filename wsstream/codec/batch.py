"""Small messages that leave together: the hot path of sending, which has a compiled twin."""

from __future__ import annotations

from collections.abc import Callable

from wsstream.codec.framing import make_frame

__all__ = [
    "CLOSED_FOR_COMPRESSION",
    "CLOSED_FOR_END",
    "CLOSED_FOR_TURN",
    "FULL",
    "LARGEST",
    "FrameBatch",
]

# Reasons for which `put` takes nothing: the bits of `FrameBatch.closed_for`.
CLOSED_FOR_TURN = 1
"""Another message has the turn to be sent."""
CLOSED_FOR_COMPRESSION = 2
"""Messages are compressed, which is done elsewhere."""
CLOSED_FOR_END = 4
"""No message may be sent any more."""

FULL = 64 * 1024
"""Bytes for one system call: a burst of so many should leave."""

LARGEST = 16 * 1024
"""Bytes: larger messages are not copied together."""

_TEXT = 0x81  # FIN and the opcode
_BINARY = 0x82


class FrameBatch:
    """Whole frames, each a small message, one behind the other. `begin` puts the first, `put` the others.

    Args:
        next_key: gives the masking key of each frame; without it they are not masked.

    Attributes:
        closed_for: the reasons for which `put` takes nothing, as bits such as CLOSED_FOR_TURN; 0: none.
        capacity: bytes; `put` takes nothing when this many wait here.
        sends_until_yield: messages that may follow before other tasks should run; `put` counts down.
    """

    __slots__ = ("_buffer", "_next_key", "capacity", "closed_for", "sends_until_yield")

    def __init__(self, next_key: Callable[[], bytes] | None = None) -> None:
        self._buffer = bytearray()
        self._next_key = next_key
        self.closed_for = 0
        self.capacity = FULL
        self.sends_until_yield = 0

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
        if self.closed_for or not 0 < len(self._buffer) < self.capacity:
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
        self.sends_until_yield -= 1
        return self.sends_until_yield <= 0 or len(self._buffer) >= min(self.capacity, FULL)

    def take(self) -> bytes:
        """What waits; nothing waits any more."""
        frames = bytes(self._buffer)
        self._buffer.clear()
        return frames
