"""Opening a connection as a client."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NoReturn

import anyio
from anyio.abc import ByteStream

from wsstream.client.connector import Connector, Offer, OpenStream, Way, is_stream
from wsstream.display import never_raises
from wsstream.driver.flow import FlowControl
from wsstream.driver.options import ConnectionOptions
from wsstream.opening.deflate_offer import make_offer
from wsstream.opening.handshake import validate_subprotocols
from wsstream.opening.http import HeaderPairs, Headers
from wsstream.opening.proxy_connect import validate_proxy_headers
from wsstream.opening.redirect import Destination
from wsstream.opening.url import URL, parse_url
from wsstream.protocol.deflate import Deflate
from wsstream.streams.block import AsyncBlock
from wsstream.streams.leaving import leave
from wsstream.streams.websocket import WebSocketStream, ending_of

__all__ = ["connect"]


def connect(
    url: str,
    *,
    subprotocols: Iterable[str] = (),
    headers: HeaderPairs | None = None,
    origin: str | None = None,
    ssl: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
    proxy: str | None = None,
    proxy_headers: HeaderPairs | None = None,
    transport: ByteStream | OpenStream | None = None,
    max_redirects: int = 0,
    max_message_size: int | None = 2**20,
    compression: Deflate | None = None,
    flow: FlowControl = FlowControl(),  # noqa: B008 - immutable
    open_timeout: float | None = 10,
    close_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
    receive_timeout: float | None = None,
) -> AbstractAsyncContextManager[WebSocketStream]:
    """``async with connect(url) as ws``: open a connection, and close it when the block is left.

    The arguments are checked at once, before any I/O. Entering opens the connection; if that fails or is
    cancelled, nothing is left of it. Leaving closes it, normally with 1000; after a
    :class:`WebSocketError` that has a code with that; after another exception with 1011; after a
    cancellation with 1001, without waiting for more than 0.25 s. The exception itself goes on unchanged.

    Args:
        url: ``ws://`` or ``wss://``; ``http`` and ``https`` are read as these. For a Unix socket
            ``ws+unix:/path/to/socket:/path/of/the/request?query``, or ``wss+unix:``; a colon or a
            question mark in the socket's path is written ``%3A`` or ``%3F``, and the NUL before a
            name of Linux's that is in no file system ``%00``.
        subprotocols: what to offer, the preferred first; then the server has to choose one of them.
        headers: further header fields, as a mapping or as pairs.
        origin: the ``Origin`` header field.
        ssl: the TLS context for ``wss``; by default one that verifies the server by the system's roots.
            Not for a proxy: with an ``https`` proxy TLS is always spoken by the system's roots.
        server_hostname: the name to verify instead of the URL's host.
        proxy: the URL of a proxy, ``http``, ``https``, ``socks5`` (this side resolves the server's name)
            or ``socks5h`` (the proxy does), with ``user:password@`` if it wants that; ``"env"``: what
            the variables ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say; ``None``: none.
        proxy_headers: further header fields for the request to an HTTP proxy. The server never gets
            them. With a ``Proxy-Authorization`` in them, user and password of `proxy` are not sent.
        transport: an open byte stream to use in place of a TCP connection; owned from now on. Or a
            function, perhaps asynchronous, that opens one. For ``wss``, TLS is spoken over it.
        max_redirects: how many redirects are followed, one after the other; none from ``wss`` to ``ws``.
            To another origin (scheme, host or port) go neither ``Authorization``, ``Cookie``, ``Host`` and
            ``Proxy-Authorization`` of `headers` nor the user and password of `url`; to another host
            not `server_hostname`.
        max_message_size: the largest message, in bytes, that ``receive`` and ``read`` assemble.
        compression: a :class:`Deflate` to offer permessage-deflate; the server may decline.
        flow: the water marks.
        open_timeout: seconds until the opening handshake must be done, with proxy and redirects.
        close_timeout: seconds for the closing handshake.
        ping_interval: seconds without a byte from the peer after which a Ping is sent; ``None``: never.
        ping_timeout: seconds without a sign of life, after a Ping was due, until the peer is given up;
            ``None``: never. A byte from the peer is a sign of life, and so is one that moves on towards it
            while output is blocked.
        receive_timeout: the most seconds from a message's first byte to its end or, if it is read in chunks,
            without progress; then the connection fails with 1008. ``None``: no limit. The time in which
            reading is paused does not count.

    Raises:
        InvalidURL: `url` is not a WebSocket URL, or `proxy` or the variable that counts not one of a
            proxy.
        TypeError, ValueError: an argument is not as it should be, or two do not go together.
        ImportError: for SOCKS, the extra ``proxy`` is not installed.
        OSError: no connection, on entering; of TLS it is an ``ssl.SSLError``. A note on it names the URL.
        TimeoutError: `open_timeout` has passed. It says what was waited for.
        ProxyError: the proxy refused, or does not speak its protocol as it should.
        HandshakeRejected: the server answered with another status than 101. If that is a redirect that
            was not to be followed, `hint` or ``__cause__`` says why.
        HandshakeError: the server's answer is no opening handshake.
    """
    target = parse_url(url)
    _check_types(ssl, server_hostname, transport)
    _check_redirects(max_redirects)
    if ssl is not None and not target.secure:
        raise ValueError(
            f"ssl was given, but the URL is {target.scheme}, not {target.scheme.replace('ws', 'wss')}"
        )
    if proxy_headers is not None and proxy is None:
        raise ValueError("proxy_headers was given without proxy")
    _check_only_way(target, proxy=proxy, transport=transport, max_redirects=max_redirects or None)
    options = ConnectionOptions(
        max_message_size=max_message_size,
        compression=compression,
        flow=flow,
        open_timeout=open_timeout,
        close_timeout=close_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        receive_timeout=receive_timeout,
    )
    offer = Offer(
        subprotocols=validate_subprotocols(subprotocols),
        extensions=() if compression is None else (make_offer(compression),),
        origin=origin,
    )
    way = Way(ssl, proxy, validate_proxy_headers(proxy_headers), transport)
    destination = Destination(target, Headers(() if headers is None else headers), server_hostname)
    return _Connect(Connector(destination, offer, way, options, max_redirects))


def _check_types(ssl: object, server_hostname: object, transport: object) -> None:
    if ssl is not None and not isinstance(ssl, ssl_module.SSLContext):
        raise TypeError(f"ssl must be an ssl.SSLContext or None, got {type(ssl).__name__}")
    if server_hostname is not None and not isinstance(server_hostname, str):
        raise TypeError(f"server_hostname must be a str or None, got {type(server_hostname).__name__}")
    if transport is not None and not callable(transport) and not is_stream(transport):
        kind = type(transport).__name__
        raise TypeError(f"transport must be a ByteStream or a function that opens one, got {kind}")


def _check_only_way(target: URL, **ways: object) -> None:
    """A given stream leads to one server, and so does a Unix socket: there is no other way beside them."""
    given = [name for name, way in ways.items() if way is not None]
    if target.socket is not None and given:
        raise ValueError(f"the URL of a Unix socket cannot be combined with {' or '.join(given)}")
    if "transport" in given and len(given) > 1:
        raise ValueError("transport cannot be combined with proxy or max_redirects")


def _check_redirects(count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"max_redirects must be an int, got {type(count).__name__}")
    if count < 0:
        raise ValueError(f"max_redirects must not be negative, got {count}")


class _Connect(AsyncBlock[WebSocketStream]):
    use = "connect(url) as ws"

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._ws: WebSocketStream | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<connect: {self._ws or self._connector.progress.url}>"

    async def __aenter__(self) -> WebSocketStream:
        self.enter_once()
        timeout = self._connector.options.open_timeout
        with anyio.move_on_after(timeout):
            self._ws = await self._connector.open()
            return self._ws
        assert timeout is not None
        raise self._connector.progress.timed_out(timeout)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._ws is not None
        await leave(ending_of(self._ws), exc)

    def __aiter__(self) -> NoReturn:
        raise TypeError('use "async for ws in reconnect(url)"')
