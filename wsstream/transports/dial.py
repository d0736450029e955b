"""From a URL to a transport: direct or through a proxy, over TCP or a Unix socket, with TLS or without."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from errno import ECONNRESET
from typing import Any, NamedTuple

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSStream

from wsstream.opening.headers import Headers
from wsstream.opening.proxy_url import Proxy
from wsstream.opening.url import URL
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.base import Transport, receive_some, send_all
from wsstream.transports.failures import add_tls_hint, reported
from wsstream.transports.progress import Progress
from wsstream.transports.proxy import open_tunnel
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.tcp_connect import open_tcp, open_unix
from wsstream.transports.tls import TLSTransport

__all__ = ["TLS", "dial", "start_tls"]


class TLS(NamedTuple):
    """How to speak TLS with a server."""

    context: ssl.SSLContext
    server_hostname: str
    """The name that the certificate must have, also sent to the server (SNI)."""


async def dial(
    url: URL,
    tls: TLS | None = None,
    proxy: Proxy | None = None,
    proxy_headers: Headers = Headers(),  # noqa: B008 - immutable
    progress: Progress | None = None,
) -> Transport:
    """Return a transport to the server of `url`. If cancelled, every connection that was begun is dropped.

    Args:
        url: the server's URL.
        tls: ``None`` for a connection without TLS.
        proxy: ``None`` for a direct connection, as to a Unix socket.
        proxy_headers: as in :func:`~wsstream.transports.proxy.open_tunnel`.
        progress: learns of each step, for the message of a timeout.

    Raises:
        OSError: the server cannot be reached; ``ssl.SSLError`` if TLS failed.
        ProxyError: as in :func:`~wsstream.transports.proxy.open_tunnel`.
        ValueError: the server's name does not fit the TLS context.
    """
    await checkpoint()  # before the first packet, so that a cancelled call sends nothing
    progress = progress or Progress(url.shown)
    transport: SocketTransport | TLSTransport
    if proxy is not None:
        transport = await open_tunnel(proxy, url.host, url.port, proxy_headers, progress)
    elif url.socket is not None:
        transport = SocketTransport(await open_unix(url.socket))
    else:
        transport = SocketTransport(await open_tcp(url.host, url.port, progress=progress))
    if tls is None:
        return transport
    kind = "TCP" if url.socket is None else "Unix"
    progress.wait_for(f"end of the TLS handshake with {progress.url}", f"the {kind} connection was open")
    return await _secured(transport, tls)


async def _secured(transport: SocketTransport | TLSTransport, tls: TLS) -> TLSTransport | StreamTransport:
    if isinstance(transport, TLSTransport):
        return StreamTransport(await start_tls(_TransportStream(transport), tls))
    try:
        return await TLSTransport.client(transport.extra("socket"), tls.context, tls.server_hostname)
    except ssl.SSLError as error:
        add_tls_hint(error, plain="ws")
        raise


async def start_tls(stream: ByteStream, tls: TLS) -> ByteStream:
    """Return a stream with TLS over `stream`, which is closed if this fails or is cancelled.

    Raises:
        OSError: as in :func:`dial`.
        ValueError: as in :func:`dial`.
    """
    try:
        return await TLSStream.wrap(
            stream,
            hostname=tls.server_hostname,
            ssl_context=tls.context,
            standard_compatible=False,  # no close_notify is needed: Close frames tell a clean end
        )
    except (anyio.EndOfStream, anyio.BrokenResourceError, OSError) as error:
        failure = _explained(error)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    await anyio.aclose_forcefully(stream)
    raise failure


def _explained(error: Exception) -> OSError:
    failure = reported(error)
    if failure is None:
        failure = ConnectionResetError(ECONNRESET, "the connection broke during the TLS handshake")
        failure.__cause__ = error
    add_tls_hint(failure, plain="ws")
    return failure


class _TransportStream(ByteStream):
    """A transport as a byte stream, for TLS inside TLS."""

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
