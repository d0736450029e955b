"""Blocking sockets without any WebSocket: what the kernel and Python allow at most.

What comes in is only counted, what goes out was encoded before. Not to be had for compression, connections
and handshakes, where there is nothing to compare.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
import frames
from job import Job

from .library import Library

_BUFFER = 256 * 1024  # bytes


class Raw(Library):
    def can(self, job: Job) -> bool:
        return hasattr(self, job.work) and not job.level and job.connections == 1

    @asynccontextmanager
    async def opened(self, job: Job) -> AsyncIterator[int]:
        """The work is done in a thread; the loop sleeps meanwhile."""
        async with anyio.create_task_group() as tasks:
            if job.side == "client":
                sock = await anyio.to_thread.run_sync(_connect, job)
                tasks.start_soon(self._work, sock, job)
                yield job.port
            else:
                with socket.create_server(("127.0.0.1", 0)) as listener:
                    tasks.start_soon(self._accept, listener, job)
                    yield listener.getsockname()[1]

    async def _accept(self, listener: socket.socket, job: Job) -> None:
        sock = await anyio.to_thread.run_sync(_accept, listener, job.server_context())
        if job.work == "proxy":
            with await anyio.to_thread.run_sync(_connect, job) as upstream:
                await self._work(sock, job, upstream)
        else:
            await self._work(sock, job)

    async def _work(self, sock: socket.socket, job: Job, *more: socket.socket | bytes) -> None:
        work = getattr(self, job.work)
        if job.work == "produce":
            more = (_batch(job),)
        await job.started()
        with sock:
            await anyio.to_thread.run_sync(work, sock, job, *more)
        job.finished.set()

    def consume(self, sock: socket.socket, job: Job) -> None:
        masked = job.side == "server"
        total = _swallow(sock, masked=masked)
        job.messages, rest = divmod(
            total, frames.message_size(job.size, masked=masked, fragments=job.fragments)
        )
        assert not rest
        job.bytes = job.messages * job.size

    consume_chunks = consume

    def produce(self, sock: socket.socket, job: Job, batch: bytes) -> None:
        stop, total = time.perf_counter() + job.seconds, 0
        while time.perf_counter() < stop:
            sock.sendall(batch)
            total += len(batch)
        masked = job.side == "client"
        job.messages = total // frames.message_size(job.size, masked=masked)
        job.bytes = job.messages * job.size
        _finish(sock, masked=masked)

    def send_file(self, sock: socket.socket, job: Job) -> None:
        start = frames.header(frames.BINARY, job.size, masked=False)
        stop = time.perf_counter() + job.seconds
        with open(job.file, "rb") as file:
            while time.perf_counter() < stop:
                sock.sendall(start, socket.MSG_MORE)
                at = 0
                while at < job.size:
                    at += os.sendfile(sock.fileno(), file.fileno(), at, job.size - at)
                job.bytes += job.size
                job.messages += 1
        _finish(sock, masked=False)

    def echo(self, sock: socket.socket, job: Job) -> None:
        content = frames.payload(job.size)
        size = len(frames.frame(frames.BINARY, content, masked=True))
        back = frames.frame(frames.BINARY, content, masked=False)
        while len(sock.recv(size)) == size:
            job.messages += 1
            sock.sendall(back)
        _answer_close(sock, masked=False)

    def proxy(self, sock: socket.socket, job: Job, upstream: socket.socket) -> None:
        _swallow(sock, masked=True, to=upstream)
        _await_end(upstream)


def _batch(job: Job) -> bytes:
    masked = job.side == "client"
    return b"".join(frames.frame(frames.BINARY, content, masked=masked) for content in job.payloads())


def _connect(job: Job) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", job.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    frames.client_handshake(sock, job.port)
    return sock


def _accept(listener: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        sock = context.wrap_socket(sock, server_side=True)
    frames.server_handshake(sock)
    return sock


def _swallow(sock: socket.socket, *, masked: bool, to: socket.socket | None = None) -> int:
    """Receive until Close, and answer that; how many bytes came before it. Each is passed on, Close too."""
    view = memoryview(bytearray(_BUFFER))
    total, size, tail = 0, frames.CLOSE_SIZE[masked], b""
    while not frames.is_close(tail, masked=masked):
        count = sock.recv_into(view)
        if not count:
            raise ConnectionError("the connection ended without Close")
        if to is not None:
            to.sendall(view[:count])
        total += count
        tail = (tail + bytes(view[max(0, count - size) : count]))[-size:]
    _answer_close(sock, masked=not masked)
    return total - size


def _answer_close(sock: socket.socket, *, masked: bool) -> None:
    """A client waits for the server to end the connection."""
    sock.sendall(frames.close_frame(masked=masked))
    if masked:
        _await_end(sock)


def _finish(sock: socket.socket, *, masked: bool) -> None:
    """Send Close and wait for the answer."""
    sock.sendall(frames.close_frame(masked=masked))
    if sock.recv(1) and masked:
        _await_end(sock)


def _await_end(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


LIBRARY = Raw()
