"""The greatest rate at which a server takes messages: reading pauses, and the peer waits."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from kit.endpoints import against_peer
from kit.waiting import until

import wsstream
from wsstream import Deflate, ReceiveRate, WebSocketStream, connect, pipe, serve
from wsstream.driver.relay import Relay
from wsstream.streams.websocket import ending_of
from wsstream.testing import RawPeer, connected_pair, frame, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


@asynccontextmanager
async def _server(
    rate: ReceiveRate, capacity: int = 1 << 16, **options: Any
) -> AsyncIterator[tuple[WebSocketStream, RawPeer]]:
    """A server of ours with a limited rate, and a client that a test plays."""
    streams = memory_pair(capacity)
    async with against_peer("server", streams, receive_rate=rate, **options) as (ws, peer):
        yield ws, peer


def _messages(count: int, size: int = 1) -> bytes:
    return b"".join(frame(2, bytes(size), mask=b"\0\0\0\0") for _ in range(count))


# -- how long it takes --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["receiving", "iterating", "in chunks"])
async def test_messages_arrive_at_the_rate_after_those_of_a_second(way: str) -> None:
    async with _server(ReceiveRate(messages_at_most=10)) as (ws, peer), anyio.create_task_group() as tasks:
        start, times = anyio.current_time(), []
        tasks.start_soon(peer.send, _messages(50))
        if way == "receiving":
            for _ in range(50):
                await ws.receive()
                times.append(anyio.current_time() - start)
        elif way == "iterating":
            async for _ in ws:
                times.append(anyio.current_time() - start)
                if len(times) == 50:
                    break
        else:
            for _ in range(50):
                async with ws.readable.message() as reader:
                    assert await reader.read() == b"\0"
                times.append(anyio.current_time() - start)
        assert times == pytest.approx([max(0, (n - 10) / 10) for n in range(1, 51)], abs=0.02)


@pytest.mark.parametrize("way", ["whole", "in chunks"])
async def test_the_bytes_of_one_huge_message_arrive_at_the_rate(way: str) -> None:
    size, rate = 2_000_000, 100_000
    options = {"max_message_size": None, "ping_interval": None}
    async with (
        _server(ReceiveRate(bytes_at_most=rate), **options) as (ws, peer),
        anyio.create_task_group() as tasks,
    ):
        start, read = anyio.current_time(), 0
        tasks.start_soon(peer.send, _messages(1, size))
        if way == "whole":
            read = len(await ws.receive())
        else:
            async with ws.readable.message() as reader:
                async for chunk in reader:
                    read += len(chunk)
                    assert read <= rate * (1 + anyio.current_time() - start)
        assert read == size
        assert anyio.current_time() - start == pytest.approx((size - rate) / rate, abs=0.11)


async def test_whichever_rate_is_exceeded_first_counts() -> None:
    rate = ReceiveRate(bytes_at_most=10_000, messages_at_most=100)
    async with _server(rate) as (ws, peer), anyio.create_task_group() as tasks:
        for size, seconds in ((1, 2), (994, 30)):
            await anyio.sleep(5)
            start = anyio.current_time()
            tasks.start_soon(peer.send, _messages(300, size - 1))
            for _ in range(300):
                await ws.receive()
            expected = 2 if size == 1 else seconds - 1
            assert anyio.current_time() - start == pytest.approx(expected, abs=0.2)


async def test_compressed_messages_count_as_they_come_on_the_wire() -> None:
    options = {"compression": Deflate(), "ping_interval": None}
    for rate, seconds in ((ReceiveRate(bytes_at_most=100_000), 0), (ReceiveRate(messages_at_most=10), 4)):
        async with (
            connected_pair(client_options=options, server_options={**options, "receive_rate": rate}) as (
                client,
                server,
            ),
            anyio.create_task_group() as tasks,
        ):

            async def send(ws: WebSocketStream = client) -> None:
                for _ in range(50):
                    await ws.send(bytes(100_000))

            start = anyio.current_time()
            tasks.start_soon(send)
            for _ in range(50):
                assert len(await server.receive()) == 100_000
            assert anyio.current_time() - start == pytest.approx(seconds, abs=0.05)


@pytest.mark.parametrize("size", [100, 50_000])
@pytest.mark.parametrize("what", ["bytes", "messages"])
async def test_a_relay_takes_no_more_than_the_rate(
    what: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct, pass_on = 0, Relay._pass_on

    def counting(relay: Relay, data: memoryview) -> int:
        nonlocal direct
        passed = pass_on(relay, data)
        direct += passed
        return passed

    monkeypatch.setattr(Relay, "_pass_on", counting)
    count, quiet = 60, {"ping_interval": None}
    rate = ReceiveRate(messages_at_most=10) if what == "messages" else ReceiveRate(bytes_at_most=10 * size)
    pair = connected_pair(streams=memory_pair(1 << 22), client_options=quiet, server_options=quiet)
    async with (
        _server(rate, 1 << 22, ping_interval=None) as (source, left),
        pair as (sink, end),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(pipe, source, sink)
        start = anyio.current_time()

        async def send() -> None:
            for _ in range(count):
                await left.send(_messages(1, size))
                await anyio.sleep(0.01)

        tasks.start_soon(send)
        for received in range(1, count + 1):
            assert len(await end.receive()) == size
            passed = anyio.current_time() - start
            assert received <= 15.01 + 10 * passed  # a read of 256 KiB holds 5 of the large ones
            assert what != "bytes" or source.statistics().bytes_received <= 10 * size * (1 + passed) + 1
        assert anyio.current_time() - start == pytest.approx((count - 10) / 10, abs=0.5)
        assert (direct > 1_000_000) is (size == 50_000)
        tasks.cancel_scope.cancel()


# -- the peer is slowed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [ReceiveRate(bytes_at_most=1000), ReceiveRate(messages_at_most=5)], ids=str)
async def test_the_peer_sends_no_more_than_the_rate_and_the_buffers_hold(rate: ReceiveRate) -> None:
    capacity, high_water = 1 << 14, 1 << 16
    flow = wsstream.FlowControl(receive_high_water=high_water)
    async with (
        _server(rate, capacity, flow=flow, ping_interval=None) as (ws, peer),
        anyio.create_task_group() as tasks,
    ):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await peer.send(_messages(1, 200))
                sent += 208

        async def read() -> None:
            async for _ in ws:
                pass

        tasks.start_soon(flood)
        tasks.start_soon(read)
        await anyio.sleep(20.05)
        taken = 21_000 if rate.bytes_at_most else 105 * 208
        assert taken - 2000 <= sent <= taken + 2 * capacity + high_water
        assert ws.statistics().bytes_received <= taken + (0 if rate.bytes_at_most else high_water)
        assert ws.statistics().reading_paused
        tasks.cancel_scope.cancel()


async def test_a_peer_that_keeps_to_the_rate_is_never_held_up() -> None:
    rate = ReceiveRate(bytes_at_most=1000, messages_at_most=20)
    async with _server(rate) as (ws, peer):
        for _ in range(200):
            start = anyio.current_time()
            await peer.send(_messages(1, 40))
            await ws.receive()
            assert anyio.current_time() == start
            assert not ws.statistics().reading_paused
            await anyio.sleep(0.06)


async def test_reading_goes_on_only_when_the_rate_and_the_water_marks_allow_it() -> None:
    flow = wsstream.FlowControl(receive_high_water=20_000, receive_low_water=5000)
    rate = ReceiveRate(bytes_at_most=5000)
    async with (
        _server(rate, flow=flow, ping_interval=None) as (ws, peer),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(peer.send, _messages(100, 1000))
        await anyio.sleep(60)  # nobody reads: the mark is reached
        held = ws.statistics()
        assert 15_000 <= held.receive_buffered <= 22_000
        start = anyio.current_time()
        for _ in range(100):
            await ws.receive()
        left = 100 * 1008 - held.bytes_received - 5000
        assert anyio.current_time() - start == pytest.approx(left / 5000, abs=0.3)


async def test_nothing_is_read_while_the_inbox_is_full() -> None:
    flow = wsstream.FlowControl(receive_high_water=10_000, receive_low_water=1000)
    async with (
        _server(ReceiveRate(bytes_at_most=5000), flow=flow, ping_interval=None) as (ws, peer),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(peer.send, _messages(1, 50_000))
        await until(lambda: ws.statistics().receive_buffered >= 10_000, pause=0.02)
        full = ws.statistics()
        await anyio.sleep(60)
        assert ws.statistics() == full
        tasks.cancel_scope.cancel()


# -- the clocks -----------------------------------------------------------------------------------------


async def test_keepalive_does_not_give_up_a_peer_whose_pong_is_not_read() -> None:
    rate = ReceiveRate(messages_at_most=0.05)
    async with (
        _server(rate, ping_interval=2, ping_timeout=2) as (ws, peer),
        anyio.create_task_group() as tasks,
    ):
        frames: list[str] = []

        async def read() -> None:
            while True:
                frames.append((await peer.read_frame()).kind)

        tasks.start_soon(read)
        await peer.send(_messages(3))
        with anyio.move_on_after(39):
            while True:
                await ws.receive()
        assert ws.state == "open"
        assert frames == ["pong"] * 19, "which show a peer of another make that this side lives"
        tasks.cancel_scope.cancel()


async def test_the_pauses_of_the_greatest_rate_do_not_count_for_the_least() -> None:
    rate = ReceiveRate(2000, bytes_at_most=1000)
    async with (
        _server(rate, max_message_size=None, ping_interval=None, receive_timeout=5) as (ws, peer),
        anyio.create_task_group() as tasks,
    ):
        start = anyio.current_time()
        tasks.start_soon(peer.send, _messages(1, 100_000))
        assert len(await ws.receive()) == 100_000
        assert anyio.current_time() - start == pytest.approx(99, abs=0.2)


async def test_a_peer_that_is_too_slow_fails_though_there_is_a_greatest_rate() -> None:
    rate = ReceiveRate(1000, bytes_at_most=5000)
    async with _server(rate, ping_interval=None) as (ws, peer):
        start = anyio.current_time()
        await peer.binary(b"x", declared_length=100_000)
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            await ws.receive()
        assert isinstance(caught.value.__cause__, wsstream.ReceiveTimeout)
        assert anyio.current_time() - start == pytest.approx(5, abs=0.1)


# -- the end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["application", "server"])
@pytest.mark.parametrize("rate", [ReceiveRate(bytes_at_most=100), ReceiveRate(messages_at_most=1)], ids=str)
async def test_closing_does_not_wait_for_the_rate(rate: ReceiveRate, who: str) -> None:
    async with (
        _server(rate, close_timeout=10) as (ws, peer),
        anyio.create_task_group() as tasks,
    ):

        async def flood() -> None:
            await peer.send(_messages(2000, 10))
            while (await peer.read_frame()).kind != "close":
                pass
            await peer.close(1000)

        tasks.start_soon(flood)
        await anyio.sleep(1)
        assert ws.statistics().reading_paused
        start = anyio.current_time()
        if who == "server":
            ending_of(ws).close(1001, "", hurried=True)
            info = await ws.wait_closed()
        else:
            await ws.aclose()
            info = ws.close_info
        assert info is not None
        assert info.clean
        assert anyio.current_time() - start < 0.1


async def test_the_close_of_the_peer_is_seen_behind_its_messages() -> None:
    async with _server(ReceiveRate(messages_at_most=10)) as (ws, peer):
        await peer.send(_messages(20))
        await peer.close(1000)
        start = anyio.current_time()
        assert [message async for message in ws] == [b"\0"] * 20
        assert ws.close_info == (1000, "", True)
        assert anyio.current_time() - start == pytest.approx(1, abs=0.11)


# -- real sockets ----------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio", ("asyncio", {"use_uvloop": True})], ids=str)
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_the_rate_holds_over_sockets_and_tls(
    anyio_backend: object, scheme: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    rate, size, took = 2_000_000, 3_000_000, []

    async def handle(ws: WebSocketStream) -> None:
        start, read = anyio.current_time(), 0
        async with ws.readable.message() as reader:
            async for chunk in reader:
                read += len(chunk)
                assert read <= rate * (1.05 + anyio.current_time() - start)
        took.append(anyio.current_time() - start)
        await ws.send(str(read))

    tls = scheme == "wss"
    options: Any = {"ssl": client_tls} if tls else {}
    async with (
        serve(
            handle,
            "127.0.0.1",
            ssl=server_tls if tls else None,
            receive_rate=ReceiveRate(bytes_at_most=rate),
        ) as server,
        connect(f"{scheme}://127.0.0.1:{server.port}/", **options) as ws,
    ):
        await ws.send(bytes(size))
        assert await ws.receive() == str(size)
    assert took[0] > 0.4
