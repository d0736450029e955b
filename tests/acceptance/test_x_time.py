"""Table X, rows 9 to 12 over sockets: what must not take long, whatever the data does."""

from __future__ import annotations

import os
import statistics
import time
from random import Random
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from wsstream import ConnectionBroken, ConnectionClosed, WebSocketStream
from wsstream.testing import RateStream, RawPeer, close, ping

pytestmark = [pytest.mark.anyio, pytest.mark.heavy_after_first, pytest.mark.slow_over_tls]

MIB = 1 << 20
BLOCK = Random(9).randbytes(65536)


async def flood(ws: WebSocketStream) -> None:
    """Send until the connection ends."""
    try:
        while True:
            await ws.send(BLOCK)
    except ConnectionClosed:
        pass


# -- X9 --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.time_limit(90)
@pytest.mark.parametrize("scheme", ["ws"])
@pytest.mark.parametrize("compression", [None])  # with compression: in virtual time, and for a second
async def test_x9_in_real_time_a_slow_consumer_survives_a_flooding_peer(net: Any) -> None:
    async with (
        net.serve(flood, ping_interval=None) as server,
        net.connect(server, ping_interval=1, ping_timeout=1) as ws,
    ):
        for _ in range(24):  # 12 s; the minute is in virtual time
            await anyio.sleep(0.5)
            assert await ws.receive() == BLOCK
        assert ws.state == "open"


@pytest.mark.heavy
async def test_x9_in_real_time_for_a_second(net: Any) -> None:
    async with (
        net.serve(flood, ping_interval=None) as server,
        net.connect(server, ping_interval=0.1, ping_timeout=0.1) as ws,
    ):
        for _ in range(12):
            await anyio.sleep(0.05)
            assert await ws.receive() == BLOCK
        assert ws.state == "open"


# -- X10 -------------------------------------------------------------------------------------


async def pong_latencies(raw: RawPeer, count: int) -> list[float]:
    """Send Pings one after the other; seconds until each Pong."""
    latencies = []
    for i in range(count):
        start = time.monotonic()
        await raw.ping(b"%d" % i)
        frame = await raw.read_frame()
        assert (frame.kind, frame.payload) == ("pong", b"%d" % i)
        latencies.append(time.monotonic() - start)
    return latencies


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("unread", [0, 200_000], ids=["nothing-unread", "200-kb-unread"])
async def test_x10_a_ping_is_answered_while_the_application_reads_nothing(
    net: Any, role: str, unread: int
) -> None:
    latencies: list[float] = []
    held: list[int] = []
    measured, leave = anyio.Event(), anyio.Event()

    async def idle(ws: WebSocketStream) -> None:
        await measured.wait()
        held.append(ws.statistics().receive_buffered)
        leave.set()

    async def measure(raw: RawPeer) -> None:
        with anyio.fail_after(10):
            if unread:
                await raw.binary(Random(10).randbytes(unread))
            latencies.extend(await pong_latencies(raw, 10))
            measured.set()
            await leave.wait()

    async def raw_server(stream: ByteStream) -> None:
        async with await net.as_server(stream) as raw:
            await measure(raw)

    if role == "client":
        async with net.raw_server(raw_server) as url, net.connect(url, close_timeout=0) as ws:
            await idle(ws)
    else:
        async with (
            net.serve(idle, close_timeout=0) as server,
            await net.as_client(await net.raw_client(server)) as raw,
        ):
            await measure(raw)
    assert unread <= held[0] < 256 * 1024
    assert statistics.median(latencies) < 0.05
    assert max(latencies) < 1


@pytest.mark.parametrize("scheme", ["ws"])
async def test_x10_also_behind_data_that_a_consumer_took_from_the_socket_itself(net: Any) -> None:
    """The consumer takes the step of reading, pauses it, reads to the low mark and asks for no more."""
    sockets: list[Any] = []
    peers: list[Any] = []
    ponged = anyio.Event()

    async def peer(stream: ByteStream) -> None:
        async with await net.as_server(stream) as raw:
            peers.append(raw)
            sockets.append(stream.extra(SocketAttribute.raw_socket))
            await raw.text("warm")
            if (await raw.read_frame()).kind == "pong":
                ponged.set()

    async with net.raw_server(peer) as url, net.connect(url, close_timeout=0) as ws:
        assert await ws.receive() == "warm"
        await anyio.wait_all_tasks_blocked()
        data = peers[0].encode(1) * 4200 + ping()
        assert os.write(sockets[0].fileno(), data) == len(data)
        for _ in range(3500):  # at once: the reader task has not had a turn
            assert await ws.receive() == ""
        assert not ws.statistics().reading_paused
        with anyio.move_on_after(1):
            await ponged.wait()
        assert ponged.is_set()


