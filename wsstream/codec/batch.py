"""Small messages that leave together: the hot path of sending.

`FrameBatch` has a compiled version, too.
"""

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

# Reasons for which `put` refuses messages: the bits of `FrameBatch.closed_for`.
CLOSED_FOR_TURN = 1
"""Another message is being sent, and others have to wait for it to end."""
CLOSED_FOR_COMPRESSION = 2
"""Messages have to be compressed, which `put` does not do."""
CLOSED_FOR_END = 4
"""The connection is closing; no more messages may be sent."""

FULL = 64 * 1024
"""Bytes that one system call sends: a batch of this size should leave."""

LARGEST = 16 * 1024
"""Bytes: a larger message goes another way, because copying it costs more than a system call of its own."""

_TEXT = 0x81  # FIN and the opcode
_BINARY = 0x82


class FrameBatch:
    """Complete frames that wait to be sent in one piece. `begin` appends the first, `put` the others.

    Args:
        next_key: returns a masking key for each frame; without it, frames are not masked.

    Attributes:
        closed_for: the reasons for which `put` refuses messages, as bits such as CLOSED_FOR_TURN; 0: none.
        capacity: bytes; `put` refuses messages when this many are waiting.
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
        """Append a frame whose first byte is `first`, of any size and whatever is waiting."""
        self._buffer += make_frame(first, payload, None if self._next_key is None else self._next_key())

    def put(self, item: object) -> bool | None:
        """Append a message, and return whether the batch should leave or other tasks should run.

        ``None``: the message was not appended and has to go another way: nothing is waiting, `closed_for`
        names a reason, the batch is full, or the message is too large or not a plain ``str`` or ``bytes``.

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
        """Return the waiting frames, and forget them."""
        frames = bytes(self._buffer)
        self._buffer.clear()
        return frames
