"""The server's side of the opening handshake over a transport, for `serve` and `accept` alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import NamedTuple

import anyio

from wsstream.driver.driver import Driver
from wsstream.driver.options import ConnectionOptions
from wsstream.errors import HandshakeError
from wsstream.opening.decision import Accept, ProcessRequest
from wsstream.opening.deflate_offer import accept_offer
from wsstream.opening.extensions import Extension, format_extensions
from wsstream.opening.forwarded import ForwardedError, TrustedProxies
from wsstream.opening.handshake import validate_subprotocols
from wsstream.opening.handshake_server import (
    Offer,
    RequestRejected,
    check_request,
    rejection,
    select_subprotocol,
)
from wsstream.opening.http import Request, RequestedURL, Response
from wsstream.opening.http1 import ServerHandshake
from wsstream.opening.origins import Hosts, Origins, OriginsArgument
from wsstream.opening.peer import PeerAddress
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.attributes import TransportAttributes
from wsstream.transports.base import Transport, receive_now, receive_some, release, send_all
from wsstream.transports.failures import reported
from wsstream.upgrade.process_request import UNCHANGED, RequestHook
from wsstream.upgrade.route_options import CheckedOptions

__all__ = ["ServerUpgrade", "UpgradePolicy", "client_broke"]

_READ_SIZE = 16 * 1024  # bytes
_LINGER = 1.0  # seconds for a rejected client to read the response
_LINGER_BYTES = 1 << 20  # of what it still sends meanwhile


class _Opening(NamedTuple):
    """What the two sides agreed on."""

    subprotocol: str
    extensions: str
    deflate: Agreed | None


class UpgradePolicy:
    """Which requests a server upgrades, and what it agrees to.

    Args:
        subprotocols, origins, process_request, options, hosts, trusted_proxies: as in
            :func:`~wsstream.serve`.
        own_tasks: see :class:`~wsstream.upgrade.process_request.RequestHook`.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    __slots__ = ("_hosts", "_proxies", "hook", "options", "origins", "subprotocols")

    def __init__(
        self,
        subprotocols: Iterable[str],
        origins: OriginsArgument,
        process_request: ProcessRequest | None,
        options: ConnectionOptions,
        *,
        hosts: Iterable[str] | None = None,
        trusted_proxies: TrustedProxies | None = None,
        own_tasks: bool = False,
    ) -> None:
        self.hook = RequestHook(process_request, own_tasks=own_tasks)
        self.subprotocols = validate_subprotocols(subprotocols)
        self.origins = Origins.of(origins)
        self.options = options
        self._hosts = None if hosts is None else Hosts(hosts)
        self._proxies = trusted_proxies or None  # most servers have none, and need not parse an address

    def see(self, request: Request) -> None:
        """Learn who the client is, and check that the host it asked for is one of the server's.

        Raises:
            RequestRejected: it is not, or a trusted proxy said something that is not clear.
        """
        if self._proxies is not None and self._proxies.trusts(request.peer):
            try:
                request.forwarded = self._proxies.read(request.headers)
            except ForwardedError as error:
                raise rejection(400, f"The request came by a trusted proxy, but {error}.") from error
        if self._hosts is not None and not self._hosts.admit(request.host):
            raise rejection(421, "The request is for a host that is not served here.")

    def of_route(self, route: object) -> UpgradePolicy:
        """The policy for a request to `route`, which a router chose: with the options of the route."""
        changed: CheckedOptions | None = getattr(route, "options", None)
        if not changed:
            return self
        policy = copy(self)
        policy.subprotocols = changed.get("subprotocols", self.subprotocols)
        policy.origins = changed.get("origins", self.origins)
        if "max_message_size" in changed:
            policy.options = replace(self.options, max_message_size=changed["max_message_size"])
        return policy


