"""A peer that the test controls: it does the opening handshake by itself, then sends and reads raw frames.

It keeps no state of the protocol, never answers, and checks only frame headers, so it can play a hostile
endpoint over any anyio byte stream.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self, Unpack

import anyio
from anyio.abc import ByteReceiveStream, ByteStream

from . import frames
from .catalogue import Role
from .frames import EXAMPLE_KEY, Frame, FrameOptions, PeerError, next_frame

__all__ = ["FrameReader", "RawPeer"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_EXAMPLE_NONCE = "dGhlIHNhbXBsZSBub25jZQ=="
_MAX_HEAD = 16384


class FrameReader:
    """Reads frames from a byte stream.

    Args:
        stream: where the bytes come from.
        masked: see :func:`parse_frames`.
        max_frame: the largest frame that is read, in bytes, with its header.
    """

    def __init__(
        self, stream: ByteReceiveStream, *, masked: bool | None = None, max_frame: int = 1 << 26
    ) -> None:
        self.stream = stream
        self._masked = masked
        self._max_frame = max_frame
        self._data = bytearray()

    async def read(self) -> Frame:
        """Wait for a complete frame and return it. If cancelled, no byte is lost.

        Raises:
            anyio.EndOfStream: the stream ended between two frames.
            anyio.IncompleteRead: it ended inside a frame.
            PeerError: see :func:`parse_frames`; or the frame is larger than `max_frame`.
        """
        while (found := next_frame(self._data, masked=self._masked)) is None:
            self._check_size(len(self._data) + 1)
            await self._read_more()
        frame, end = found
        self._check_size(end)
        del self._data[:end]
        return frame

    async def read_head(self) -> bytes:
        """Wait for the head of an HTTP request or response and return it with its empty line.

        If cancelled, no byte is lost.

        Raises:
            anyio.EndOfStream, anyio.IncompleteRead: as for :meth:`read`.
            PeerError: it is longer than 16 KiB.
        """
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            if len(self._data) > _MAX_HEAD:
                raise PeerError(f"the head is longer than {_MAX_HEAD} bytes")
            await self._read_more()
        head = bytes(self._data[: end + 4])
        del self._data[: end + 4]
        return head

    def _check_size(self, size: int) -> None:
        if size > self._max_frame:
            raise PeerError(f"a frame is larger than {self._max_frame} bytes")

    async def _read_more(self) -> None:
        try:
            self._data += await self.stream.receive()
        except anyio.EndOfStream:
            if self._data:
                raise anyio.IncompleteRead from None
            raise


class RawPeer:
    """One endpoint, driven frame by frame. Made by :meth:`as_client` or :meth:`as_server`.

    The methods that send a frame (:meth:`text`, :meth:`close` and so on) mask it as the role requires, with
    the key `mask`; :meth:`send` sends any bytes. If they are cancelled, part of the frame may have been sent.
    They raise what the stream raises: :class:`anyio.BrokenResourceError`, :class:`anyio.ClosedResourceError`.
    Reading raises :class:`PeerError` for a frame with an invalid header, or masked against the rule.

    `head` is the head of the other side's request or response.
    """

    def __init__(self, stream: ByteStream, role: Role, *, mask: bytes = EXAMPLE_KEY) -> None:
        self.stream = stream
        self.role: Role = role
        self.mask = mask if role == "client" else None
        self.head = b""
        self._reader = FrameReader(stream, masked=role == "server")

    @classmethod
    async def as_client(
        cls,
        stream: ByteStream,
        *,
        host: str = "testserver",
        path: str = "/",
        subprotocols: Sequence[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        mask: bytes = EXAMPLE_KEY,
    ) -> Self:
        """Do the opening handshake as a client (RFC 6455 section 4.1). If cancelled, `stream` is of no more
        use.

        Raises:
            PeerError: the server did not accept it, or its ``Sec-WebSocket-Accept`` is wrong.
            anyio.EndOfStream, anyio.IncompleteRead: the server closed the connection.
        """
        peer = cls(stream, "client", mask=mask)
        fields = [("Host", host), *_UPGRADE, ("Sec-WebSocket-Key", _EXAMPLE_NONCE)]
        fields.append(("Sec-WebSocket-Version", "13"))
        if subprotocols:
            fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
        await peer._send_head(f"GET {path} HTTP/1.1", [*fields, *headers])
        peer.head = await peer._reader.read_head()
        peer._check_response()
        return peer

    @classmethod
    async def as_server(
        cls,
        stream: ByteStream,
        *,
        subprotocol: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Self:
        """Do the opening handshake as a server (RFC 6455 section 4.2); every request is accepted.

        If cancelled, `stream` is of no more use.

        Raises:
            PeerError: the request has no ``Sec-WebSocket-Key``.
            anyio.EndOfStream, anyio.IncompleteRead: the client closed the connection.
        """
        peer = cls(stream, "server")
        peer.head = await peer._reader.read_head()
        key = peer.header("Sec-WebSocket-Key")
        if key is None:
            raise PeerError("the request has no Sec-WebSocket-Key (section 4.1)")
        fields = [*_UPGRADE, ("Sec-WebSocket-Accept", _accept(key))]
        if subprotocol is not None:
            fields.append(("Sec-WebSocket-Protocol", subprotocol))
        await peer._send_head("HTTP/1.1 101 Switching Protocols", [*fields, *headers])
        return peer

    def header(self, name: str) -> str | None:
        """Return the first header field of this name in `head`, in any case; ``None`` if it has none."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            field, _, value = line.partition(":")
            if field.lower() == name.lower():
                return value.strip()
        return None

    async def send(self, data: bytes) -> None:
        """Send bytes unchanged. If cancelled, some of the first may have been sent.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: as the stream does.
        """
        await self.stream.send(data)

    async def frame(self, opcode: int, payload: bytes | str = b"", **options: Unpack[FrameOptions]) -> None:
        """Send a frame; the options are those of :func:`wsstream.testing.frame`.

        If cancelled, and what it raises: as for :meth:`send`; and ValueError as :func:`frame` does.
        """
        await self.send(frames.frame(opcode, payload, **self._masked(options)))

    async def text(self, payload: str | bytes = "", **options: Unpack[FrameOptions]) -> None:
        """Send a text frame. If cancelled, and what it raises: as for :meth:`frame`."""
        await self.send(frames.text(payload, **self._masked(options)))

    async def binary(self, payload: bytes = b"", **options: Unpack[FrameOptions]) -> None:
        """Send a binary frame. If cancelled, and what it raises: as for :meth:`frame`."""
        await self.send(frames.binary(payload, **self._masked(options)))

    async def continuation(self, payload: str | bytes = b"", **options: Unpack[FrameOptions]) -> None:
        """Send a continuation frame. If cancelled, and what it raises: as for :meth:`frame`."""
        await self.send(frames.continuation(payload, **self._masked(options)))

    async def close(
        self, code: int | None = None, reason: str | bytes = "", **options: Unpack[FrameOptions]
    ) -> None:
        """Send a Close frame. The stream stays open: see :meth:`aclose`.

        If cancelled, and what it raises: as for :meth:`frame`.
        """
        await self.send(frames.close(code, reason, **self._masked(options)))

    async def ping(self, payload: bytes = b"", **options: Unpack[FrameOptions]) -> None:
        """Send a Ping frame. If cancelled, and what it raises: as for :meth:`frame`."""
        await self.send(frames.ping(payload, **self._masked(options)))

    async def pong(self, payload: bytes = b"", **options: Unpack[FrameOptions]) -> None:
        """Send a Pong frame. If cancelled, and what it raises: as for :meth:`frame`."""
        await self.send(frames.pong(payload, **self._masked(options)))

    async def read_frame(self) -> Frame:
        """Wait for a complete frame and return it. If cancelled, no byte is lost.

        Raises:
            anyio.EndOfStream, anyio.IncompleteRead, PeerError: as :meth:`FrameReader.read` does.
        """
        return await self._reader.read()

    async def read_to_end(self, *, max_frames: int = 1000) -> list[Frame]:
        """Return the frames up to the end of the stream. If cancelled, the frames that were read are lost.

        Raises:
            PeerError: the other side sent more than `max_frames` frames, or an invalid one.
            anyio.IncompleteRead: the stream ended inside a frame.
        """
        found: list[Frame] = []
        while True:
            try:
                found.append(await self.read_frame())
            except anyio.EndOfStream:
                return found
            if len(found) > max_frames:
                raise PeerError(f"the other side sent more than {max_frames} frames")

    async def aclose(self) -> None:
        """Close the stream without a Close frame. If cancelled, or if it raises, as for that stream."""
        await self.stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _masked(self, options: FrameOptions) -> FrameOptions:
        return {"mask": self.mask, **options}

    async def _send_head(self, first_line: str, fields: Iterable[tuple[str, str]]) -> None:
        lines = [first_line, *(f"{name}: {value}" for name, value in fields), "", ""]
        await self.send("\r\n".join(lines).encode())

    def _check_response(self) -> None:
        status = self.head.split(b"\r\n", 1)[0].decode("latin-1")
        if not status.startswith("HTTP/1.1 101"):
            raise PeerError(f"the server answered {status!r}")
        if self.header("Sec-WebSocket-Accept") != _accept(_EXAMPLE_NONCE):
            raise PeerError("Sec-WebSocket-Accept does not fit the key (section 4.1)")


_UPGRADE = (("Upgrade", "websocket"), ("Connection", "Upgrade"))


def _accept(key: str) -> str:
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()
