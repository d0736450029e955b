"""websockets, its trio implementation with the C extension."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import trio  # noqa: TID251 - this API of websockets is trio's
from job import Job
from websockets.trio.client import connect
from websockets.trio.server import broadcast, serve

from .websockets_ import WebSockets, options


class WebSocketsTrio(WebSockets):
    @asynccontextmanager
    async def serve(self, job: Job, handle: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
        kept = options(job) | self.extension(job)
        del kept["write_limit"]  # trio's streams have no buffer
        start = partial(serve, handle, 0, host="127.0.0.1", ssl=job.server_context(), **kept)
        async with trio.open_nursery() as tasks:
            server = await tasks.start(start)
            yield server.listeners[0].socket.getsockname()[1]
            await server.aclose()

    def connect(self, job: Job) -> AbstractAsyncContextManager[Any]:
        kept = options(job) | self.extension(job)
        del kept["write_limit"]
        return connect(job.url(), ssl=job.client_context(), proxy=None, **kept)

    async def close(self, ws: Any) -> None:
        await ws.aclose()

    async def send_to_all(self, job: Job, message: bytes) -> None:
        await broadcast(job.crowd, message)


LIBRARY = WebSocketsTrio()
