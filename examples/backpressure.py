"""Backpressure made visible: a server that wants to send 200 MiB to a client that does not read.

The server stops when wsstream's buffers and the kernel's are full; when the client reads, it continues.
Usage: python backpressure.py [asyncio|trio]
"""

import sys

import anyio

from wsstream import WebSocketStream, connect, serve

MEBIBYTE = bytes(1 << 20)


async def flood(ws: WebSocketStream) -> None:
    for number in range(1, 201):
        await ws.send(MEBIBYTE)
        if number % 50 == 0:
            print(f"server: {number} MiB sent")


async def main() -> None:
    async with serve(flood, "127.0.0.1") as server, connect(server.url) as ws:
        await anyio.sleep(0.5)
        now = ws.statistics()
        state = "paused" if now.reading_paused else "not paused"
        print(f"client: {now.receive_buffered >> 10} KiB are unread, reading is {state}; now it reads")
        total = 0
        async for message in ws:
            total += len(message)
        print(f"client: {total >> 20} MiB read")


if __name__ == "__main__":
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
