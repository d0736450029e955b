"""The server's side of the opening handshake over a transport, for `serve` and `accept` alike."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPMethod
from typing import Any, NoReturn, TypeAlias

import anyio

from wsstream.driver.driver import Driver
from wsstream.driver.options import ConnectionOptions, release
from wsstream.errors import HandshakeError
from wsstream.log import Log
from wsstream.opening.deflate_offer import accept_offer
from wsstream.opening.extensions import Extension, format_extensions
from wsstream.opening.handshake import (
    Offer,
    RequestRefused,
    check_extra,
    check_request,
    select_subprotocol,
    validate_origins,
    validate_subprotocols,
)
from wsstream.opening.http import HeaderPairs, Headers, PeerAddress, Request, RequestedURL, Response
from wsstream.opening.http1 import ServerHandshake
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed
from wsstream.streams.leaving import in_cancelled_scope, is_closing, judge, program_end
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.attributes import TransportAttributes
from wsstream.transports.base import Transport, receive_some, send_all
from wsstream.transports.failures import reported

__all__ = ["Accept", "Acceptor", "Answered", "Opening", "ProcessRequest", "client_name"]

log = Log("wsstream.server")

_METHODS = frozenset(HTTPMethod)
_READ_SIZE = 16 * 1024  # bytes
_LINGER = 1.0  # seconds for a refused client to read the answer
_LINGER_BYTES = 1 << 20  # of what it still sends meanwhile


@dataclass(frozen=True, slots=True, init=False)
class Accept:
    """What ``process_request`` returns to let a request in and to take part in the answer 101.

    Args:
        headers: more header fields of the answer, such as ``Set-Cookie``, as a mapping or as pairs.
        subprotocol: one of those that the client offered, or ``""`` for none; ``None``: the first of the
            server's `subprotocols` that it offered.
        state: what the handler finds as ``ws.request.state``; ``None``: that stays as it is.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: `subprotocol` is not a token, or a header field is malformed or one that the handshake
            sets itself.
    """

    headers: Headers
    subprotocol: str | None = field(repr=False)  # this and the state may be secrets
    state: Any = field(repr=False)

    def __init__(
        self, *, headers: HeaderPairs = (), subprotocol: str | None = None, state: Any = None
    ) -> None:
        checked = Headers(headers)
        check_extra(checked)
        if subprotocol:
            validate_subprotocols([subprotocol])
        elif subprotocol not in (None, ""):
            raise TypeError(f"subprotocol must be a str or None, got {type(subprotocol).__name__}")
        for name, value in (("headers", checked), ("subprotocol", subprotocol), ("state", state)):
            object.__setattr__(self, name, value)


Answer: TypeAlias = Response | Accept | None
ProcessRequest: TypeAlias = Callable[[Request], Answer | Awaitable[Answer]]

_AS_IT_IS = Accept()


class Answered(RequestRefused):
    """The application has answered a request itself: that is no failure."""


class Acceptor:
    """Does the server's side of the opening handshake.

    Args:
        subprotocols, origins, process_request, options: as in :func:`~wsstream.serve`.
        own_tasks: the handshakes run in tasks that nobody but the server may cancel, which it does by cancel
            scopes. Then a cancellation that comes from elsewhere is a failure of ``process_request``.
    """

    def __init__(
        self,
        subprotocols: Iterable[str],
        origins: Iterable[str | None] | None,
        process_request: ProcessRequest | None,
        options: ConnectionOptions,
        *,
        own_tasks: bool = False,
    ) -> None:
        if process_request is not None and not callable(process_request):
            kind = type(process_request).__name__
            raise TypeError(f"process_request must be a function or None, got {kind}")
        self.subprotocols = validate_subprotocols(subprotocols)
        self.origins = validate_origins(origins)
        self.process_request = process_request
        self.options = options
        self.own_tasks = own_tasks

    def is_failure(self, error: BaseException) -> bool:
        """Whether an exception that left ``process_request`` is its own, and nobody else waits for it."""
        if is_closing(error) or program_end(error) is not None:
            return False
        return not judge(error).cancelled or (self.own_tasks and not in_cancelled_scope())


class Opening:
    """One opening handshake.

    Args:
        acceptor: how it is done.
        transport: owned from now on.
        peer: the client's address.

    Attributes:
        request: the client's, as soon as its head is complete.
        waits_for: what has to happen next, for messages.
    """

    def __init__(self, acceptor: Acceptor, transport: Transport, peer: PeerAddress) -> None:
        self.request: Request | None = None
        self.waits_for = "the client's request"
        self._acceptor = acceptor
        self._transport = transport
        self._peer = peer
        self._handshake = ServerHandshake(peer=peer)

    async def run(
        self,
        arrived: Callable[[], object] = lambda: None,
        refused: Callable[[RequestRefused], object] = lambda refused: None,
    ) -> WebSocketStream:
        """Shake hands; the transport is released if that fails or is cancelled.

        Args:
            arrived: called when the request is there; may raise RequestRefused.
            refused: called before another answer than 101 is given.

        Raises:
            RequestRefused: another answer than 101 was given; of the application's it is `Answered`.
            HandshakeError: the client went away.
        """
        try:
            try:
                request = await self._receive_request()
                arrived()
                return await self._answer(request)
            except RequestRefused as refusal:
                refused(refusal)
                await self._refuse(refusal.response)
                raise
        except GeneratorExit:  # nothing may be awaited
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

    async def _answer(self, request: Request) -> WebSocketStream:
        accept = await self._ask_application(request)
        offer = check_request(request, origins=self._acceptor.origins)
        subprotocol = self._choose_subprotocol(accept, offer)
        extensions, deflate = self._choose_extensions(offer)
        if accept.state is not None:
            request.state = accept.state
        self.waits_for = "the client to take the answer"
        answer = self._handshake.accept(
            offer, subprotocol=subprotocol, extensions=extensions, headers=accept.headers or ()
        )
        await send_all(self._transport, answer)
        connection = Connection(client=False, deflate=deflate)
        driver = Driver(self._transport, connection, self._handshake.trailing, self._acceptor.options)
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

    def _choose_subprotocol(self, accept: Accept, offer: Offer) -> str:
        chosen = accept.subprotocol
        if chosen is None:
            return select_subprotocol(offer.subprotocols, self._acceptor.subprotocols)
        if chosen and chosen not in offer.subprotocols:
            self._fail(ValueError("the subprotocol of Accept must be one of those that the client offered"))
        return chosen

    def _choose_extensions(self, offer: Offer) -> tuple[tuple[Extension, ...], Agreed | None]:
        options = self._acceptor.options.compression
        accepted = None if options is None else accept_offer(options, offer.extensions)
        return ((), None) if accepted is None else ((accepted[0],), accepted[1])

    async def _ask_application(self, request: Request) -> Accept:
        ask = self._acceptor.process_request
        if ask is None:
            return _AS_IT_IS
        self.waits_for = "process_request"
        try:
            answer = ask(request)
            if inspect.isawaitable(answer):
                answer = await answer
            if answer is not None and not isinstance(answer, Response | Accept):
                kind = type(answer).__name__
                raise TypeError(f"process_request must return a Response, an Accept or None, got {kind}")
        except BaseException as error:
            if not self._acceptor.is_failure(error):
                raise
            self._fail(error)
        if isinstance(answer, Response):
            raise Answered(answer, f"process_request answered with status {answer.status}")
        return answer or _AS_IT_IS

    def _fail(self, error: BaseException) -> NoReturn:
        """Answer 500, as the application made a mistake."""
        name, verdict = client_name(self._peer, self.request), judge(error)
        if verdict.failed or verdict.cancelled:
            log.error("%s: process_request failed", name, cause=error)
        else:
            log.info("%s: process_request failed: %s", name, verdict.decided_by)
        reason = "The server failed to process this request."
        raise RequestRefused(Response(500, body=f"{reason}\n"), reason) from error

    async def _refuse(self, response: Response) -> None:
        """Send `response` and let the client read it: closing with unread data would reset the connection."""
        self.waits_for = "the client to take the answer"
        answer = self._handshake.reject(response)
        with suppress(anyio.BrokenResourceError):
            await send_all(self._transport, answer)
            self._transport.send_eof()
            left = _LINGER_BYTES
            with anyio.move_on_after(_LINGER):
                while left > 0 and (data := await receive_some(self._transport, _READ_SIZE)):
                    left -= len(data)


def client_name(peer: PeerAddress, request: Request | None = None) -> str:
    """A client in a log line: its address and what it asks for, without the query, where secrets are."""
    name = "a client"
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = str(peer[0]), peer[1]
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    elif isinstance(peer, str) and peer:
        name = peer
    if request is None:
        return name
    method = request.method if request.method in _METHODS else "?"  # anything else may be a secret, too
    return f"{name} {method} {request.path}"
