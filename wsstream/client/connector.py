"""The client's side of opening a connection: the way to the server, the handshake, redirects."""

from __future__ import annotations

import inspect
import os
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard, cast

from anyio.abc import ByteStream

from wsstream.driver.driver import Driver
from wsstream.driver.options import ConnectionOptions, release
from wsstream.errors import HandshakeError, HandshakeRejected
from wsstream.opening.deflate_offer import confirm_response
from wsstream.opening.extensions import Extension, format_extensions
from wsstream.opening.handshake import NONCE_SIZE
from wsstream.opening.http import Headers
from wsstream.opening.http1 import ClientHandshake
from wsstream.opening.proxy_url import Proxy, environment_proxy, parse_proxy_url
from wsstream.opening.redirect import Destination, not_followed, redirected
from wsstream.opening.url import URL
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.base import Transport
from wsstream.transports.dial import TLS, dial, start_tls
from wsstream.transports.exchange import ask
from wsstream.transports.failures import add_tls_hint
from wsstream.transports.progress import Progress
from wsstream.transports.proxy import require_socks
from wsstream.transports.tls import default_client_context

__all__ = ["Connector", "Offer", "OpenStream", "Way", "is_stream"]

OpenStream: TypeAlias = Callable[[], ByteStream | Awaitable[ByteStream]]
"""A function that opens a byte stream to the server."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What every opening handshake offers, wherever redirects lead."""

    subprotocols: Sequence[str] = field(repr=False)
    extensions: Sequence[Extension]
    origin: str | None

    def handshake(self, destination: Destination) -> ClientHandshake:
        """The handshake that makes this offer to `destination`."""
        return ClientHandshake(
            destination.url,
            key=os.urandom(NONCE_SIZE),
            subprotocols=self.subprotocols,
            extensions=self.extensions,
            headers=destination.headers,
            origin=self.origin,
        )


