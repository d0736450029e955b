"""aiohttp, server and client, without access log and limit of size."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from aiohttp import ClientSession, WSMsgType, web
from job import Job

from .library import Coroutines


class AioHTTP(Coroutines):
    def can(self, job: Job) -> bool:
        return super().can(job) and (job.work != "produce" or job.level in (0, 1))  # it has no other level

    @asynccontextmanager
    async def serve(self, job: Job, handle: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
        async def upgrade(request: web.Request) -> web.WebSocketResponse:
            ws = web.WebSocketResponse(max_msg_size=0, compress=job.level > 0)
            await ws.prepare(request)
            await handle(ws)
            return ws

        app = web.Application()
        app.router.add_get("/", upgrade)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=job.server_context()).start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    @asynccontextmanager
    async def connect(self, job: Job) -> AsyncIterator[Any]:
        ssl: Any = job.client_context() or True
        compress = 15 if job.level else 0
        async with (
            ClientSession() as session,
            session.ws_connect(job.url(), ssl=ssl, max_msg_size=0, compress=compress) as ws,
        ):
            yield ws

    async def consume(self, ws: Any, job: Job) -> None:
        messages = size = 0
        last: Any = b""
        async for message in ws:
            last = message.data
            messages += 1
            size += len(last)
        job.received(messages, size, last)

    consume_chunks = consume

    async def produce(self, ws: Any, job: Job) -> None:
        payloads, rounds = job.payloads(), 0
        send = ws.send_str if job.level else ws.send_bytes
        stop = await job.started()
        while time.perf_counter() < stop:
            for payload in payloads:
                await send(payload)
            rounds += 1
        await ws.close()
        job.sent(rounds, payloads)

    async def send_file(self, ws: Any, job: Job) -> None:
        """Messages of `chunk` bytes: the cheapest that there is."""
        rounds = 0
        stop = await job.started()
        while time.perf_counter() < stop:
            with Path(job.file).open("rb", buffering=0) as file:
                while data := file.read(job.chunk):
                    await ws.send_bytes(data)
            rounds += 1
        await ws.close()
        job.sent(rounds, [range(job.size)])

    async def echo(self, ws: Any, job: Job) -> None:
        async for message in ws:
            if message.type is WSMsgType.BINARY:
                job.messages += 1
                await ws.send_bytes(message.data)

    idle = handshakes = echo

    async def feed(self, ws: Any, job: Job) -> None:
        job.joined(ws)
        async for _ in ws:
            pass

    async def send_to_all(self, job: Job, message: bytes) -> None:
        for ws in job.crowd:
            await ws.send_bytes(message)
        await anyio.lowlevel.checkpoint()  # else nothing else ever runs

    async def proxy(self, ws: Any, job: Job) -> None:
        async with self.connect(job) as upstream:
            async for message in ws:
                await upstream.send_bytes(message.data)
                job.messages += 1
        job.finished.set()


LIBRARY = AioHTTP()
