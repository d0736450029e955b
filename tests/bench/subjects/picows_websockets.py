"""picows by its second API, that of websockets; its core API has no compression."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from job import Job
from picows.websockets.asyncio.client import connect
from picows.websockets.asyncio.server import serve

from .websockets_ import WebSockets, options


class PicowsWebSockets(WebSockets):
    def can(self, job: Job) -> bool:
        return super().can(job) and (job.work != "produce" or job.level == 6)  # it has no other level

    @asynccontextmanager
    async def serve(self, job: Job, handle: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
        async with serve(
            handle, "127.0.0.1", 0, compression="deflate", ssl=job.server_context(), **options(job)
        ) as server:
            yield server.sockets[0].getsockname()[1]

    def connect(self, job: Job) -> AbstractAsyncContextManager[Any]:
        return connect(job.url(), compression="deflate", ssl=job.client_context(), **options(job))


LIBRARY = PicowsWebSockets()
