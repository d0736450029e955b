"""What clients that never ask cost a server: ``python tests/bench/silent_memory.py [--connections N]``.

The server is a process of its own. N plain sockets connect to it and say nothing, or half a request; then as
many open a WebSocket. The table gives the growth of the server's resident set for each, in KiB.
"""

from __future__ import annotations

import argparse
import resource
import socket
import sys
import time
from collections.abc import Sequence

import anyio
from idle_memory import ask, resident, start

import wsstream

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
WAYS = {"silent": b"", "half a request": REQUEST[:80], "open": REQUEST}


async def serve(connections: int) -> None:
    """Serve until the standard input ends; for each line of it print the resident set."""

    async def wait(ws: wsstream.WebSocketStream) -> None:
        await ws.wait_closed()

    options = {"open_timeout": 600, "ping_interval": None}
    if "max_handshakes" in wsstream.serve.__kwdefaults__:
        options["max_handshakes"] = 2 * connections
    async with wsstream.serve(wait, "127.0.0.1", **options) as server:
        print(server.port, flush=True)
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            print(resident(), flush=True)


def growth(arguments: Sequence[str], said: bytes, connections: int) -> float:
    """KiB for each of `connections` clients that say this much, after ten that have come and stayed."""
    with start(__file__, "--serve", *arguments) as server:
        address = ("127.0.0.1", int(ask(server)))
        clients = [_client(address, said) for _ in range(10)]
        time.sleep(0.5)
        before = int(ask(server, "\n"))
        clients += [_client(address, said) for _ in range(connections)]
        time.sleep(1)
        after = int(ask(server, "\n"))
        for client in clients:
            client.close()
        server.communicate()
    return (after - before) / connections / 1024


def _client(address: tuple[str, int], said: bytes) -> socket.socket:
    client = socket.create_connection(address)
    client.sendall(said)
    return client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        anyio.run(serve, options.connections, backend=options.backend)
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{options.connections} connections, {options.backend}: KiB for each")
    arguments = ["--backend", options.backend, "--connections", str(options.connections)]
    for name, said in WAYS.items():
        print(f"{name}: {growth(arguments, said, options.connections):.1f}", flush=True)


if __name__ == "__main__":
    main()
