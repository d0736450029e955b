"""Opening a connection as a client."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NoReturn

import anyio
from anyio.abc import ByteStream

from wsstream.arguments import check_int, check_type
from wsstream.client.connector import Connector, HandshakeTemplate, OpenStream, Route, is_stream
from wsstream.display import never_raises
from wsstream.driver.flow import FlowControl
from wsstream.driver.options import ConnectionOptions
from wsstream.opening.deflate_offer import make_offer
from wsstream.opening.handshake import validate_subprotocols
from wsstream.opening.headers import HeaderPairs, Headers
from wsstream.opening.proxy_connect import validate_proxy_headers
from wsstream.opening.redirect import Destination
from wsstream.opening.url import URL, parse_url
from wsstream.protocol.deflate import Deflate
from wsstream.streams.block import AsyncBlock
from wsstream.streams.close_on_exit import leave
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
    cancelled, TCP is closed and nothing is left. Leaving the block closes the connection: normally with 1000;
    after a :class:`WebSocketError` that has a code, with that code; after another exception with 1011; after
    a cancellation with 1001, for which it waits 0.25 s at most. The exception itself leaves the block
    unchanged.

    Args:
        url: ``ws://`` or ``wss://``; ``http`` and ``https`` are read as these. For a Unix socket
            ``ws+unix:/path/to/socket:/path/of/the/request?query``, or ``wss+unix:``. In the socket's path,
            write ``%3A`` for a colon and ``%3F`` for a question mark, and ``%00`` for the NUL that begins a
            name in Linux's abstract namespace.
        subprotocols: those to offer, the preferred first. If there are any, the server must choose one.
        headers: further header fields, as a mapping or as pairs.
        origin: the ``Origin`` header field.
        ssl: the TLS context for ``wss``. By default the system's certificate authorities verify the server.
            TLS to an ``https`` proxy always uses those.
        server_hostname: the name to verify instead of the URL's host.
        proxy: the URL of a proxy, ``http``, ``https``, ``socks5`` (this side resolves the server's name)
            or ``socks5h`` (the proxy does), with ``user:password@`` if the proxy needs them; ``"env"`` for
            the one that ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name; ``None`` for no proxy. The
            function :func:`proxy` is something else: it forwards messages between two connections.
        proxy_headers: further header fields for the request to an HTTP proxy; the server does not get them.
        If
            they have a ``Proxy-Authorization``, user and password of `proxy` are not sent.
        transport: an open byte stream to use in place of a TCP connection; owned from now on. Or a
            function, perhaps asynchronous, that opens one. For ``wss``, TLS runs over the stream.
        max_redirects: how many redirects to follow, one after the other; never from ``wss`` to ``ws``.
            Another origin (scheme, host or port) does not get ``Authorization``, ``Cookie``, ``Host`` and
            ``Proxy-Authorization`` of `headers`, nor user and password of `url`; another host does not get
            `server_hostname`.
        max_message_size: the largest message, in bytes, that ``receive`` and ``read`` assemble.
        compression: a :class:`Deflate` to offer permessage-deflate; the server may decline.
        flow: the water marks.
        open_timeout: seconds to open the connection, including proxy, TLS and redirects.
        close_timeout: seconds for the closing handshake.
        ping_interval: send a Ping after this many seconds without a byte from the peer; ``None``: never.
        ping_timeout: give the peer up this many seconds after a Ping was due, if it shows no sign of life;
            ``None``: never. A byte from the peer is a sign of life, and so is one that moves on towards it
            while output is blocked.
        receive_timeout: seconds that a message may take from its first byte to its end or, if it is read in
            chunks, make no progress. Then the connection fails with 1008. ``None``: no limit. The time in
            which reading is paused does not count.

    Raises:
        InvalidURL: `url` is not a WebSocket URL, or a proxy URL is not valid.
        TypeError, ValueError: an argument is wrong, or two exclude each other.
        ImportError: a SOCKS proxy needs the extra ``socks``, which is not installed.
        OSError: on entering: the connection failed; an ``ssl.SSLError`` if TLS did. Its note names the URL.
        TimeoutError: on entering: `open_timeout` passed. The message says what `connect` was waiting for.
        ProxyError: on entering: the proxy refused, or broke its protocol.
        HandshakeRejected: on entering: the server answered with another status than 101. If that is a
            redirect that was not followed, `hint` or ``__cause__`` says why.
        HandshakeError: on entering: the server's response does not open a WebSocket.
    """
    target = parse_url(url)
    check_type("ssl", ssl, ssl_module.SSLContext | None, "an ssl.SSLContext or None")
    check_type("server_hostname", server_hostname, str | None, "a str or None")
    if transport is not None and not callable(transport) and not is_stream(transport):
        kind = type(transport).__name__
        raise TypeError(f"transport must be a ByteStream or a function that opens one, got {kind}")
    check_int("max_redirects", max_redirects, 0)
    if ssl is not None and not target.secure:
        raise ValueError(
            f"ssl was given, but the URL is {target.scheme}, not {target.scheme.replace('ws', 'wss')}"
        )
    if proxy_headers is not None and proxy is None:
        raise ValueError("proxy_headers was given without proxy")
    _check_single_route(target, proxy=proxy, transport=transport, max_redirects=max_redirects or None)
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
    template = HandshakeTemplate(
        subprotocols=validate_subprotocols(subprotocols),
        extensions=() if compression is None else (make_offer(compression),),
        origin=origin,
    )
    route = Route(ssl, proxy, validate_proxy_headers(proxy_headers), transport)
    destination = Destination(target, Headers(() if headers is None else headers), server_hostname)
    return _Connect(Connector(destination, template, route, options, max_redirects))


def _check_single_route(target: URL, **options: object) -> None:
    """A given stream and a Unix socket lead to one server each, so no option may choose another route."""
    given = [name for name, value in options.items() if value is not None]
    if target.socket is not None and given:
        raise ValueError(f"the URL of a Unix socket cannot be combined with {' or '.join(given)}")
    if "transport" in given and len(given) > 1:
        raise ValueError("transport cannot be combined with proxy or max_redirects")


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
