"""What each library has to be able to do, and the frame around what it does in a coroutine."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import Any

import anyio
import frames
from job import Job

Work = Callable[[Any, Job], Awaitable[None]]


class Library(ABC):
    codec = ""  # of wsstream: "compiled" or "pure"

    @abstractmethod
    def can(self, job: Job) -> bool:
        """Whether the library has what this job needs."""

    @abstractmethod
    def opened(self, job: Job) -> AbstractAsyncContextManager[int]:
        """Listen (and give the port) or connect, and do the work of `job` on each connection."""


class Coroutines(Library):
    """A library whose connections are handled in coroutines.

    Each method of a subclass that has the name of a work does it on one connection: counts what it does in
    `job`, and closes the connection.
    """

    @abstractmethod
    def serve(self, job: Job, handle: Callable[[Any], Awaitable[None]]) -> AbstractAsyncContextManager[int]:
        """Listen on 127.0.0.1; gives the port."""

    @abstractmethod
    def connect(self, job: Job) -> AbstractAsyncContextManager[Any]:
        """Connect to the port of `job`."""

    def can(self, job: Job) -> bool:
        return hasattr(self, job.work)

    @asynccontextmanager
    async def opened(self, job: Job) -> AsyncIterator[int]:
        work: Work = getattr(self, job.work)

        async def handle(ws: Any) -> None:
            try:
                await work(ws, job)
            except Exception as error:
                job.failed(error)
                raise

        if job.work == "feed":
            async with anyio.create_task_group() as tasks, self.serve(job, handle) as port:
                tasks.start_soon(self._send_feed, job)
                yield port
        elif job.side == "server":
            async with self.serve(job, handle) as port:
                yield port
        else:
            async with anyio.create_task_group() as tasks:
                await tasks.start(self._connected, job, handle)
                yield job.port

    async def _send_feed(self, job: Job) -> None:
        """Send one message to all connections, again and again; the last one tells that it was the last."""
        await job.complete.wait()
        payload, rounds = frames.payload(job.size), 0
        stop = await job.started()
        while time.perf_counter() < stop:
            await self.send_to_all(job.crowd, payload)
            rounds += 1
        await self.send_to_all(job.crowd, frames.END)
        job.sent(rounds, [payload] * len(job.crowd))

    async def send_to_all(self, crowd: Sequence[Any], message: bytes) -> None:
        """Send a message to each connection, as an application would."""
        for ws in crowd:
            await ws.send(message)

    async def _connected(
        self,
        job: Job,
        handle: Callable[[Any], Awaitable[None]],
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        async with self.connect(job) as ws:
            task_status.started()
            await handle(ws)


class Threads(Library):
    """A library without async: the client's work is done in a thread, by methods as those of `Coroutines`.

    The event loop only waits meanwhile; what `job` needs of it is done there.
    """

    @abstractmethod
    def connect(self, job: Job) -> AbstractContextManager[Any]:
        """Connect to the port of `job`."""

    @abstractmethod
    def receive_of(self, ws: Any) -> Callable[[], str | bytes]:
        """The method that returns the next message."""

    def can(self, job: Job) -> bool:
        return hasattr(self, job.work) and job.side == "client"

    @asynccontextmanager
    async def opened(self, job: Job) -> AsyncIterator[int]:
        connected = anyio.Event()

        def work() -> None:
            with self.connect(job) as ws:
                anyio.from_thread.run_sync(connected.set)
                try:
                    getattr(self, job.work)(ws, job)
                except Exception as error:
                    anyio.from_thread.run_sync(job.failed, error)
                    raise

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, work)
            await connected.wait()
            yield job.port

    def consume(self, ws: Any, job: Job) -> None:
        messages = size = 0
        message: str | bytes = b""
        for message in ws:
            messages += 1
            size += len(message)
        anyio.from_thread.run_sync(job.received, messages, size, message)

    def produce(self, ws: Any, job: Job) -> None:
        payloads, rounds = job.payloads(), 0
        stop = anyio.from_thread.run(job.started)
        while time.perf_counter() < stop:
            for payload in payloads:
                ws.send(payload)
            rounds += 1
        ws.close()
        anyio.from_thread.run_sync(job.sent, rounds, payloads)

    def ask(self, ws: Any, job: Job) -> None:
        payload, rounds, receive = job.payloads()[0], 0, self.receive_of(ws)
        stop = anyio.from_thread.run(job.started)
        while time.perf_counter() < stop:
            ws.send(payload)
            if receive() != payload:
                raise ConnectionError("the echo is not what was sent")
            rounds += 1
        ws.close()
        anyio.from_thread.run_sync(job.sent, rounds, [payload])
