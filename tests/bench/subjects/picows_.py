"""picows, its core API: a listener that is called with each frame.

The payload is copied out of the read buffer, as whoever keeps a message has to. Compression is only in its
``picows.websockets`` API.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import frames
import picows
from job import Job
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest

from .library import Library
from .picows_websockets import LIBRARY as COMPRESSED

BINARY, CLOSE = WSMsgType.BINARY, WSMsgType.CLOSE


def options(job: Job) -> dict[str, Any]:
    many = job.work in ("echo", "idle", "handshakes")  # connections, or small messages
    return {
        "max_frame_size": 2 * max(job.size, 1024 * 1024),
        "read_buffer_init_size": 16 * 1024 if many else 256 * 1024,
        "websocket_handshake_timeout": 30,
    }


class Listener(WSListener):  # type: ignore[misc]
    def __init__(self, job: Job) -> None:
        self.job = job
        self.messages = 0
        self.size = 0
        self.message = b""

    def close(self, transport: WSTransport, frame: WSFrame) -> None:
        transport.send_close(frame.get_close_code(), frame.get_close_message())
        transport.disconnect()


class Consume(Listener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is BINARY:
            self.message = message = frame.get_payload_as_bytes()
            self.messages += 1
            self.size += len(message)
        elif frame.msg_type is CLOSE:
            self.close(transport, frame)
            self.job.received(self.messages, self.size, self.message)


class ConsumeFragments(Listener):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.pieces: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is CLOSE:
            self.close(transport, frame)
            self.job.received(self.messages, self.size, self.message)
            return
        self.pieces.append(frame.get_payload_as_bytes())
        if frame.fin:
            self.message = b"".join(self.pieces)
            self.pieces.clear()
            self.messages += 1
            self.size += len(self.message)


class Echo(Listener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is BINARY:
            self.job.messages += 1
            transport.send(BINARY, frame.get_payload_as_memoryview())
        elif frame.msg_type is CLOSE:
            self.close(transport, frame)


class Paced(Listener):
    """Sends from a coroutine; waits when the transport's buffer is full."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.paused = False
        self.room = anyio.Event()
        self.connected = anyio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.connected.set()

    async def run_when_connected(self) -> None:
        await self.connected.wait()
        await self.run(self.transport)

    async def run(self, transport: WSTransport) -> None:
        """What to send."""

    def pause_writing(self) -> None:
        self.paused = True
        self.room = anyio.Event()

    def resume_writing(self) -> None:
        self.paused = False
        self.room.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is CLOSE:
            transport.disconnect()


class Feed(Paced):
    """One of the connections of a feed; the last one to open sends to all."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        super().on_ws_connected(transport)
        self.job.joined(self)

    async def run(self, transport: WSTransport) -> None:
        job, rounds = self.job, 0
        await job.complete.wait()
        if job.crowd[-1] is not self:
            return
        payload = frames.payload(job.size)
        stop = await job.started()
        while time.perf_counter() < stop:
            await self.send_to_all(payload)
            rounds += 1
        await self.send_to_all(frames.END)
        job.sent(rounds, [payload] * len(job.crowd))

    async def send_to_all(self, message: bytes) -> None:
        for each in self.job.crowd:
            each.transport.send(BINARY, message)
            if each.paused:
                await each.room.wait()
        await anyio.lowlevel.checkpoint()  # else nothing else ever runs

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is CLOSE:
            self.close(transport, frame)


class Produce(Paced):
    async def run(self, transport: WSTransport) -> None:
        payloads, rounds = self.job.payloads(), 0
        stop = await self.job.started()
        while time.perf_counter() < stop:
            for payload in payloads:
                transport.send(BINARY, payload)
                if self.paused:
                    await self.room.wait()
            rounds += 1
        transport.send_close(picows.WSCloseCode.OK)
        await transport.wait_disconnected()
        self.job.sent(rounds, payloads)


class ProduceChunks(Paced):
    async def run(self, transport: WSTransport) -> None:
        chunks, rounds = self.job.chunks(), 0
        last = len(chunks) - 1
        stop = await self.job.started()
        while time.perf_counter() < stop:
            for index, chunk in enumerate(chunks):
                kind = WSMsgType.CONTINUATION if index else BINARY
                transport.send(kind, chunk, fin=index == last)
                if self.paused:
                    await self.room.wait()
            rounds += 1
        transport.send_close(picows.WSCloseCode.OK)
        await transport.wait_disconnected()
        self.job.sent(rounds, [b"".join(chunks)])


class SendFile(Paced):
    async def run(self, transport: WSTransport) -> None:
        job, rounds = self.job, 0
        stop = await job.started()
        while time.perf_counter() < stop:
            with Path(job.file).open("rb", buffering=0) as file:
                while data := file.read(job.chunk):
                    transport.send(BINARY, data)
                    if self.paused:
                        await self.room.wait()
            rounds += 1
        transport.send_close(picows.WSCloseCode.OK)
        await transport.wait_disconnected()
        job.sent(rounds, [range(job.size)])


class Upstream(Paced):
    """The leg to which a proxy sends. When it is full, the other leg is not read."""

    def __init__(self, job: Job, source: WSTransport) -> None:
        super().__init__(job)
        self.source = source

    def pause_writing(self) -> None:
        self.source.underlying_transport.pause_reading()

    def resume_writing(self) -> None:
        self.source.underlying_transport.resume_reading()


class Proxy(Paced):
    upstream: WSTransport

    async def run(self, transport: WSTransport) -> None:
        self.upstream, _ = await picows.ws_connect(
            lambda: Upstream(self.job, transport), self.job.url(), **options(self.job)
        )

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is BINARY:
            self.upstream.send(BINARY, frame.get_payload_as_memoryview())
            self.job.messages += 1
        elif frame.msg_type is CLOSE:
            self.upstream.send_close(frame.get_close_code(), frame.get_close_message())
            self.close(transport, frame)
            self.job.finished.set()


LISTENERS: dict[str, type[Listener]] = {
    "consume": Consume,
    "consume_chunks": Consume,
    "produce": Produce,
    "produce_chunks": ProduceChunks,
    "send_file": SendFile,
    "echo": Echo,
    "feed": Feed,
    "idle": Echo,
    "handshakes": Echo,
    "proxy": Proxy,
}


class Picows(Library):
    def can(self, job: Job) -> bool:
        return COMPRESSED.can(job) if job.level else job.work in LISTENERS

    @asynccontextmanager
    async def opened(self, job: Job) -> AsyncIterator[int]:
        if job.level:
            async with COMPRESSED.opened(job) as port:
                yield port
            return
        kind = ConsumeFragments if job.fragments > 1 else LISTENERS[job.work]
        async with anyio.create_task_group() as tasks:

            def listener(*request: WSUpgradeRequest) -> Listener:
                made = kind(job)
                if isinstance(made, Paced):
                    tasks.start_soon(made.run_when_connected)
                return made

            if job.side == "client":
                await picows.ws_connect(listener, job.url(), ssl_context=job.client_context(), **options(job))
                yield job.port
            else:
                server = await picows.ws_create_server(
                    listener, "127.0.0.1", 0, ssl=job.server_context(), **options(job)
                )
                yield server.sockets[0].getsockname()[1]
                server.close()
                await server.wait_closed()


LIBRARY = Picows()
