"""The receiving side of a connection: a stream of messages."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import IO

from anyio.abc import ObjectReceiveStream

from wsstream.codec.unread import MessageIterator
from wsstream.display import never_raises
from wsstream.driver.ending import Ending
from wsstream.driver.receiver import Receiver
from wsstream.errors import StreamEnded, check_close_arguments
from wsstream.streams.block import AsyncBlock
from wsstream.streams.condition import described
from wsstream.streams.file_writer import Hash
from wsstream.streams.only import Only, Payload
from wsstream.streams.reader import MessageReader, next_reader

__all__ = ["Readable"]


class Readable(ObjectReceiveStream[str | bytes]):
    """The messages of the peer. A slow reader slows the peer: nothing piles up.

    ``async for message in readable`` yields whole messages and ends with the connection's clean end.
    """

    def __init__(self, receiver: Receiver, ending: Ending) -> None:
        self._receiver = receiver
        self._ending = ending
        self._queue = receiver.inbox.queue
        self._waiting: MessageIterator | None = None  # what `receive` waits for

    @never_raises
    def __repr__(self) -> str:
        return described(self, self._ending)

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
        if message is None:
            if self._waiting is None:
                self._waiting = self._receiver.messages(self._receive)
            message = await self._waiting.__anext__()
        return message

    def message(self) -> AbstractAsyncContextManager[MessageReader]:
        """``async with ws.readable.message() as reader``: wait for the next message and read it in chunks.

        Leaving the block early skips the rest without buffering it. If entering is cancelled,
        nothing is lost. Raises what :meth:`receive` raises, but never ``MessageTooBig``.
        """
        return _NextMessage(self._receiver, self._ending)

    def messages(self) -> AsyncIterator[MessageReader]:
        """An iterator of readers, one for each message. Asking for the next skips the rest of the last.

        It ends and raises as iterating over the readable does; cancelling ``anext()`` loses nothing.
        """
        return _Messages(self._receiver, self._ending)

    async def receive_file(
        self,
        file: str | os.PathLike[str] | IO[bytes],
        *,
        max_bytes: int | None = None,
        progress: Callable[[int], object] | None = None,
        hash: Hash | None = None,
    ) -> int:
        """Save the next message, whatever its size, in a file. Returns the number of bytes.

        A text message is saved as UTF-8. The file, the arguments, and what is raised are those of
        :meth:`MessageReader.save`; a path is opened when the message has begun. If this is cancelled before,
        nothing is lost. If it is cancelled or fails later, the rest of the message is skipped, and the
        connection goes on.

        Raises:
            StreamEnded: as `receive`.
        """
        async with self.message() as reader:
            return await reader.save(file, max_bytes=max_bytes, progress=progress, hash=hash)

    def only(self, payload: type[Payload]) -> ObjectReceiveStream[Payload]:
        """The same messages as a stream of ``str`` (``only(str)``) or of ``bytes`` (``only(bytes)``).

        Of the stream, ``receive()`` and ``async for`` are as here. A message of the other kind closes the
        connection with 1003, and the call that meets it raises :class:`WebSocketError` with that code.

        Raises:
            TypeError: `payload` is neither ``str`` nor ``bytes``.
        """
        return Only(self, payload, self._ending.close)

    def discard(self) -> None:
        """Drop all messages, received and yet to come, for an application that only sends. Control frames are
        handled as before.
        """
        self._receiver.discard()

    async def aclose(self, code: int | None = None, reason: str = "") -> None:
        """Close the whole connection, both directions, as :meth:`WebSocketStream.aclose` does.

        Messages that were received and not read are dropped. If cancelled, TCP is dropped.

        Raises:
            TypeError, ValueError: as :meth:`WebSocketStream.aclose` does; nothing else.
        """
        check_close_arguments(code, reason)
        self._ending.close(code, reason)
        await self._ending.wait_finished()

    def __aiter__(self) -> AsyncIterator[str | bytes]:  # type: ignore[override]
        return self._receiver.messages(self._next)

    async def __anext__(self) -> str | bytes:
        message = self._queue.take_message_now()
        return await self._next() if message is None else message

    async def _next(self) -> str | bytes:
        try:
            return await self._receive()
        except StreamEnded:
            raise StopAsyncIteration from None

    async def _receive(self) -> str | bytes:
        receiver = self._receiver
        receiver.start_taking()
        message = receiver.take_message() if self._queue or self._queue.closed_for else None
        while message is None:
            await receiver.wait_for_data()
            message = self._queue.take_message_now()
            if message is None:
                message = receiver.take_message()
        return message


class _NextMessage(AsyncBlock[MessageReader]):
    use = "ws.readable.message() as message"

    def __init__(self, receiver: Receiver, ending: Ending) -> None:
        self._receiver = receiver
        self._ending = ending
        self._reader: MessageReader | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<the next message of connection {self._ending.id}>"

    async def __aenter__(self) -> MessageReader:
        self._reader = await next_reader(self._receiver, self._ending.id)
        return self._reader

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._reader is not None
        await self._reader.__aexit__(exc_type, exc, tb)


class _Messages(AsyncIterator[MessageReader]):
    def __init__(self, receiver: Receiver, ending: Ending) -> None:
        self._receiver = receiver
        self._ending = ending

    @never_raises
    def __repr__(self) -> str:
        return f"<the messages of connection {self._ending.id}>"

    async def __anext__(self) -> MessageReader:
        try:
            return await next_reader(self._receiver, self._ending.id)
        except StreamEnded:
            raise StopAsyncIteration from None
