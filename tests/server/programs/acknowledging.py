"""A server that writes each message to a file and then sends it back; SIGTERM drains it.

Arguments: the port, shared with other processes; the file; the backend; the code for draining.
"""

import os
import sys

import anyio

from wsstream import serve

port, path, backend, code = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def acknowledge(ws):
    async for message in ws:
        os.write(file, f"{message}\n".encode())
        await ws.send(message)


async def main():
    async with serve(acknowledge, "127.0.0.1", port, reuse_port=True) as server:

        async def stop():
            server.close()  # new clients reach the other process
            await server.drain(timeout=20, spread=4, code=code)

        print(server.port, flush=True)
        await server.serve_forever(stop=stop)


anyio.run(main, backend=backend)
