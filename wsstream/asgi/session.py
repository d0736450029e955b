"""One WebSocket of an ASGI application: its `receive` and `send` over a connection of this library.

`Opening` takes the application's answer to the request, then the messages pass through the streams. Nothing
is queued in between: `receive` takes from the connection, and `send` waits until it has room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from anyio.lowlevel import checkpoint

from wsstream.asgi.opening import Opening, Stage
from wsstream.asgi.scope import Application, ClientDisconnected, Fields, Message, Scope
from wsstream.close_codes import CloseCode
from wsstream.driver.options import ConnectionOptions
from wsstream.errors import ConnectionClosed, WebSocketError, check_close_arguments
from wsstream.opening.peer import PeerAddress
from wsstream.streams.close_on_exit import is_closing, leave
from wsstream.streams.websocket import WebSocketStream, ending_of
from wsstream.transports.base import Transport

__all__ = ["Session"]


class Session:
    """One connection of an ASGI server, from its request to its end.

    Args:
        transport: owned from now on.
        peer: the client's address.
        options: those of the connection.
        headers: more header fields of the response 101.
        on_answer: called with the status of the application's response, before that is sent.

    Attributes:
        opening: the opening handshake, with the request.
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
        self.opening = Opening(transport, peer, options, headers, on_answer)
        self.was_silent = False
        self._transport = transport
        self._restarting = False
        self._closed = False  # by the application, which may send nothing more
        self._closed_with: tuple[int, str] | None = None  # on this side
        self._connect_given = self._disconnect_given = False
        self._disconnect_code = 0

    @property
    def ws(self) -> WebSocketStream | None:
        """The connection, once it is open."""
        return self.opening.ws

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
        elif self.opening.is_waiting:
            self.was_silent = True
            await self.opening.fail()
        self._closed = True
        self.opening.end()

    # -- what it receives ----------------------------------------------------------------------

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
        await self.opening.answered.wait()
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

    # -- what it sends -------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """ASGI's ``send``: returns when the connection has taken the message.

        If cancelled, a message was sent as a whole or not at all.

        Raises:
            ClientDisconnected: the connection has ended.
            RuntimeError: ASGI does not allow this message now.
            TypeError, ValueError: the message is malformed.
        """
        kind, stage = message["type"], self.opening.stage
        if stage is Stage.DONE and self.ws is not None and not self._closed:
            await self._send_open(self.ws, kind, message)
        elif stage in (Stage.WAITING, Stage.DENYING):
            await self.opening.answer(kind, message)
            if self._restarting and self.ws is not None:
                self.restart()
        else:
            raise RuntimeError(f"{kind!r} was sent after the WebSocket had been closed or denied")

    async def _send_open(self, ws: WebSocketStream, kind: str, message: Message) -> None:
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
            await self._close(ws, CloseCode.NORMAL if code is None else code, reason)
        else:
            raise RuntimeError(f"an open WebSocket can send and close, not {kind!r}")

    async def _close(self, ws: WebSocketStream, code: int, reason: str) -> None:
        """Close the connection, unless the client has; waits for its Close for up to ``close_timeout``."""
        check_close_arguments(code, reason)
        self._closed = True
        if ws.close_info is None:
            self._closed_with = (int(code), reason)
        await ws.aclose(code, reason)

    # -- the server ----------------------------------------------------------------------------

    def restart(self) -> Callable[[], Awaitable[None]] | None:
        """The server shuts down: close with 1012. Returns what it has to await, if anything.

        An application that has not answered yet has its request answered with 500.
        """
        self._restarting = True
        if self.ws is not None:
            if self.ws.close_info is None and self._closed_with is None:
                self._closed_with = (int(CloseCode.SERVICE_RESTART), "")
                self.ws.begin_close(CloseCode.SERVICE_RESTART)
        elif self.opening.request is None:
            self._transport.close()
        elif self.opening.is_waiting:
            return self.opening.fail
        return None
