"""One WebSocket of an ASGI application: its `receive` and `send` over a connection of this library.

The opening handshake waits for the application's first words, then the messages pass through the streams.
Nothing is queued in between: `receive` takes from the connection, and `send` waits until it has room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from wsstream.asgi.scope import Application, ClientDisconnected, Fields, Message, Scope, text_of
from wsstream.close_codes import CloseCode
from wsstream.driver.options import ConnectionOptions
from wsstream.errors import ConnectionClosed, HandshakeError, WebSocketError, check_close_arguments
from wsstream.opening.decision import Accept, Decision
from wsstream.opening.handshake_server import RequestRejected, check_request
from wsstream.opening.http import FRAMING_FIELDS, Request, Response
from wsstream.opening.peer import PeerAddress
from wsstream.streams.close_on_exit import is_closing, leave
from wsstream.streams.websocket import WebSocketStream, ending_of
from wsstream.transports.base import Transport
from wsstream.upgrade.process_request import ApplicationResponse
from wsstream.upgrade.server import ServerUpgrade, UpgradePolicy

__all__ = ["MAX_DENIAL", "Session"]

MAX_DENIAL = 1 << 20
"""Bytes of the body of a response that denies a WebSocket; it is sent in one piece."""

_ERROR = Response(500, body="Internal Server Error")


class Phase(Enum):
    """How far an application is."""

    CONNECTING = auto()
    """It has not answered the request."""
    DENYING = auto()
    """It has begun a response other than 101."""
    ANSWERING = auto()
    """The response is being sent."""
    OPEN = auto()
    """Messages pass."""
    CLOSED = auto()
    """It has closed the WebSocket, or denied it."""


class Session:
    """One connection of an ASGI server, from its request to its end.

    Args:
        transport: owned from now on.
        peer: the client's address.
        options: those of the connection.
        headers: more header fields of the response 101.
        on_answer: called with the status of the application's response, before that is sent.

    Attributes:
        phase: how far the application is.
        ws: the connection, once it is open.
        was_silent: whether the application ended without an answer to the request.
    """

    def __init__(
        self,
        transport: Transport,
        peer: PeerAddress,
        options: ConnectionOptions,
        *,
        headers: Fields = (),
        on_answer: Callable[[int], object] = lambda status: None,
    ) -> None:
        self.phase = Phase.CONNECTING
        self.ws: WebSocketStream | None = None
        self.was_silent = False
        self._transport = transport
        self._headers = headers
        self._on_answer = on_answer
        self._decision: Decision = None
        self._upgrade = ServerUpgrade(
            UpgradePolicy((), None, lambda request: self._decision, options), transport, peer, self._check
        )
        self._answered = anyio.Event()  # or the client has left before
        self._left = False
        self._restarting = False
        self._connect_given = self._disconnect_given = False
        self._disconnect_code = 0
        self._start: tuple[int, list[tuple[str, str]]] | None = None  # of a response that denies
        self._body = bytearray()
        self._closed_with: tuple[int, str] | None = None

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
        self._end()
        try:
            await self._upgrade.run(rejected=rejected)
        except HandshakeError:
            pass

    # -- the application -----------------------------------------------------------------------

    async def run(self, app: Application, scope: Scope) -> Any:
        """Run the application, and end the connection when it has ended. Returns what it returned.

        If it did not answer the request, the response has status 500. An open WebSocket is closed with 1000,
        after an exception with 1011; if this is cancelled, with 1001, and dropped.

        Raises:
            BaseException: what the application raised, but for `ClientDisconnected`.
        """
        scope["extensions"]["wsstream"] = {"session": self}
        try:
            result = await app(scope, self.receive, self.send)
        except ClientDisconnected:
            result = None
            await self._finish(None)
        except BaseException as error:
            await self._finish(error)
            raise
        else:
            await self._finish(None)
        return result

    def says_client_left(self, error: Exception) -> bool:
        """Whether what the application raised only says that the client left, as frameworks do it."""
        return self._disconnect_given and getattr(error, "code", None) == self._disconnect_code

    async def _finish(self, error: BaseException | None) -> None:
        if self.ws is not None:
            await leave(ending_of(self.ws), error)
        elif is_closing(error):
            self._transport.close()
        elif self._is_waiting:
            self.was_silent = True
            await self._fail()
        self._end()

    async def receive(self) -> Message:
        """ASGI's ``receive``. If cancelled, no message is lost.

        Raises:
            RuntimeError: ``websocket.disconnect`` was received before.
            anyio.BusyResourceError: another task receives.
        """
        if not self._connect_given:
            self._connect_given = True
            await checkpoint()
            return {"type": "websocket.connect"}
        if self._disconnect_given:
            raise RuntimeError('"websocket.disconnect" was received already; nothing can follow it')
        await self._answered.wait()
        if self.ws is None:
            await checkpoint()
            return self._disconnect(CloseCode.ABNORMAL, "")
        try:
            data = await self.ws.receive()
        except WebSocketError as error:
            return self._disconnect(*self._how_it_ended(self.ws, error))
        return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}

    def _how_it_ended(self, ws: WebSocketStream, error: WebSocketError) -> tuple[int, str]:
        if self._closed_with is not None:
            return self._closed_with
        if isinstance(error, ConnectionClosed) and ws.close_info is not None:
            return ws.close_info.code, ws.close_info.reason
        return error.code or CloseCode.ABNORMAL, error.reason

    def _disconnect(self, code: int, reason: str) -> Message:
        self._disconnect_given = True
        self._disconnect_code = int(code)
        return {"type": "websocket.disconnect", "code": int(code), "reason": reason}

    async def send(self, message: Message) -> None:
        """ASGI's ``send``: returns when the connection has taken the message.

        If cancelled, a message was sent as a whole or not at all.

        Raises:
            ClientDisconnected: the connection has ended.
            RuntimeError: ASGI does not allow this message now.
            TypeError, ValueError: the message is malformed.
        """
        kind = message["type"]
        if self.phase is Phase.OPEN:
            await self._send_open(kind, message)
        elif self.phase is Phase.CONNECTING:
            await self._answer(kind, message)
        elif self.phase is Phase.DENYING:
            await self._deny(kind, message)
        else:
            raise RuntimeError(f"{kind!r} was sent after the WebSocket had been closed or denied")

    async def _send_open(self, kind: str, message: Message) -> None:
        ws = self.ws
        assert ws is not None
        if kind == "websocket.send":
            data = message.get("bytes")
            if data is None and (data := message.get("text")) is None:
                raise ValueError('"websocket.send" must have bytes or text')
            try:
                await ws.send(data)
            except ConnectionClosed as error:
                raise ClientDisconnected(str(error)) from error
        elif kind == "websocket.close":
            code, reason = message.get("code"), message.get("reason") or ""
            await self.close(CloseCode.NORMAL if code is None else code, reason)
        else:
            raise RuntimeError(f"an open WebSocket can send and close, not {kind!r}")

    async def close(self, code: int, reason: str) -> None:
        """Close the connection, unless the client has; waits for its Close for up to ``close_timeout``."""
        ws = self.ws
        assert ws is not None
        check_close_arguments(code, reason)
        self.phase = Phase.CLOSED
        if ws.close_info is None:
            self._closed_with = (int(code), reason)
        await ws.aclose(code, reason)

    @property
    def _is_waiting(self) -> bool:
        """Whether the client still waits for the application's answer."""
        return not self._left and self.phase in (Phase.CONNECTING, Phase.DENYING)

    # -- the application's answer --------------------------------------------------------------

    async def _answer(self, kind: str, message: Message) -> None:
        if self._left:
            raise ClientDisconnected("the client has left")
        if kind == "websocket.accept":
            await self._accept(message)
        elif kind == "websocket.close":
            await self._respond(Response(403))
        elif kind == "websocket.http.response.start":
            fields = [
                field for field in text_of(message.get("headers")) if field[0].lower() not in FRAMING_FIELDS
            ]
            Response(message["status"], fields)  # checks both
            self._start = (message["status"], fields)
            self.phase = Phase.DENYING
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
        self.phase = Phase.OPEN
        self._answered.set()
        if self._restarting:
            self.restart()

    async def _deny(self, kind: str, message: Message) -> None:
        if kind != "websocket.http.response.body":
            raise RuntimeError(f"the response that denies a WebSocket cannot be followed by {kind!r}")
        self._body += message.get("body", b"")
        if len(self._body) > MAX_DENIAL:
            raise RuntimeError(
                f"the response that denies a WebSocket has a body of more than {MAX_DENIAL} bytes"
            )
        if not message.get("more_body", False):
            assert self._start is not None
            await self._respond(Response(*self._start, bytes(self._body)))

    async def _respond(self, response: Response) -> None:
        """Send a response other than 101. If cancelled, the connection is dropped."""
        self._on_answer(response.status)
        await self._run(response)
        self._end()

    async def _run(self, decision: Decision) -> WebSocketStream | None:
        self._decision = decision
        self.phase = Phase.ANSWERING
        try:
            return await self._upgrade.run()
        except ApplicationResponse:
            return None
        except (HandshakeError, anyio.ClosedResourceError):
            self._end()
            return None
        except BaseException:
            self._end()
            raise

    async def _fail(self) -> None:
        await self._run(_ERROR)
        self._end()

    def _end(self) -> None:
        self.phase = Phase.CLOSED
        self._answered.set()

    # -- the server ----------------------------------------------------------------------------

    def peer_left(self) -> None:
        """The client has closed the connection. Only needed before that is open."""
        if self.ws is None:
            self._left = True
            self._answered.set()

    def restart(self) -> Callable[[], Awaitable[None]] | None:
        """The server shuts down: close with 1012. Returns what it has to await, if anything.

        An application that has not answered yet has its request answered with 500.
        """
        self._restarting = True
        if self.ws is not None:
            if self.ws.close_info is None and self._closed_with is None:
                self._closed_with = (int(CloseCode.SERVICE_RESTART), "")
                self.ws.begin_close(CloseCode.SERVICE_RESTART)
        elif self.request is None:
            self._transport.close()
        elif self._is_waiting:
            return self._fail
        return None
