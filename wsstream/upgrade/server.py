"""The server's side of the opening handshake over a transport, for `serve` and `accept` alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import anyio

from wsstream.driver.driver import Driver
from wsstream.driver.options import ConnectionOptions
from wsstream.errors import HandshakeError
from wsstream.opening.decision import Accept, ProcessRequest
from wsstream.opening.deflate_offer import accept_offer
from wsstream.opening.extensions import Extension, format_extensions
from wsstream.opening.handshake import validate_subprotocols
from wsstream.opening.handshake_server import (
    Offer,
    RequestRejected,
    check_request,
    select_subprotocol,
    validate_origins,
)
from wsstream.opening.http import PeerAddress, Request, RequestedURL, Response
from wsstream.opening.http1 import ServerHandshake
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.attributes import TransportAttributes
from wsstream.transports.base import Transport, receive_some, release, send_all
from wsstream.transports.failures import reported
from wsstream.upgrade.process_request import RequestHook

__all__ = ["ServerUpgrade", "UpgradePolicy"]

_READ_SIZE = 16 * 1024  # bytes
_LINGER = 1.0  # seconds for a rejected client to read the response
_LINGER_BYTES = 1 << 20  # of what it still sends meanwhile


class UpgradePolicy:
    """Which requests a server upgrades, and what it agrees to.

    Args:
        subprotocols, origins, process_request, options: as in :func:`~wsstream.serve`.
        own_tasks: see :class:`~wsstream.upgrade.process_request.RequestHook`.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    __slots__ = ("hook", "options", "origins", "subprotocols")

    def __init__(
        self,
        subprotocols: Iterable[str],
        origins: Iterable[str | None] | None,
        process_request: ProcessRequest | None,
        options: ConnectionOptions,
        *,
        own_tasks: bool = False,
    ) -> None:
        self.hook = RequestHook(process_request, own_tasks=own_tasks)
        self.subprotocols = validate_subprotocols(subprotocols)
        self.origins = validate_origins(origins)
        self.options = options


class ServerUpgrade:
    """One opening handshake, seen from the server.

    Args:
        policy: what the server agrees to.
        transport: owned from now on.
        peer: the client's address.

    Attributes:
        request: the client's request, once its head is complete.
        waiting_for: what has to happen next, for messages.
    """

    def __init__(self, policy: UpgradePolicy, transport: Transport, peer: PeerAddress) -> None:
        self.request: Request | None = None
        self.waiting_for = "the client's request"
        self._policy = policy
        self._transport = transport
        self._handshake = ServerHandshake(peer=peer)

    async def run(
        self,
        on_request: Callable[[], object] = lambda: None,
        on_rejected: Callable[[RequestRejected], object] = lambda rejected: None,
    ) -> WebSocketStream:
        """Return the open connection. If this fails or is cancelled, the transport is released.

        Args:
            on_request: called when the request is complete; may raise RequestRejected.
            on_rejected: called before a response other than 101 is sent.

        Raises:
            RequestRejected: a response other than 101 was sent; if the application made it, this is an
                `ApplicationResponse`.
            HandshakeError: the client went away.
        """
        try:
            try:
                request = await self._receive_request()
                on_request()
                return await self._upgrade(request)
            except RequestRejected as rejected:
                on_rejected(rejected)
                await self._reject(rejected.response)
                raise
        except GeneratorExit:  # the coroutine is being closed: nothing may be awaited
            self._transport.close()
            raise
        except anyio.BrokenResourceError as error:
            await release(self._transport)
            what = reported(error) or error
            raise HandshakeError(
                f"the client broke the connection in the opening handshake: {what}"
            ) from error
        except BaseException:
            await release(self._transport)
            raise

    async def _receive_request(self) -> Request:
        while self.request is None:
            data = await receive_some(self._transport, _READ_SIZE)
            self.request = self._handshake.receive_data(data)
        self.request.attributes = TransportAttributes(self._transport)
        return self.request

    async def _upgrade(self, request: Request) -> WebSocketStream:
        if self._policy.hook:
            self.waiting_for = "process_request"
        accept = await self._policy.hook.run(request)
        offer = check_request(request, origins=self._policy.origins)
        subprotocol = self._choose_subprotocol(request, accept, offer)
        extensions, deflate = self._choose_extensions(offer)
        if accept.state is not None:
            request.state = accept.state
        self.waiting_for = "the client to take the response"
        response = self._handshake.accept(
            offer, subprotocol=subprotocol, extensions=extensions, headers=accept.headers or ()
        )
        await send_all(self._transport, response)
        connection = Connection(client=False, deflate=deflate)
        driver = Driver(self._transport, connection, self._handshake.trailing, self._policy.options)
        driver.start()
        scheme = "ws" if self._transport.extra("ssl_object") is None else "wss"
        return WebSocketStream(
            driver,
            url=RequestedURL(scheme, request),
            subprotocol=subprotocol,
            extensions=format_extensions(extensions),
            request=request,
            response=self._handshake.response,
        )

    def _choose_subprotocol(self, request: Request, accept: Accept, offer: Offer) -> str:
        chosen = accept.subprotocol
        if chosen is None:
            return select_subprotocol(offer.subprotocols, self._policy.subprotocols)
        if chosen and chosen not in offer.subprotocols:
            error = ValueError("the subprotocol of Accept must be one of those that the client offered")
            self._policy.hook.fail(request, error)
        return chosen

    def _choose_extensions(self, offer: Offer) -> tuple[tuple[Extension, ...], Agreed | None]:
        options = self._policy.options.compression
        accepted = None if options is None else accept_offer(options, offer.extensions)
        return ((), None) if accepted is None else ((accepted[0],), accepted[1])

    async def _reject(self, response: Response) -> None:
        """Send `response` and let the client read it: closing with unread data would reset the connection."""
        self.waiting_for = "the client to take the response"
        data = self._handshake.reject(response)
        with suppress(anyio.BrokenResourceError):
            await send_all(self._transport, data)
            self._transport.send_eof()
            left = _LINGER_BYTES
            with anyio.move_on_after(_LINGER):
                while left > 0 and (data := await receive_some(self._transport, _READ_SIZE)):
                    left -= len(data)
