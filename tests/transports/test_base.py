"""`receive_some` and `send_all`, which wait for a transport."""

from __future__ import annotations

import tracemalloc

import anyio
import pytest

from wsstream.testing import memory_pair
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.base import receive_some, send_all

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


async def test_no_buffer_is_held_while_bytes_are_waited_for() -> None:
    ours, theirs = zip(*[memory_pair() for _ in range(20)], strict=True)
    received: list[bytes] = []

    async def receive(stream: anyio.abc.ByteStream) -> None:
        received.append(await receive_some(StreamTransport(stream), 1 << 20))

    async with anyio.create_task_group() as tasks:
        tracemalloc.start()
        try:
            for stream in ours:
                tasks.start_soon(receive, stream)
            await anyio.wait_all_tasks_blocked()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for stream in theirs:
            await stream.send(b"here")
    assert held < 1 << 20
    assert received == [b"here"] * 20


async def test_what_was_sent_comes_out() -> None:
    ours, theirs = map(StreamTransport, memory_pair())
    data, received = bytes(range(256)) * 1000, b""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_all, ours, data)
        while len(received) < len(data):
            received += await receive_some(theirs, 10_000)
    assert received == data
