"""One message as a stream of bytes: the reader and the writer."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream
from anyio.lowlevel import checkpoint

from wsstream.codec.events import Kind
from wsstream.codec.utf8 import UTF8Validator
from wsstream.display import never_raises
from wsstream.driver.driver import Driver
from wsstream.driver.outbox import OutgoingMessage
from wsstream.errors import InvalidUTF8, MessageAborted
from wsstream.protocol.file_frames import FileRange

if TYPE_CHECKING:
    from wsstream.streams.readable import Readable
    from wsstream.streams.writable import Writable

__all__ = ["MessageReader", "MessageWriter", "payload_of"]


def payload_of(data: object, rule: str = "a message must be str or bytes-like") -> bytes | memoryview:
    """The bytes of a binary message or chunk; mutable buffers are referred to, not copied.

    Raises:
        TypeError: `data` is not bytes-like, which breaks the `rule`.
        ValueError: it is a memoryview that was released or is not contiguous.
    """
    if isinstance(data, bytes):
        return data
    if not isinstance(data, bytearray | memoryview):
        raise TypeError(f"{rule}, not {type(data).__name__}")
    view = memoryview(data)
    if not view.c_contiguous:
        raise ValueError("a memoryview must be contiguous to be sent")
    return view.cast("B")


class MessageReader(ByteReceiveStream):
    """The message that is being received, chunk by chunk, as it arrives.

    Made by :meth:`Readable.message` and :meth:`Readable.messages`. The chunks of a text message are
    UTF-8, checked, and may end inside a code point; wrap the reader in
    :class:`anyio.streams.text.TextReceiveStream` for ``str``.

    Attributes:
        kind: ``"text"`` or ``"binary"``.
        bytes_received: bytes handed out so far.
        complete: the message was handed out to its end.
    """

    kind: Kind
    bytes_received: int
    complete: bool

    def __init__(self, readable: Readable, driver: Driver, kind: Kind) -> None:
        self.kind = kind
        self.bytes_received = 0
        self.complete = False
        self.owner = anyio.get_current_task().id
        self._readable = readable
        self._driver = driver
        self._closed = False

    @never_raises
    def __repr__(self) -> str:
        state = "complete" if self.complete else "closed" if self._closed else "open"
        text = f"{self.kind}, {self.bytes_received} bytes received, {state}"
        return f"<MessageReader of connection {self._driver.id}: {text}>"

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next 1 to `max_bytes` bytes, as soon as there is one. If cancelled, none is lost.

        Raises:
            anyio.EndOfStream: the message is complete.
            ConnectionBroken: the connection ended inside the message.
            ClosedLocally: the connection was closed on this side.
            anyio.ClosedResourceError: the reader was closed.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        inbox, driver, readable = self._driver.inbox, self._driver, self._readable
        readable.check_free()
        while True:
            self._check()
            if driver.is_turn_over(max_bytes):
                await readable.pause()
            if chunk := driver.take(inbox.take_chunk, max_bytes):
                self._taken(len(chunk))
                return chunk
            driver.consumed()  # empty fragments may have gone
            if inbox.complete:
                self._finish()
                raise anyio.EndOfStream
            await readable.wait()

    async def read(self) -> bytes:
        """The rest of the message, up to the ``max_message_size`` of the connection.

        If cancelled, no byte is lost. After the end of the message: ``b""``.

        Raises:
            MessageTooBig: the rest is larger; the connection fails with 1009.
        """
        if self.complete:
            await checkpoint()
            return b""
        inbox, driver, readable = self._driver.inbox, self._driver, self._readable
        readable.check_free()
        while True:
            self._check()
            rest = driver.take(inbox.take_rest, driver.max_message_size)
            driver.consumed()
            if rest is not None:
                self._taken(len(rest))
                self._finish()
                return rest
            await readable.wait()

    async def aclose(self) -> None:
        """Skip the rest of the message without buffering it; the connection goes on. Never waits.

        Afterwards the reader's calls raise ``anyio.ClosedResourceError``, or after the end of the message
        ``anyio.EndOfStream`` as before. Closing again does nothing, and nothing is raised but cancellation:
        then the rest is skipped all the same.
        """
        self.close()
        await checkpoint()

    def close(self) -> None:
        """Skip the rest, without a checkpoint."""
        if not self._closed:
            self._closed = True
            self._readable.release(self)
            if not self.complete:
                self._driver.inbox.finish()
                self._driver.consumed()

    def _check(self) -> None:
        if self.complete:
            raise anyio.EndOfStream
        if self._closed:
            raise anyio.ClosedResourceError

    def _taken(self, size: int) -> None:
        self.bytes_received += size
        self._driver.consumed()
        if self._driver.inbox.complete:
            self._finish()

    def _finish(self) -> None:
        if not self.complete:
            self.complete = True
            self._readable.release(self)
            self._driver.inbox.finish()

    async def __aenter__(self) -> MessageReader:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class MessageWriter(ByteSendStream):
    """The message that is being sent, chunk by chunk. Made by :meth:`Writable.message`.

    Leaving the block finishes the message (FIN). Leaving it by an exception, also by cancellation,
    never does: the peer sees no end of the message, and Close 1011.

    Attributes:
        kind: ``"text"`` or ``"binary"``.
        bytes_sent: bytes handed over so far.
    """

    kind: Kind
    bytes_sent: int

    def __init__(self, writable: Writable, driver: Driver, message: OutgoingMessage) -> None:
        self.kind = message.kind
        self.bytes_sent = 0
        self.owner = anyio.get_current_task().id
        self._writable = writable
        self._driver = driver
        self._message = message
        self._utf8 = UTF8Validator()
        self._closed = False
        self._sending = anyio.ResourceGuard("writing to")

    @never_raises
    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        text = f"{self.kind}, {self.bytes_sent} bytes sent, {state}"
        return f"<MessageWriter of connection {self._driver.id}: {text}>"

    async def send(self, item: bytes | bytearray | memoryview | str) -> None:
        """Send a chunk. A text message takes ``str``, or bytes of UTF-8 cut anywhere.

        If cancelled while it waits for room, nothing of the chunk is sent; afterwards all of it is.
        Either way the writer can be used on, and `item` changed.

        Raises:
            TypeError: a ``str`` in a binary message, or no bytes-like object.
            ValueError: more bytes than declared; a lone surrogate (``UnicodeEncodeError``).
            InvalidUTF8: bytes that are not UTF-8, in a text message; nothing of the chunk is sent.
            ConnectionBroken, ClosedLocally: the connection has ended.
            anyio.ClosedResourceError: the writer was closed.
        """
        with self._sending:
            self._check()
            payload = self._encode(item)
            size = len(payload)
            if self._message.declared is not None and self.bytes_sent + size > self._message.declared:
                raise ValueError(
                    f"the message must have the {self._message.declared} bytes it was declared with"
                )
            await self._driver.wait_for_room()
            self._check()
            self._validate(payload)
            self.bytes_sent += size
            await self._driver.hand_over(self._message, payload, finished=False)

    async def send_range(self, part: FileRange) -> None:
        """Send a part of a file, where the driver `sends_files`, and wait until it has left for the kernel.

        If cancelled, only `abort` is left.
        """
        with self._sending:
            self._check()
            await self._driver.wait_for_room()
            self._check()
            self.bytes_sent += len(part)
            await self._driver.hand_over_file(self._message, part)

    async def flush(self) -> None:
        """Wait until all that was sent so far has left for the kernel. May be cancelled."""
        with self._sending:
            self._check()
            await self._driver.flush(self._message)
            self._driver.check_open()

    async def aclose(self) -> None:
        """Finish the message. If cancelled, it is finished all the same. On a closed writer nothing happens.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended, so the peer does not see the end.
            InvalidUTF8: a text message ends inside a code point; the connection fails with 1011.
            ValueError: fewer bytes than declared; the connection fails.
        """
        if self._closed:
            await checkpoint()
            return
        self._close()
        self._driver.check_open()
        problem = self._unfinished()
        if problem is not None:
            self._driver.fail(MessageAborted("a message was left unfinished"))
            raise problem
        await self._driver.hand_over(self._message, b"", finished=True)

    def abort(self) -> None:
        """Leave the message unfinished: the connection fails with 1011. Never waits."""
        if not self._closed:
            self._close()
            if self._driver.outbox.message is self._message:
                self._driver.fail(MessageAborted("a message was left unfinished"))

    def _close(self) -> None:
        self._closed = True
        self._writable.release(self)

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        self._driver.check_open()

    def _encode(self, item: object) -> bytes | memoryview:
        if self.kind == "binary":
            return payload_of(item, "a binary message takes bytes")
        if isinstance(item, str):
            return item.encode()
        return payload_of(item, "a text message takes str or bytes")

    def _validate(self, payload: bytes | memoryview) -> None:
        if self.kind == "text" and not self._utf8.feed(payload, last=False):
            raise InvalidUTF8("the chunk of a text message is not UTF-8")

    def _unfinished(self) -> Exception | None:
        declared = self._message.declared
        if declared is not None and self.bytes_sent != declared:
            return ValueError(
                f"the message must have the {declared} bytes it was declared with, got {self.bytes_sent}"
            )
        if self.kind == "text" and not self._utf8.feed(b"", last=True):
            return InvalidUTF8("the text message ends inside a code point")
        return None

    async def __aenter__(self) -> MessageWriter:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is None:
            await self.aclose()
        else:
            self.abort()
