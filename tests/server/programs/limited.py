"""An echo server with limits, which prints its port.

Arguments: the backend, and how many descriptors it may have.
"""

import resource
import sys

import anyio

from wsstream import serve


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def main():
    async with serve(
        echo, "127.0.0.1", max_handshakes=100, max_connections_per_client=5, open_timeout=60
    ) as server:
        print(server.port, flush=True)
        await server.serve_forever()


if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]),) * 2)
anyio.run(main, backend=sys.argv[1])
