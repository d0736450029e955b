"""One message of the peer as a stream of bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import IO

import anyio
from anyio.abc import ByteReceiveStream
from anyio.lowlevel import checkpoint

from wsstream.codec.events import Kind
from wsstream.display import never_raises
from wsstream.driver.receiver import Receiver
from wsstream.streams.file_writer import Hash
from wsstream.streams.save import save_message

__all__ = ["MessageReader", "next_reader"]

_LARGEST_CHUNK = 256 * 1024  # bytes; no piece that arrives is larger
_LEAST_COUNTED = 4096  # bytes; a smaller chunk takes as much of other tasks' time as one of this size


class MessageReader(ByteReceiveStream):
    """The message that is being received, chunk by chunk, as it arrives.

    Made by :meth:`Readable.message` and :meth:`Readable.messages`. The chunks of a text message are
    UTF-8, checked, and may end inside a code point; wrap the reader in
    :class:`anyio.streams.text.TextReceiveStream` for ``str``.

    ``async for chunk in reader`` yields the chunks as they arrived, of 1 byte to 256 KiB each; use
    :meth:`receive` for a smaller limit.

    Attributes:
        kind (str): ``"text"`` or ``"binary"``.
        bytes_received: bytes handed out so far.
        complete: the message was handed out to its end.
    """

    kind: Kind
    bytes_received: int
    complete: bool

    def __init__(self, receiver: Receiver, kind: Kind, connection_id: str) -> None:
        self.kind = kind
        self.bytes_received = 0
        self.complete = False
        self._receiver = receiver
        self._id = connection_id
        self._task = anyio.get_current_task().id
        self._closed = False
        self._counted = 0  # of the last chunk, for `Receiver.yield_after`
        receiver.inbox.reader = self

    @never_raises
    def __repr__(self) -> str:
        state = "complete" if self.complete else "closed" if self._closed else "open"
        text = f"{self.kind}, {self.bytes_received} bytes received, {state}"
        return f"<MessageReader of connection {self._id}: {text}>"

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next 1 to `max_bytes` bytes, as soon as one has arrived. If cancelled, none is lost.

        Raises:
            anyio.EndOfStream: the message is complete.
            ConnectionBroken: the connection ended inside the message.
            ClosedLocally: the connection was closed on this side.
            anyio.ClosedResourceError: the reader was closed.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        receiver = self._receiver
        receiver.check_not_busy()
        while True:
            self._check()
            await receiver.yield_after(self._counted)
            self._counted = _LEAST_COUNTED
            if chunk := receiver.take_chunk(max_bytes):
                self._counted = max(len(chunk), _LEAST_COUNTED)
                self._count(len(chunk))
                return chunk
            if receiver.inbox.is_complete:
                self._finish()
                raise anyio.EndOfStream
            await receiver.wait_for_data()

    def _take_arrived(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of what has arrived, without waiting; ``b""``: nothing has, or no more will."""
        chunks: list[bytes] = []
        while max_bytes and not self.complete and not self._closed:
            chunk = self._receiver.take_chunk(max_bytes)
            if not chunk:
                break
            chunks.append(chunk)
            max_bytes -= len(chunk)
            self._count(len(chunk))
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def __anext__(self) -> bytes:
        try:
            return await self.receive(_LARGEST_CHUNK)
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def read(self) -> bytes:
        """The rest of the message, up to the ``max_message_size`` of the connection.

        If cancelled, no byte is lost. After the end of the message: ``b""``.

        Raises:
            MessageTooBig: the rest is larger; the connection fails with 1009.
        """
        if self.complete:
            await checkpoint()
            return b""
        receiver = self._receiver
        receiver.check_not_busy()
        while True:
            self._check()
            rest = receiver.take_rest()
            if rest is not None:
                self._count(len(rest))
                self._finish()
                return rest
            await receiver.wait_for_data()

    async def save(
        self,
        file: str | os.PathLike[str] | IO[bytes],
        *,
        max_bytes: int | None = None,
        progress: Callable[[int], object] | None = None,
        hash: Hash | None = None,
    ) -> int:
        """Write the rest of the message to a file, whatever its size. Returns the number of bytes.

        `file` is a path, whose file is created or replaced, or a binary file object, which is written from
        its position and stays open; what it has in a buffer of its own is not flushed. A worker thread writes
        while more is received: at most 5 MiB wait for it. A file that was given by its path is closed, and
        keeps what it has if the call fails or is cancelled.

        If cancelled, the bytes received so far are written first. Then the file has all that the reader
        handed out, no byte is lost, and the reader can be used on.

        Args:
            max_bytes: the most bytes to take. ``None``: any number.
            progress: called in the event loop with the number of bytes written, at most 20 times a second,
                and at the end.
            hash: such as ``hashlib.sha256()``: its ``update`` is called with the bytes, in worker threads.

        Raises:
            TypeError: `file` is a text file, or not a file; `hash` is not a hash.
            OSError: the file cannot be opened or written. The bytes in memory then are lost; the rest of the
                message can be read. What `progress` and `hash` raise has the same effect.
            MessageTooBig: the rest has more than `max_bytes` bytes, of which all have been written; the
                connection fails with 1009.
            ConnectionBroken, ClosedLocally: as `receive`; the bytes before that have been written.
            anyio.ClosedResourceError: the reader was closed.
        """
        return await save_message(self.receive, self._receiver.refuse, file, max_bytes, progress, hash)

    async def aclose(self) -> None:
        """Skip the rest of the message without buffering it; the connection goes on. Never waits.

        Afterwards the reader's calls raise ``anyio.ClosedResourceError``, or after the end of the message
        ``anyio.EndOfStream`` as before. Closing again does nothing, and nothing is raised but cancellation:
        then the rest is skipped all the same.
        """
        self._close()
        await checkpoint()

    def _close(self) -> None:
        self._closed = True
        self._receiver.finish(self)

    def _give_way(self) -> None:
        """Skip the rest, as its own task asks for the next message."""
        if self._task != anyio.get_current_task().id:
            raise anyio.BusyResourceError("receiving from")
        self._close()

    def _check(self) -> None:
        if self.complete:
            raise anyio.EndOfStream
        if self._closed:
            raise anyio.ClosedResourceError

    def _count(self, size: int) -> None:
        self.bytes_received += size
        if self._receiver.inbox.is_complete:
            self._finish()

    def _finish(self) -> None:
        self.complete = True
        self._receiver.finish(self)

    async def __aenter__(self) -> MessageReader:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._close()


async def next_reader(receiver: Receiver, connection_id: str) -> MessageReader:
    """Wait for the next message to begin; the rest of the one before is skipped."""
    receiver.start_taking()
    while (kind := receiver.begin()) is None:
        await receiver.wait_for_data()
    return MessageReader(receiver, kind, connection_id)
