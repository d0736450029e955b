"""permessage-deflate (RFC 7692): the two directions of compression.

Both directions work in steps. Compression makes each fragment as it is sent and never holds a message.
Decompression gives at most as many bytes as are asked for: what waits in a buffer is compressed data,
and a message that inflates a thousandfold does so only as fast as it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from wsstream.arguments import check_int, check_type

__all__ = ["ZLIB", "Agreed", "Deflate", "Deflater", "Inflater"]

# The one place where the compressor is chosen: zlib-ng (extra ``fast``) has the same interface.
ZLIB: Final[str] = "zlib" if find_spec("zlib_ng") is None else "zlib_ng.zlib_ng"
zlib: Any = import_module(ZLIB)

_TAIL: Final = b"\x00\x00\xff\xff"  # section 7.2.1: left off at the end of a message
_SLICE: Final = 4096  # bytes
_EMPTY_BLOCK: Final = b"\x00"  # section 7.2.3.6: what is left of the tail's block
_NEAR: Final = 3  # bytes; what a usual compressor puts behind the last byte of a message is shorter
_NEAR_MOST: Final = 4096  # bytes that so few bytes inflate to: 258 for two bits, and what was begun before
_EMPTY_BLOCKS: Final = b"\x00\x00\x00\xff\xff" * 16  # stored
_FINAL_BLOCK: Final = b"\x03\x00"  # empty; RFC 1951 section 3.2.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """Compression of messages, for ``compression=`` of `connect`, `serve` and `accept`.

    A window of 2**n bytes is what a sender looks back at; both ends pay for it while takeover lets a
    message refer to the messages before it. The docs tell the memory of each setting.

    Attributes:
        level: 0 (none) to 9 (best), as in ``zlib``; -1 is zlib's own choice.
        mem_level: 1 to 9: how much memory our compressor uses beside its window.
        window_bits: of our compressor, 9 to 15.
        peer_window_bits: the most that the peer's may use, 9 to 15.
        context_takeover: our compressor remembers earlier messages.
        peer_context_takeover: the peer's may.
        min_size: messages that are sent whole and have fewer bytes go out uncompressed.
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
    """What was agreed on, seen from one endpoint.

    Attributes:
        options: this endpoint's.
        send_window, receive_window: window bits of the two directions.
        send_takeover, receive_takeover: whether contexts live on after a message.
    """

    options: Deflate
    send_window: int
    send_takeover: bool
    receive_window: int
    receive_takeover: bool


# -- the two directions (section 7.2) ------------------------------------------------------------


class Deflater:
    """Compresses what one endpoint sends. The context is made at first use."""

    __slots__ = ("_agreed", "_context")

    def __init__(self, agreed: Agreed) -> None:
        self._agreed = agreed
        self._context: Any = None

    @property
    def min_size(self) -> int:
        """Bytes; smaller messages are not worth it."""
        return self._agreed.options.min_size

    def compress(self, payload: bytes | memoryview, *, last: bool) -> bytes:
        """The payload of the next frame of a message; `last` ends the message."""
        if self._context is None:
            options = self._agreed.options
            self._context = zlib.compressobj(
                options.level, zlib.DEFLATED, -self._agreed.send_window, options.mem_level
            )
        data: bytes = self._context.compress(payload)
        end: bytes = self._context.flush(zlib.Z_SYNC_FLUSH)
        if not last:
            return data + end
        if not self._agreed.send_takeover:
            self._context = None
        return data + end[: -len(_TAIL)] or _EMPTY_BLOCK


