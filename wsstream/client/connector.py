"""Opening a connection as a client: the route to the server, the opening handshake, redirects."""

from __future__ import annotations

import inspect
import os
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard, cast

from anyio.abc import ByteStream

from wsstream.driver.options import ConnectionOptions
from wsstream.errors import HandshakeError, HandshakeRejected
from wsstream.opening.extensions import Extension
from wsstream.opening.handshake import NONCE_SIZE
from wsstream.opening.headers import Headers
from wsstream.opening.http1 import ClientHandshake
from wsstream.opening.proxy_url import Proxy, environment_proxy, parse_proxy_url
from wsstream.opening.redirect import Destination, not_followed, redirected
from wsstream.opening.url import URL
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.base import Transport
from wsstream.transports.dial import TLS, dial, start_tls
from wsstream.transports.progress import Progress
from wsstream.transports.proxy import require_socks
from wsstream.transports.tls import default_client_context
from wsstream.upgrade.client import ClientUpgrade

__all__ = ["Connector", "HandshakeTemplate", "OpenStream", "Route", "is_stream"]

OpenStream: TypeAlias = Callable[[], ByteStream | Awaitable[ByteStream]]
"""A function that opens a byte stream to the server."""


@dataclass(frozen=True, slots=True)
class HandshakeTemplate:
    """What the opening handshakes of one connection have in common, wherever redirects lead."""

    subprotocols: Sequence[str] = field(repr=False)
    extensions: Sequence[Extension]
    origin: str | None

    def make(self, destination: Destination) -> ClientHandshake:
        """A handshake with `destination`. Each has a key of its own (RFC 6455 section 4.1)."""
        return ClientHandshake(
            destination.url,
            key=os.urandom(NONCE_SIZE),
            subprotocols=self.subprotocols,
            extensions=self.extensions,
            headers=destination.headers,
            origin=self.origin,
        )


@dataclass(frozen=True, slots=True)
class Route:
    """How servers are reached.

    Attributes:
        ssl: the context for ``wss``; ``None`` for the default one.
        proxy: the URL of a proxy; ``"env"`` for the one that the environment names; ``None`` for none.
        proxy_headers: more header fields for CONNECT.
        transport: a stream to use instead of TCP, or a function that opens one.
    """

    ssl: ssl_module.SSLContext | None
    proxy: str | None = field(repr=False)
    proxy_headers: Headers = field(repr=False)
    transport: ByteStream | OpenStream | None

    def proxy_for(self, url: URL) -> Proxy | None:
        """The proxy for a connection to `url`; ``None`` if it is reached directly.

        Raises:
            InvalidURL: the proxy's URL is not valid.
            ValueError: `proxy_headers` were given, and `proxy` names a SOCKS proxy.
            ImportError: a SOCKS proxy needs the extra ``proxy``, which is not installed.
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
    """One attempt to open a connection."""

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
        destination: the first server; redirects lead to others.
        template: what to offer to each of them.
        route: how to reach them.
        options: those of the connection.
        max_redirects: how many redirects are followed.

    Attributes:
        progress: what the connector waits for, for messages.
    """

    def __init__(
        self,
        destination: Destination,
        template: HandshakeTemplate,
        route: Route,
        options: ConnectionOptions,
        max_redirects: int,
    ) -> None:
        self._template = template
        self._route = route
        self.options = options
        self._max_redirects = max_redirects
        self._first = self._plan(destination)
        self.progress = Progress(destination.url.shown)

    async def open(self) -> WebSocketStream:
        """Return an open connection. If this fails or is cancelled, the transport is closed.

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
        return _Attempt(destination, self._route.proxy_for(destination.url), self._template.make(destination))

    async def _try(self, attempt: _Attempt) -> WebSocketStream:
        self.progress = Progress(attempt.url.shown)
        try:
            transport = await self._open_transport(attempt)
            missing = f"answer to the opening handshake from {self.progress.url}"
            self.progress.wait_for(missing, f"the {self._transport_kind(attempt.url)} connection was open")
            return await ClientUpgrade(transport, attempt.url, attempt.handshake, self.options).run()
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
            tls = TLS(self._route.ssl or default_client_context(), name)
        if self._route.transport is None:
            return await dial(attempt.url, tls, attempt.proxy, self._route.proxy_headers, self.progress)
        stream = await self._open_stream(self._route.transport)
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

    def _transport_kind(self, url: URL) -> str:
        if url.secure:
            return "TLS"
        if self._route.transport is not None:
            return "given"
        return "TCP" if url.socket is None else "Unix"


def is_stream(value: object) -> TypeGuard[ByteStream]:
    """Whether `value` has the methods of an anyio ``ByteStream``."""
    return all(callable(getattr(value, name, None)) for name in ("receive", "send", "aclose"))
