"""A feed that survives lost connections: the client resumes where it was cut off.

Usage: python reconnect.py [asyncio|trio]
"""

import sys

import anyio

from wsstream import Backoff, ConnectionBroken, WebSocketStream, reconnect, serve


async def feed(ws: WebSocketStream) -> None:
    first = int(await ws.receive())
    for number in range(first, 10):
        if number == first + 4:
            ws.abort()  # the network fails
            return
        await ws.send(f"{number}")
        await ws.writable.drain()


async def main() -> None:
    async with serve(feed, "127.0.0.1") as server:
        wanted = 0
        async for ws in reconnect(server.url, delays=Backoff(initial=0.1, maximum=5)):
            try:
                async with ws:  # closes the connection, however the block is left
                    await ws.send(str(wanted))
                    async for message in ws:
                        print("update", message)
                        wanted = int(message) + 1
                break  # the feed has ended cleanly
            except ConnectionBroken as error:
                print("lost:", error)


if __name__ == "__main__":
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
