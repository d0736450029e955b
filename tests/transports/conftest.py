"""Connections over loopback for the tests of the transports, on asyncio, uvloop and trio."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import anyio
import pytest
import trustme
from kit import tls

from wsstream.transports.base import Transport, receive_some, send_all
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.tls import TLSTransport

Connect = Callable[[str], tuple[socket.socket, socket.socket]]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets that do not block."""
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
    yield pair
    for sock in pair:
        sock.close()


@pytest.fixture(scope="session")
def connect_sockets() -> Connect:
    """Make two connected sockets: ``"tcp4"``, ``"tcp6"`` or ``"unix"``."""

    def connect(kind: str) -> tuple[socket.socket, socket.socket]:
        if kind == "unix":
            return socket.socketpair()
        family, host = (socket.AF_INET, "127.0.0.1") if kind == "tcp4" else (socket.AF_INET6, "::1")
        with socket.socket(family) as listener:
            listener.bind((host, 0))
            listener.listen(1)
            client = socket.socket(family)
            client.connect(listener.getsockname())
            server, _ = listener.accept()
        return client, server

    return connect


@pytest.fixture(params=["tcp4", "tcp6", "unix"])
async def pair(
    request: pytest.FixtureRequest, connect_sockets: Connect
) -> AsyncIterator[tuple[SocketTransport, SocketTransport]]:
    """The two ends of a plain connection."""
    a, b = connect_sockets(request.param)
    left, right = SocketTransport(a), SocketTransport(b)
    yield left, right
    left.close()
    right.close()


@pytest.fixture(scope="session")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = tls.server_context(authority, "localhost")
    context.set_alpn_protocols(["http/1.1"])
    return context


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    return tls.client_context(authority)


Handshake = Callable[..., Awaitable[tuple[TLSTransport, TLSTransport]]]


@pytest.fixture
def shake_hands(
    connect_sockets: Connect, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> Handshake:
    """Make the two ends of a TLS connection over TCP: client, server."""

    async def shake_hands(
        server_context: ssl.SSLContext = server_context, client_context: ssl.SSLContext = client_context
    ) -> tuple[TLSTransport, TLSTransport]:
        ends: dict[str, TLSTransport] = {}

        async def serve() -> None:
            ends["server"] = await TLSTransport.server(b, server_context)

        a, b = connect_sockets("tcp4")
        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            ends["client"] = await TLSTransport.client(a, client_context, "localhost")
        # TLS 1.3 sends session tickets behind the handshake: have the client read them now.
        await send_all(ends["server"], b"!")
        assert await receive_some(ends["client"], 1) == b"!"
        return ends["client"], ends["server"]

    return shake_hands


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
async def tls_pair(
    request: pytest.FixtureRequest, client_context: ssl.SSLContext, shake_hands: Handshake
) -> AsyncIterator[tuple[TLSTransport, TLSTransport]]:
    """The two ends of a TLS connection: client, server."""
    client_context.maximum_version = ssl.TLSVersion[request.param]
    client, server = await shake_hands()
    yield client, server
    client.close()
    server.close()


@pytest.fixture(scope="session")
def reset() -> Callable[[socket.socket], None]:
    """Close a TCP socket with an RST."""

    def reset(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    return reset


@pytest.fixture(scope="session")
def fill() -> Callable[[Transport, bytes], bytes]:
    """Send repetitions of a pattern until the transport takes nothing; return what it took."""

    def fill(transport: Transport, pattern: bytes) -> bytes:
        taken = bytearray()
        while count := transport.send([pattern]):
            taken += pattern[:count]
        return bytes(taken)

    return fill


@pytest.fixture(scope="session")
def no_new_files() -> Callable[[], AbstractContextManager[None]]:
    """A context manager that fails if it is left with more file descriptors than it was entered with."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc/self/fd")

    def inodes() -> set[str]:
        found = set()
        for name in os.listdir(folder):
            try:
                found.add(f"{name} {(folder / name).readlink()}")
            except FileNotFoundError:
                pass  # that of the listing itself
        return {each for each in found if not each.endswith("/dev/null")}  # uvloop keeps one in reserve

    @contextmanager
    def check() -> Iterator[None]:
        before = inodes()
        yield
        assert inodes() <= before

    return check
