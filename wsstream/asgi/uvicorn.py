"""The class that uvicorn takes with ``--ws wsstream.asgi:UvicornProtocol``. It imports nothing of uvicorn."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import anyio

from wsstream.asgi.scope import Scope, websocket_scope
from wsstream.asgi.session import Session
from wsstream.driver.options import ConnectionOptions
from wsstream.errors import HandshakeError
from wsstream.opening.handshake_server import RequestRejected
from wsstream.opening.peer import PeerAddress
from wsstream.protocol.deflate import Deflate
from wsstream.transports.eventloop import event_loop
from wsstream.transports.protocol_transport import ProtocolTransport

__all__ = ["UvicornProtocol"]

logger = logging.getLogger("uvicorn.error")


class UvicornProtocol:
    """One connection of uvicorn: the protocol of an asyncio transport.

    uvicorn makes it when a request asks for a WebSocket, replays that request with `data_received`, and has
    the transport call the other methods. Its tasks and connections are in uvicorn's sets, which uvicorn waits
    for when it shuts down.

    Args:
        config: uvicorn's. Of its options, `ws_max_size`, `ws_ping_interval`, `ws_ping_timeout` and
            `ws_per_message_deflate` mean what they say there. `ws_max_queue` counts messages; here the unread
            bytes are bounded instead.
        server_state: uvicorn's.
        app_state: what the application has put into its lifespan's state.
    """

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._scope: Scope = {}
        self._transport: ProtocolTransport
        self._session: Session

    # -- what asyncio and uvicorn call ---------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Prepare for the request."""
        self._server_state.connections.add(self)
        self._transport = ProtocolTransport(transport)
        self._session = Session(
            self._transport,
            self._transport.extra("peername"),
            options_of(self._config),
            headers=self._server_state.default_headers,
            on_answer=self._log_answer,
        )

    def data_received(self, data: bytes) -> None:
        """Pass on `data`, and start the application once its request is complete."""
        self._transport.data_received(data)
        if self._session.opening.request is not None:
            return
        try:
            complete = self._session.opening.advance()
        except RequestRejected as rejected:
            reason = rejected
            self._spawn(lambda: self._session.opening.reject(reason))
        except (HandshakeError, anyio.BrokenResourceError):
            self._transport.close()
        else:
            if complete:
                self._spawn(self._run)

    def eof_received(self) -> bool:
        """The client sends no more. Returns whether asyncio keeps the connection open for our Close."""
        self._transport.eof_received()
        self._session.opening.peer_left()
        return self._session.ws is not None and self._transport.extra("ssl_object") is None

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._server_state.connections.discard(self)
        self._transport.connection_lost(error)
        self._session.opening.peer_left()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._transport.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._transport.resume_writing()

    def shutdown(self) -> None:
        """Close with 1012; uvicorn then waits for the application."""
        if (response := self._session.restart()) is not None:
            self._spawn(response)

    # -- the application -----------------------------------------------------------------------

    async def _run(self) -> None:
        session = self._session
        self._scope = self._make_scope()
        try:
            result = await session.run(self._config.loaded_app, self._scope)
        except (Exception, KeyboardInterrupt, SystemExit):  # one of them would end the server for all clients
            logger.exception("Exception in ASGI application\n")
            return
        if session.was_silent:
            logger.error("ASGI callable returned without completing handshake.")
        elif result is not None:
            logger.error("ASGI callable should return None, but returned '%s'.", result)

    def _make_scope(self) -> Scope:
        request, transport = self._session.opening.request, self._transport
        assert request is not None
        return websocket_scope(
            request,
            scheme="ws" if transport.extra("sslcontext") is None else "wss",
            root_path=self._config.root_path,
            asgi={"version": self._config.asgi_version, "spec_version": "2.4"},
            client=_address(transport.extra("peername")),
            server=_address(transport.extra("sockname")),
            state=self._app_state.copy(),
        )

    def _spawn(self, function: Callable[[], Awaitable[None]]) -> None:
        tasks = self._server_state.tasks
        task = event_loop().callbacks().create_task(function())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _log_answer(self, status: int) -> None:
        path, query = quote(self._scope["path"]), self._scope["query_string"]
        if query:
            path = f"{path}?{query.decode('ascii')}"
        client = "{}:{}".format(*self._scope["client"]) if self._scope["client"] else ""
        logger.info('%s - "WebSocket %s" %s', client, path, "[accepted]" if status == 101 else status)


def options_of(config: Any) -> ConnectionOptions:
    """The options of a connection, from uvicorn's configuration."""
    return ConnectionOptions(
        max_message_size=config.ws_max_size,
        compression=Deflate() if config.ws_per_message_deflate else None,
        ping_interval=config.ws_ping_interval or None,  # uvicorn's 0 means none
        ping_timeout=config.ws_ping_timeout,
    )


def _address(address: PeerAddress) -> tuple[str, int | None] | None:
    if isinstance(address, tuple) and len(address) >= 2:
        return str(address[0]), int(address[1])
    return (address, None) if isinstance(address, str) and address else None
