"""The server's side of the opening handshake over a transport, for `serve` and `accept` alike."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import anyio

from wsstream.errors import HandshakeError
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed, accept_offer
from wsstream.protocol.extensions import Extension, format_extensions
from wsstream.protocol.handshake import (
    Offer,
    RequestRefused,
    check_request,
    select_subprotocol,
    validate_origins,
    validate_subprotocols,
)
from wsstream.protocol.http import Request, RequestedURL, Response
from wsstream.protocol.http1 import ServerHandshake
from wsstream.streams.options import ConnectionOptions, release
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.base import Transport, receive_some, send_all
from wsstream.transports.failures import reported

__all__ = ["Acceptor", "ProcessRequest"]

ProcessRequest: TypeAlias = Callable[[Request], "Response | Awaitable[Response | None] | None"]

logger = logging.getLogger("wsstream.server")

_READ_SIZE = 16 * 1024  # bytes
_LINGER = 1.0  # seconds for a refused client to read the answer
_LINGER_BYTES = 1 << 20  # of what it still sends meanwhile


class Acceptor:
    """Does the server's side of the opening handshake."""

    def __init__(
        self,
        subprotocols: Iterable[str],
        origins: Iterable[str | None] | None,
        process_request: ProcessRequest | None,
        options: ConnectionOptions,
    ) -> None:
        self.subprotocols = validate_subprotocols(subprotocols)
        self.origins = validate_origins(origins)
        self.process_request = process_request
        self.options = options

    async def open(self, transport: Transport) -> WebSocketStream:
        """Shake hands; the transport is released if that fails.

        Raises:
            RequestRefused: another answer than 101 was given.
            HandshakeError: the client went away.
        """
        handshake = ServerHandshake(peer=transport.extra("peername"))
        try:
            try:
                request = await _read_request(transport, handshake)
                offer = await self._judge(request)
            except RequestRefused as refused:
                await _refuse(transport, handshake.reject(refused.response))
                raise
            subprotocol = select_subprotocol(offer.subprotocols, self.subprotocols)
            extensions, deflate = self._choose_extensions(offer)
            answer = handshake.accept(offer, subprotocol=subprotocol, extensions=extensions)
            await send_all(transport, answer)
        except anyio.BrokenResourceError as error:
            await release(transport)
            what = reported(error) or error
            raise HandshakeError(
                f"the client broke the connection in the opening handshake: {what}"
            ) from error
        except BaseException:
            await release(transport)
            raise
        driver = self.options.start(transport, Connection(client=False, deflate=deflate), handshake.trailing)
        scheme = "ws" if transport.extra("ssl_object") is None else "wss"
        return WebSocketStream(
            driver,
            url=RequestedURL(scheme, request),
            subprotocol=subprotocol,
            extensions=format_extensions(extensions),
            request=request,
            response=handshake.response,
        )

    def _choose_extensions(self, offer: Offer) -> tuple[tuple[Extension, ...], Agreed | None]:
        options = self.options.compression
        accepted = None if options is None else accept_offer(options, offer.extensions)
        return ((), None) if accepted is None else ((accepted[0],), accepted[1])

    async def _judge(self, request: Request) -> Offer:
        response = await self._ask_application(request)
        if response is not None:
            raise RequestRefused(response)
        return check_request(request, origins=self.origins)

    async def _ask_application(self, request: Request) -> Response | None:
        if self.process_request is None:
            return None
        try:
            response = self.process_request(request)
            if inspect.isawaitable(response):
                response = await response
            if response is not None and not isinstance(response, Response):
                raise TypeError(f"process_request returns a Response or None, not {type(response).__name__}")
        except Exception:
            logger.exception("process_request failed for %r", request)
            return Response(500, body="The server failed to process this request.\n")
        return response


async def _read_request(transport: Transport, handshake: ServerHandshake) -> Request:
    while True:
        request = handshake.receive_data(await receive_some(transport, _READ_SIZE))
        if request is not None:
            return request


async def _refuse(transport: Transport, answer: bytes) -> None:
    """Send `answer` and let the client read it: closing with unread data would reset the connection."""
    await send_all(transport, answer)
    transport.send_eof()
    left = _LINGER_BYTES
    with anyio.move_on_after(_LINGER):
        while left > 0 and (data := await receive_some(transport, _READ_SIZE)):
            left -= len(data)
