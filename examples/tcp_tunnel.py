"""Carry TCP through a WebSocket: half-close passes through it, and so does a reset.

Usage: python tcp_tunnel.py [asyncio|trio]
"""

import sys
from functools import partial

import anyio
from anyio.abc import SocketAttribute, SocketStream

from wsstream import WebSocketError, WebSocketStream, connect, join, serve


async def enter(url: str, tcp: SocketStream) -> None:  # the entrance: a WebSocket for each TCP connection
    try:
        async with tcp, connect(url) as ws:
            if broken := await join(tcp, ws.byte_stream(eof=b"")):
                print("the connection broke:", repr(broken))
    except (OSError, WebSocketError) as error:
        print("no tunnel:", error)


async def leave(port: int, ws: WebSocketStream) -> None:  # the exit: a TCP connection for each WebSocket
    try:
        tcp = await anyio.connect_tcp("127.0.0.1", port)
    except OSError as error:
        raise WebSocketError(code=1014, reason="the target cannot be reached") from error
    await join(ws.byte_stream(eof=b""), tcp)


async def main() -> None:
    async def count(tcp: SocketStream) -> None:  # the target answers when its input has ended
        async with tcp:
            total = sum([len(chunk) async for chunk in tcp])
            await tcp.send(f"{total} bytes\n".encode())

    target, entrance = [await anyio.create_tcp_listener(local_host="127.0.0.1") for _ in range(2)]
    target_port, entrance_port = [each.extra(SocketAttribute.local_port) for each in (target, entrance)]
    serving = serve(partial(leave, target_port), "127.0.0.1")
    async with target, entrance, serving as server, anyio.create_task_group() as tasks:
        tasks.start_soon(target.serve, count)
        tasks.start_soon(entrance.serve, partial(enter, server.url))
        async with await anyio.connect_tcp("127.0.0.1", entrance_port) as tcp:
            await tcp.send(b"x" * 1_000_000)
            await tcp.send_eof()
            print((await tcp.receive()).decode(), end="")
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
