"""Send a few messages to an echo server and print what comes back. Start echo_server.py first.

Usage: python echo_client.py [URL] [asyncio|trio]
"""

import sys

import anyio

from wsstream import connect


async def main(url: str = "ws://127.0.0.1:8080") -> None:
    async with connect(url) as ws:
        for message in ("hello", "wörld", b"\x00\x01\x02"):
            await ws.send(message)
            print(await ws.receive())
        print(f"round trip: {await ws.ping() * 1000:.2f} ms")
    print(ws.close_info)


if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv))
    anyio.run(main, arguments.get(1, "ws://127.0.0.1:8080"), backend=arguments.get(2, "asyncio"))
