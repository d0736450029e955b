"""A server in memory, for the tests of handlers and routers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .memory import memory_pair

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from wsstream.server.server import Server
    from wsstream.streams.websocket import WebSocketStream

__all__ = ["MemoryServer", "serving"]


class MemoryServer:
    """A server without a network. Made by :func:`serving`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __repr__(self) -> str:
        return f"<MemoryServer, connections: {len(self.connections)}>"

    @property
    def connections(self) -> Collection[WebSocketStream]:
        """The server's ends of the open connections."""
        return self._server.connections

    def connect(
        self, path: str = "/", *, client: tuple[str, int] = ("127.0.0.1", 50000), **options: Any
    ) -> AbstractAsyncContextManager[WebSocketStream]:
        """``async with server.connect("/chat") as ws``: a connection, as :func:`wsstream.connect` makes it.

        Args:
            path: of the request, with its query if it has one.
            client: the address that the server sees.
            options: keyword arguments of :func:`wsstream.connect`.

        Raises:
            HandshakeRejected: on entering: the server answered with another status than 101.
            TypeError, ValueError: on entering: an argument is wrong.
        """
        return self._connect(f"ws://testserver{path}", client, options)

    @asynccontextmanager
    async def _connect(
        self, url: str, client: tuple[str, int], options: dict[str, Any]
    ) -> AsyncIterator[WebSocketStream]:
        from wsstream.client.connect import connect

        own, servers = memory_pair()
        async with own:
            self._server._add_open(servers, client)
            async with connect(url, transport=own, **options) as ws:
                yield ws


@asynccontextmanager
async def serving(handler: Any, **options: Any) -> AsyncIterator[MemoryServer]:
    """``async with serving(handler) as server``: what :func:`wsstream.serve` runs, without a network.

    The limits, the logging of a handler's exception and the closing are those of ``serve``: leaving the block
    closes the connections with 1001, and waits for their handlers for up to `shutdown_timeout` seconds.

    Args:
        handler: the handler or the :class:`wsstream.Router`.
        options: keyword arguments of ``serve``, but for those that say where it listens.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    from wsstream.server.serve import in_memory

    async with in_memory(handler, **options) as server:
        yield MemoryServer(server)
