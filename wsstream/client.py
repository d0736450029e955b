"""Opening a connection as a client."""

from __future__ import annotations

import os
import ssl as ssl_module
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType

import anyio
from anyio.abc import ByteStream

from wsstream.errors import HandshakeError, HandshakeRejected
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed, Deflate, confirm_response, make_offer
from wsstream.protocol.extensions import Extension, format_extensions
from wsstream.protocol.handshake import NONCE_SIZE, validate_subprotocols
from wsstream.protocol.http import HeaderPairs, Headers
from wsstream.protocol.http1 import Accepted, ClientHandshake
from wsstream.protocol.proxies import Proxy, environment_proxy, parse_proxy_url
from wsstream.protocol.redirect import Destination, redirected
from wsstream.protocol.url import URL, parse_url
from wsstream.streams.flow import FlowControl
from wsstream.streams.leaving import leave
from wsstream.streams.options import ConnectionOptions, release
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.base import Transport, receive_some, send_all
from wsstream.transports.dial import TLS, dial, start_tls
from wsstream.transports.proxy import require_socks
from wsstream.transports.streams import StreamTransport
from wsstream.transports.tls import default_client_context

__all__ = ["connect"]

_READ_SIZE = 16 * 1024  # bytes


def connect(
    url: str,
    *,
    subprotocols: Iterable[str] = (),
    headers: HeaderPairs | None = None,
    origin: str | None = None,
    ssl: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
    proxy: str | None = None,
    transport: ByteStream | None = None,
    max_redirects: int = 0,
    max_message_size: int | None = 2**20,
    compression: Deflate | None = None,
    flow: FlowControl = FlowControl(),  # noqa: B008 - immutable
    open_timeout: float | None = 10,
    close_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
) -> AbstractAsyncContextManager[WebSocketStream]:
    """``async with connect(url) as ws``: open a connection, and close it when the block is left.

    The arguments are checked at once, before any I/O. Entering opens the connection; if that fails or is
    cancelled, nothing is left of it. Leaving closes it, normally with 1000; after a
    :class:`WebSocketError` that has a code with that; after another exception with 1011; after a
    cancellation with 1001, without waiting for more than 0.25 s. The exception itself goes on unchanged.

    Args:
        url: ``ws://`` or ``wss://``; ``http`` and ``https`` are read as these.
        subprotocols: what to offer, the preferred first; then the server has to choose one of them.
        headers: further header fields, as a mapping or as pairs.
        origin: the ``Origin`` header field.
        ssl: the TLS context for ``wss``; by default one that verifies the server by the system's roots.
            Not for a proxy: with an ``https`` proxy TLS is always spoken by the system's roots.
        server_hostname: the name to verify instead of the URL's host.
        proxy: the URL of a proxy, ``http``, ``https``, ``socks5`` (this side resolves the server's name)
            or ``socks5h`` (the proxy does), with ``user:password@`` if it wants that; ``"env"``: what
            the variables ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say; ``None``: none.
        transport: an open byte stream to use in place of a TCP connection; owned from now on. For
            ``wss``, TLS is spoken over it.
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
        ping_timeout: seconds after a Ping without a byte until the peer is given up; ``None``: never.

    Raises:
        InvalidURL: `url` is not a WebSocket URL, or `proxy` or the variable that counts not one of a
            proxy.
        TypeError, ValueError: an argument is not as it should be, or two do not go together.
        ImportError: for SOCKS, the extra ``proxy`` is not installed.
        OSError: no connection, on entering; of TLS it is an ``ssl.SSLError``.
        TimeoutError: `open_timeout` has passed.
        ProxyError: the proxy refused, or does not speak its protocol as it should.
        HandshakeRejected: the server answered with another status than 101. If that is a redirect that
            was not to be followed, ``__cause__`` says why.
        HandshakeError: the server's answer is no opening handshake.
    """
    target = parse_url(url)
    if ssl is not None and not target.secure:
        raise ValueError("a TLS context is given, but the URL is not wss")
    _check_redirects(max_redirects)
    if transport is not None and (proxy is not None or max_redirects):
        raise ValueError("over a given transport there are neither proxies nor redirects")
    options = ConnectionOptions(
        max_message_size=max_message_size,
        compression=compression,
        flow=flow,
        open_timeout=open_timeout,
        close_timeout=close_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
    )
    offer = _Offer(
        subprotocols=validate_subprotocols(subprotocols),
        extensions=() if compression is None else (make_offer(compression),),
        origin=origin,
    )
    destination = Destination(target, Headers(() if headers is None else headers), server_hostname)
    return _Connect(
        destination, offer, options, ssl=ssl, proxy=proxy, stream=transport, max_redirects=max_redirects
    )


