"""The peer that runs websockets, on asyncio."""

from __future__ import annotations

import asyncio  # noqa: TID251 - a process of its own
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from harness import MAX_SIZE, Link, Options, main, url_of
from websockets.asyncio.client import connect as ws_connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as ws_serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)


class WebsocketsLink(Link):
    def __init__(self, ws: Connection) -> None:
        super().__init__()
        self.ws = ws
        self.subprotocol = ws.subprotocol or ""

    async def read(self) -> None:
        try:
            while True:
                # One item a frame, and str of text: so both the kind and the frames can be told.
                frames = [frame async for frame in self.ws.recv_streaming()]
                parts = [frame.encode() if isinstance(frame, str) else frame for frame in frames]
                kind = "text" if isinstance(frames[0], str) else "binary"
                await self.put(kind, b"".join(parts), len(frames))
        except ConnectionClosed:
            self.end(self.ws.close_code or 1006, self.ws.close_reason)

    async def send(self, kind: str, fragments: list[bytes]) -> None:
        message = fragments[0] if len(fragments) == 1 else fragments
        await self.ws.send(message, text=kind == "text")

    async def ping(self, payload: bytes) -> None:
        await (await self.ws.ping(payload))

    async def close(self, code: int | None, reason: str) -> None:
        empty: Any = None  # what its protocol layer takes for a Close without a code
        await self.ws.close(empty if code is None else code, reason)


def _options(options: Options, deflate: type) -> dict[str, Any]:
    interval, timeout = options.get("keepalive") or (20, 20)
    return {
        "extensions": [deflate(**options["deflate"])] if "deflate" in options else None,
        "subprotocols": options.get("subprotocols") or None,
        "ping_interval": interval,
        "ping_timeout": timeout,
        "max_size": MAX_SIZE,
    }


@asynccontextmanager
async def connect(url: str, options: Options) -> AsyncIterator[Link]:
    async with ws_connect(url, proxy=None, **_options(options, ClientPerMessageDeflateFactory)) as ws:
        link = WebsocketsLink(ws)
        reading = asyncio.create_task(link.read())
        yield link
        reading.cancel()


@asynccontextmanager
async def serve(options: Options, opened: Callable[[Link], None]) -> AsyncIterator[str]:
    async def handle(ws: ServerConnection) -> None:
        link = WebsocketsLink(ws)
        opened(link)
        await link.read()

    async with ws_serve(
        handle, "127.0.0.1", 0, **_options(options, ServerPerMessageDeflateFactory)
    ) as server:
        yield url_of(server.sockets[0].getsockname())


if __name__ == "__main__":
    main(connect, serve)
