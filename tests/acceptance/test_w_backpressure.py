"""W4, W5: who does not read holds the other side up. In virtual time, and once in real time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from wsstream import WebSocketStream
from wsstream.testing import RawPeer

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01), pytest.mark.also_in_real_time]

IDLE = 2  # seconds without reading
NEEDED = 1.8  # seconds that the other side has to be held up at least
MIB = 1 << 20


@pytest.fixture
def now(anyio_backend: Any) -> Callable[[], float]:
    return time.monotonic if isinstance(anyio_backend, str) else anyio.current_time


async def test_w4_a_server_that_sends_16_mib_waits_for_an_idle_reader(
    net: Any, now: Callable[[], float]
) -> None:
    needed: list[float] = []

    async def handler(ws: WebSocketStream) -> None:
        start = now()
        await ws.send(b"")
        for number in range(16):
            await ws.send(bytes([number]) * MIB)
        await ws.writable.drain()
        needed.append(now() - start)
        assert [message async for message in ws] == []

    async with net.serve(handler) as server, net.connect(server) as ws:
        await anyio.sleep(IDLE)
        assert needed == []
        assert await ws.receive() == b""
        for number in range(16):
            assert await ws.receive() == bytes([number]) * MIB
        await ws.aclose()
    assert len(needed) == 1
    assert needed[0] >= NEEDED


async def test_w5_sending_8_mib_to_a_peer_that_does_not_read_waits(
    net: Any, now: Callable[[], float]
) -> None:
    async def peer(stream: ByteStream) -> None:
        async with stream:
            peer = await RawPeer.as_server(stream)
            with anyio.move_on_after(0):  # asyncio's streams read ahead until they have waited once
                await stream.receive()
            ready.set()
            await anyio.sleep(IDLE)
            size = 0
            while (frame := await peer.read_frame()).kind != "close":
                size += len(frame.payload)
            received.append(size)
            await peer.close(1000)

    ready = anyio.Event()
    received: list[int] = []
    async with net.raw_server(peer) as url, net.connect(url) as ws:
        await ready.wait()
        start = now()
        await ws.send(bytes(8 * MIB))
        assert now() - start >= NEEDED
        await ws.aclose()
        assert received == [8 * MIB]


async def test_w5_sending_8_mib_to_a_websocket_that_does_not_read_waits(
    net: Any, now: Callable[[], float]
) -> None:
    async def handler(ws: WebSocketStream) -> None:
        await anyio.sleep(IDLE)
        assert len(await ws.receive()) == 8 * MIB

    async with net.serve(handler, max_message_size=8 * MIB) as server, net.connect(server) as ws:
        start = now()
        await ws.send(bytes(8 * MIB))
        assert now() - start >= NEEDED
