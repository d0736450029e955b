"""Fixtures for the whole suite: every asynchronous test runs on asyncio and on trio."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener
from hypothesis import settings

Peer = Callable[[Any], Awaitable[object]]
Listen = Callable[..., AbstractAsyncContextManager[int]]

settings.register_profile("wsstream", deadline=None)  # a loaded machine is not a slow test
settings.load_profile("wsstream")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# -- servers on loopback that are not ours -------------------------------------------------------


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def listen() -> Listen:
    """Listen on loopback and call the peer with each byte stream; gives the port."""

    @asynccontextmanager
    async def listen(peer: Peer, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        sockets: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = sockets.extra(SocketAttribute.local_port)
        listener = sockets
        if context is not None:
            listener = _QuietTLSListener(sockets, context, standard_compatible=False)

        async def handle(stream: ByteStream) -> None:
            async with stream:
                await peer(stream)

        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handle)
            yield port
            tasks.cancel_scope.cancel()

    return listen


class _QuietTLSListener(TLSListener):
    """A client that does not trust us is what some tests want."""

    @staticmethod
    async def handle_handshake_error(exc: BaseException, stream: Any) -> None:
        await anyio.aclose_forcefully(stream)
