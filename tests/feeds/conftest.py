"""What the tests of feeds share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

from wsstream import FlowControl, WebSocketStream
from wsstream.feeds import SUBPROTOCOL, Feed, Followed, Position
from wsstream.feeds.protocol import read_announcement, read_item
from wsstream.testing import MemoryServer, serving


class Served:
    """A feed behind a server in memory.

    Attributes:
        ends: how the followers' connections ended, in the order in which they did.
    """

    def __init__(self, feed: Feed, server: MemoryServer) -> None:
        self.feed = feed
        self.server = server
        self.ends: list[Followed] = []

    @asynccontextmanager
    async def client(self, since: Position | None = None, **options: Any) -> AsyncIterator[Client]:
        path = "/" if since is None else f"/?since={since}"
        options.setdefault("subprotocols", [SUBPROTOCOL])
        async with self.server.connect(path, **options) as ws:
            yield Client(ws)


class Client:
    """A client that reads what a server of a feed sends, and checks nothing."""

    def __init__(self, ws: WebSocketStream) -> None:
        self.ws = ws

    async def announced(self) -> tuple[Position, bool]:
        message = await self.ws.receive()
        assert isinstance(message, str)
        return read_announcement(message)

    async def item(self) -> tuple[int, str | bytes]:
        message = await self.ws.receive()
        assert isinstance(message, bytes)
        return read_item(message)

    async def items(self, last: int) -> list[tuple[int, str | bytes]]:
        """The items up to the offset `last`."""
        found = [await self.item()]
        while found[-1][0] < last:
            found.append(await self.item())
        return found


class Serve(Protocol):
    def __call__(self, feed: Feed, **options: Any) -> Any: ...


@pytest.fixture
def serve_feed() -> Serve:
    @asynccontextmanager
    async def serve_feed(
        feed: Feed,
        *,
        beside: Callable[[WebSocketStream], Awaitable[None]] | None = None,
        server: dict[str, Any] | None = None,
        **options: Any,
    ) -> AsyncIterator[Served]:
        async def handler(ws: WebSocketStream) -> None:
            served.ends.append(await feed.follow(ws, since=Position.parse(ws.request), **options))

        small = FlowControl(send_high_water=4096)
        known = {"subprotocols": [SUBPROTOCOL], "flow": small, "shutdown_timeout": 1, **(server or {})}
        async with serving(handler, **known) as running:
            served = Served(feed, running)
            yield served

    return serve_feed
