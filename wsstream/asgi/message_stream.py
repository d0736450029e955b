"""The messages of any ASGI server as the bytes of a WebSocket's frames.

So a connection of this library runs on top of them: the streams, their flow control and their closing are the
same ones. The frames that come are made here, with a masking key of zeros, which costs nothing to apply; of
those that go, whole messages are put together again, as ASGI knows nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
from anyio.abc import ByteStream

from wsstream.asgi.scope import Receive, Send
from wsstream.close_codes import CloseCode, is_close_code
from wsstream.codec.decoder import Decoder
from wsstream.codec.encoder import encode_close, encode_frame, first_byte
from wsstream.codec.events import Chunk, Close, Event, Ping
from wsstream.codec.frames import Opcode
from wsstream.codec.framing import encode_header
from wsstream.errors import MessageTooBig

__all__ = ["MessageStream"]

_KEY = bytes(4)


class MessageStream(ByteStream):
    """The server's end of a WebSocket's bytes, over ASGI's messages.

    Args:
        receive, send: the application's, after ``websocket.accept``.
        max_message_size: the largest message that is put together; ``None``: any.
    """

    def __init__(self, receive: Receive, send: Send, max_message_size: int | None) -> None:
        self._receive = receive
        self._send = send
        self._limit = max_message_size
        self._arrived = memoryview(b"")
        self._decoder = Decoder(masked=False)
        self._parts = bytearray()  # of the message that is being sent
        self._receiving: anyio.CancelScope | None = None
        self._disconnected = False  # the client's Close, or its end, has been passed on
        self._closed = False  # ours has been sent

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return bytes of the frames of the client. If cancelled, no byte that arrived is lost.

        Raises:
            anyio.EndOfStream: the client has left without a Close.
            anyio.BrokenResourceError: the server's ``receive`` raised, with that as cause.
        """
        while not self._arrived:
            if self._disconnected:
                raise anyio.EndOfStream
            with anyio.CancelScope() as self._receiving:
                try:
                    message = await self._receive()
                except Exception as error:
                    raise anyio.BrokenResourceError from error
                self._add(self._frame_of(message))
            self._receiving = None
        data = bytes(self._arrived[:max_bytes])
        self._arrived = self._arrived[max_bytes:]
        return data

    def _frame_of(self, message: Mapping[str, Any]) -> bytes:
        if message["type"] != "websocket.receive":
            self._disconnected = True
            code = message.get("code", CloseCode.NO_CODE)
            if code == CloseCode.NO_CODE:
                return _close_frame(None, "")
            return _close_frame(code, message.get("reason") or "") if is_close_code(code) else b""
        if (data := message.get("bytes")) is None:
            return _message_frame(Opcode.TEXT, message["text"].encode())
        return _message_frame(Opcode.BINARY, data)

    async def send(self, item: bytes) -> None:
        """Send the messages that end in `item`. If cancelled, nobody knows how many were sent.

        Raises:
            anyio.BrokenResourceError: the server's ``send`` raised, or a message is too big, with that as
                cause.
        """
        data = memoryview(item)
        while data:
            events = self._decoder.decode(data, len(item) + 1)
            data = data[self._decoder.consumed :]
            for event in events:
                await self._pass_on(event)

    async def _pass_on(self, event: Event) -> None:
        if isinstance(event, Chunk):
            self._parts += event.payload
            if self._limit is not None and len(self._parts) > self._limit:
                size = f"max_message_size, {self._limit} bytes"
                raise anyio.BrokenResourceError from MessageTooBig(f"an ASGI message would be above {size}")
            if event.last:
                data, self._parts = bytes(self._parts), bytearray()
                await self._send_message(data.decode() if event.kind == "text" else data)
        elif isinstance(event, str | bytes):
            await self._send_message(event)
        elif isinstance(event, Ping):  # the server keeps the client alive, and has no message for this
            self._put(encode_frame(Opcode.PONG, event.payload, _KEY))
        elif isinstance(event, Close) and not self._closed:
            await self._close(event)

    async def _send_message(self, data: str | bytes) -> None:
        kind = "text" if isinstance(data, str) else "bytes"
        await self._tell({"type": "websocket.send", kind: data})

    async def _close(self, event: Close) -> None:
        """Send ``websocket.close``. Not every server tells that the client has closed then, so we answer."""
        self._closed = True
        if self._disconnected:
            return
        self._disconnected = True
        code = CloseCode.NORMAL if event.code is None else event.code
        await self._tell({"type": "websocket.close", "code": int(code), "reason": event.reason})
        self._put(_close_frame(event.code, event.reason))

    def _put(self, frame: bytes) -> None:
        """Have `receive` return this, too, which may be waiting for the server."""
        self._add(frame)
        if self._receiving is not None:
            self._receiving.cancel()

    def _add(self, frame: bytes) -> None:
        self._arrived = memoryview(b"".join((self._arrived, frame)) if self._arrived else frame)

    async def _tell(self, message: dict[str, Any]) -> None:
        try:
            await self._send(message)
        except Exception as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """Nothing: ASGI cannot close one direction alone. Never waits, so it cannot be cancelled."""

    async def aclose(self) -> None:
        """Close with 1011, unless the connection has been closed. If cancelled, perhaps without.

        Raises nothing but cancellation.
        """
        if self._disconnected or self._closed:
            await anyio.lowlevel.checkpoint()
            return
        self._closed = self._disconnected = True
        try:
            await self._send({"type": "websocket.close", "code": int(CloseCode.INTERNAL_ERROR), "reason": ""})
        except Exception:  # the client has left, or the server is ending
            await anyio.lowlevel.checkpoint()


def _message_frame(opcode: int, payload: bytes) -> bytes:
    return b"".join((encode_header(first_byte(opcode), len(payload), _KEY), payload))


def _close_frame(code: int | None, reason: str) -> bytes:
    return encode_frame(Opcode.CLOSE, encode_close(code, reason), _KEY)