class ServerUpgrade:
    """One opening handshake, seen from the server.

    `advance` takes the steps, of which none waits; `run` waits between them. So a server can take the steps
    of most clients without a task, and run a task only for those that need one.

    Args:
        policy: what the server agrees to.
        transport: owned from now on.
        peer: the client's address.
        on_request: called when the request is complete; may raise RequestRejected.

    Attributes:
        request: the client's request, once its head is complete.
        waiting_for: what has to happen next, for messages.
    """

    __slots__ = (
        "_accept",
        "_handshake",
        "_on_request",
        "_opening",
        "_policy",
        "_transport",
        "_unsent",
        "request",
        "waiting_for",
    )

    def __init__(
        self,
        policy: UpgradePolicy,
        transport: Transport,
        peer: PeerAddress,
        on_request: Callable[[], object] = lambda: None,
    ) -> None:
        self.request: Request | None = None
        self.waiting_for = "the client's request"
        self._policy = policy
        self._transport = transport
        self._on_request = on_request
        self._handshake = ServerHandshake(peer=peer)
        self._accept = None if policy.hook else UNCHANGED  # what the application decided
        self._opening: _Opening | None = None  # what was agreed on, once the request was checked
        self._unsent: bytes = b""  # of the response

    async def run(
        self,
        on_rejected: Callable[[RequestRejected], object] = lambda rejected: None,
        rejected: RequestRejected | None = None,
    ) -> WebSocketStream:
        """Return the open connection. If this fails or is cancelled, the transport is released.

        Args:
            on_rejected: called before a response other than 101 is sent.
            rejected: what `advance` raised before, if it did.

        Raises:
            RequestRejected: a response other than 101 was sent; if the application made it, this is an
                `ApplicationResponse`.
            HandshakeError: the client went away.
        """
        try:
            try:
                if rejected is not None:
                    raise rejected
                while (ws := self.advance()) is None:
                    await self._wait()
                return ws
            except RequestRejected as rejection:
                on_rejected(rejection)
                await self._reject(rejection.response)
                raise
        except GeneratorExit:  # the coroutine is being closed: nothing may be awaited
            self._transport.close()
            raise
        except anyio.BrokenResourceError as error:
            await release(self._transport)
            raise client_broke(error) from error
        except BaseException:
            await release(self._transport)
            raise

    async def _wait(self) -> None:
        """Wait for what `advance` needs next."""
        if self.request is None:
            await self._transport.wait_readable()
        elif self._opening is None:
            self.waiting_for = "process_request"
            self._accept = await self._policy.hook.run(self.request)
        else:
            await self._transport.wait_writable()

    # -- the steps -------------------------------------------------------------------------------

    def advance(self) -> WebSocketStream | None:
        """Go on as far as that needs no waiting, and return the connection once it is open.

        ``None``: call it again when something has arrived, as long as there is no `request`. With one, only
        `run` can go on.

        Raises:
            RequestRejected: `run` has to send the response.
            HandshakeError: the client closed the connection.
            anyio.BrokenResourceError: the connection broke.
        """
        if self.request is None and not self._receive():
            return None
        if self._opening is None:
            if self._accept is None:
                return None
            self._respond(self._accept)
        return self._open() if self._send() else None

    def _receive(self) -> bool:
        """Read what has arrived; returns whether the request is complete."""
        while (data := receive_now(self._transport, _READ_SIZE)) is not None:
            if (request := self._handshake.receive_data(data)) is not None:
                request.attributes = TransportAttributes(self._transport)
                if self._transport.extra("ssl_object") is not None:
                    request.tls = True
                self.request = request
                self._policy.see(request)
                self._on_request()
                return True
        return False

    def _respond(self, accept: Accept) -> None:
        """Check the request, agree on what it offers, and make the response."""
        request = self.request
        assert request is not None
        self._policy = self._policy.of_route(request.route)
        offer = check_request(request, origins=self._policy.origins)
        subprotocol = self._choose_subprotocol(request, accept, offer)
        extensions, deflate = self._choose_extensions(offer)
        if accept.state is not None:
            request.state = accept.state
        self.waiting_for = "the client to take the response"
        self._unsent = self._handshake.accept(
            offer, subprotocol=subprotocol, extensions=extensions, headers=accept.headers or ()
        )
        self._opening = _Opening(subprotocol, format_extensions(extensions) if extensions else "", deflate)

    def _send(self) -> bool:
        """Send what the transport takes of the response; returns whether all of it has left."""
        while self._unsent and (count := self._transport.send([self._unsent])):
            self._unsent = self._unsent[count:]
        return not (self._unsent or self._transport.unsent)

    def _open(self) -> WebSocketStream:
        request, opening = self.request, self._opening
        assert request is not None
        assert opening is not None
        connection = Connection(client=False, deflate=opening.deflate)
        driver = Driver(self._transport, connection, self._handshake.trailing, self._policy.options)
        driver.start()
        return WebSocketStream(
            driver,
            url=RequestedURL(request),
            subprotocol=opening.subprotocol,
            extensions=opening.extensions,
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


def client_broke(error: anyio.BrokenResourceError) -> HandshakeError:
    """The error for a connection that broke in the opening handshake."""
    what = reported(error) or error
    return HandshakeError(f"the client broke the connection in the opening handshake: {what}")