class Inflater:
    """Decompresses what one endpoint receives, in steps. The context is made at first use.

    Feed a piece, take bytes until none come, feed the next; after the last piece `end` the message.
    """

    __slots__ = ("_agreed", "_begun", "_context", "_data", "_start")

    def __init__(self, agreed: Agreed) -> None:
        self._agreed = agreed
        self._context: Any = None
        self._begun = False  # the message has at least one compressed byte
        self._data = b""  # compressed
        self._start = 0  # how much of that zlib has consumed

    @property
    def remembers(self) -> bool:
        """Whether a message that nobody wants has to be inflated all the same, for those after it."""
        return self._agreed.receive_takeover

    def feed(self, data: bytes) -> None:
        """The next compressed bytes of the message."""
        self._begun = self._begun or bool(data)
        self._data = self._data[self._start :] + data
        self._start = 0

    def take(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` (at least 1) inflated bytes; ``b""`` when more has to be fed.

        Raises:
            ValueError: the data is not deflate.
        """
        assert max_bytes > 0  # zlib reads 0 as "no limit"
        while True:
            # In slices, as zlib copies what it leaves of its input.
            piece = self._data[self._start : self._start + _SLICE]
            if self._context is None:
                if not piece:
                    return b""
                self._context = zlib.decompressobj(-self._agreed.receive_window)
            context = self._context
            try:
                chunk: bytes = context.decompress(piece, max_bytes)
            except zlib.error as error:
                raise ValueError(f"a compressed message is not deflate: {error}") from error
            self._start += len(piece) - len(context.unused_data if context.eof else context.unconsumed_tail)
            if context.eof:  # a final block; more may follow and begins afresh (section 7.2.3.4)
                self._context = None
            elif not chunk and self._start == len(self._data):
                return b""
            if chunk:
                return chunk

    def take_whole(self, data: bytes, max_bytes: int) -> tuple[bytes, bool]:
        """Feed `data`, all of a message, and take up to `max_bytes` (at least 1) inflated bytes.

        They are the message, and it has been ended, if the second value is true. Otherwise go on with
        `take` until none come, and `end` it.

        Raises:
            ValueError: the data is not deflate, or ends inside a block.
        """
        assert max_bytes > 0  # zlib reads 0 as "no limit"
        self._begun = bool(data)
        if self._context is None:
            self._context = zlib.decompressobj(-self._agreed.receive_window)
        context = self._context
        near = data[-_NEAR:]
        try:
            chunk: bytes = context.decompress(data[:-_NEAR], max_bytes)
            if len(chunk) == max_bytes or context.eof:
                return self._leave(chunk, near)
            last = context.decompress(near, min(max_bytes - len(chunk), _NEAR_MOST))
        except zlib.error as error:
            raise ValueError(f"a compressed message is not deflate: {error}") from error
        chunk += last
        if len(chunk) == max_bytes or context.eof:
            return self._leave(chunk, b"")
        self._end(near=bool(last))
        return chunk, True

    def _leave(self, chunk: bytes, behind: bytes) -> tuple[bytes, bool]:
        """Leave to `take` what zlib has not consumed, and what is `behind` that."""
        context = self._context
        self._data, self._start = (
            (context.unused_data if context.eof else context.unconsumed_tail) + behind,
            0,
        )
        if context.eof:
            self._context = None
        return chunk, False

    def end(self) -> None:
        """The message was taken to its end: forget it, unless the next ones may refer to it.

        Raises:
            ValueError: its data ended inside a block.
        """
        self._end(near=False)

    def _end(self, *, near: bool) -> None:
        """`near`: the last three bytes of the data gave an inflated one."""
        context, begun = self._context, self._begun
        if not begun:
            raise ValueError("a compressed message has no data (one byte at least: section 7.2.3.6)")
        if context is not None:  # None: after a final block
            try:
                border = self._ends_at_border_near(context) if near else self._ends_at_border(context)
            except zlib.error:
                border = False
            if not border:
                raise ValueError("a compressed message ends inside a block")
            if context.eof:  # the tail was the end of a final block
                self._context = None
        self.forget()

    def _ends_at_border(self, context: Any) -> bool:
        """Put the tail behind the data (section 7.2.2); whether it was the end of an empty block."""
        if context.decompress(_TAIL, 1):
            return False
        if context.eof:
            return not context.unused_data
        # zlib does not tell where it is. Only between two blocks can a final block follow.
        probe = context.copy() if self.remembers else context
        probe.decompress(_FINAL_BLOCK, 1)
        return bool(probe.eof)

    def _ends_at_border_near(self, context: Any) -> bool:
        """The same without a copy of 40 KiB, if the data's last three bytes gave an inflated one.

        Empty blocks change nothing between two blocks. Elsewhere so many are noticed: as the content of
        a stored block they come out, in the middle of a code of at most 48 bits they make a byte or an
        error, and what looks final ends. They could only pass unnoticed as part of a block's table of
        codes, which takes up to 286 bytes; but of one that begins in the last 22 bits of the data, each
        of all 2**20 beginnings becomes a wrong one by the tail and these blocks.
        """
        if context.decompress(_TAIL + _EMPTY_BLOCKS, 1):
            return False
        return not context.eof or context.unused_data == _EMPTY_BLOCKS

    def forget(self) -> None:
        """Be done with the message, wherever it is."""
        self._data, self._start, self._begun = b"", 0, False
        if not self.remembers:
            self._context = None

    def release(self) -> None:
        """No message will follow."""
        self.forget()
        self._context = None
