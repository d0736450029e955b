"""permessage-deflate (RFC 7692): the two directions of compression.

Both directions work in steps. The deflater compresses each fragment as it is sent and never holds a message.
The inflater returns at most as many bytes as the caller asks for: received data is buffered compressed, and a
message that inflates a thousandfold does so only as fast as it is read.
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

_TAIL: Final = b"\x00\x00\xff\xff"  # section 7.2.1: the sender removes it from the end of a message
_SLICE: Final = 4096  # bytes
_EMPTY_BLOCK: Final = b"\x00"  # section 7.2.3.6: an empty message, after the tail was removed
_NEAR: Final = 3  # bytes; usual compressors need fewer to end the block after the last byte of a message
_NEAR_MOST: Final = 4096  # more bytes than 3 can inflate to: 258 for two bits, and the rest of a code before
_EMPTY_BLOCKS: Final = b"\x00\x00\x00\xff\xff" * 16  # stored blocks of no bytes
_FINAL_BLOCK: Final = b"\x03\x00"  # empty; RFC 1951 section 3.2.6


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


# -- the two directions (section 7.2) ------------------------------------------------------------


class Deflater:
    """Compresses the messages that one side sends. The context is made at first use."""

    __slots__ = ("_agreed", "_context")

    def __init__(self, agreed: Agreed) -> None:
        self._agreed = agreed
        self._context: Any = None

    @property
    def min_size(self) -> int:
        """Bytes of the smallest message that is worth compressing."""
        return self._agreed.options.min_size

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
        if not self._agreed.send_takeover:
            self._context = None
        return data + end[: -len(_TAIL)] or _EMPTY_BLOCK  # section 7.2.1, and 7.2.3.6 for an empty message


class Inflater:
    """Decompresses the messages that one side receives, in steps. The context is made at first use.

    `feed` compressed data and `take` bytes until none come, and so on; after the last data `end` the message.
    """

    __slots__ = ("_agreed", "_begun", "_context", "_data", "_start")

    def __init__(self, agreed: Agreed) -> None:
        self._agreed = agreed
        self._context: Any = None
        self._begun = False  # the message has at least one compressed byte
        self._data = b""  # compressed
        self._start = 0  # what zlib has consumed of it

    @property
    def remembers(self) -> bool:
        """Whether later messages may refer to this one, so that even an unwanted message must be inflated."""
        return self._agreed.receive_takeover

    def feed(self, data: bytes) -> None:
        """Add the next compressed bytes of the message."""
        self._begun = self._begun or bool(data)
        self._data = self._data[self._start :] + data
        self._start = 0

    def take(self, max_bytes: int) -> bytes:
        """Return up to `max_bytes` (at least 1) inflated bytes; ``b""`` if `feed` has to add data first.

        Raises:
            ValueError: the data is not deflate.
        """
        assert max_bytes > 0  # zlib reads 0 as "no limit"
        while True:
            # In slices, as zlib copies the input that it does not consume.
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
        """Feed `data`, a complete message, and return up to `max_bytes` (at least 1) inflated bytes.

        If the second value is true, they are the message, which has been ended. Otherwise `take` the rest
        until no bytes come, and `end` the message.

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

    def _leave(self, chunk: bytes, rest: bytes) -> tuple[bytes, bool]:
        """Leave to `take` the input that zlib has not consumed, and the `rest` of the data after it."""
        context = self._context
        self._data = (context.unused_data if context.eof else context.unconsumed_tail) + rest
        self._start = 0
        if context.eof:
            self._context = None
        return chunk, False

    def end(self) -> None:
        """End the message, all of which was taken. Its context is kept if later messages may refer to it.

        Raises:
            ValueError: its data ended inside a block.
        """
        self._end(near=False)

    def _end(self, *, near: bool) -> None:
        """`near` says that the last inflated byte came from the last three bytes of the data."""
        context, begun = self._context, self._begun
        if not begun:
            raise ValueError("a compressed message has no data (one byte at least: section 7.2.3.6)")
        if context is not None:  # it is None after a final block
            ends_at_boundary = self._ends_at_boundary_near if near else self._ends_at_boundary
            try:
                complete = ends_at_boundary(context)
            except zlib.error:
                complete = False
            if not complete:
                raise ValueError("a compressed message ends inside a block")
            if context.eof:  # the tail was the end of a final block
                self._context = None
        self.forget()

    def _ends_at_boundary(self, context: Any) -> bool:
        """Whether the data and the tail (section 7.2.2) end where a block may begin."""
        if context.decompress(_TAIL, 1):
            return False
        if context.eof:
            return not context.unused_data
        # zlib does not say whether it is inside a block. Only between two blocks can a final block follow.
        probe = context.copy() if self.remembers else context
        probe.decompress(_FINAL_BLOCK, 1)
        return bool(probe.eof)

    def _ends_at_boundary_near(self, context: Any) -> bool:
        """As `_ends_at_boundary`, without copying the context of 40 KiB, if the last inflated byte is near.

        Sixteen empty blocks follow the tail. Between two blocks they change nothing, so they do no harm to a
        message that is complete. If the data ends inside a block, zlib shows it, depending on where that is:

        - in the content of a stored block: the empty blocks come out as content;
        - in a code of literals and distances, which has 48 bits at most: they make a byte, or an error;
        - in a final block: it ends among the empty blocks, so that not all of them are left over. All are if
          the tail itself ends the block; then the message is complete;
        - in the table of codes that begins a block with dynamic codes. It can have 286 bytes, so that all
          empty blocks could be taken as a part of it. But such a block begins after the last inflated byte,
          so in the last 22 bits of the data, and none of the 2**20 tables that begin so is valid when the
          tail and the empty blocks follow: a test tries them all.
        """
        if context.decompress(_TAIL + _EMPTY_BLOCKS, 1):
            return False
        return not context.eof or context.unused_data == _EMPTY_BLOCKS

    def forget(self) -> None:
        """Drop the rest of the message, wherever it is; and the context, unless messages may refer to it."""
        self._data, self._start, self._begun = b"", 0, False
        if not self.remembers:
            self._context = None

    def release(self) -> None:
        """Drop everything: no message will follow."""
        self.forget()
        self._context = None
