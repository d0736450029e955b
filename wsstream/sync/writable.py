"""The sending side of a connection, for threads."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import IO, Any, TypeAlias

from wsstream.codec.events import Kind
from wsstream.display import never_raises
from wsstream.errors import check_close_arguments
from wsstream.streams.condition import described
from wsstream.streams.file_writer import Hash
from wsstream.streams.send_chunks import Chunk, check_kind, kind_of_chunk
from wsstream.streams.writer import MessageWriter as AsyncWriter
from wsstream.streams.writer import check_message, payload_of
from wsstream.sync.block import Block
from wsstream.sync.call import Call, check_timeout
from wsstream.sync.link import Link
from wsstream.sync.writer import MessageWriter

__all__ = ["Message", "Writable"]

Message: TypeAlias = str | bytes | bytearray | memoryview | Iterable[Chunk]


class Writable:
    """Where messages are sent, from any number of threads. When the network or the peer is slow, it waits."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._outgoing = link.outgoing
        self._largest = link.outgoing.largest

    @never_raises
    def __repr__(self) -> str:
        return described(self, self._link.ending)

    def send(self, item: Message, *, compress: bool = True, timeout: float | None = None) -> None:
        """Send one message: ``str`` as text, bytes-like as binary. The messages of a thread keep their order.

        A small message is accepted as soon as fewer than ``send_high_water`` bytes wait, and goes out whole
        from then on; one larger than that or than ``frame_size`` is sent before this returns. A connection
        that ends later loses what was accepted, and the next call raises. After a timeout nothing of the
        message is sent; after Ctrl-C nothing or all of it. Either way `item` may be changed afterwards.

        An iterable of ``str`` or of bytes-like objects is one message, whose chunks are sent as they come;
        the timeout is for each of them. If the iterable raises, the message is aborted: Close 1011.

        Raises:
            TimeoutError: the message could not be accepted within `timeout` seconds.
            TypeError: `item` is neither ``str`` nor bytes-like nor an iterable of these, or is a mapping. A
                chunk is of another type than the first; the connection fails.
            ValueError: a memoryview that is not contiguous; a lone surrogate (``UnicodeEncodeError``).
            ConnectionBroken: the peer has closed, or the connection broke.
            ClosedLocally: the connection was closed on this side.
            RuntimeError: this thread holds an unfinished :class:`MessageWriter`.
        """
        if timeout is not None:
            check_timeout(timeout)
        if isinstance(item, bytes):
            payload, whole = item, item
        elif isinstance(item, str):
            payload, whole = item.encode(), item  # type: ignore[assignment]
        elif isinstance(item, bytearray | memoryview):
            if len(payload_of(item)) > self._largest:
                self._send_large(item, compress, timeout)
                return
            payload = whole = bytes(item)
        else:
            self._send_chunks(item, compress, timeout)
            return
        if len(payload) > self._largest:
            self._send_large(item, compress, timeout)
        else:
            self._outgoing.put(whole, payload, compress, timeout)

    def _send_large(self, item: Any, compress: bool, timeout: float | None) -> None:
        async def send() -> None:
            await self._outgoing.wait_empty()
            await self._link.ws.send(item, compress=compress)

        with self._outgoing.turn(timeout):
            self._link.call(send, timeout)

    def _send_chunks(self, item: object, compress: bool, timeout: float | None) -> None:
        if isinstance(item, AsyncIterable):
            raise TypeError("an async iterable cannot be sent without async")
        if isinstance(item, Mapping) or not isinstance(item, Iterable):
            raise TypeError(f"a message must be str or bytes-like, not {type(item).__name__}")
        chunks: Iterator[Chunk] = iter(item)
        for first in chunks:
            with self.message(kind_of_chunk(first), compress=compress, timeout=timeout) as writer:
                writer.send(first, timeout=timeout)
                for chunk in chunks:
                    check_kind(first, chunk)
                    writer.send(chunk, timeout=timeout)

    def message(
        self,
        kind: Kind = "binary",
        *,
        size: int | None = None,
        compress: bool = True,
        timeout: float | None = None,
    ) -> AbstractContextManager[MessageWriter]:
        """``with writable.message() as writer``: send one message chunk by chunk.

        Entering waits for the turn; other threads' messages then wait for the end of the block. Leaving
        finishes the message; leaving by an exception closes with 1011 instead. With `size`, the message is
        one frame of that many bytes, never compressed, for peers that do not take fragments; Pings are then
        answered only after it. `compress` is as for `send`.

        Raises:
            ValueError: another kind than ``"text"`` or ``"binary"``, or a negative size.
            TimeoutError: on entering: it was not this thread's turn within `timeout` seconds.
            RuntimeError: on entering, this thread already holds an unfinished writer.
        """
        check_message(kind, size)
        check_timeout(timeout)
        return _NewMessage(self._link, kind, size, compress, timeout)

    def send_file(
        self,
        file: str | os.PathLike[str] | IO[bytes],
        *,
        offset: int = 0,
        count: int | None = None,
        progress: Callable[[int], object] | None = None,
        hash: Hash | None = None,
    ) -> int:
        """Send a file, or `count` bytes of it from `offset`, as one binary message of any size.

        Returns the number of bytes sent, when all of them have left for the kernel. The file, the arguments
        and what is raised are those of the asynchronous :meth:`wsstream.Writable.send_file`, but `progress`
        is called in this thread. After Ctrl-C the message is aborted: Close 1011.

        Raises:
            TypeError, OSError, EOFError: as there.
        """
        outgoing = self._outgoing

        async def send() -> int:
            await outgoing.wait_empty()
            return await self._link.ws.writable.send_file(
                file, offset=offset, count=count, progress=report, hash=hash
            )

        def tell(sent: int) -> None:
            call.tell(lambda: progress(sent))  # type: ignore[misc]

        report = None if progress is None else tell
        call: Call[int] = Call(send)
        with outgoing.turn():
            return self._link.background.run(call)

    def drain(self, *, timeout: float | None = None) -> None:
        """Wait until everything accepted has left for the kernel.

        Raises:
            TimeoutError: some of it has not within `timeout` seconds.
            ConnectionBroken, ClosedLocally: the connection has ended.
        """

        async def drain() -> None:
            await self._outgoing.wait_empty()
            await self._link.ws.writable.drain()

        self._link.call(drain, timeout)

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Close the whole connection, both directions, as :meth:`WebSocketStream.close` does.

        Messages that were accepted go out first; calls of `send` that still wait raise ``ClosedLocally``.

        Raises:
            TypeError, ValueError: as :meth:`WebSocketStream.close` does.
        """
        check_close_arguments(code, reason)
        self._link.close(code, reason)

    def abort(self, code: int | None = None, reason: str = "") -> None:
        """Close without sending what has not left yet. Does not wait; see `WebSocketStream.wait_closed`."""
        check_close_arguments(code, reason)
        self._link.abort(code, reason, with_close=True)


class _NewMessage(Block[MessageWriter]):
    use = "ws.writable.message() as message"

    def __init__(
        self, link: Link, kind: Kind, size: int | None, compress: bool, timeout: float | None
    ) -> None:
        self._link = link
        self._kind: Kind = kind
        self._size = size
        self._compress = compress
        self._timeout = timeout
        self._begun: AsyncWriter | None = None
        self._writer: MessageWriter | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<a new {self._kind} message for connection {self._link.ending.id}>"

    def __enter__(self) -> MessageWriter:
        link = self._link
        link.outgoing.take_turn(self._timeout)
        try:
            link.call(self._begin, self._timeout)
            assert self._begun is not None
            self._writer = MessageWriter(link, self._begun)
        except BaseException:
            if self._begun is not None:  # Ctrl-C came at the last moment
                link.background.post_if_alive(self._begun.abort)
            link.outgoing.pass_turn()
            raise
        return self._writer

    async def _begin(self) -> None:
        await self._link.outgoing.wait_empty()
        block = self._link.ws.writable.message(self._kind, size=self._size, compress=self._compress)
        self._begun = await block.__aenter__()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._writer is not None
        self._writer._end(exc)
