"""The sending side of a connection: a sink of messages."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import IO

import anyio
from anyio.abc import ObjectSendStream

from wsstream.codec.events import Kind
from wsstream.errors import check_close_arguments
from wsstream.streams.driver import Driver
from wsstream.streams.message import MessageWriter, payload_of

__all__ = ["Writable"]

_FILE_CHUNK = 256 * 1024  # bytes; one trip to a worker thread each


class Writable(ObjectSendStream[str | bytes | bytearray | memoryview]):
    """Where messages are sent. When the network or the peer is slow, sending waits."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._put = driver.connection.outgoing.burst.put
        self._writer: MessageWriter | None = None

    async def send(self, item: str | bytes | bytearray | memoryview, *, compress: bool = True) -> None:
        """Send one message: ``str`` as text, bytes-like as binary. First in, first out.

        Waits for its turn, and while ``send_high_water`` bytes are unsent; messages larger than
        ``frame_size`` go out as fragments. If cancelled while it waits, nothing of the message is
        sent; once it was handed over it goes out whole. Either way `item` may be changed afterwards.
        Where compression was agreed on, `compress` false sends this message without.

        Raises:
            TypeError: `item` is neither ``str`` nor bytes-like.
            ValueError: a memoryview that is not contiguous; a lone surrogate (``UnicodeEncodeError``).
            ConnectionBroken: the peer has closed, or the connection broke.
            ClosedLocally: the connection was closed on this side.
            RuntimeError: this task holds an unfinished :class:`MessageWriter`.
        """
        full = self._put(item)
        if full is None:  # it does not come in a burst
            if isinstance(item, str):
                await self.send_payload("text", item.encode(), compress=compress)
            else:
                await self.send_payload("binary", payload_of(item), compress=compress)
        elif full:
            await self._driver.let_others_run()

    async def send_payload(self, kind: Kind, payload: bytes | memoryview, *, compress: bool = True) -> None:
        """Send one message from its bytes; of text, they are valid UTF-8. Otherwise like `send`."""
        if self._writer is not None:
            self._refuse_deadlock(self._writer)
        full = self._driver.send_now(kind, payload, compress=compress)
        if full is None:
            await self._driver.send_message(kind, payload, compress=compress)
        elif full:
            await self._driver.let_others_run()

    def message(
        self, kind: Kind = "binary", *, size: int | None = None, compress: bool = True
    ) -> AbstractAsyncContextManager[MessageWriter]:
        """``async with writable.message() as writer``: send one message chunk by chunk.

        Entering waits for the turn; if that is cancelled, nothing happened. Leaving finishes the
        message; leaving by an exception closes with 1011 instead. With `size`, the message is one
        frame of so many bytes, never compressed, for peers that dislike fragments; Pings are then
        answered only behind it. `compress` is as for `send`.

        Raises:
            ValueError: another kind than ``"text"`` or ``"binary"``, or a negative size.
            RuntimeError: on entering, this task already holds an unfinished writer.
        """
        if kind not in ("text", "binary"):
            raise ValueError(f"a message is 'text' or 'binary', not {kind!r}")
        if size is not None and not 0 <= size < 1 << 63:
            raise ValueError(f"the size of a message cannot be {size}")
        return _NewMessage(self, kind, size, compress)

    async def send_file(
        self, file: str | os.PathLike[str] | IO[bytes], *, offset: int = 0, count: int | None = None
    ) -> int:
        """Send a file, or `count` bytes of it from `offset`, as one binary message of any size.

        `file` is a path or a seekable binary file. Returns the number of bytes sent. Reading is done
        in a worker thread. If cancelled, the message is aborted: Close 1011.

        Raises:
            OSError: the file cannot be read; the connection fails if the message had begun.
            EOFError: the file has less than `count` bytes behind `offset`.
        """
        if offset < 0 or (count is not None and count < 0):
            raise ValueError("offset and count are not negative")
        if not isinstance(file, str | os.PathLike):
            return await self._send_open_file(file, offset, count)
        async with await anyio.open_file(file, "rb") as opened:
            return await self._send_open_file(opened.wrapped, offset, count)

    async def _send_open_file(self, file: IO[bytes], offset: int, count: int | None) -> int:
        wrapped = anyio.wrap_file(file)
        await wrapped.seek(offset)
        async with self.message() as writer:
            while count is None or writer.bytes_sent < count:
                wanted = _FILE_CHUNK if count is None else min(_FILE_CHUNK, count - writer.bytes_sent)
                chunk = await wrapped.read(wanted)
                if not chunk and count is not None:
                    raise EOFError(f"the file ended {count - writer.bytes_sent} bytes early")
                if not chunk:
                    break
                await writer.send(chunk)
        return writer.bytes_sent

    async def drain(self) -> None:
        """Wait until everything handed over has left for the kernel. May be cancelled.

        Raises what `send` raises when the connection has ended.
        """
        await self._driver.drain()
        self._driver.check_open()

    async def aclose(self, code: int | None = None, reason: str = "") -> None:
        """Close the connection, like :meth:`WebSocketStream.aclose`: behind all that was sent."""
        check_close_arguments(code, reason)
        self._driver.close(code, reason)
        await self._driver.wait_finished()

    def abort(self, code: int | None = None, reason: str = "") -> None:
        """Close without sending what has not left yet. Does not wait; see `WebSocketStream.wait_closed`."""
        check_close_arguments(code, reason)
        self._driver.abort_sending(code, reason)

    # -- for writers of one message ----------------------------------------------------------

    async def new_writer(self, kind: Kind, size: int | None, compress: bool) -> MessageWriter:
        """Wait for the turn and begin a message."""
        if self._writer is not None:
            self._refuse_deadlock(self._writer)
        self._driver.check_open()
        message = await self._driver.begin_message(kind, size, compress=compress)
        self._writer = MessageWriter(self, self._driver, message)
        return self._writer

    def release(self, writer: MessageWriter) -> None:
        """`writer` has been closed."""
        if self._writer is writer:
            self._writer = None

    @staticmethod
    def _refuse_deadlock(writer: MessageWriter) -> None:
        if writer.owner == anyio.get_current_task().id:
            raise RuntimeError("this task has to finish its MessageWriter first")


class _NewMessage(AbstractAsyncContextManager[MessageWriter]):
    def __init__(self, writable: Writable, kind: Kind, size: int | None, compress: bool) -> None:
        self._writable = writable
        self._kind: Kind = kind
        self._size = size
        self._compress = compress
        self._writer: MessageWriter | None = None

    async def __aenter__(self) -> MessageWriter:
        self._writer = await self._writable.new_writer(self._kind, self._size, self._compress)
        return self._writer

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._writer is not None
        await self._writer.__aexit__(exc_type, exc, tb)
