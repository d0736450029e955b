"""One echo server in several processes that share a port; Ctrl-C or SIGTERM stops all.

Usage: python several_processes.py [port] [backend] [processes]
"""

import os
import signal
import sys
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess

import anyio

from wsstream import WebSocketStream, serve


async def echo(ws: WebSocketStream) -> None:
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    async with serve(echo, "127.0.0.1", port, reuse_port=True) as server:
        line = f"process {os.getpid()} serves {server.url}\n"
        print(line, end="", flush=True)  # in one write: the processes share their output
        await server.serve_forever()


def work(port: int, backend: str) -> None:
    anyio.run(main, port, backend=backend)


def stop(workers: list[SpawnProcess]) -> None:
    for worker in workers:
        worker.terminate()


if __name__ == "__main__":
    port, backend, count = *sys.argv[1:], *("8080", "asyncio", "2")[len(sys.argv) - 1 :]
    spawn = get_context("spawn")
    workers = [spawn.Process(target=work, args=(int(port), backend)) for _ in range(int(count))]
    for worker in workers:
        worker.start()
    signal.signal(signal.SIGTERM, lambda *_: stop(workers))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends Ctrl-C to the workers, too
    for worker in workers:
        worker.join()
