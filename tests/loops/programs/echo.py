"""A server and its client, started in the way that the argument names; prints what becomes of them."""

import asyncio  # noqa: TID251 - a program of its own
import signal
import sys

import anyio

from wsstream import connect, serve


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def main():
    async with serve(echo, "127.0.0.1") as server:
        async with connect(server.url) as ws:
            await ws.send("hello")
            print(await ws.receive(), flush=True)
        print(ws.close_info.code, flush=True)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
        signal.raise_signal(signal.SIGTERM)
        await server.wait_closed()
    print(f"{len(server.connections)} connections", flush=True)


def in_cells():
    """As in a notebook: the event loop stops after each cell, and each cell is a task."""
    loop = asyncio.new_event_loop()
    run = loop.run_until_complete
    serving = serve(echo, "127.0.0.1")
    server = run(serving.__aenter__())
    connecting = connect(server.url)
    ws = run(connecting.__aenter__())
    run(ws.send("hello"))
    print(run(ws.receive()), flush=True)
    run(connecting.__aexit__(None, None, None))
    print(ws.close_info.code, flush=True)
    run(serving.__aexit__(None, None, None))
    print(f"{len(server.connections)} connections", flush=True)
    loop.close()


def start(how):
    match how:
        case "asyncio.run":
            asyncio.run(main())
        case "asyncio.Runner":
            with asyncio.Runner() as runner:
                runner.run(main())
        case "uvloop.run":
            import uvloop

            uvloop.run(main())
        case "anyio.run":
            anyio.run(main)
        case "cells":
            in_cells()


start(sys.argv[1])
