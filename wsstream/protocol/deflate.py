"""permessage-deflate (RFC 7692): its settings, and the sending direction. `inflate` is the other direction.

Both directions work in steps. The deflater compresses each fragment as it is sent and never holds a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from wsstream.arguments import check_int, check_type

__all__ = ["TAIL", "ZLIB", "Agreed", "Deflate", "Deflater", "zlib"]

# The one place where the compressor is chosen: zlib-ng (extra ``fast``) has the same interface.
ZLIB: Final[str] = "zlib" if find_spec("zlib_ng") is None else "zlib_ng.zlib_ng"
zlib: Any = import_module(ZLIB)

TAIL: Final = b"\x00\x00\xff\xff"
"""The sender removes it from the end of a message (section 7.2.1)."""

_EMPTY_BLOCK: Final = b"\x00"  # section 7.2.3.6: an empty message, after the tail was removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """Compression of messages, for ``compression=`` of `connect`, `serve` and `accept`.

    A sender can refer back to the last 2**n bytes, its window. Both ends keep that memory between messages as
    long as context takeover lets a message refer to earlier ones. The documentation lists the memory that
    each setting takes.

    Attributes:
        level: 0 (none) to 9 (best), as in ``zlib``; -1 is zlib's default.
        mem_level: 1 to 9, the memory of this side's compressor besides its window.
        window_bits: 9 to 15, for this side's compressor.
        peer_window_bits: 9 to 15, the most that the peer's compressor may use.
        context_takeover: whether this side's compressor may refer to earlier messages.
        peer_context_takeover: whether the peer's may.
        min_size: bytes; smaller messages are sent uncompressed, unless they are written in chunks.

    Raises:
        TypeError, ValueError: a setting has the wrong type, or is out of its range.
    """

    level: int = 6
    mem_level: int = 8
    window_bits: int = 15
    peer_window_bits: int = 15
    context_takeover: bool = True
    peer_context_takeover: bool = True
    min_size: int = 64

    def __post_init__(self) -> None:
        check_int("level", self.level, -1, 9)
        check_int("mem_level", self.mem_level, 1, 9)
        check_int("window_bits", self.window_bits, 9, 15)
        check_int("peer_window_bits", self.peer_window_bits, 9, 15)
        check_int("min_size", self.min_size, 0, 1 << 62)
        for name in ("context_takeover", "peer_context_takeover"):
            check_type(name, getattr(self, name), bool, "a bool")


@dataclass(frozen=True, slots=True)
class Agreed:
    """The parameters that both sides agreed on, as one side uses them.

    Attributes:
        options: this side's settings.
        send_window, receive_window: window bits of the two directions.
        send_takeover, receive_takeover: whether a context is kept after the end of a message.
    """

    options: Deflate
    send_window: int
    send_takeover: bool
    receive_window: int
    receive_takeover: bool


class Deflater:
    """Compresses the messages that one side sends. The context is made at first use."""

    __slots__ = ("_agreed", "_context", "_keeps_context")

    def __init__(self, agreed: Agreed) -> None:
        self._agreed = agreed
        self._keeps_context = agreed.send_takeover
        self._context: Any = None

    @property
    def min_size(self) -> int:
        """Bytes of the smallest message that is worth compressing."""
        return self._agreed.options.min_size

    @property
    def agreed(self) -> Agreed:
        """What both sides agreed on."""
        return self._agreed

    def keep_no_context(self, *, now: bool) -> None:
        """Refer to no earlier message from the next one on. `now`: no message is being compressed."""
        self._keeps_context = False
        if now:
            self._context = None

    def compress(self, payload: bytes | memoryview, *, last: bool) -> bytes:
        """Compress `payload`, and return it as the payload of the next frame; `last` ends the message."""
        if self._context is None:
            options = self._agreed.options
            self._context = zlib.compressobj(
                options.level, zlib.DEFLATED, -self._agreed.send_window, options.mem_level
            )
        data: bytes = self._context.compress(payload)
        end: bytes = self._context.flush(zlib.Z_SYNC_FLUSH)
        if not last:
            return data + end
        if not self._keeps_context:
            self._context = None
        return data + end[: -len(TAIL)] or _EMPTY_BLOCK  # section 7.2.1, and 7.2.3.6 for an empty message
