"""Opening a connection as a client."""

from __future__ import annotations

import os
import ssl as ssl_module
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from errno import ECONNRESET
from types import TracebackType

import anyio
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSStream

from wsstream.errors import HandshakeError
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed, Deflate, confirm_response, make_offer
from wsstream.protocol.extensions import Extension, format_extensions
from wsstream.protocol.handshake import NONCE_SIZE, validate_subprotocols
from wsstream.protocol.http import HeaderPairs
from wsstream.protocol.http1 import Accepted, ClientHandshake
from wsstream.protocol.url import URL, parse_url
from wsstream.streams.flow import FlowControl
from wsstream.streams.options import ConnectionOptions, release
from wsstream.streams.websocket import WebSocketStream, leave
from wsstream.transports.base import Transport, receive_some, send_all
from wsstream.transports.connect import open_tcp
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.streams import StreamTransport
from wsstream.transports.tls import TLSTransport, default_client_context

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
    proxy: None = None,
    transport: ByteStream | None = None,
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
        server_hostname: the name to verify instead of the URL's host.
        proxy: not supported yet: ``None``.
        transport: an open byte stream to use in place of a TCP connection; owned from now on. For
            ``wss``, TLS is spoken over it.
        max_message_size: the largest message, in bytes, that ``receive`` and ``read`` assemble.
        compression: a :class:`Deflate` to offer permessage-deflate; the server may decline.
        flow: the water marks.
        open_timeout: seconds until the opening handshake must be done.
        close_timeout: seconds for the closing handshake.
        ping_interval: seconds without a byte from the peer after which a Ping is sent; ``None``: never.
        ping_timeout: seconds after a Ping without a byte until the peer is given up; ``None``: never.

    Raises:
        InvalidURL: `url` is not a WebSocket URL.
        TypeError, ValueError: an argument is not as it should be.
        NotImplementedError: `proxy` is not ``None``.
        OSError: no connection, on entering; of TLS it is an ``ssl.SSLError``.
        TimeoutError: `open_timeout` has passed.
        HandshakeRejected: the server answered with another status than 101.
        HandshakeError: the server's answer is no opening handshake.
    """
    if proxy is not None:
        raise NotImplementedError("proxies are not supported yet; leave proxy at None")
    target = parse_url(url)
    if ssl is not None and not target.secure:
        raise ValueError("a TLS context is given, but the URL is not wss")
    options = ConnectionOptions(
        max_message_size=max_message_size,
        compression=compression,
        flow=flow,
        open_timeout=open_timeout,
        close_timeout=close_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
    )
    handshake = ClientHandshake(
        target,
        key=os.urandom(NONCE_SIZE),
        subprotocols=validate_subprotocols(subprotocols),
        extensions=() if compression is None else (make_offer(compression),),
        headers=headers,
        origin=origin,
    )
    return _Connect(target, handshake, options, ssl, server_hostname or target.host.rstrip("."), transport)


class _Connect(AbstractAsyncContextManager[WebSocketStream]):
    def __init__(
        self,
        url: URL,
        handshake: ClientHandshake,
        options: ConnectionOptions,
        ssl: ssl_module.SSLContext | None,
        server_hostname: str,
        stream: ByteStream | None,
    ) -> None:
        self._url = url
        self._handshake = handshake
        self._options = options
        self._ssl = ssl
        self._server_hostname = server_hostname
        self._stream = stream
        self._ws: WebSocketStream | None = None
        self._entered = False

    async def __aenter__(self) -> WebSocketStream:
        if self._entered:
            raise RuntimeError("connect() gives one connection; call it again for another")
        self._entered = True
        with anyio.fail_after(self._options.open_timeout):
            transport = await self._open_transport()
            try:
                accepted = await _shake_hands(transport, self._handshake)
                deflate = self._confirm(accepted.extensions)
            except BaseException:
                await release(transport)
                raise
        driver = self._options.start(transport, Connection(client=True, deflate=deflate), accepted.trailing)
        self._ws = WebSocketStream(
            driver,
            url=str(self._url),
            subprotocol=accepted.subprotocol,
            extensions=format_extensions(accepted.extensions),
            request=self._handshake.request,
            response=accepted.response,
        )
        return self._ws

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

    async def _open_transport(self) -> Transport:
        if self._stream is not None:
            return StreamTransport(await self._secured(self._stream))
        await checkpoint()  # nothing is sent if this is cancelled already
        sock = await open_tcp(self._url.host, self._url.port)
        if self._url.secure:
            return await TLSTransport.client(
                sock, self._ssl or default_client_context(), self._server_hostname
            )
        return SocketTransport(sock)

    async def _secured(self, stream: ByteStream) -> ByteStream:
        """`stream`, with TLS over it if the URL asks for that; closed if that fails."""
        if not self._url.secure:
            return stream
        try:
            return await TLSStream.wrap(
                stream,
                hostname=self._server_hostname,
                ssl_context=self._ssl or default_client_context(),
                standard_compatible=False,  # a peer need not say goodbye: Close frames tell a clean end
            )
        except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
            await anyio.aclose_forcefully(stream)
            raise ConnectionResetError(ECONNRESET, "the connection broke in the TLS handshake") from error
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise


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
