"""A chat with rooms, correct also with a client that does not read: it is closed, and nobody waits for it.

Usage: python chat.py [asyncio|trio]
"""

import sys
from contextlib import AsyncExitStack
from functools import partial

import anyio

from wsstream import Router, WebSocketStream, connect, serve
from wsstream.feeds import Feed

router = Router()
rooms = {name: Feed(name) for name in ("lobby", "python")}


@router.route("/chat/{room}")
async def chat(ws: WebSocketStream) -> None:
    room = rooms.get(ws.path_params["room"], rooms["lobby"])
    async with anyio.create_task_group() as group:
        group.start_soon(partial(room.follow, ws, since=room.position, receives=True))
        async for message in ws:
            room.publish(message)


async def main() -> None:
    async with AsyncExitStack() as stack:
        for room in rooms.values():
            await stack.enter_async_context(room)
        server = await stack.enter_async_context(serve(router, "127.0.0.1"))
        # A server goes on with: await server.serve_forever()
        async with connect(f"{server.url}/chat/lobby") as ann, connect(f"{server.url}/chat/lobby") as bob:
            await bob.send("bob is here")
            print("bob:", await bob.receive())
            await ann.send("ann is here")
            print("bob:", await bob.receive())


if __name__ == "__main__":
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
