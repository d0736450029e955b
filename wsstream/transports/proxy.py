"""Connections through a proxy: HTTP CONNECT, over TLS or not, and SOCKS5.

Both protocols run over this library's own sockets, so the result is a transport as for a direct connection:
a :class:`TLSTransport` to an ``https`` proxy, otherwise a :class:`SocketTransport`.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import anyio

from wsstream.errors import ProxyError
from wsstream.opening.headers import Headers
from wsstream.opening.proxy_connect import TunnelHandshake
from wsstream.opening.proxy_url import Proxy
from wsstream.transports.base import Transport, receive_some, send_all
from wsstream.transports.failures import add_tls_hint, reported
from wsstream.transports.progress import Progress
from wsstream.transports.resolve import resolve
from wsstream.transports.round_trip import round_trip
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.tcp_connect import open_tcp
from wsstream.transports.tls import TLSTransport, default_client_context

__all__ = ["open_tunnel", "require_socks"]


async def open_tunnel(
    proxy: Proxy,
    host: str,
    port: int,
    headers: Headers = Headers(),  # noqa: B008 - immutable
    progress: Progress | None = None,
) -> SocketTransport | TLSTransport:
    """Have `proxy` connect to `host`. If cancelled, the connection to the proxy is closed.

    For ``socks5`` the name is resolved here, otherwise by the proxy. TLS to an ``https`` proxy always uses
    the system's certificate authorities.

    Args:
        proxy: for a SOCKS proxy, call :func:`require_socks` first.
        host: a host name or an IP address (no brackets).
        port: 1 to 65535.
        headers: for an HTTP proxy, as `validate_proxy_headers` returns them.
        progress: learns of each step, for the message of a timeout.

    Raises:
        ProxyError: the proxy refused, or broke its protocol.
        OSError: the proxy cannot be reached; ``ssl.SSLError`` if TLS with it failed.
    """
    progress = progress or Progress(host)
    if proxy.scheme == "socks5":
        progress.wait_for(f"address of {host} for {progress.url}")
        host = await _resolved(host, port)
    with _named(proxy):
        transport = await _reach(proxy, progress)
    progress.wait_for(f"answer from the proxy {proxy} for {progress.url}", "the connection to it was open")
    try:
        if proxy.is_socks:
            await _socks_connect(transport, proxy, host, port)
        else:
            with _named(proxy):
                await round_trip(transport, TunnelHandshake(proxy, host, port, headers))
    except BaseException:
        transport.close()
        raise
    return transport


async def _resolved(host: str, port: int) -> str:
    """One address of `host`; IPv4 if there is one, as a proxy may have no IPv6."""
    addresses = [address for address in await resolve(host, port) if not address.scope]
    if not addresses:
        raise OSError(f"{host} has only link-local addresses, which mean nothing to a proxy")
    return min(addresses, key=lambda address: address.family != socket.AF_INET).host


@contextmanager
def _named(proxy: Proxy) -> Iterator[None]:
    """Add a note to errors of the system and of TLS: they concern the connection to `proxy`."""
    try:
        yield
    except OSError as exc:
        exc.add_note(f"This was the connection to the proxy {proxy}.")
        add_tls_hint(exc, plain="http")
        raise


async def _reach(proxy: Proxy, progress: Progress) -> SocketTransport | TLSTransport:
    sock = await open_tcp(proxy.host, proxy.port, progress=progress)
    if proxy.scheme != "https":
        return SocketTransport(sock)
    missing = f"end of the TLS handshake with the proxy {proxy} for {progress.url}"
    progress.wait_for(missing, "the TCP connection was open")
    return await TLSTransport.client(sock, default_client_context(), proxy.host.rstrip("."))


def require_socks() -> None:
    """Check that the package for SOCKS is installed.

    Raises:
        ImportError: it is not.
    """
    try:
        import python_socks.async_.anyio  # noqa: F401 - an extra: only checks that it can be imported
    except ImportError as exc:
        raise ImportError(
            'a SOCKS proxy needs an extra: pip install "wsstream[socks]"', name=exc.name
        ) from exc


async def _socks_connect(transport: Transport, proxy: Proxy, host: str, port: int) -> None:
    from python_socks import ProxyError as Refusal
    from python_socks import ProxyType
    from python_socks.async_.anyio import Proxy as Socks

    user, password = proxy.userinfo or (None, None)
    forward = cast(Any, _ForwardStream(transport, proxy))
    socks = Socks(ProxyType.SOCKS5, proxy.host, proxy.port, user, password, rdns=True, forward=forward)
    try:
        await socks.connect(host, port, timeout=math.inf)
    except Refusal as exc:
        raise ProxyError(f"the proxy {proxy} refused: {exc}") from exc
    except ValueError as exc:  # python-socks cannot decode the answer
        raise ProxyError(f"the answer of the proxy {proxy} is malformed") from exc


class _ForwardStream:
    """The transport in the form that python-socks needs for the connection to the proxy, its ``forward``.

    python-socks never asks for more bytes than its answer has, so it takes none of the server's.
    """

    def __init__(self, transport: Transport, proxy: Proxy) -> None:
        self._transport = transport
        self._proxy = proxy

    async def connect(self, **_: object) -> _ForwardStream:
        return self

    async def send(self, item: bytes) -> None:
        try:
            await send_all(self._transport, item)
        except anyio.BrokenResourceError as error:
            raise self._broken(error) from reported(error)

    async def receive(self, max_bytes: int) -> bytes:
        try:
            data = await receive_some(self._transport, max_bytes)
        except anyio.BrokenResourceError as error:
            raise self._broken(error) from reported(error)
        if not data:
            raise ProxyError(
                f"the proxy {self._proxy} closed the connection before it answered"
            ) from EOFError()
        return data

    def _broken(self, error: Exception) -> ProxyError:
        return ProxyError(f"the connection to the proxy {self._proxy} broke: {reported(error)}")

    async def aclose(self) -> None:
        await self._transport.aclose()
