"""websockets, its asyncio implementation with the C extension."""

from __future__ import annotations

import asyncio  # noqa: TID251 - this API of websockets is asyncio's
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from job import Job
from websockets.asyncio.client import connect
from websockets.asyncio.server import broadcast, serve
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)

from .library import Coroutines


def options(job: Job) -> dict[str, Any]:
    """Larger buffers than its own, where they make it faster."""
    queue = 64 if job.size <= 64 * 1024 and job.work != "idle" else 16  # frames
    return {"max_size": None, "ping_interval": None, "max_queue": queue, "write_limit": 1024 * 1024}


class WebSockets(Coroutines):
    @asynccontextmanager
    async def serve(self, job: Job, handle: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
        context = job.server_context()
        async with serve(
            handle, "127.0.0.1", 0, ssl=context, **self.extension(job), **options(job)
        ) as server:
            yield next(iter(server.sockets)).getsockname()[1]

    def connect(self, job: Job) -> AbstractAsyncContextManager[Any]:
        return connect(job.url(), ssl=job.client_context(), proxy=None, **self.extension(job), **options(job))

    @staticmethod
    def extension(job: Job) -> dict[str, Any]:
        if not job.level:
            return {"compression": None}
        kind = ServerPerMessageDeflateFactory if job.side == "server" else ClientPerMessageDeflateFactory
        return {"extensions": [kind(compress_settings={"level": job.level, "memLevel": 8})]}

    async def consume(self, ws: Any, job: Job) -> None:
        messages = size = 0
        message: str | bytes = b""
        async for message in ws:
            messages += 1
            size += len(message)
        job.received(messages, size, message)

    async def consume_chunks(self, ws: Any, job: Job) -> None:
        """It gives a frame at a time; a message of one frame is one chunk."""
        await self.consume(ws, job)

    async def receive_file(self, ws: Any, job: Job) -> None:
        """Messages are written whole, on the event loop, as most programs do."""
        messages = size = 0
        with Path(job.target).open("r+b", buffering=0) as file:
            async for message in ws:
                messages += 1
                file.seek(0)
                size += file.write(message)
        job.received(messages, size)

    async def produce(self, ws: Any, job: Job) -> None:
        payloads, rounds = job.payloads(), 0
        stop = await job.started()
        while time.perf_counter() < stop:
            for payload in payloads:
                await ws.send(payload)
            rounds += 1
        await self.close(ws)
        job.sent(rounds, payloads)

    async def produce_chunks(self, ws: Any, job: Job) -> None:
        chunks, rounds = job.chunks(), 0
        stop = await job.started()
        while time.perf_counter() < stop:
            await ws.send(chunks)
            rounds += 1
        await self.close(ws)
        job.sent(rounds, [b"".join(chunks)])

    async def send_file(self, ws: Any, job: Job) -> None:
        """Messages of `chunk` bytes: the cheapest that there is."""
        rounds = 0
        stop = await job.started()
        while time.perf_counter() < stop:
            with Path(job.file).open("rb", buffering=0) as file:
                while data := file.read(job.chunk):
                    await ws.send(data)
            rounds += 1
        await self.close(ws)
        job.sent(rounds, [range(job.size)])

    async def echo(self, ws: Any, job: Job) -> None:
        async for message in ws:
            job.messages += 1
            await ws.send(message)

    idle = handshakes = echo

    async def feed(self, ws: Any, job: Job) -> None:
        job.joined(ws)
        await ws.wait_closed()

    broadcast = feed

    async def send_to_all(self, job: Job, message: bytes) -> None:
        broadcast(job.crowd, message)
        await asyncio.sleep(0)  # else nothing else ever runs

    async def close(self, ws: Any) -> None:
        await ws.close()

    async def proxy(self, ws: Any, job: Job) -> None:
        async with self.connect(job) as upstream:
            async for message in ws:
                await upstream.send(message)
                job.messages += 1
        job.finished.set()


LIBRARY = WebSockets()
