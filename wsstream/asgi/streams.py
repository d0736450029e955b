"""The two streams inside an ASGI application."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

from wsstream.arguments import check_int
from wsstream.asgi.message_stream import MessageStream
from wsstream.asgi.scope import ClientDisconnected, Receive, Scope, Send, text_of
from wsstream.asgi.session import Session
from wsstream.display import never_raises
from wsstream.driver.driver import Driver
from wsstream.driver.options import ConnectionOptions
from wsstream.opening.headers import Headers
from wsstream.opening.http import Request, RequestedURL, Response
from wsstream.protocol.connection import Connection
from wsstream.streams.block import AsyncBlock
from wsstream.streams.close_on_exit import leave
from wsstream.streams.websocket import WebSocketStream, ending_of
from wsstream.transports.anyio_stream import StreamTransport

__all__ = ["from_scope", "streams"]


class Endpoint(NamedTuple):
    """What an application has of one WebSocket."""

    scope: Scope
    receive: Receive
    send: Send
    accept: Callable[[], Awaitable[object]]
    """Accepts it, if that has not been done."""
    was_accepted: bool
    """As far as the object of a framework tells."""


def streams(
    websocket: Any, receive: Receive | None = None, send: Send | None = None
) -> AbstractAsyncContextManager[WebSocketStream]:
    """``async with streams(websocket) as ws``: the connection itself, where uvicorn runs `UvicornProtocol`.

    So a message of any size can be read and written in chunks. Entering accepts the WebSocket, unless the
    application has. Messages may be received and sent in ASGI's way before the block. Leaving the block
    closes the connection as leaving that of :func:`wsstream.connect` does: with 1000, after an exception with
    1011, and after a cancellation with 1001.

    Args:
        websocket: a ``WebSocket`` of Starlette or FastAPI; or the `scope`, with the other two arguments.
        receive, send: the application's.

    Raises:
        TypeError: an argument is wrong.
        RuntimeError: the server is another one; see :func:`from_scope`.
        OSError: on entering: the client has left.
    """
    return _Streams(_endpoint_of(websocket, receive, send))


def from_scope(
    websocket: Any,
    receive: Receive | None = None,
    send: Send | None = None,
    *,
    subprotocol: str | None = None,
    headers: Iterable[tuple[bytes, bytes]] = (),
    max_message_size: int | None = 2**24,
) -> AbstractAsyncContextManager[WebSocketStream]:
    """``async with from_scope(scope, receive, send) as ws``: the two streams under any ASGI server.

    Each message passes the server as a whole, in both directions. Entering accepts the WebSocket, unless a
    framework's object says that this was done. Leaving the block closes as that of :func:`streams` does. The
    server sends the Pings: ``ws.ping()`` measures nothing.

    Args:
        websocket, receive, send: as for :func:`streams`.
        subprotocol, headers: for ``websocket.accept``.
        max_message_size: bytes of the largest message that the streams put together: one that is sent in
            chunks, or received by ``receive`` and ``read``. ``None``: any. For what the server takes of a
            client, it has a limit of its own.

    Raises:
        TypeError, ValueError: an argument is wrong.
        OSError: on entering: the client has left.
    """
    check_int("max_message_size", max_message_size, 0, optional=True)
    accepting = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(headers)}
    return _FromScope(_endpoint_of(websocket, receive, send), accepting, max_message_size)


class _Block(AsyncBlock[WebSocketStream]):
    """What the two blocks have in common."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._ws: WebSocketStream | None = None

    @never_raises
    def __repr__(self) -> str:
        name = self.use.partition("(")[0]
        return f"<{name}: {self._ws!r}>"

    async def __aenter__(self) -> WebSocketStream:
        self.enter_once()
        self._ws = await self._open(self._endpoint)
        return self._ws

    @abstractmethod
    async def _open(self, endpoint: Endpoint) -> WebSocketStream: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._ws is not None
        await leave(ending_of(self._ws), exc)


class _Streams(_Block):
    use = "streams(websocket) as ws"

    async def _open(self, endpoint: Endpoint) -> WebSocketStream:
        session = (endpoint.scope.get("extensions") or {}).get("wsstream", {}).get("session")
        if not isinstance(session, Session):
            raise RuntimeError(
                "this server does not run wsstream: start uvicorn with --ws wsstream.asgi:UvicornProtocol, "
                "or use wsstream.asgi.from_scope"
            )
        if session.ws is None:
            await endpoint.accept()
        assert session.ws is not None
        return session.ws


class _FromScope(_Block):
    use = "from_scope(websocket) as ws"

    def __init__(self, endpoint: Endpoint, accepting: dict[str, Any], max_message_size: int | None) -> None:
        super().__init__(endpoint)
        self._accepting = accepting
        self._limit = max_message_size

    async def _open(self, endpoint: Endpoint) -> WebSocketStream:
        scope, receive, send = endpoint.scope, endpoint.receive, endpoint.send
        if not endpoint.was_accepted:
            await _expect_connect(receive)
            await send(self._accepting)
        stream = StreamTransport(MessageStream(receive, send, self._limit))
        options = ConnectionOptions(max_message_size=self._limit, ping_interval=None)
        driver = Driver(stream, Connection(client=False, deflate=None), b"", options)
        driver.start()
        request = _request_of(scope)
        return WebSocketStream(
            driver,
            url=RequestedURL(request),
            subprotocol=self._accepting["subprotocol"] or "",
            extensions="",
            request=request,
            response=Response.received(101, Headers()),
        )


def _endpoint_of(websocket: Any, receive: Receive | None, send: Send | None) -> Endpoint:
    if receive is not None and send is not None:
        return Endpoint(websocket, receive, send, partial(_accept, receive, send), was_accepted=False)
    state = getattr(getattr(websocket, "application_state", None), "name", None)
    if receive is not None or send is not None or state is None:
        kind = type(websocket).__name__
        raise TypeError(f"a WebSocket of Starlette, or scope, receive and send, are needed, got {kind}")
    was_accepted = state != "CONNECTING"
    return Endpoint(
        websocket.scope, websocket.receive, websocket.send, websocket.accept, was_accepted=was_accepted
    )


async def _accept(receive: Receive, send: Send) -> None:
    await _expect_connect(receive)
    await send({"type": "websocket.accept"})


async def _expect_connect(receive: Receive) -> None:
    message = await receive()
    if message["type"] == "websocket.disconnect":
        raise ClientDisconnected("the client has left")
    if message["type"] != "websocket.connect":
        raise RuntimeError(f'"websocket.connect" has to come first, got {message["type"]!r}')


def _request_of(scope: Scope) -> Request:
    """The request of the opening handshake, as far as the scope tells."""
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string") or b""
    target = b"?".join((path, query) if query else (path,)).decode("latin-1")
    client = scope.get("client")
    request = Request(
        target,
        Headers.well_formed(text_of(scope["headers"])),
        http_version=scope.get("http_version", "1.1"),
        peer=tuple(client) if client else None,
    )
    request.tls = scope.get("scheme") == "wss"
    return request
