"""Table X, rows 7, 8, 13, 19 and 20: bytes are bounded, whatever the peer declares, sends or leaves unread.

Row 14, the decompression bomb, is in test_x_deflate.py. Memory is the peak of Python's heap, both ends
together, counted from when the connection is open and has been used; so zlib's contexts, which the first
compressed message makes, are not in it. What has to be large on the wire is noise.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

import wsstream
from wsstream import ConnectionBroken, FlowControl, WebSocketStream
from wsstream.codec.decoder import Decoder
from wsstream.codec.events import Chunk, Close, Event, Ping
from wsstream.codec.unread import UNLIMITED
from wsstream.testing import RawPeer, frame, memory_pair, ping, text

pytestmark = [pytest.mark.anyio, pytest.mark.heavy_after_first, pytest.mark.slow_over_tls]

MIB = 1 << 20
BLOCK = Random(7).randbytes(65536)
MARKS = FlowControl()
NO_MASK = bytes(4)  # a masking key that changes nothing, so that a client can send BLOCK as it is
SENDERS = pytest.mark.parametrize("sender", ["client", "server"])


async def until(condition: Callable[[], object]) -> None:
    """A busy machine may keep the other side waiting for longer than `settled` looks."""
    while not condition():
        await anyio.sleep(0.005)


async def settled(*counters: Callable[[], int]) -> None:
    """Until none of the counters has changed for an eighth of a second."""
    last, since = None, time.monotonic()
    while time.monotonic() - since < 0.125:
        await anyio.sleep(0.01)
        if (now := [counter() for counter in counters]) != last:
            last, since = now, time.monotonic()


async def with_raw_sender(net: Any, sender: str, send: Any, receive: Any, **options: Any) -> None:
    """Run `send(raw)` against `receive(ws)`, where the raw peer is a client or a server."""
    done = anyio.Event()

    async def raw_side(raw: RawPeer) -> None:
        try:
            await send(raw)
        except (anyio.BrokenResourceError, anyio.EndOfStream):
            assert done.is_set(), "our side has left early"

    async def our_side(ws: WebSocketStream) -> None:
        try:
            await receive(ws)
        finally:
            done.set()

    async def raw_server(stream: ByteStream) -> None:
        async with await net.as_server(stream) as raw:
            await raw_side(raw)

    if sender == "server":
        async with net.raw_server(raw_server) as url, net.connect(url, close_timeout=0, **options) as ws:
            await our_side(ws)
        return
    failures: list[Exception] = []

    async def handler(ws: WebSocketStream) -> None:
        try:
            await our_side(ws)
        except Exception as error:
            failures.append(error)

    async with (
        net.serve(handler, close_timeout=0, **options) as server,
        await net.as_client(await net.raw_client(server), mask=NO_MASK) as raw,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(raw_side, raw)
        await done.wait()
        tasks.cancel_scope.cancel()
    if failures:
        raise failures[0]


# -- X7 --------------------------------------------------------------------------------------


@SENDERS
async def test_x7_a_frame_of_64_mib_is_read_from_its_first_byte_in_bounded_memory(
    net: Any, heap: Any, sender: str
) -> None:
    size = 64 * MIB
    first_seen = anyio.Event()

    async def send(raw: Any) -> None:
        await raw.binary(BLOCK)  # warms up
        first, part, last = raw.part(BLOCK[:1]), raw.part(BLOCK), raw.part(BLOCK[1:], last=True)
        parts = size // len(BLOCK) - 1
        declared = len(first) + parts * len(part) + len(last)
        await raw.send(frame(2, first, rsv1=raw.deflating, mask=raw.mask, declared_length=declared))
        await first_seen.wait()
        for _ in range(parts):
            await raw.send(part)
        await raw.send(last)
        await raw.text("next")
        await anyio.sleep_forever()

    async def receive(ws: WebSocketStream) -> None:
        assert await ws.receive() == BLOCK
        grown = heap()
        async with ws.readable.message() as reader:
            assert await reader.receive() == BLOCK[:1], "not with the first segment"
            first_seen.set()
            sha = hashlib.sha256()
            async for chunk in reader:
                sha.update(chunk)
            assert reader.bytes_received == size
        assert grown.peak() < 2 * MIB
        expected = hashlib.sha256()
        for _ in range(size // len(BLOCK) - 1):
            expected.update(BLOCK)
        expected.update(BLOCK[1:])
        assert sha.digest() == expected.digest()
        assert await ws.receive() == "next"

    await with_raw_sender(net, sender, send, receive)


# -- X8 --------------------------------------------------------------------------------------


async def streamed(raw: Any) -> AsyncGenerator[Event, None]:
    """What a client sends. A frame comes in the pieces that arrive: its receiver's heap is counted, too."""
    while raw.deflating:
        part = await raw.read_frame()
        match part.kind:
            case "close":
                yield Close(part.close_code)
            case "ping":
                yield Ping(part.payload)
            case _:
                yield Chunk("binary", part.payload, part.fin, False)
    decoder = Decoder(masked=True)
    while True:
        data = await raw.stream.receive()
        while data:
            for event in decoder.decode(data, UNLIMITED):
                yield event
            data = data[decoder.consumed :]


