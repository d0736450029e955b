"""A server that sends every message back. Try it with echo_client.py.

Usage: python echo_server.py [PORT] [asyncio|trio]
"""

import sys

import anyio

from wsstream import WebSocketStream, serve


async def echo(ws: WebSocketStream) -> None:
    async for message in ws:
        await ws.send(message)


async def main(port: int = 8080) -> None:
    async with serve(echo, "127.0.0.1", port) as server:
        print(f"listening on {server.url}", flush=True)
        await server.wait_closed()


if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv))
    anyio.run(main, int(arguments.get(1, 8080)), backend=arguments.get(2, "asyncio"))
