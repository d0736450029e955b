"""The sending side of a connection: a sink of messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import IO, Any

import anyio
from anyio.abc import ObjectSendStream

from wsstream.arguments import check_int
from wsstream.codec.events import Kind
from wsstream.display import never_raises
from wsstream.driver.ending import Ending
from wsstream.driver.sender import Sender
from wsstream.errors import check_close_arguments
from wsstream.streams.block import AsyncBlock
from wsstream.streams.condition import described
from wsstream.streams.file_writer import Hash
from wsstream.streams.save import check_hash
from wsstream.streams.send_chunks import AnyChunks, is_chunks, send_chunks
from wsstream.streams.send_file import send_open_file
from wsstream.streams.writer import MessageWriter, check_message, payload_of

__all__ = ["Writable"]


class Writable(ObjectSendStream[str | bytes | bytearray | memoryview]):
    """Where messages are sent. When the network or the peer is slow, sending waits."""

    def __init__(self, sender: Sender, ending: Ending) -> None:
        self._sender = sender
        self._ending = ending
        self._put = sender.batch.put

    @never_raises
    def __repr__(self) -> str:
        return described(self, self._ending)

    async def send(
        self,
        item: str | bytes | bytearray | memoryview | AnyChunks,
        *,
        compress: bool = True,
    ) -> None:
        """Send one message: ``str`` as text, bytes-like as binary. First in, first out.

        Waits for its turn, and while ``send_high_water`` bytes are unsent; messages larger than
        ``frame_size``, or than ``max_frame_size`` on a fast connection, go out as
        fragments. If cancelled while it waits, nothing of the message is
        sent; once it was handed over it goes out whole. Either way `item` may be changed afterwards.
        Where compression was agreed on, `compress` false sends this message without.

        An iterable or async iterable, of ``str`` or of bytes-like objects, is one message, too, whose chunks
        are sent as they come; without a chunk, nothing is sent. An async generator is closed if it was not
        used up. If the iterable raises, or this is cancelled after the first chunk, the message is aborted:
        Close 1011.

        Raises:
            TypeError: `item` is neither ``str`` nor bytes-like nor an iterable of these, or is a mapping.
                A chunk is of another type than the first; the connection fails.
            ValueError: a memoryview that is not contiguous; a lone surrogate (``UnicodeEncodeError``).
            ConnectionBroken: the peer has closed, or the connection broke.
            ClosedLocally: the connection was closed on this side.
            RuntimeError: this task holds an unfinished :class:`MessageWriter`.
        """
        full = self._put(item)
        if full is None:  # it does not come in a burst
            if isinstance(item, str):
                await self._sender.send_whole("text", item.encode(), compress=compress)
            elif is_chunks(item):
                await send_chunks(partial(self.message, compress=compress), item)
            else:
                await self._sender.send_whole("binary", payload_of(item), compress=compress)
        elif full:
            await self._sender.flush_and_yield()

    def message(
        self, kind: Kind = "binary", *, size: int | None = None, compress: bool = True
    ) -> AbstractAsyncContextManager[MessageWriter]:
        """``async with writable.message() as writer``: send one message chunk by chunk.

        Entering waits for the turn; if that is cancelled, nothing happened. Leaving finishes the
        message; leaving by an exception closes with 1011 instead. With `size`, the message is one
        frame of that many bytes, never compressed, for peers that do not take fragments; Pings are then
        answered only after it. `compress` is as for `send`.

        Raises:
            ValueError: another kind than ``"text"`` or ``"binary"``, or a negative size.
            RuntimeError: on entering, this task already holds an unfinished writer.
        """
        check_message(kind, size)
        return _NewMessage(self._sender, self._ending, kind, size, compress)

    async def send_file(
        self,
        file: str | os.PathLike[str] | IO[bytes],
        *,
        offset: int = 0,
        count: int | None = None,
        progress: Callable[[int], object] | None = None,
        hash: Hash | None = None,
    ) -> int:
        """Send a file, or `count` bytes of it from `offset`, as one binary message of any size.

        `file` is a path or a seekable binary file; its position does not matter, and is after the bytes sent
        afterwards. Returns the number of bytes sent, when all of them have left for the kernel. Without
        `count`, what is added to the file meanwhile is sent too if it is there before the end is reached.
        If cancelled, the message is aborted: Close 1011.

        A server without TLS and compression sends regular files without a copy, where the system can (Linux):
        what is changed in the file before the peer has it may arrive either way. Reads that have to wait
        for the disk are done in a worker thread.

        Args:
            progress: called in the event loop with the number of bytes handed over, at most 20 times a
                second, and at the end.
            hash: such as ``hashlib.sha256()``: its ``update`` is called with the bytes, in worker threads.
                They are copied then, also by a server.

        Raises:
            TypeError: `file` is a text file, or not a file; `hash` is not a hash.
            OSError: the file cannot be read; the connection fails if the message had begun.
            EOFError: the file has less than `count` bytes after `offset`, or became shorter; the connection
                fails.
        """
        check_int("offset", offset, 0)
        check_int("count", count, 0, optional=True)
        check_hash(hash)
        self._sender.check_no_deadlock()
        if not isinstance(file, str | os.PathLike):
            return await self._send_open_file(file, offset, count, progress, hash)
        opened = await anyio.open_file(file, "rb")
        try:
            return await self._send_open_file(opened.wrapped, offset, count, progress, hash)
        finally:
            opened.wrapped.close()  # where it is cancelled, the aclose of older anyio leaves the file open

    def _send_open_file(
        self,
        file: IO[bytes],
        offset: int,
        count: int | None,
        progress: Callable[[int], object] | None,
        hash: Hash | None,
    ) -> Coroutine[Any, Any, int]:
        return send_open_file(self._sender, self._ending, file, offset, count, progress, hash)

    async def drain(self) -> None:
        """Wait until everything handed over has left for the kernel. May be cancelled.

        Raises what `send` raises when the connection has ended.
        """
        await self._sender.drain()
        self._ending.check_open()

    async def aclose(self, code: int | None = None, reason: str = "") -> None:
        """Close the whole connection, both directions, as :meth:`WebSocketStream.aclose` does.

        Messages that were handed over go out first; calls of `send` that still wait raise ``ClosedLocally``,
        and nothing of their messages is sent. If cancelled, TCP is dropped.

        Raises:
            TypeError, ValueError: as :meth:`WebSocketStream.aclose` does; nothing else.
        """
        check_close_arguments(code, reason)
        self._ending.close(code, reason)
        await self._ending.wait_finished()

    def abort(self, code: int | None = None, reason: str = "") -> None:
        """Close without sending what has not left yet. Does not wait; see `WebSocketStream.wait_closed`."""
        check_close_arguments(code, reason)
        self._ending.close(code, reason, urgent=True)


class _NewMessage(AsyncBlock[MessageWriter]):
    use = "ws.writable.message() as message"

    def __init__(self, sender: Sender, ending: Ending, kind: Kind, size: int | None, compress: bool) -> None:
        self._sender = sender
        self._ending = ending
        self._kind: Kind = kind
        self._size = size
        self._compress = compress
        self._writer: MessageWriter | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<a new {self._kind} message for connection {self._ending.id}>"

    async def __aenter__(self) -> MessageWriter:
        self._sender.check_no_deadlock()
        self._ending.check_open()
        message = await self._sender.begin(self._kind, self._size, compress=self._compress)
        self._writer = MessageWriter(self._sender, self._ending, message)
        return self._writer

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._writer is not None
        await self._writer.__aexit__(exc_type, exc, tb)
