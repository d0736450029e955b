"""A loop over trio's sockets, without any WebSocket: what trio allows at most for an echo."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import frames
import trio  # noqa: TID251 - it is trio that is measured
from job import Job

from .library import Coroutines


class RawTrio(Coroutines):
    def can(self, job: Job) -> bool:
        return job.work == "echo" and not job.tls and not job.level

    @asynccontextmanager
    async def serve(self, job: Job, handle: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
        listener = trio.socket.socket()
        await listener.bind(("127.0.0.1", 0))
        listener.listen(128)

        async def accept() -> None:
            while True:
                sock, _ = await listener.accept()
                sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
                tasks.start_soon(handle, sock)

        with listener:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(accept)
                yield listener.getsockname()[1]
                tasks.cancel_scope.cancel()

    def connect(self, job: Job) -> AbstractAsyncContextManager[Any]:
        raise NotImplementedError

    async def echo(self, sock: Any, job: Job) -> None:
        content = frames.payload(job.size)
        size = len(frames.frame(frames.BINARY, content, masked=True))
        back = frames.frame(frames.BINARY, content, masked=False)
        with sock:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await sock.recv(65536)
            await sock.send(frames.response_to(head.decode("latin-1"), deflate=False))
            while len(await sock.recv(size)) == size:
                job.messages += 1
                await sock.send(back)
            await sock.send(frames.close_frame(masked=False))


LIBRARY = RawTrio()
