"""A live feed whose clients go on where they were when their connection was lost.

Usage: python live_feed.py [asyncio|trio]
"""

import sys

import anyio

from wsstream import WebSocketStream, serve
from wsstream.feeds import SUBPROTOCOL, DropOldest, Feed, Position, follow


async def main() -> None:
    async with Feed("prices", keep=1000) as feed:

        async def prices(ws: WebSocketStream) -> None:
            await feed.follow(ws, since=Position.parse(ws.request), slow=DropOldest())

        async with (
            serve(prices, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server,
            follow(server.url, since=feed.position, delays=[0.1] * 10) as items,
        ):
            feed.publish("1")
            feed.publish("2")
            async for item in items:
                if not item.recovered:
                    print("some prices are lost: load them all")
                    continue
                print("price", item.data)
                if item.position.offset == 2:
                    for ws in list(server.connections):
                        ws.abort()  # the network fails, and the feed goes on
                    feed.publish("3")
                if item.position.offset == 3:
                    break


if __name__ == "__main__":
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
