"""The way to a server: direct or through a proxy, with TLS or without."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from errno import ECONNRESET
from typing import Any, NamedTuple

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSStream

from wsstream.protocol.proxies import Proxy

from .base import Transport, receive_some, send_all
from .connect import open_tcp
from .proxy import open_tunnel
from .sockets import SocketTransport
from .streams import StreamTransport
from .tls import TLSTransport

__all__ = ["TLS", "dial", "start_tls"]


class TLS(NamedTuple):
    """How TLS is spoken with a server."""

    context: ssl.SSLContext
    server_hostname: str
    """The name that the certificate must have, also sent to the server (SNI)."""


async def dial(host: str, port: int, tls: TLS | None = None, proxy: Proxy | None = None) -> Transport:
    """Connect to `host`. If cancelled, every connection that was begun is dropped.

    Args:
        host: a host name or an IP address (no brackets).
        port: 1 to 65535.
        tls: ``None`` for none.
        proxy: what to go through, ``None`` for a direct connection.

    Raises:
        OSError: no connection; of TLS it is an ``ssl.SSLError``.
        ProxyError: as in :func:`~wsstream.transports.proxy.open_tunnel`.
        ValueError: the server's name does not fit the TLS context.
    """
    await checkpoint()  # nothing is sent if this is cancelled already
    transport = (
        SocketTransport(await open_tcp(host, port)) if proxy is None else await open_tunnel(proxy, host, port)
    )
    if tls is None:
        return transport
    if isinstance(transport, SocketTransport):
        return await TLSTransport.client(transport.extra("socket"), tls.context, tls.server_hostname)
    return StreamTransport(await start_tls(_TransportStream(transport), tls))


async def start_tls(stream: ByteStream, tls: TLS) -> ByteStream:
    """TLS over `stream`, which is closed if that fails or is cancelled.

    Raises:
        OSError: as in :func:`dial`.
        ValueError: as in :func:`dial`.
    """
    try:
        return await TLSStream.wrap(
            stream,
            hostname=tls.server_hostname,
            ssl_context=tls.context,
            standard_compatible=False,  # a peer need not say goodbye: Close frames tell a clean end
        )
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        await anyio.aclose_forcefully(stream)
        raise ConnectionResetError(ECONNRESET, "the connection broke in the TLS handshake") from error
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise


class _TransportStream(ByteStream):
    """A transport as a byte stream, for TLS inside of TLS."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await checkpoint()
        data = await receive_some(self._transport, max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        await send_all(self._transport, item)
        await checkpoint()

    async def send_eof(self) -> None:
        raise NotImplementedError("TLS 1.2 and older have no half-closed connections")

    async def aclose(self) -> None:
        await self._transport.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        lookup = self._transport.extra
        return {
            SocketAttribute.local_address: lambda: lookup("sockname"),
            SocketAttribute.remote_address: lambda: lookup("peername"),
        }
