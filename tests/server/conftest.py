"""What the tests of the server share: virtual time with sockets, and TLS contexts."""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import anyio
import pytest
from anyio.abc import ByteStream

from wsstream import Server


@pytest.fixture(scope="session")
def tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> SimpleNamespace:
    """A server's and a client's context that trust each other."""
    return SimpleNamespace(server=server_tls, client=client_tls)


class Http:
    """A client that speaks HTTP over a plain socket."""

    opening = (
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    @staticmethod
    def request(*lines: str, path: str = "/", method: str = "GET", version: str = "1.1") -> bytes:
        return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: a", *lines, "", ""]).encode()

    @staticmethod
    async def answer(stream: ByteStream) -> tuple[int, bytes, bytes]:
        """Status, head and body, up to the end of the stream."""
        data = b""
        try:
            while True:
                data += await stream.receive()
        except anyio.EndOfStream:
            head, _, body = data.partition(b"\r\n\r\n")
            return int(head.split()[1]), head, body

    async def get(self, server: Server, *lines: str, **request: str) -> tuple[int, bytes, bytes]:
        """The answer of a server to a request."""
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(self.request(*lines, **request))
            return await self.answer(stream)


@pytest.fixture(scope="session")
def http() -> Http:
    return Http()
