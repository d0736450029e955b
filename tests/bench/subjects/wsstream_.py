"""wsstream, on the loop that runs. Keepalive is off, as the peers have none or have it switched off."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from anyio.abc import SocketAttribute
from anyio.lowlevel import checkpoint
from job import Job

import wsstream
from wsstream import Deflate, WebSocketStream
from wsstream.codec.speedups import COMPILED
from wsstream.feeds import Feed

from .library import Coroutines

KEEP = 16  # items of the history of a feed: the other libraries have none


def options(job: Job) -> dict[str, Any]:
    return {
        "compression": Deflate(level=job.level) if job.level else None,
        "max_message_size": None,
        "ping_interval": None,
    }


class WSStream(Coroutines):
    codec = "compiled" if COMPILED else "pure"

    @asynccontextmanager
    async def serve(
        self, job: Job, handle: Callable[[WebSocketStream], Awaitable[None]]
    ) -> AsyncIterator[int]:
        async with (
            Feed("benchmark", keep=KEEP) as self._feed,
            wsstream.serve(handle, "127.0.0.1", ssl=job.server_context(), **options(job)) as server,
        ):
            yield server.port

    def connect(self, job: Job) -> AbstractAsyncContextManager[WebSocketStream]:
        return wsstream.connect(job.url(), ssl=job.client_context(), **options(job))

    async def consume(self, ws: WebSocketStream, job: Job) -> None:
        messages = size = 0
        message: str | bytes = b""
        async for message in ws:
            messages += 1
            size += len(message)
        job.received(messages, size, message)

    async def consume_chunks(self, ws: WebSocketStream, job: Job) -> None:
        messages = size = 0
        async for reader in ws.readable.messages():
            messages += 1
            async for chunk in reader:
                size += len(chunk)
        job.received(messages, size)

    async def receive_file(self, ws: WebSocketStream, job: Job) -> None:
        messages = size = 0
        with Path(job.target).open("r+b", buffering=0) as file:
            async for reader in ws.readable.messages():
                messages += 1
                file.seek(0)
                size += await reader.save(file)
        job.received(messages, size)

    async def read_chunks(self, ws: WebSocketStream, job: Job) -> None:
        """Chunks of one size at most."""
        messages = size = 0
        async for reader in ws.readable.messages():
            messages += 1
            while not reader.complete:
                size += len(await reader.receive(job.chunk))
        job.received(messages, size)

    async def produce(self, ws: WebSocketStream, job: Job) -> None:
        if job.send_buffer:
            sock = ws.extra(SocketAttribute.raw_socket)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, job.send_buffer)
        payloads, rounds = job.payloads(), 0
        stop = await job.started()
        while time.perf_counter() < stop:
            for payload in payloads:
                await ws.send(payload)
            rounds += 1
        await ws.aclose()
        job.sent(rounds, payloads)

    async def produce_chunks(self, ws: WebSocketStream, job: Job) -> None:
        chunks, rounds = job.chunks(), 0
        stop = await job.started()
        while time.perf_counter() < stop:
            async with ws.writable.message() as message:
                for chunk in chunks:
                    await message.send(chunk)
            rounds += 1
        await ws.aclose()
        job.sent(rounds, [b"".join(chunks)])

    async def send_file(self, ws: WebSocketStream, job: Job) -> None:
        rounds = 0
        stop = await job.started()
        while time.perf_counter() < stop:
            await ws.writable.send_file(job.file)
            rounds += 1
        await ws.aclose()
        job.sent(rounds, [range(job.size)])

    async def echo(self, ws: WebSocketStream, job: Job) -> None:
        async for message in ws:
            job.messages += 1
            await ws.send(message)

    idle = handshakes = echo

    async def feed(self, ws: WebSocketStream, job: Job) -> None:
        job.joined(ws)
        async for _ in ws:
            pass

    async def broadcast(self, ws: WebSocketStream, job: Job) -> None:
        job.joined(ws)
        await self._feed.follow(ws)

    async def send_to_all(self, job: Job, message: bytes) -> None:
        if job.work == "feed":
            await super().send_to_all(job, message)
        else:
            self._feed.publish(message)
            await checkpoint()  # as long as the machine cannot keep up, nothing else would run

    async def proxy(self, ws: WebSocketStream, job: Job) -> None:
        async with self.connect(job) as upstream:
            await wsstream.pipe(ws, upstream)
        job.finished.set()


LIBRARY = WSStream()