@pytest.mark.parametrize("seconds", [0.2, pytest.param(5.0, marks=pytest.mark.slow)])
async def test_x8_a_frame_of_64_gib_passes_a_proxy_at_constant_memory(
    net: Any, heap: Any, seconds: float
) -> None:
    received = 0
    seconds = seconds if net.compression is None else min(seconds, 1.0)
    closed_by: list[int | None] = []
    ended = anyio.Event()

    async def upstream(stream: ByteStream) -> None:
        nonlocal received
        async with await net.as_server(stream) as raw, aclosing(streamed(raw)) as events:
            async for event in events:
                match event:
                    case Ping(payload):
                        await raw.pong(payload)
                    case Close(code):
                        closed_by.append(code)
                        break
                    case Chunk(_, payload, last):
                        assert not last, "an end that the sender never sent"
                        for start in range(0, len(payload), len(BLOCK)):
                            piece = payload[start : start + len(BLOCK)]
                            at = received % len(BLOCK)
                            assert piece == (BLOCK[at:] + BLOCK)[: len(piece)]
                            received += len(piece)
        ended.set()

    async with net.raw_server(upstream) as url:

        async def bridge(ws: WebSocketStream) -> None:
            async with net.connect(url) as to_upstream:
                await wsstream.proxy(ws, to_upstream)

        async with net.serve(bridge, close_timeout=0) as server:
            async with await net.as_client(await net.raw_client(server), mask=NO_MASK) as raw:
                await raw.binary(BLOCK, declared_length=1 << 36)
                sent, part = len(BLOCK), raw.part(BLOCK)

                async def flood_for(seconds: float) -> None:
                    nonlocal sent
                    end = time.monotonic() + seconds
                    while time.monotonic() < end:
                        await raw.send(part)
                        sent += len(BLOCK)

                await flood_for(0.2)
                grown, before = heap(), sent
                await flood_for(seconds)
                assert grown.peak() < 2 * MIB
                assert sent - before > 4 * MIB * seconds
                assert sent - received < 32 * MIB  # marks and kernel buffers
            await ended.wait()
    assert closed_by == [1011]


# -- X13 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flood", "sender"), [("fragments", "client"), ("messages", "server")])
async def test_x13_a_million_empty_pieces_unread_stop_the_reading(
    net: Any, heap: Any, sender: str, flood: str
) -> None:
    async def send(raw: Any) -> None:
        await raw.text("warm")
        await raw.text("", fin=flood == "messages")
        frames = (raw.encode(0, fin=False) if flood == "fragments" else raw.encode(1)) * 10_000
        for _ in range(100):
            await raw.send(frames)
        await anyio.sleep_forever()

    async def receive(ws: WebSocketStream) -> None:
        assert await ws.receive() == "warm"
        grown = heap()
        await until(lambda: ws.statistics().reading_paused)
        await settled(lambda: ws.statistics().bytes_received)
        state = ws.statistics()
        assert state.reading_paused
        assert state.receive_buffered <= MARKS.receive_high_water + 64
        assert state.bytes_received <= MARKS.receive_high_water
        assert grown.peak() < 2 * MIB
        grown.stop()
        if flood == "messages":
            while ws.statistics().bytes_received == state.bytes_received:
                assert await ws.receive() == ""
        else:

            async def never_a_chunk() -> None:
                async with ws.readable.message() as reader:
                    await reader.receive()
                    raise AssertionError("an empty chunk")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(never_a_chunk)
                while ws.statistics().bytes_received == state.bytes_received:
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()

    await with_raw_sender(net, sender, send, receive)


@pytest.mark.parametrize("role", ["client", "server"])
async def test_x13_of_a_flood_of_pings_only_the_latest_pong_is_kept(
    raw_pair: Any, heap: Any, role: str
) -> None:
    async with raw_pair(role, memory_pair(1024)) as (ws, peer):
        await peer.ping(bytes(125))
        assert (await peer.read_frame()).kind == "pong"
        grown = heap()
        for i in range(1500):
            await peer.ping(b"%120d" % i)
        await peer.text("behind them")
        assert await ws.receive() == "behind them"
        assert ws.statistics().send_buffered < 4096  # one that is leaving and one that waits
        assert not ws.statistics().reading_paused
        assert grown.peak() < MIB // 2
        answers = 1
        while (await peer.read_frame()).payload != b"%120d" % 1499:
            answers += 1
        assert answers < 50


