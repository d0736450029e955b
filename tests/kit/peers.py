"""Servers on loopback that are not ours."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener

__all__ = ["Listen", "Peer", "linger", "listen"]

Peer = Callable[[Any], Awaitable[object]]
Listen = Callable[..., AbstractAsyncContextManager[int]]


@asynccontextmanager
async def listen(peer: Peer, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Listen on loopback and call `peer` with each byte stream, which it need not close; yield the port.

    Leaving cancels the peers that still run.
    """
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


class _QuietTLSListener(TLSListener):
    """A listener that logs no failed handshake: a client that does not trust us is what some tests want."""

    @staticmethod
    async def handle_handshake_error(exc: BaseException, stream: Any) -> None:
        await anyio.aclose_forcefully(stream)


async def linger(stream: ByteStream) -> None:
    """Read until the client leaves."""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            await stream.receive()
