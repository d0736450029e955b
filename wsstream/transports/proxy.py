"""Connections through a proxy: HTTP CONNECT, over TLS or not, and SOCKS5.

Both protocols run over this library's own sockets, so the transport is afterwards what a direct
connection would have: to an ``https`` proxy a :class:`TLSTransport`, otherwise a :class:`SocketTransport`.
"""

from __future__ import annotations

import math
import socket
from typing import Any, cast

import anyio

from wsstream.errors import ProxyError
from wsstream.protocol.proxies import Proxy
from wsstream.protocol.tunnel import TunnelHandshake

from .base import Transport, receive_some, send_all
from .connect import open_tcp
from .resolve import resolve
from .sockets import SocketTransport
from .tls import TLSTransport, default_client_context

__all__ = ["open_tunnel", "require_socks"]

_READ_SIZE = 16 * 1024  # bytes


async def open_tunnel(proxy: Proxy, host: str, port: int) -> SocketTransport | TLSTransport:
    """Have `proxy` connect to `host`. If cancelled, the connection to the proxy is closed.

    For ``socks5`` the name is resolved here, otherwise by the proxy. An ``https`` proxy is verified by
    the system's certificate authorities.

    Args:
        proxy: if it speaks SOCKS, :func:`require_socks` has been called.
        host: a host name or an IP address (no brackets).
        port: 1 to 65535.

    Raises:
        ProxyError: the proxy refused, or does not speak its protocol as it should.
        OSError: the proxy cannot be reached; of TLS with it, an ``ssl.SSLError``.
    """
    if proxy.scheme == "socks5":
        host = await _resolved(host, port)
    transport = await _reach(proxy)
    try:
        if proxy.is_socks:
            await _ask_by_socks(transport, proxy, host, port)
        else:
            await _ask_by_http(transport, TunnelHandshake(host, port, proxy.userinfo))
    except BaseException:
        transport.close()
        raise
    return transport


async def _resolved(host: str, port: int) -> str:
    """One address of `host`; IPv4 if there is one, as a proxy may have no IPv6."""
    addresses = await resolve(host, port)
    return min(addresses, key=lambda address: address.family != socket.AF_INET).sockaddr[0]


async def _reach(proxy: Proxy) -> SocketTransport | TLSTransport:
    try:
        sock = await open_tcp(proxy.host, proxy.port)
        if proxy.scheme == "https":
            return await TLSTransport.client(sock, default_client_context(), proxy.host.rstrip("."))
    except OSError as exc:
        exc.add_note(f"This was the connection to the proxy {proxy}.")
        raise
    return SocketTransport(sock)


async def _ask_by_http(transport: Transport, tunnel: TunnelHandshake) -> None:
    try:
        await send_all(transport, tunnel.data_to_send())
        while not tunnel.receive_data(await receive_some(transport, _READ_SIZE)):
            pass
    except anyio.BrokenResourceError as error:
        tunnel.receive_data(b"")  # the answer may be there, cut short: that tells more
        raise ProxyError("the connection to the proxy broke") from error.__cause__


def require_socks() -> None:
    """Check that the package for SOCKS is there.

    Raises:
        ImportError: it is not.
    """
    try:
        import python_socks.async_.anyio  # noqa: F401 - an extra: this only sees whether it is there
    except ImportError as exc:
        raise ImportError(
            'a SOCKS proxy needs an extra: pip install "wsstream[proxy]"', name=exc.name
        ) from exc


async def _ask_by_socks(transport: Transport, proxy: Proxy, host: str, port: int) -> None:
    from python_socks import ProxyError as Refusal
    from python_socks import ProxyType
    from python_socks.async_.anyio import Proxy as Socks

    user, password = proxy.userinfo or (None, None)
    way = cast(Any, _Way(transport))
    socks = Socks(ProxyType.SOCKS5, proxy.host, proxy.port, user, password, rdns=True, forward=way)
    try:
        await socks.connect(host, port, timeout=math.inf)
    except Refusal as exc:
        raise ProxyError(f"the SOCKS proxy refused: {exc}") from exc
    except ValueError as exc:  # an answer that cannot be decoded
        raise ProxyError("the SOCKS proxy's answer is malformed") from exc


class _Way:
    """A connection as python-socks takes one to go through, which it calls ``forward``.

    It asks for no more bytes than belong to an answer, so none is lost for what comes afterwards.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def connect(self, **_: object) -> _Way:
        return self

    async def send(self, item: bytes) -> None:
        try:
            await send_all(self._transport, item)
        except anyio.BrokenResourceError as error:
            raise ProxyError("the connection to the SOCKS proxy broke") from error.__cause__

    async def receive(self, max_bytes: int) -> bytes:
        try:
            data = await receive_some(self._transport, max_bytes)
        except anyio.BrokenResourceError as error:
            raise ProxyError("the connection to the SOCKS proxy broke") from error.__cause__
        if not data:
            raise ProxyError("the SOCKS proxy closed the connection before it answered") from EOFError()
        return data

    async def aclose(self) -> None:
        await self._transport.aclose()