@dataclass(frozen=True, slots=True)
class Way:
    """How servers are reached.

    Attributes:
        ssl: the context for ``wss``, ``None`` for the default one.
        proxy: the URL of a proxy, ``"env"`` for what the environment says, ``None`` for none.
        proxy_headers: more header fields for CONNECT.
        transport: a stream to use instead, or what opens one.
    """

    ssl: ssl_module.SSLContext | None
    proxy: str | None = field(repr=False)
    proxy_headers: Headers = field(repr=False)
    transport: ByteStream | OpenStream | None

    def proxy_for(self, url: URL) -> Proxy | None:
        """The proxy to go through.

        Raises:
            InvalidURL: the one that is named has no valid URL.
            ValueError: `proxy_headers` are there, and the proxy that is given speaks SOCKS.
            ImportError: for SOCKS, the extra ``proxy`` is not installed.
        """
        if self.proxy is None:
            return None
        from_environment = self.proxy == "env"
        proxy = environment_proxy(url, os.environ) if from_environment else parse_proxy_url(self.proxy)
        if proxy is not None and proxy.is_socks:
            if self.proxy_headers and not from_environment:
                raise ValueError("proxy_headers are for HTTP proxies, and the proxy speaks SOCKS")
            require_socks()
        return proxy


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One try to open a connection: where to, which way, with what request."""

    destination: Destination
    proxy: Proxy | None
    handshake: ClientHandshake

    @property
    def url(self) -> URL:
        return self.destination.url


class Connector:
    """Opens one connection.

    Made before any I/O: it raises for what cannot be sent.

    Args:
        destination: where to.
        offer: what to offer there.
        way: how to get there.
        options: those of the connection.
        max_redirects: how many redirects are followed.

    Attributes:
        progress: what is waited for.
    """

    def __init__(
        self, destination: Destination, offer: Offer, way: Way, options: ConnectionOptions, max_redirects: int
    ) -> None:
        self._offer = offer
        self._way = way
        self.options = options
        self._max_redirects = max_redirects
        self._first = self._plan(destination)
        self.progress = Progress(destination.url.shown)

    async def open(self) -> WebSocketStream:
        """Connect and shake hands. If that fails or is cancelled, nothing is left of it.

        Raises:
            OSError, HandshakeError, ValueError: as :func:`~wsstream.connect` says.
        """
        attempt, followed = self._first, 0
        while True:
            try:
                return await self._try(attempt)
            except HandshakeRejected as rejection:
                if followed == self._max_redirects:
                    not_followed(rejection, followed)
                    raise
                attempt, followed = self._plan(redirected(attempt.destination, rejection)), followed + 1

    def _plan(self, destination: Destination) -> _Attempt:
        return _Attempt(destination, self._way.proxy_for(destination.url), self._offer.handshake(destination))

    async def _try(self, attempt: _Attempt) -> WebSocketStream:
        self.progress = Progress(attempt.url.shown)
        try:
            transport = await self._open_transport(attempt)
            return await self._shake_hands(transport, attempt)
        except HandshakeError as error:
            error.url = self.progress.url
            raise
        except Exception as error:
            error.add_note(f"This was on the way to {self.progress.url}.")
            raise

    async def _open_transport(self, attempt: _Attempt) -> Transport:
        tls = None
        if attempt.url.secure:
            name = attempt.destination.server_hostname or attempt.url.host.rstrip(".")
            tls = TLS(self._way.ssl or default_client_context(), name)
        if self._way.transport is None:
            return await dial(attempt.url, tls, attempt.proxy, self._way.proxy_headers, self.progress)
        stream = await self._open_stream(self._way.transport)
        if tls is not None:
            missing = f"end of the TLS handshake with {self.progress.url}"
            self.progress.wait_for(missing, "the given connection was open")
            stream = await start_tls(stream, tls)
        return StreamTransport(stream)

    async def _open_stream(self, given: ByteStream | OpenStream) -> ByteStream:
        if is_stream(given):
            return given
        self.progress.wait_for(f"stream from the function given as transport for {self.progress.url}")
        opened: object = cast(OpenStream, given)()
        stream = await opened if inspect.isawaitable(opened) else opened
        if not is_stream(stream):
            raise TypeError(f"transport must return a ByteStream, got {type(stream).__name__}")
        return stream

    async def _shake_hands(self, transport: Transport, attempt: _Attempt) -> WebSocketStream:
        missing = f"answer to the opening handshake from {self.progress.url}"
        self.progress.wait_for(missing, f"the {self._kind(attempt.url)} connection was open")
        try:
            accepted = await ask(transport, attempt.handshake)
            deflate = self._confirm(accepted.extensions)
        except BaseException as error:
            await release(transport)
            if isinstance(error, OSError):
                add_tls_hint(error, plain="ws")
            raise
        connection = Connection(client=True, deflate=deflate)
        driver = Driver(transport, connection, accepted.trailing, self.options)
        driver.start()
        return WebSocketStream(
            driver,
            url=attempt.url,
            subprotocol=accepted.subprotocol,
            extensions=format_extensions(accepted.extensions),
            request=attempt.handshake.request,
            response=accepted.response,
        )

    def _kind(self, url: URL) -> str:
        if url.secure:
            return "TLS"
        if self._way.transport is not None:
            return "given"
        return "TCP" if url.socket is None else "Unix"

    def _confirm(self, accepted: Sequence[Extension]) -> Agreed | None:
        if self.options.compression is None:
            return None
        try:
            return confirm_response(self.options.compression, accepted)
        except ValueError as error:
            raise HandshakeError(f"the server's Sec-WebSocket-Extensions are wrong: {error}") from error


def is_stream(value: object) -> TypeGuard[ByteStream]:
    """Whether `value` is a byte stream as anyio has it, by base class or by its methods."""
    return all(callable(getattr(value, name, None)) for name in ("receive", "send", "aclose"))
