"""Inflating the messages that one side receives (RFC 7692 section 7.2.2).

At most as many bytes are returned as the caller asks for: received data is buffered compressed, and a message
that inflates a thousandfold does so only as fast as it is read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from wsstream.protocol.deflate import TAIL, zlib

__all__ = ["LINKED", "Inflater", "PythonInflater"]

_SLICE: Final = 4096  # bytes
_NEAR: Final = 3  # bytes; usual compressors need fewer to end the block after the last byte of a message
_NEAR_MOST: Final = 4096  # more bytes than 3 can inflate to: 258 for two bits, and the rest of a code before
_EMPTY_BLOCKS: Final = b"\x00\x00\x00\xff\xff" * 16  # stored blocks of no bytes
_FINAL_BLOCK: Final = b"\x03\x00"  # empty; RFC 1951 section 3.2.6


class PythonInflater:
    """Decompresses the messages that one side receives, in steps. The context is made at first use.

    `feed` compressed data and `take` bytes until none come, and so on; after the last data `end` the message.

    Args:
        window: 8 to 15; messages may refer back to the last 2**window bytes.
        takeover: whether a context is kept after the end of a message.
    """

    __slots__ = ("_begun", "_context", "_data", "_start", "_window", "remembers")

    def __init__(self, window: int, takeover: bool) -> None:
        self.remembers: Final = takeover
        """Whether later messages may refer to this one, so that even an unwanted message must be inflated."""
        self._window = window
        self._context: Any = None
        self._begun = False  # the message has at least one compressed byte
        self._data = b""  # compressed
        self._start = 0  # what zlib has consumed of it

    def feed(self, data: bytes) -> None:
        """Add the next compressed bytes of the message, once `take` has returned all there was."""
        assert self._start == len(self._data)
        self._begun = self._begun or bool(data)
        self._data, self._start = data, 0

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
                self._context = zlib.decompressobj(-self._window)
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
            self._context = zlib.decompressobj(-self._window)
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
        if context.decompress(TAIL, 1):
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
        if context.decompress(TAIL + _EMPTY_BLOCKS, 1):
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


# The one place where the inflater is chosen. The compiled one was built if there was a zlib to link. With the
# system's zlib it is three times as fast as zlib-ng called from Python for messages of 300 bytes, as fast for
# 4 KiB, and slower above, by a quarter for 16 KiB; so it is used also where zlib-ng is installed.
try:
    if os.environ.get("WSSTREAM_PURE"):
        raise ImportError("WSSTREAM_PURE asks for the Python version")
    from wsstream.protocol import _inflate
except ImportError:
    LINKED: str | None = None
else:
    LINKED = _inflate.ZLIB_VERSION
"""The version of the zlib that the compiled inflater is linked to; ``None``: it is not in use."""

if TYPE_CHECKING or LINKED is None:  # noqa: SIM108 - an alias of a type, for type checkers
    Inflater = PythonInflater
else:
    Inflater = _inflate.Inflater
