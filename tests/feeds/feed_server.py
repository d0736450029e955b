"""A server of a feed in a process of its own: ``feed_server.py PORT REDIS BACKEND``."""

from __future__ import annotations

import sys

import anyio

from wsstream import WebSocketStream, serve
from wsstream.feeds import SUBPROTOCOL, Feed, Position, RedisEngine


async def main(port: str, redis: str) -> None:
    async with RedisEngine(redis) as engine, Feed("news", engine=engine) as feed:

        async def handler(ws: WebSocketStream) -> None:
            await feed.follow(ws, since=Position.parse(ws.request))

        async with serve(handler, "127.0.0.1", int(port), subprotocols=[SUBPROTOCOL]) as server:
            print("ready", flush=True)
            await server.wait_closed()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:3], backend=sys.argv[3])