# -- X11 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [6 * MIB, pytest.param(32 * MIB, marks=pytest.mark.slow)])
@pytest.mark.parametrize("role", ["client", "server"])
async def test_x11_a_pong_passes_a_large_message_to_a_slow_reader(net: Any, role: str, size: int) -> None:
    """The reader takes 16 MiB/s and has a small receive buffer, so that it does not hide the sender's.

    A Pong is late by the bytes that come before it: a busy machine does not change their number.
    """
    rate = 16 * MIB
    size = size if net.compression is None else min(size, 12 * MIB)
    payload = Random(11).randbytes(size)
    latencies: list[float] = []  # seconds at that rate
    received = 0
    done = anyio.Event()

    async def read_slowly(raw: RawPeer) -> None:
        nonlocal received
        received_before: dict[bytes, int] = {}
        async with anyio.create_task_group() as tasks:

            async def send_pings() -> None:
                while True:
                    payload = b"%d" % len(received_before)
                    received_before[payload] = received
                    await raw.ping(payload)
                    await anyio.sleep(0.05)

            while received < size:
                frame = await raw.read_frame()
                if not received:
                    tasks.start_soon(send_pings)
                if frame.kind == "pong":
                    latencies.append((received - received_before[frame.payload]) / rate)
                else:
                    received += len(frame.payload)
            tasks.cancel_scope.cancel()
        done.set()

    async def raw_server(stream: ByteStream) -> None:
        async with await net.as_server(RateStream(stream, receive=rate)) as raw:
            await read_slowly(raw)

    async def send(ws: WebSocketStream) -> None:
        await ws.send(payload)
        await done.wait()

    begin = time.monotonic()
    if role == "client":
        async with (
            net.raw_server(raw_server, receive_buffer=65536) as url,
            net.connect(url, close_timeout=0) as ws,
        ):
            await send(ws)
    else:
        async with net.serve(send, close_timeout=0) as server:
            stream = RateStream(await net.raw_client(server, receive_buffer=65536), receive=rate)
            async with await net.as_client(stream) as raw:
                await read_slowly(raw)
                await done.wait()
    assert time.monotonic() - begin > 0.8 * size / rate, "the reader was not slow"
    assert len(latencies) >= 5
    assert max(latencies) < 0.2


# -- X12 -------------------------------------------------------------------------------------


@pytest.mark.quick_with_compression
@pytest.mark.parametrize("closer", ["client", "server"])
async def test_x12_aclose_under_a_flood_that_nobody_reads_is_quick_and_clean(net: Any, closer: str) -> None:
    took: list[float] = []
    infos: list[Any] = []

    async def close_it(ws: WebSocketStream) -> None:
        while not ws.statistics().reading_paused:
            await anyio.sleep(0.01)
        begin = time.monotonic()
        await ws.aclose(4000, "enough")
        took.append(time.monotonic() - begin)
        infos.append(ws.close_info)

    handler, body = (flood, close_it) if closer == "client" else (close_it, flood)
    async with net.serve(handler) as server:
        async with net.connect(server) as ws:
            await body(ws)
        while server.connections:
            await anyio.sleep(0.01)
    assert infos == [(4000, "enough", True)]
    assert took[0] < 0.5


async def test_x12_also_when_the_flood_is_a_message_that_never_ends(net: Any) -> None:
    """The peer sees our Close only while it sends, and answers it at the end of its frame."""

    async def peer(stream: ByteStream) -> None:
        async with await net.as_server(stream) as raw, anyio.create_task_group() as tasks:
            closing = anyio.Event()

            async def read() -> None:
                while (await raw.read_frame()).kind != "close":
                    pass
                closing.set()

            tasks.start_soon(read)
            await raw.binary(BLOCK, fin=False)
            while not closing.is_set():
                await raw.continuation(BLOCK, fin=False)
            await raw.continuation(b"end")
            await raw.send(close(4001, "yours"))

    async with net.raw_server(peer) as url, net.connect(url) as ws:
        while not ws.statistics().reading_paused:
            await anyio.sleep(0.01)
        begin = time.monotonic()
        await ws.aclose(4000)
        assert time.monotonic() - begin < 0.5
        assert ws.close_info == (4001, "yours", True)


async def test_x12_while_our_own_message_is_unsent_it_goes_out_first(net: Any) -> None:
    """Both flood, nobody reads at first: only the closing side's discarding sets things free."""
    got: list[Any] = []
    blocks = 64 if net.compression is None else 16  # 4 MiB take 0.1 s to compress, and the flood its share

    async def echo_late(ws: WebSocketStream) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flood, ws)
            try:
                async for reader in ws.readable.messages():
                    size = 0
                    async for chunk in reader:
                        size += len(chunk)
                    got.append(size)
            except ConnectionBroken as error:
                got.append(error)

    async with net.serve(echo_late) as server, net.connect(server) as ws:
        while not ws.statistics().reading_paused:
            await anyio.sleep(0.01)
        with anyio.move_on_after(0):
            await ws.send(BLOCK * blocks)
        begin = time.monotonic()
        await ws.aclose()
        assert time.monotonic() - begin < 0.5
        assert ws.close_info == (1005, "", True)
    assert got == [blocks * len(BLOCK)]
