"""One message that is being sent, as a stream of bytes."""

from __future__ import annotations

from types import TracebackType

import anyio
from anyio.abc import ByteSendStream
from anyio.lowlevel import checkpoint

from wsstream.arguments import check_int
from wsstream.codec.events import Kind
from wsstream.codec.utf8 import UTF8Validator
from wsstream.display import never_raises
from wsstream.driver.ending import Ending
from wsstream.driver.outgoing import OutgoingMessage
from wsstream.driver.sender import Sender
from wsstream.errors import InvalidUTF8, MessageAborted

__all__ = ["MessageWriter", "check_message", "payload_of"]


def check_message(kind: object, size: object) -> None:
    """Check the arguments of ``writable.message``.

    Raises:
        TypeError: `size` is no int.
        ValueError: `kind` is neither ``"text"`` nor ``"binary"``, or no frame has this `size`.
    """
    if kind not in ("text", "binary"):
        raise ValueError(f"the kind of a message must be 'text' or 'binary', got {kind!r}")
    check_int("the size of a message", size, 0, (1 << 63) - 1, optional=True)


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


class MessageWriter(ByteSendStream):
    """The message that is being sent, chunk by chunk. Made by :meth:`Writable.message`.

    Leaving the block finishes the message (FIN). Leaving it by an exception, also by cancellation,
    never does: the peer sees no end of the message, and Close 1011.

    Attributes:
        kind (str): ``"text"`` or ``"binary"``.
        bytes_sent: bytes handed over so far.
    """

    kind: Kind
    bytes_sent: int

    def __init__(self, sender: Sender, ending: Ending, message: OutgoingMessage) -> None:
        self.kind = message.kind
        self.bytes_sent = 0
        self._sender = sender
        self._ending = ending
        self._task = anyio.get_current_task().id
        self._message = message
        self._utf8 = UTF8Validator()
        self._closed = False
        self._sending = anyio.ResourceGuard("writing to")
        sender.writer = self

    @never_raises
    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        text = f"{self.kind}, {self.bytes_sent} bytes sent, {state}"
        return f"<MessageWriter of connection {self._ending.id}: {text}>"

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
            await self._sender.wait_for_room()
            self._check()
            self._validate(payload)
            self.bytes_sent += size
            await self._sender.append(self._message, payload, finished=False)

    async def flush(self) -> None:
        """Wait until all chunks sent so far have left for the kernel. If cancelled, only the waiting ends.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended.
            anyio.ClosedResourceError: the writer was closed.
        """
        with self._sending:
            self._check()
            await self._sender.flush(self._message)
            self._ending.check_open()

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
        self._ending.check_open()
        problem = self._unfinished()
        if problem is not None:
            self._ending.fail(MessageAborted("a message was left unfinished"))
            raise problem
        await self._sender.append(self._message, b"", finished=True)

    def abort(self) -> None:
        """Leave the message unfinished: the connection fails with 1011. Never waits."""
        if not self._closed:
            self._close()
            self._sender.abandon(self._message)

    def _refuse_deadlock(self) -> None:
        if self._task == anyio.get_current_task().id:
            raise RuntimeError("this task must finish its MessageWriter before it sends another message")

    def _close(self) -> None:
        self._closed = True
        if self._sender.writer is self:
            self._sender.writer = None

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        self._ending.check_open()

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
