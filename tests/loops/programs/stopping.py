"""A server as its argument says; when it has ended, prints how many handlers began and how many ended.

Arguments: how the event loop is started; what the body waits for: serve_forever, drain or wait_closed.
"""

import asyncio  # noqa: TID251 - a program of its own
import json
import signal
import sys

import anyio

from wsstream import serve

counts = {"began": 0, "ended": 0}


async def echo(ws):
    counts["began"] += 1
    try:
        async for message in ws:
            await ws.send(message)
    finally:
        await anyio.lowlevel.cancel_shielded_checkpoint()
        counts["ended"] += 1


async def main():
    async with serve(echo, "127.0.0.1", shutdown_timeout=5) as server:
        print(server.url, flush=True)
        match sys.argv[2]:
            case "serve_forever":
                await server.serve_forever()
            case "drain":
                await server.serve_forever(stop=lambda: server.drain(spread=1))
            case _:
                await server.wait_closed()


def start():
    match sys.argv[1]:
        case "asyncio.run":
            asyncio.run(main())
        case "uvloop.run":
            import uvloop

            uvloop.run(main())
        case "trio.run":
            import trio  # noqa: TID251 - a program of its own

            trio.run(main)
        case "anyio.run":
            anyio.run(main)


# A shell that starts a program in the background has it ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    start()
finally:
    print(json.dumps(counts), flush=True)
