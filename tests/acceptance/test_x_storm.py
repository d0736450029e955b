"""Table X, row 23: connections that come and go in a storm leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import resource
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.lowlevel import checkpoint

import wsstream
from wsstream import ConnectionClosed, WebSocketStream

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc/self/fd"),
]

AT_A_TIME = 200
FATES = ("closed", "closed", "closed", "dropped", "reset", "cancelled", "half-a-request", "left")


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files() -> set[str]:
    names = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            names.add(f"{name} {Path('/proc/self/fd', name).readlink()}")
    return names


def running_tasks(backend: str) -> int:
    if backend == "trio":
        import trio  # noqa: TID251 - only the backend knows its tasks

        return trio.lowlevel.current_statistics().tasks_living
    import asyncio  # noqa: TID251 - as above

    return len(asyncio.all_tasks())


class Storm:
    """Clients of one server, each with a fate."""

    def __init__(self, net: Any, server: wsstream.Server) -> None:
        self.net = net
        self.server = server
        self.done: Counter[str] = Counter()
        self._next = 0

    async def run(self, count: int) -> None:
        end = self._next + count

        async def worker() -> None:
            while self._next < end:
                number, self._next = self._next, self._next + 1
                await self._client(number, FATES[number % len(FATES)])

        async with anyio.create_task_group() as tasks:
            for _ in range(AT_A_TIME):
                tasks.start_soon(worker)
        while self.server.connections:
            await anyio.sleep(0.01)

    async def _client(self, number: int, fate: str) -> None:
        if fate == "cancelled":
            with anyio.move_on_after(0.0005 * (number % 16)):
                async with self.net.connect(self.server) as ws:
                    await ws.receive()
        elif fate == "half-a-request":
            stream = await self.net.raw_client(self.server)
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\nUpgr")
            await anyio.aclose_forcefully(stream)
        elif fate == "left":  # without a word, in the middle of a frame
            async with await self.net.as_client(await self.net.raw_client(self.server)) as raw:
                await raw.binary(b"half", declared_length=1000)
        else:
            await self._talk(number, fate)
        self.done[fate] += 1

    async def _talk(self, number: int, fate: str) -> None:
        async with self.net.connect(self.server) as ws:
            message = f"hello {number} " * 8  # long enough to be compressed, if that was agreed on
            await ws.send(message)
            assert await ws.receive() == message
            if fate == "dropped":
                ws.abort()
            elif fate == "reset":
                sock = ws.extra(SocketAttribute.raw_socket)
                sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                ws.abort()


async def echo(ws: WebSocketStream) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in ws:
            await ws.send(message)


async def cancel_after(scope: anyio.CancelScope, ticks: int) -> None:
    for _ in range(ticks):
        await checkpoint()
    scope.cancel()


async def settled(tasks: int, backend: str) -> None:
    """Until the tasks of the last connections have ended, for two seconds at most."""
    with anyio.move_on_after(2):
        while running_tasks(backend) > tasks:
            await anyio.sleep(0.01)


@pytest.mark.heavy_after_first
@pytest.mark.parametrize(
    "count",
    [
        20,
        pytest.param(60, marks=pytest.mark.slow),
        pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.time_limit(300)]),
    ],
)
async def test_x23_a_storm_of_connections_leaves_nothing_behind(
    net: Any, heap: Any, anyio_backend: str, count: int
) -> None:
    if net.scheme == "wss":
        count //= 4 if count < 1000 else 10  # handshakes of TLS take long
    elif net.compression is not None and count > 1000:
        count //= 4  # and so does making contexts
    before_server = running_tasks(anyio_backend), open_files()
    async with net.serve(echo) as server:
        storm, grown = Storm(net, server), heap()
        await storm.run(max(10 * len(FATES), min(count, 1000)))  # warms up: tables grow to the storm's size
        tasks = before_server[0] + 1  # that which accepts
        await settled(tasks, anyio_backend)
        files, before = open_files(), grown.left()
        storm.done.clear()
        await storm.run(count)
        await settled(tasks, anyio_backend)
        assert storm.done.total() == count
        assert all(storm.done[fate] >= count // 10 for fate in FATES)
        assert not server.connections
        assert running_tasks(anyio_backend) <= tasks
        assert open_files() <= files
        left = grown.left() - before
        grown.stop()
        assert left < 64 * 1024 + 8 * count, f"{left / count:.0f} bytes for each connection"
    assert running_tasks(anyio_backend) <= before_server[0]
    assert open_files() <= before_server[1]


@pytest.mark.heavy_after_first
async def test_x23_clients_that_are_cancelled_at_any_moment_leave_nothing(
    net: Any, anyio_backend: str
) -> None:
    """Each is cancelled one turn of the event loop later than the one before, through the whole handshake."""
    async with net.serve(echo) as server:
        async with net.connect(server) as ws:
            await ws.ping()
        await anyio.wait_all_tasks_blocked()
        tasks, files = running_tasks(anyio_backend), open_files()
        opened = 0
        for ticks in range(100):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(cancel_after, scope, ticks)
                    async with net.connect(server) as ws:
                        opened += 1
                        await anyio.sleep_forever()
        assert opened, "never cancelled behind the handshake"
        with anyio.move_on_after(5):
            while server.connections or running_tasks(anyio_backend) > tasks or open_files() - files:
                await anyio.sleep(0.01)
        assert not server.connections
        assert running_tasks(anyio_backend) == tasks
        assert open_files() <= files
