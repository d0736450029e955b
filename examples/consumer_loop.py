"""A consumer loop with slow work in it: the feed waits for us, so memory stays bounded.

Usage: python consumer_loop.py [asyncio|trio]
"""

import sys

import anyio

from wsstream import WebSocketStream, connect, serve


async def feed(ws: WebSocketStream) -> None:
    for number in range(20):
        await ws.send(f"update {number}")


async def handle(message: str | bytes) -> None:
    await anyio.sleep(0.01)  # a database, another service, ...
    print("handled", message)


async def main() -> None:
    async with serve(feed, "127.0.0.1") as server, connect(server.url) as ws:
        async for message in ws.readable:  # ends when the server has closed cleanly
            await handle(message)
        print("the feed ended:", ws.close_info)


if __name__ == "__main__":
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
