"""The sending side of a connection: a sink of messages."""

from __future__ import annotations

import io
import os
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import IO

import anyio
from anyio.abc import ObjectSendStream

from wsstream.arguments import check_int
from wsstream.codec.events import Kind
from wsstream.display import never_raises
from wsstream.driver.driver import Driver
from wsstream.errors import ConnectionBroken, check_close_arguments
from wsstream.protocol.file_frames import FileEnded, FileRange
from wsstream.streams.block import AsyncBlock
from wsstream.streams.condition import described
from wsstream.streams.message import MessageWriter, payload_of
from wsstream.transports.file import RegularFile, regular_file

__all__ = ["Writable"]

_FILE_CHUNK = 1 << 20  # bytes; one trip to a worker thread each
_FILE_PART = 1 << 22  # bytes of a file that are handed over at once, without a copy


class Writable(ObjectSendStream[str | bytes | bytearray | memoryview]):
    """Where messages are sent. When the network or the peer is slow, sending waits."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._put = driver.connection.queue.batch.put
        self._writer: MessageWriter | None = None

    @never_raises
    def __repr__(self) -> str:
        return described(self, self._driver)

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
            raise ValueError(f"the kind of a message must be 'text' or 'binary', got {kind!r}")
        check_int("the size of a message", size, 0, (1 << 63) - 1, optional=True)
        return _NewMessage(self, kind, size, compress)

    async def send_file(
        self, file: str | os.PathLike[str] | IO[bytes], *, offset: int = 0, count: int | None = None
    ) -> int:
        """Send a file, or `count` bytes of it from `offset`, as one binary message of any size.

        `file` is a path or a seekable binary file; its position does not matter, and is behind what was
        sent afterwards. Returns the number of bytes sent, when all of them have left for the kernel. Without
        `count`, what is added to the file meanwhile is sent too if it is there before the end is reached.
        If cancelled, the message is aborted: Close 1011.

        A server without TLS and compression sends regular files without a copy, where the system can (Linux):
        what is changed in the file before the peer has it may arrive either way. Reads that have to wait
        for the disk are done in a worker thread.

        Raises:
            TypeError: `file` is a text file, or no file.
            OSError: the file cannot be read; the connection fails if the message had begun.
            EOFError: the file has less than `count` bytes behind `offset`, or became shorter; the connection
                fails.
        """
        check_int("offset", offset, 0)
        check_int("count", count, 0, optional=True)
        if not isinstance(file, str | os.PathLike):
            return await self._send_open_file(file, offset, count)
        opened = await anyio.open_file(file, "rb")
        try:
            return await self._send_open_file(opened.wrapped, offset, count)
        finally:
            opened.wrapped.close()  # where it is cancelled, the aclose of older anyio leaves the file open

    async def _send_open_file(self, file: IO[bytes], offset: int, count: int | None) -> int:
        kind: object = file
        if isinstance(kind, io.TextIOBase) or not hasattr(kind, "read") or not hasattr(kind, "seek"):
            raise TypeError(f"file must be a path or a seekable binary file, got {type(file).__name__}")
        wrapped = anyio.wrap_file(file)
        await wrapped.seek(offset)  # also writes what the object has in its buffer
        source = regular_file(file)
        async with self.message() as writer:
            while count is None or writer.bytes_sent < count:
                before = writer.bytes_sent
                most = _FILE_PART if count is None else min(_FILE_PART, count - before)
                if source is not None and self._driver.sends_files:
                    await self._send_range(writer, source, offset + before, most)
                elif source is not None:
                    await _send(writer, await source.read(most, offset + before))
                else:
                    await _send(writer, await wrapped.read(min(most, _FILE_CHUNK)))
                if writer.bytes_sent == before:
                    if count is not None:
                        raise EOFError(f"the file ended {count - before} bytes early")
                    break
        if source is not None:
            file.seek(offset + writer.bytes_sent)
        return writer.bytes_sent

    async def _send_range(self, writer: MessageWriter, source: RegularFile, start: int, most: int) -> None:
        stop = min(start + most, source.size)
        if stop > start:
            stop = await source.cache(start, stop)
        if stop > start:
            try:
                await writer.send_range(FileRange(source, start, stop))
            except ConnectionBroken as error:
                if isinstance(self._driver.cause, FileEnded):
                    raise EOFError("the file became shorter while it was sent") from error
                raise

    async def drain(self) -> None:
        """Wait until everything handed over has left for the kernel. May be cancelled.

        Raises what `send` raises when the connection has ended.
        """
        await self._driver.drain()
        self._driver.check_open()

    async def aclose(self, code: int | None = None, reason: str = "") -> None:
        """Close the whole connection, both directions, as :meth:`WebSocketStream.aclose` does.

        What was handed over goes out first; calls of `send` that still wait raise ``ClosedLocally``, and
        nothing of their messages is sent. If cancelled, TCP is dropped.

        Raises:
            TypeError, ValueError: as :meth:`WebSocketStream.aclose` does; nothing else.
        """
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
            raise RuntimeError("this task must finish its MessageWriter before it sends another message")


class _NewMessage(AsyncBlock[MessageWriter]):
    use = "ws.writable.message() as message"

    def __init__(self, writable: Writable, kind: Kind, size: int | None, compress: bool) -> None:
        self._writable = writable
        self._kind: Kind = kind
        self._size = size
        self._compress = compress
        self._writer: MessageWriter | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<a new {self._kind} message for {self._writable!r}>"

    async def __aenter__(self) -> MessageWriter:
        self._writer = await self._writable.new_writer(self._kind, self._size, self._compress)
        return self._writer

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._writer is not None
        await self._writer.__aexit__(exc_type, exc, tb)


async def _send(writer: MessageWriter, chunk: bytes) -> None:
    if chunk:
        await writer.send(chunk)
