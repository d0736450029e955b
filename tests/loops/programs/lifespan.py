"""An ASGI application whose lifespan opens a server; the argument is uvicorn's choice of an event loop."""

import sys

import uvicorn

from wsstream import serve


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        async with serve(echo, "127.0.0.1") as server:
            print(server.url, flush=True)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        print("the server has ended", flush=True)
        await send({"type": "lifespan.shutdown.complete"})


uvicorn.run(app, port=0, loop=sys.argv[1], log_level="warning")