@pytest.mark.slow
@pytest.mark.time_limit(200)
@pytest.mark.parametrize("scheme", ["ws"])
@pytest.mark.parametrize("sender", ["client"])
@pytest.mark.parametrize("compression", [None])  # control frames are not compressed
async def test_x13_a_million_pings_with_unread_pongs(net: Any, heap: Any, sender: str) -> None:
    async def send(raw: RawPeer) -> None:
        await raw.ping(bytes(125))
        await raw.text("warm")
        frames = ping(bytes(100), mask=raw.mask) * 1000
        for _ in range(1000):
            await raw.send(frames)
        await raw.ping(b"the last")
        await raw.text("behind them")
        while (await raw.read_frame()).payload != b"the last":
            pass
        await raw.text("done")

    async def receive(ws: WebSocketStream) -> None:
        assert await ws.receive() == "warm"
        grown = heap()
        assert await ws.receive() == "behind them"
        assert ws.statistics().send_buffered < 4096
        assert grown.peak() < 2 * MIB
        assert await ws.receive() == "done"

    await with_raw_sender(net, sender, send, receive)


EMPTY_PINGS = 60_000  # two bytes each, the cheapest flood: a read takes nearly all of them


async def flood_with_empty_pings(raw: RawPeer, count: int) -> None:
    await raw.text("warm")
    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while True:
                    await raw.stream.receive()

        tasks.start_soon(read)
        await raw.send(ping(mask=raw.mask) * count + text("behind them", mask=raw.mask))


@pytest.mark.heavy
@pytest.mark.parametrize("compression", [None])  # control frames are not compressed
async def test_x13_a_flood_of_empty_pings_does_not_hold_up_other_tasks(net: Any) -> None:
    async def receive(ws: WebSocketStream) -> None:
        assert await ws.receive() == "warm"
        turns = [time.monotonic()]
        async with anyio.create_task_group() as tasks:

            async def take_turns() -> None:
                while True:
                    await anyio.sleep(0.001)
                    turns.append(time.monotonic())

            tasks.start_soon(take_turns)
            assert await ws.receive() == "behind them"
            tasks.cancel_scope.cancel()
        longest = max(b - a for a, b in pairwise(turns))
        assert longest < (turns[-1] - turns[0]) / 3, "most of it was one step"

    await with_raw_sender(net, "server", partial(flood_with_empty_pings, count=EMPTY_PINGS), receive)


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", ["ws"])
@pytest.mark.parametrize("compression", [None])  # as above
async def test_x13_a_flood_of_empty_pings_is_handled_in_bounded_memory(net: Any, heap: Any) -> None:
    async def receive(ws: WebSocketStream) -> None:
        assert await ws.receive() == "warm"
        grown = heap()
        assert await ws.receive() == "behind them"
        assert grown.peak() < MIB // 2

    await with_raw_sender(net, "server", partial(flood_with_empty_pings, count=EMPTY_PINGS // 3), receive)


# -- X19 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "sender"), [("messages", "client"), ("one-message", "server")])
async def test_x19_to_a_peer_that_stops_reading_send_waits_at_the_mark(
    net: Any, heap: Any, sender: str, how: str
) -> None:
    read_on = anyio.Event()
    taken = 0

    async def peer(raw: RawPeer) -> None:
        nonlocal taken
        await raw.read_frame()
        await read_on.wait()
        while (frame := await raw.read_frame()).kind != "close":
            assert frame.payload == BLOCK[: len(frame.payload)]
            taken += len(frame.payload)

    async def send(ws: WebSocketStream) -> None:
        sent = 0

        async def send_messages() -> None:
            nonlocal sent
            while True:
                await ws.send(BLOCK)
                sent += len(BLOCK)

        async def send_chunks() -> None:
            nonlocal sent
            async with ws.writable.message() as writer:
                while True:
                    await writer.send(BLOCK)
                    sent = writer.bytes_sent

        await ws.send(BLOCK)
        grown = heap()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_messages if how == "messages" else send_chunks)
            await until(lambda: ws.statistics().tasks_waiting_send)
            await settled(lambda: ws.statistics().bytes_sent)
            state, in_kernel = ws.statistics(), sent
            assert state.tasks_waiting_send == 1
            assert state.send_buffered <= MARKS.send_high_water + len(BLOCK) + 64
            assert grown.peak() < MIB
            read_on.set()
            while taken < in_kernel + 4 * MIB:
                await anyio.sleep(0.01)
            assert grown.peak() < 2 * MIB
            tasks.cancel_scope.cancel()

    async def our_side(ws: WebSocketStream) -> None:
        with anyio.CancelScope():
            await send(ws)

    await with_raw_sender(net, "server" if sender == "client" else "client", peer, our_side)
    assert read_on.is_set()


@pytest.mark.parametrize("begun", ["half-a-header", "a-frame-of-1-tib", "a-fragment"])
async def test_x19_a_peer_that_stops_sending_costs_nothing(net: Any, heap: Any, begun: str) -> None:
    warm = anyio.Event()
    size = 0

    async def peer(stream: ByteStream) -> None:
        async with await net.as_server(stream) as raw:
            nonlocal size
            await raw.text("warm")
            await warm.wait()
            data = {
                "half-a-header": raw.encode(2, declared_length=1 << 40)[:4],
                "a-frame-of-1-tib": raw.encode(2, b"abc", declared_length=1 << 40),
                "a-fragment": raw.encode(1, "a", fin=False),
            }[begun]
            size = len(data)
            await raw.send(data)
            await anyio.sleep_forever()

    async with net.raw_server(peer) as url, net.connect(url, close_timeout=0) as ws:
        assert await ws.receive() == "warm"
        grown, before = heap(), ws.statistics().bytes_received
        warm.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ws.receive)
            while not size or ws.statistics().bytes_received < before + size:
                await anyio.sleep(0.001)
            worked = time.thread_time()
            await anyio.sleep(0.1)
            assert time.thread_time() - worked < 0.03
            assert grown.peak() < 64 * 1024
            assert ws.statistics().receive_buffered < 256
            tasks.cancel_scope.cancel()


