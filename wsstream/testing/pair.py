"""Two open WebSockets that talk to each other, without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream

from .memory import memory_pair

if TYPE_CHECKING:
    from wsstream.streams.websocket import WebSocketStream

__all__ = ["connected_pair"]


@asynccontextmanager
async def connected_pair(
    *,
    url: str = "ws://testserver/",
    client_options: Mapping[str, Any] | None = None,
    server_options: Mapping[str, Any] | None = None,
    streams: tuple[ByteStream, ByteStream] | None = None,
) -> AsyncIterator[tuple[WebSocketStream, WebSocketStream]]:
    """``async with connected_pair() as (client, server)``: two open WebSockets over a pair of byte streams.

    Leaving the block closes the client, whose closing handshake the server answers, and then the server. If
    the block is cancelled, both connections are closed or dropped.

    Args:
        url: the URL in the client's request.
        client_options: keyword arguments of :func:`wsstream.connect`.
        server_options: keyword arguments of :func:`wsstream.accept`.
        streams: the client's and the server's byte stream, by default a :func:`memory_pair`. They are closed
            at the end.

    Raises:
        Exception: an exception of the block, of :func:`wsstream.connect` or of :func:`wsstream.accept`, never
            in a group of this function's; if there are several, the first.
    """
    # Imported here, so that tests with streams and frames alone need not load client and server.
    from wsstream.client.connect import connect

    client_stream, server_stream = streams or memory_pair()
    errors: list[Exception] = []
    async with client_stream, server_stream:
        async with anyio.create_task_group() as group:
            server = _Server(server_stream, server_options or {}, errors, group.cancel_scope)
            group.start_soon(server.run)
            try:
                async with connect(url, transport=client_stream, **client_options or {}) as client:
                    yield client, await server.opened()
            except Exception as error:
                errors.append(error)
            server.leave()
        if errors:
            raise errors[0]


class _Server:
    """Keeps the server open in a task of its own, as both ends have to open at the same time."""

    def __init__(
        self,
        stream: ByteStream,
        options: Mapping[str, Any],
        errors: list[Exception],
        scope: anyio.CancelScope,
    ) -> None:
        self._stream = stream
        self._options = options
        self._errors = errors
        self._scope = scope
        self._opened = anyio.Event()
        self._leave = anyio.Event()
        self._websocket: WebSocketStream | None = None

    async def run(self) -> None:
        from wsstream.server.accept import accept

        try:
            async with accept(self._stream, **self._options) as self._websocket:
                self._opened.set()
                await self._leave.wait()
        except Exception as error:
            self._errors.append(error)
            self._scope.cancel()  # or the client would wait for an answer for ever

    async def opened(self) -> WebSocketStream:
        await self._opened.wait()
        assert self._websocket is not None
        return self._websocket

    def leave(self) -> None:
        self._leave.set()
        if not self._opened.is_set():
            self._scope.cancel()
