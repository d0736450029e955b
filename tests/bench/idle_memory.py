"""What idle connections cost in memory: ``python tests/bench/idle_memory.py [--connections N]``.

For each setting of compression a server and a client, each a process of its own, open N connections over
the loopback interface, exchange one message on each (both ways, compressed if that is on) and rest. The
table gives the growth of the resident set for each connection, in KiB.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import anyio

import wsstream
from wsstream import Deflate

MESSAGE = '{"id": 1, "event": "update", "temperature": 21.5, "unit": "degrees Celsius"}' * 20
FORGETFUL = Deflate(context_takeover=False, peer_context_takeover=False)
SETTINGS: dict[str, Deflate | None] = {
    "no compression": None,
    "Deflate(), contexts kept": Deflate(),
    "mem_level=5, windows of 12 bits": Deflate(mem_level=5, window_bits=12, peer_window_bits=12),
    "mem_level=1, windows of 9 bits": Deflate(mem_level=1, window_bits=9, peer_window_bits=9),
    "no context takeover": FORGETFUL,
}


def resident() -> int:
    """The resident set of this process, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def echo(ws: wsstream.WebSocketStream) -> None:
    async for message in ws:
        await ws.send(message)


async def serve(compression: Deflate | None) -> None:
    """Serve until the standard input ends; for each line of it tell the resident set."""
    async with wsstream.serve(echo, "127.0.0.1", compression=compression, ping_interval=None) as server:
        print(server.url, flush=True)
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            print(resident(), flush=True)


async def connect(url: str, connections: int, compression: Deflate | None) -> None:
    """Open the connections, use each once, tell by how much the process grew, and rest until told to end."""
    options = {"compression": compression, "ping_interval": None}
    async with wsstream.connect(url, **options) as ws:  # what the first one loads is not counted
        await ws.send(MESSAGE)
        await ws.receive()
    before = resident()
    async with AsyncExitStack() as stack:
        for _ in range(connections):
            ws = await stack.enter_async_context(wsstream.connect(url, **options))
            await ws.send(MESSAGE)
            assert await ws.receive() == MESSAGE
        print(resident() - before, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, script, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str], line: str = "") -> str:
    """One line of the process, after one for it if there is any."""
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(line)
        process.stdin.flush()
    return process.stdout.readline().strip()


def measure(name: str, connections: int, backend: str) -> tuple[float, float]:
    """KiB for each connection: of the server, of the client."""
    common = ["--setting", name, "--backend", backend, "--connections", str(connections)]
    with start(__file__, "--serve", *common) as server:
        url = ask(server)
        with start(__file__, "--connect", url, "--connections", "1", *common[:4]) as warm:
            ask(warm)
            warm.communicate()
        before = int(ask(server, "\n"))
        with start(__file__, "--connect", url, *common) as client:
            of_client = int(ask(client))
            of_server = int(ask(server, "\n")) - before
            client.communicate()
        server.communicate()
    return of_server / connections / 1024, of_client / connections / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--connect", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--setting", choices=SETTINGS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        anyio.run(serve, SETTINGS[options.setting], backend=options.backend)
    elif options.connect:
        compression = SETTINGS[options.setting]
        anyio.run(connect, options.connect, options.connections, compression, backend=options.backend)
    else:
        print(f"{options.connections} connections, {options.backend}: KiB for each\n")
        print("| compression | server | client |\n|---|---|---|", flush=True)
        for name in SETTINGS:
            server, client = measure(name, options.connections, options.backend)
            print(f"| {name} | {server:.1f} | {client:.1f} |", flush=True)


if __name__ == "__main__":
    main()
