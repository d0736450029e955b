"""Carry TCP through a WebSocket, with half-close: an empty message ends one direction.

Usage: python tcp_tunnel.py [asyncio|trio]
"""

import sys

import anyio
from anyio.abc import ByteStream, SocketStream

from wsstream import WebSocketStream, connect, pipe, serve


async def both_ways(a: ByteStream, b: ByteStream) -> None:
    async def one_way(source: ByteStream, sink: ByteStream) -> None:
        await pipe(source, sink)
        await sink.send_eof()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one_way, a, b)
        tasks.start_soon(one_way, b, a)


async def main() -> None:
    async def count(stream: SocketStream) -> None:  # answers only when its input has ended
        async with stream:
            total = sum([len(chunk) async for chunk in stream])
            await stream.send(f"{total} bytes\n".encode())

    async def tunnel(ws: WebSocketStream) -> None:
        async with await anyio.connect_tcp("127.0.0.1", tcp_port) as stream:
            await both_ways(ws.byte_stream(eof=b""), stream)

    tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
    tcp_port = tcp.extra(anyio.abc.SocketAttribute.local_port)
    async with tcp, anyio.create_task_group() as tasks:
        tasks.start_soon(tcp.serve, count)
        async with serve(tunnel, "127.0.0.1") as server, connect(server.url) as ws:
            stream = ws.byte_stream(eof=b"")
            await stream.send(b"x" * 1_000_000)
            await stream.send_eof()
            print((await stream.receive()).decode(), end="")
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
