"""The receiving side of a connection: a stream of messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import anyio
from anyio.abc import ObjectReceiveStream
from anyio.lowlevel import checkpoint

from wsstream.codec.speedups import MessageIterator
from wsstream.codec.unread import CLOSED_FOR_RECEIVER
from wsstream.display import never_raises
from wsstream.driver.driver import Driver
from wsstream.errors import StreamEnded, check_close_arguments
from wsstream.streams.block import AsyncBlock
from wsstream.streams.condition import described
from wsstream.streams.message import MessageReader
from wsstream.streams.only import Only, Payload

__all__ = ["Readable"]


class Readable(ObjectReceiveStream[str | bytes]):
    """The messages of the peer. A slow reader slows the peer: nothing piles up.

    ``async for message in readable`` gives whole messages and ends with the connection's clean end.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._queue = driver.inbox.queue
        self._reader: MessageReader | None = None
        self.waiting = False  # a task waits for data

    @never_raises
    def __repr__(self) -> str:
        return described(self, self._driver)

    async def receive(self) -> str | bytes:
        """The next message: ``str`` for text, ``bytes`` for binary.

        If cancelled, nothing is lost: call again, or another method. The rest of a message whose
        reader is still open is skipped.

        Raises:
            StreamEnded: the peer closed cleanly, and all it sent was received.
            ConnectionBroken: the connection ended otherwise.
            ClosedLocally: it was closed on this side.
            MessageTooBig: the message is larger than ``max_message_size``; the connection fails
                with 1009.
            anyio.BusyResourceError: another task is receiving.
        """
        message = self._queue.take_message_now()
        return await self._receive() if message is None else message

    def message(self) -> AbstractAsyncContextManager[MessageReader]:
        """``async with ws.readable.message() as reader``: wait for the next message and read it in chunks.

        Leaving the block early skips the rest without buffering it. If entering is cancelled,
        nothing is lost. Raises what :meth:`receive` raises, but never ``MessageTooBig``.
        """
        return _NextMessage(self)

    def messages(self) -> AsyncIterator[MessageReader]:
        """An iterator of readers, one for each message. Asking for the next skips the rest of the last.

        It ends and raises as iterating over the readable does; cancelling ``anext()`` loses nothing.
        """
        return _Messages(self)

    def only(self, payload: type[Payload]) -> ObjectReceiveStream[Payload]:
        """The same messages as a stream of ``str`` (``only(str)``) or of ``bytes`` (``only(bytes)``).

        Of the stream, ``receive()`` and ``async for`` are as here. A message of the other kind closes the
        connection with 1003, and the call that meets it raises :class:`WebSocketError` with that code.

        Raises:
            TypeError: `payload` is neither ``str`` nor ``bytes``.
        """
        return Only(self, payload, self._driver.close)

    def discard(self) -> None:
        """Drop what was received and what will be; control frames go on. For those who only send."""
        self._driver.discard()

    async def aclose(self, code: int | None = None, reason: str = "") -> None:
        """Close the whole connection, both directions, as :meth:`WebSocketStream.aclose` does.

        What was received and not read yet is dropped. If cancelled, TCP is dropped.

        Raises:
            TypeError, ValueError: as :meth:`WebSocketStream.aclose` does; nothing else.
        """
        check_close_arguments(code, reason)
        self._driver.close(code, reason)
        await self._driver.wait_finished()

    def __aiter__(self) -> AsyncIterator[str | bytes]:  # type: ignore[override]
        return MessageIterator(self._queue, self._next)

    async def __anext__(self) -> str | bytes:
        message = self._queue.take_message_now()
        return await self._next() if message is None else message

    async def _next(self) -> str | bytes:
        try:
            return await self._receive()
        except StreamEnded:
            raise StopAsyncIteration from None

    async def _receive(self) -> str | bytes:
        self._skip_open_reader()
        self.check_free()
        message = self._take() if self._queue or self._queue.closed_for else None
        while message is None:
            await self.wait()
            message = self._queue.take_message_now()
            if message is None:
                message = self._take()
        return message

    # -- for readers of one message ----------------------------------------------------------

    async def next_reader(self) -> MessageReader:
        """Wait for the next message to begin."""
        self._skip_open_reader()
        self.check_free()
        driver = self._driver
        while (kind := driver.take(driver.inbox.begin)) is None:
            driver.consumed()
            await self.wait()
        driver.consumed()
        driver.reads_chunks = True
        self._reader = MessageReader(self, driver, kind)
        return self._reader

    def check_free(self) -> None:
        """Raise ``anyio.BusyResourceError`` if another task waits for data: it would take what is its."""
        if self.waiting:
            raise anyio.BusyResourceError("receiving from")

    async def wait(self) -> None:
        """Return when something may have arrived; raise if nothing can."""
        await self._alone(self._driver.more_or_raise())

    async def pause(self) -> None:
        """Let other tasks have their turn."""
        await self._alone(checkpoint())

    async def _alone(self, waiting: Awaitable[None]) -> None:
        self.waiting = True
        self._queue.closed_for |= CLOSED_FOR_RECEIVER
        try:
            await waiting
        finally:
            self.waiting = False
            self._queue.closed_for &= ~CLOSED_FOR_RECEIVER

    def release(self, reader: MessageReader) -> None:
        """`reader` is done with its message."""
        if self._reader is reader:
            self._reader = None
            self._driver.reads_chunks = False

    def _take(self) -> str | bytes | None:
        driver = self._driver
        message = driver.take(driver.inbox.take_message, driver.max_message_size)
        driver.consumed()
        return message

    def _skip_open_reader(self) -> None:
        if self._reader is not None:
            if self._reader.owner != anyio.get_current_task().id:
                raise anyio.BusyResourceError("receiving from")
            self._reader.close()


class _NextMessage(AsyncBlock[MessageReader]):
    use = "ws.readable.message() as message"

    def __init__(self, readable: Readable) -> None:
        self._readable = readable
        self._reader: MessageReader | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<the next message of {self._readable!r}>"

    async def __aenter__(self) -> MessageReader:
        self._reader = await self._readable.next_reader()
        return self._reader

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._reader is not None
        self._reader.close()


class _Messages(AsyncIterator[MessageReader]):
    def __init__(self, readable: Readable) -> None:
        self._readable = readable

    @never_raises
    def __repr__(self) -> str:
        return f"<the messages of {self._readable!r}>"

    async def __anext__(self) -> MessageReader:
        try:
            return await self._readable.next_reader()
        except StreamEnded:
            raise StopAsyncIteration from None