def _check_redirects(count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"max_redirects is an int, not {type(count).__name__}")
    if count < 0:
        raise ValueError(f"max_redirects is not negative: {count}")


@dataclass(frozen=True, slots=True)
class _Offer:
    """What every opening handshake offers, wherever redirects lead."""

    subprotocols: Sequence[str]
    extensions: Sequence[Extension]
    origin: str | None

    def handshake(self, destination: Destination) -> ClientHandshake:
        return ClientHandshake(
            destination.url,
            key=os.urandom(NONCE_SIZE),
            subprotocols=self.subprotocols,
            extensions=self.extensions,
            headers=destination.headers,
            origin=self.origin,
        )


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One try to open a connection: where to, which way, with what request."""

    destination: Destination
    proxy: Proxy | None
    handshake: ClientHandshake


class _Connect(AbstractAsyncContextManager[WebSocketStream]):
    def __init__(
        self,
        destination: Destination,
        offer: _Offer,
        options: ConnectionOptions,
        *,
        ssl: ssl_module.SSLContext | None,
        proxy: str | None,
        stream: ByteStream | None,
        max_redirects: int,
    ) -> None:
        self._offer = offer
        self._options = options
        self._ssl = ssl
        self._proxy = proxy
        self._stream = stream
        self._max_redirects = max_redirects
        self._first = self._plan(destination)  # now, as it checks what it is made of
        self._ws: WebSocketStream | None = None
        self._entered = False

    async def __aenter__(self) -> WebSocketStream:
        if self._entered:
            raise RuntimeError("connect() gives one connection; call it again for another")
        self._entered = True
        with anyio.fail_after(self._options.open_timeout):
            self._ws = await self._open()
        return self._ws

    async def _open(self) -> WebSocketStream:
        attempt = self._first
        for _ in range(self._max_redirects):
            try:
                return await self._try(attempt)
            except HandshakeRejected as rejection:
                attempt = self._plan(redirected(attempt.destination, rejection))
        return await self._try(attempt)

    def _plan(self, destination: Destination) -> _Attempt:
        proxy = _choose_proxy(self._proxy, destination.url)
        return _Attempt(destination, proxy, self._offer.handshake(destination))

    async def _try(self, attempt: _Attempt) -> WebSocketStream:
        transport = await self._open_transport(attempt)
        try:
            accepted = await _shake_hands(transport, attempt.handshake)
            deflate = self._confirm(accepted.extensions)
        except BaseException:
            await release(transport)
            raise
        driver = self._options.start(transport, Connection(client=True, deflate=deflate), accepted.trailing)
        return WebSocketStream(
            driver,
            url=str(attempt.destination.url),
            subprotocol=accepted.subprotocol,
            extensions=format_extensions(accepted.extensions),
            request=attempt.handshake.request,
            response=accepted.response,
        )

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._ws is not None
        await leave(self._ws, exc)

    def _confirm(self, accepted: Sequence[Extension]) -> Agreed | None:
        if self._options.compression is None:
            return None
        try:
            return confirm_response(self._options.compression, accepted)
        except ValueError as error:
            raise HandshakeError(f"the server's Sec-WebSocket-Extensions are wrong: {error}") from error

    async def _open_transport(self, attempt: _Attempt) -> Transport:
        url, tls = attempt.destination.url, None
        if url.secure:
            name = attempt.destination.server_hostname or url.host.rstrip(".")
            tls = TLS(self._ssl or default_client_context(), name)
        if self._stream is None:
            return await dial(url.host, url.port, tls, attempt.proxy)
        return StreamTransport(self._stream if tls is None else await start_tls(self._stream, tls))


def _choose_proxy(given: str | None, url: URL) -> Proxy | None:
    if given is None:
        return None
    proxy = environment_proxy(url, os.environ) if given == "env" else parse_proxy_url(given)
    if proxy is not None and proxy.is_socks:
        require_socks()
    return proxy


async def _shake_hands(transport: Transport, handshake: ClientHandshake) -> Accepted:
    try:
        await send_all(transport, handshake.data_to_send())
        while True:
            accepted = handshake.receive_data(await receive_some(transport, _READ_SIZE))
            if accepted is not None:
                return accepted
    except anyio.BrokenResourceError as error:
        handshake.receive_data(b"")  # the answer may be there, cut short: that tells more
        raise HandshakeError("the connection broke in the opening handshake") from error.__cause__
