"""Small messages that leave together, or alone: the hot path of sending.

`FrameBatch` has a compiled version, too.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from wsstream.codec.framing import make_frame

__all__ = [
    "CLOSED_FOR_COMPRESSION",
    "CLOSED_FOR_END",
    "CLOSED_FOR_TURN",
    "FULL",
    "GAP",
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

GAP = 10e-6
"""Seconds from the end of one call to the next; messages that are sent this soon leave together."""

_TEXT = 0x81  # FIN and the opcode
_BINARY = 0x82


class FrameBatch:
    """Complete frames that wait to be sent in one piece. `begin` appends the first, `put` the others.

    A message that comes while no other waits leaves at once, by `send`, unless it follows the last one too
    soon.

    Args:
        next_key: returns a masking key for each frame; without it, frames are not masked.

    Attributes:
        closed_for: the reasons for which `put` refuses messages, as bits such as CLOSED_FOR_TURN; 0: none.
        capacity: bytes; `put` refuses messages when this many are waiting.
        largest: bytes; `put` refuses larger messages.
        sends_until_yield: messages that may follow before other tasks should run; `put` counts down.
        clock: the real time in seconds. The event loop's clock may stand still while a task runs.
        loop_clock: the event loop's.
        last_send: when a message was sent last.
        answers: the next message leaves alone, however soon it follows: bytes have come since the last one.
        send: as ``socket.send``, sends a frame at once, or a part of it, and returns how many bytes. Without
            it, no message leaves alone.
        fileno: that of the socket behind `send`, which does not block. With it, on POSIX systems, the
            compiled version makes the system calls itself, also to receive; it asks each time, as a closed
            socket has none.
        send_rest: called with a frame, of which only a number of bytes has left, and with the exception if
            `send` raised one other than BlockingIOError.
        others: bytes that wait elsewhere and come first.
        sent: bytes that have left, in all.
        left_at: when a message left alone; to be set back to -inf by whoever takes note of it.
    """

    __slots__ = (
        "_buffer",
        "_next_key",
        "answers",
        "capacity",
        "clock",
        "closed_for",
        "fileno",
        "largest",
        "last_send",
        "left_at",
        "loop_clock",
        "others",
        "send",
        "send_rest",
        "sends_until_yield",
        "sent",
    )

    def __init__(self, next_key: Callable[[], bytes] | None = None) -> None:
        self._buffer = bytearray()
        self._next_key = next_key
        self.closed_for = 0
        self.capacity = FULL
        self.largest = LARGEST
        self.sends_until_yield = 0
        self.clock: Callable[[], float] = float
        self.loop_clock: Callable[[], float] = float
        self.last_send = -inf
        self.answers = False
        self.send: Callable[[bytes], int] | None = None
        self.fileno: Callable[[], int] | None = None
        self.send_rest: Callable[[bytes, int, Exception | None], object] | None = None
        self.others = 0
        self.sent = 0
        self.left_at = -inf

    def __len__(self) -> int:
        return len(self._buffer)

    def begin(self, first: int, payload: bytes | memoryview) -> None:
        """Append a frame whose first byte is `first`, of any size and whatever is waiting."""
        self._buffer += make_frame(first, payload, None if self._next_key is None else self._next_key())

    def take_alone(self, now: float) -> bool:
        """Whether a message that is sent `now`, by `clock`, should leave alone. It becomes the last one."""
        alone = self.answers or now - self.last_send > GAP
        self.answers, self.last_send = False, now
        return alone

    def put(self, item: object) -> bool | None:
        """Append a message or send it, and return whether the batch should leave or other tasks should run.

        ``None``: the message has to go another way: it is the first of a batch, `closed_for` names a reason,
        the batch is full, or the message is too large or not a plain ``str`` or ``bytes``.

        Raises:
            UnicodeEncodeError: a ``str`` with a lone surrogate.
        """
        if self.closed_for or len(self._buffer) >= self.capacity:
            return None
        alone = not self._buffer
        if alone and (self.send is None or self.others or not self._comes_alone()):
            return None
        if type(item) is str:
            payload = item.encode()
            first = _TEXT
        elif type(item) is bytes:
            payload = item
            first = _BINARY
        else:
            return None
        if len(payload) > self.largest:
            return None
        if alone:
            self._send_alone(make_frame(first, payload, None if self._next_key is None else self._next_key()))
        else:
            self.begin(first, payload)
        self.sends_until_yield -= 1
        return self.sends_until_yield <= 0 or len(self._buffer) >= min(self.capacity, FULL)

    def send_frames(self, frames: bytes) -> bool | None:
        """Send complete frames, not masked, if nothing waits; ``None``: they have to go another way.

        Returns whether all of them have left. Nothing is copied: many connections can be given the same.
        """
        if self.closed_for & ~CLOSED_FOR_COMPRESSION or self._buffer or self.others or self.send is None:
            return None
        self._send_alone(frames)
        return not self.others

    def _comes_alone(self) -> bool:
        return self.answers or self.clock() - self.last_send > GAP

    def _send_alone(self, frame: bytes) -> None:
        assert self.send is not None
        assert self.send_rest is not None
        self.answers = False
        sent, error = 0, None
        try:
            sent = self.send(frame)
        except BlockingIOError:
            pass
        except Exception as raised:
            error = raised
        self.last_send, self.left_at = self.clock(), self.loop_clock()
        if sent == len(frame):
            self.sent += sent
        else:
            self.send_rest(frame, sent, error)

    def take(self) -> bytes:
        """Return the waiting frames, and forget them."""
        frames = bytes(self._buffer)
        self._buffer.clear()
        return frames
