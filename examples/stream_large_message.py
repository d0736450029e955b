"""One message of any size, sent and received in chunks: neither side ever holds more than a few of them.

Usage: python stream_large_message.py [MEBIBYTES] [asyncio|trio]
"""

import hashlib
import sys

import anyio

from wsstream import WebSocketStream, connect, serve


async def digest(ws: WebSocketStream) -> None:
    """Answer each message with its size and its digest."""
    async for message in ws.readable.messages():
        sha256 = hashlib.sha256()
        async for chunk in message:
            sha256.update(chunk)
        await ws.send(f"{message.bytes_received} bytes, {sha256.hexdigest()}")


async def main(mebibytes: int = 100) -> None:
    async with serve(digest, "127.0.0.1") as server, connect(server.url) as ws:
        sha256 = hashlib.sha256()
        async with ws.writable.message("binary") as message:
            for number in range(mebibytes * 4):
                chunk = number.to_bytes(8, "big") * 32768  # 256 KiB
                sha256.update(chunk)
                await message.send(chunk)  # waits when the network or the server is slow
        print("sent:    ", message.bytes_sent, "bytes,", sha256.hexdigest())
        print("received:", await ws.receive())


if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv))
    anyio.run(main, int(arguments.get(1, 100)), backend=arguments.get(2, "asyncio"))
