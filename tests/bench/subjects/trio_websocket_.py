"""trio-websocket, with a larger read buffer and queue than its own, which make it faster."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio  # noqa: TID251 - trio-websocket is trio's
from job import Job
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    open_websocket,
    serve_websocket,
)

from .library import Coroutines


def options(job: Job) -> dict[str, Any]:
    return {
        "max_message_size": 2 * max(job.size, 1024 * 1024),
        "message_queue_size": 64 if job.size <= 4096 else 1,
        "receive_buffer_size": 4096 if job.work == "idle" else 64 * 1024,
    }


class TrioWebSocket(Coroutines):
    @asynccontextmanager
    async def serve(
        self, job: Job, handle: Callable[[WebSocketConnection], Awaitable[None]]
    ) -> AsyncIterator[int]:
        async def accept(request: WebSocketRequest) -> None:
            async with await request.accept() as ws:
                await handle(ws)

        async with trio.open_nursery() as tasks:
            server = await tasks.start(
                partial(serve_websocket, accept, "127.0.0.1", 0, job.server_context(), **options(job))
            )
            yield server.port
            tasks.cancel_scope.cancel()

    def connect(self, job: Job) -> AbstractAsyncContextManager[WebSocketConnection]:
        ssl = job.client_context() or False
        return open_websocket("127.0.0.1", job.port, "/", use_ssl=ssl, **options(job))

    def can(self, job: Job) -> bool:
        return hasattr(self, job.work) and not job.level  # no compression

    async def consume(self, ws: WebSocketConnection, job: Job) -> None:
        messages = size = 0
        message: Any = b""
        try:
            while True:
                message = await ws.get_message()
                messages += 1
                size += len(message)
        except ConnectionClosed:
            job.received(messages, size, message)

    consume_chunks = consume

    async def produce(self, ws: WebSocketConnection, job: Job) -> None:
        payloads, rounds = job.payloads(), 0
        stop = await job.started()
        while time.perf_counter() < stop:
            for payload in payloads:
                await ws.send_message(payload)
            rounds += 1
        await ws.aclose()
        job.sent(rounds, payloads)

    async def send_file(self, ws: WebSocketConnection, job: Job) -> None:
        """Messages of `chunk` bytes: the cheapest that there is."""
        rounds = 0
        stop = await job.started()
        while time.perf_counter() < stop:
            with Path(job.file).open("rb", buffering=0) as file:
                while data := file.read(job.chunk):
                    await ws.send_message(data)
            rounds += 1
        await ws.aclose()
        job.sent(rounds, [range(job.size)])

    async def echo(self, ws: WebSocketConnection, job: Job) -> None:
        try:
            while True:
                message = await ws.get_message()
                job.messages += 1
                await ws.send_message(message)
        except ConnectionClosed:
            pass

    idle = handshakes = echo

    async def feed(self, ws: WebSocketConnection, job: Job) -> None:
        job.joined(ws)
        try:
            await ws.get_message()
        except ConnectionClosed:
            pass

    async def send_to_all(self, job: Job, message: bytes) -> None:
        for ws in job.crowd:
            await ws.send_message(message)

    async def proxy(self, ws: WebSocketConnection, job: Job) -> None:
        async with self.connect(job) as upstream:
            try:
                while True:
                    await upstream.send_message(await ws.get_message())
                    job.messages += 1
            except ConnectionClosed:
                pass
        job.finished.set()


LIBRARY = TrioWebSocket()
