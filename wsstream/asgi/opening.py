"""The opening handshake of an ASGI application's WebSocket: its request, and the application's answer.

The request is parsed as its bytes come. Then it waits for the application, which may accept, close, or deny
with a response of its own: the table of `Stage` says which messages it may send when.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

import anyio

from wsstream.asgi.scope import ClientDisconnected, Fields, Message, text_of
from wsstream.driver.options import ConnectionOptions
from wsstream.errors import HandshakeError
from wsstream.opening.decision import Accept, Decision
from wsstream.opening.handshake_server import RequestRejected, check_request
from wsstream.opening.http import FRAMING_FIELDS, Request, Response
from wsstream.opening.peer import PeerAddress
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.base import Transport
from wsstream.upgrade.process_request import ApplicationResponse
from wsstream.upgrade.server import ServerUpgrade, UpgradePolicy

__all__ = ["MAX_DENIAL", "Opening", "Stage"]

MAX_DENIAL = 1 << 20
"""Bytes of the body of a response that denies a WebSocket; it is sent in one piece."""

_ERROR = Response(500, body="Internal Server Error")


class Stage(Enum):
    """How far an opening handshake is."""

    WAITING = auto()
    """The application has not answered: it may accept, close, or begin a response that denies."""
    DENYING = auto()
    """It has begun that response, and sends its body."""
    ANSWERING = auto()
    """The answer is being sent."""
    DONE = auto()
    """The WebSocket is open; or it never will be."""


class Opening:
    """The opening handshake of one connection.

    Args:
        transport: the connection's.
        peer: the client's address.
        options: those of the connection.
        headers: more header fields of the response 101.
        on_answer: called with the status of the application's response, before that is sent.

    Attributes:
        stage: how far it is.
        ws: the connection, once it is open.
        answered: the handshake is done, or the client has left.
        left: the client has left before the answer.
    """

    def __init__(
        self,
        transport: Transport,
        peer: PeerAddress,
        options: ConnectionOptions,
        headers: Fields,
        on_answer: Callable[[int], object],
    ) -> None:
        self.stage = Stage.WAITING
        self.ws: WebSocketStream | None = None
        self.answered = anyio.Event()
        self.left = False
        self._headers = headers
        self._on_answer = on_answer
        self._decision: Decision = None
        self._upgrade = ServerUpgrade(
            UpgradePolicy((), None, lambda request: self._decision, options), transport, peer, self._check
        )
        self._denial: tuple[int, list[tuple[str, str]]] | None = None  # status and header fields
        self._body = bytearray()

    # -- the request ---------------------------------------------------------------------------

    @property
    def request(self) -> Request | None:
        """The client's request, once it is complete."""
        return self._upgrade.request

    def advance(self) -> bool:
        """Parse what has arrived of the request; returns whether it is complete.

        Raises:
            RequestRejected: it opens no WebSocket; `reject` sends the response.
            HandshakeError, anyio.BrokenResourceError: the client has left.
        """
        self._upgrade.advance()
        return self.request is not None

    def _check(self) -> None:
        assert self.request is not None
        check_request(self.request)

    async def reject(self, rejected: RequestRejected) -> None:
        """Send the response to a request that opens no WebSocket. If cancelled, the connection is dropped."""
        self.end()
        try:
            await self._upgrade.run(rejected=rejected)
        except HandshakeError:
            pass

    # -- the application's answer --------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """Whether the client still waits for the application's answer."""
        return not self.left and self.stage in (Stage.WAITING, Stage.DENYING)

    async def answer(self, kind: str, message: Message) -> None:
        """Take what the application sends before the WebSocket is open.

        Raises:
            ClientDisconnected: the client has left.
            RuntimeError: ASGI does not allow this message now.
            TypeError, ValueError: the message is malformed.
        """
        if self.stage is Stage.DENYING:
            await self._deny(kind, message)
        elif self.left:
            raise ClientDisconnected("the client has left")
        elif kind == "websocket.accept":
            await self._accept(message)
        elif kind == "websocket.close":
            await self._respond(Response(403))
        elif kind == "websocket.http.response.start":
            self._begin_denial(message)
        else:
            raise RuntimeError(f"a WebSocket that was not accepted cannot get {kind!r}")

    async def _accept(self, message: Message) -> None:
        fields = [*text_of(self._headers), *text_of(message.get("headers"))]
        accept = Accept(headers=fields, subprotocol=message.get("subprotocol") or "")
        assert self.request is not None
        if accept.subprotocol and accept.subprotocol not in self.request.subprotocols:
            raise ValueError("the subprotocol must be one of those that the client offered")
        self._on_answer(101)
        self.ws = await self._run(accept)
        if self.ws is None:
            raise ClientDisconnected("the client has left")
        self.end()

    def _begin_denial(self, message: Message) -> None:
        fields = [each for each in text_of(message.get("headers")) if each[0].lower() not in FRAMING_FIELDS]
        Response(message["status"], fields)  # checks both
        self._denial = (message["status"], fields)
        self.stage = Stage.DENYING

    async def _deny(self, kind: str, message: Message) -> None:
        if kind != "websocket.http.response.body":
            raise RuntimeError(f"the response that denies a WebSocket cannot be followed by {kind!r}")
        self._body += message.get("body", b"")
        if len(self._body) > MAX_DENIAL:
            raise RuntimeError(
                f"the response that denies a WebSocket has a body of more than {MAX_DENIAL} bytes"
            )
        if not message.get("more_body", False):
            assert self._denial is not None
            await self._respond(Response(*self._denial, bytes(self._body)))

    async def _respond(self, response: Response) -> None:
        """Send a response other than 101. If cancelled, the connection is dropped."""
        self._on_answer(response.status)
        await self._run(response)
        self.end()

    async def _run(self, decision: Decision) -> WebSocketStream | None:
        self._decision = decision
        self.stage = Stage.ANSWERING
        try:
            return await self._upgrade.run()
        except ApplicationResponse:
            return None
        except (HandshakeError, anyio.ClosedResourceError):
            self.end()
            return None
        except BaseException:
            self.end()
            raise

    # -- the end -------------------------------------------------------------------------------

    async def fail(self) -> None:
        """Answer with 500 in place of the application."""
        await self._run(_ERROR)
        self.end()

    def peer_left(self) -> None:
        """The client has closed the connection before it was open."""
        if self.ws is None:
            self.left = True
            self.answered.set()

    def end(self) -> None:
        """The handshake is done."""
        self.stage = Stage.DONE
        self.answered.set()