# -- X20 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "sender"),
    [("idle", "client"), ("stopped-in-a-message", "server"), ("stopped-after-messages", "server")],
)
async def test_x20_a_consumer_that_stops_blocks_a_peer_that_sends_1_gib(
    net: Any, heap: Any, sender: str, how: str
) -> None:
    passed = 0

    async def send(raw: Any) -> None:
        nonlocal passed
        await raw.text("warm")
        part = raw.part(BLOCK)
        await raw.binary(BLOCK)
        await raw.binary(BLOCK)
        await raw.send(frame(2, rsv1=raw.deflating, mask=raw.mask, declared_length=1 << 30))
        while passed < 1 << 30:
            await raw.send(part)
            passed += len(BLOCK)

    async def receive(ws: WebSocketStream) -> None:
        assert await ws.receive() == "warm"
        grown = heap()
        if how != "idle":
            assert await ws.receive() == BLOCK
            assert await ws.receive() == BLOCK
        if how == "stopped-in-a-message":
            async with ws.readable.message() as reader:
                while reader.bytes_received < MIB:
                    await reader.receive()
                await stop(ws, grown)
        else:
            await stop(ws, grown)

    async def stop(ws: WebSocketStream, grown: Any) -> None:
        await until(lambda: ws.statistics().reading_paused)
        await settled(lambda: passed)
        state = ws.statistics()
        assert state.reading_paused
        assert state.receive_buffered <= MARKS.receive_high_water + 1024 + 64
        assert passed < 20 * MIB, "more than the marks and the kernel's buffers"
        assert grown.peak() < MIB + MARKS.receive_high_water

    await with_raw_sender(net, sender, send, receive)


@pytest.mark.parametrize("mark", [1, 4096, 100_000, MIB])
async def test_x20_no_more_is_taken_from_the_kernel_than_the_mark(raw_pair: Any, mark: int) -> None:
    flow = FlowControl(receive_high_water=mark, receive_low_water=0)
    async with raw_pair(flow=flow) as (ws, peer), anyio.create_task_group() as tasks:

        async def flood() -> None:
            while True:
                await peer.binary(BLOCK[:10_000])

        tasks.start_soon(flood)
        while not ws.statistics().reading_paused:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        state = ws.statistics()
        assert mark <= state.receive_buffered <= mark + 64 + 1024
        assert state.bytes_received <= max(mark + 1024, 2048)
        for _ in range(200):
            assert await ws.receive() == BLOCK[:10_000]
        tasks.cancel_scope.cancel()


async def test_x20_a_peer_of_this_library_blocks_too(net: Any, heap: Any) -> None:
    handed_over = 0
    declared = 1 << 30 if net.compression is None else None  # a frame of declared size is never compressed

    async def send(ws: WebSocketStream) -> None:
        nonlocal handed_over
        await ws.send("warm")
        try:
            async with ws.writable.message(size=declared) as writer:
                while writer.bytes_sent < 1 << 30:
                    await writer.send(BLOCK)
                    handed_over = writer.bytes_sent
        except ConnectionBroken:
            pass

    async with net.serve(send, close_timeout=0) as server, net.connect(server, close_timeout=0) as ws:
        assert await ws.receive() == "warm"
        grown = heap()
        await until(lambda: ws.statistics().reading_paused)
        await settled(lambda: handed_over)
        assert ws.statistics().reading_paused
        assert next(iter(server.connections)).statistics().tasks_waiting_send == 1
        assert MARKS.receive_high_water < handed_over < 20 * MIB
        assert grown.peak() < MIB + MARKS.receive_high_water
