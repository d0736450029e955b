"""The binary messages of a WebSocket as one stream of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteStream

from wsstream.errors import WebSocketError
from wsstream.protocol.showing import never_raises
from wsstream.streams.message import MessageReader, payload_of

if TYPE_CHECKING:
    from wsstream.streams.websocket import WebSocketStream

__all__ = ["WebSocketByteStream"]


class WebSocketByteStream(ByteStream):
    """An :class:`anyio.abc.ByteStream` over binary messages. Made by ``ws.byte_stream()``."""

    def __init__(self, ws: WebSocketStream, eof: bytes | None) -> None:
        if eof is not None and len(eof) == 1:
            raise ValueError("an end mark of one byte could not be told from data")
        self._ws = ws
        self._eof = eof
        self._reader: MessageReader | None = None
        self._undecided = False  # whether the message is the end mark cannot be told yet
        self._held = bytearray()  # its beginning, until that is decided and while it is handed out
        self._ended = False  # the peer's direction
        self._sent_eof = False

    @never_raises
    def __repr__(self) -> str:
        return f"<WebSocketByteStream over {self._ws!r}>"

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next 1 to `max_bytes` bytes. If cancelled, none is lost.

        Raises:
            anyio.EndOfStream: the end mark came, or the peer closed cleanly.
            ConnectionBroken: the connection ended otherwise.
            ClosedLocally: it was closed on this side.
            WebSocketError: a text message came; its code is 1003.
        """
        if max_bytes < 1:
            raise ValueError("max_bytes is at least 1")
        while not self._ended:
            reader = self._reader or await self._next_message()
            self._undecided = self._undecided and self._may_be_mark(reader)
            if self._held and not self._undecided:
                return self._take_held(max_bytes)
            if reader.complete:
                self._ended = self._undecided
                self._reader = None
                continue
            try:
                chunk = await reader.receive(max_bytes)
            except anyio.EndOfStream:
                continue
            if not self._undecided:
                return chunk
            self._held += chunk
        raise anyio.EndOfStream

    async def _next_message(self) -> MessageReader:
        reader = await self._ws.readable.next_reader()
        if reader.kind != "binary":
            raise WebSocketError("a byte stream has binary messages only", code=1003)
        self._reader = reader
        self._undecided = True
        return reader

    def _may_be_mark(self, reader: MessageReader) -> bool:
        if self._eof is None:
            return False
        return self._held == self._eof if reader.complete else self._eof.startswith(self._held)

    def _take_held(self, max_bytes: int) -> bytes:
        chunk = bytes(self._held[:max_bytes])
        del self._held[:max_bytes]
        return chunk

    async def send(self, item: bytes | bytearray | memoryview) -> None:
        """Send bytes as one binary message; no bytes, no message. If cancelled: as `Writable.send`."""
        if self._sent_eof:
            raise anyio.ClosedResourceError
        payload = payload_of(item)
        if self._eof and payload == self._eof:
            await self._ws.send(payload[:1])
            payload = payload[1:]
        if payload:
            await self._ws.send(payload)

    async def send_eof(self) -> None:
        """End this direction with the mark.

        Raises:
            NotImplementedError: no mark was agreed on.
        """
        if self._eof is None:
            raise NotImplementedError("without an end mark a WebSocket cannot close one direction alone")
        if not self._sent_eof:
            await self._ws.send(self._eof)
            self._sent_eof = True

    async def aclose(self) -> None:
        """Close the WebSocket with 1000."""
        await self._ws.aclose(1000)
