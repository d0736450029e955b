"""A proxy in five lines: it forwards messages chunk by chunk, and close codes, in constant memory.

Usage: python pipe_sockets.py [asyncio|trio]
"""

import sys

import anyio

from wsstream import WebSocketStream, connect, proxy, serve


async def shout(ws: WebSocketStream) -> None:
    async for message in ws:
        await ws.send(message.upper())
    # the proxy forwards the client's close code
    print("upstream saw:", ws.close_info)


async def main() -> None:
    async with serve(shout, "127.0.0.1") as upstream:

        async def bridge(client: WebSocketStream) -> None:
            async with connect(upstream.url) as ws:
                await proxy(client, ws)

        async with serve(bridge, "127.0.0.1") as server, connect(server.url) as ws:
            await ws.send("hello through two sockets")
            print(await ws.receive())
            await ws.aclose(4000, "enough")
        print("client saw:  ", ws.close_info)


if __name__ == "__main__":
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
