"""Relay: what one connection sends to another, in both ways, whatever is cut, cancelled, slow or broken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import patch

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.endpoints import against_peer

import wsstream
from wsstream import FlowControl, WebSocketStream, pipe
from wsstream.driver import relay
from wsstream.testing import MemoryStream, RawPeer, frame, lockstep_pair, memory_pair, virtual_clock

KIB = 1024
BOTH_WAYS = pytest.mark.parametrize("way", ["direct", "general"])
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
ROLES = ["client", "server"]
PATTERN = bytes(range(251)) * 4200


class Ends:
    """A peer that sends, our two connections, and a peer that receives."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.passed = 0  # bytes that went the direct way

    async def open(self, roles: tuple[str, str], capacities: tuple[int, int], flow: FlowControl) -> None:
        streams = [memory_pair(capacity) if capacity else lockstep_pair() for capacity in capacities]
        self.incoming: MemoryStream = streams[0][0]
        options = {"flow": flow, "ping_interval": None}
        enter = self._stack.enter_async_context
        self.source, self.left = await enter(against_peer(roles[0], streams[0], **options))
        self.sink, self.right = await enter(against_peer(roles[1], streams[1], **options))

    async def frame(self, first: int, payload: bytes, declared: int | None = None) -> None:
        await self.left.send(self.encoded(first, payload, declared))

    def encoded(self, first: int, payload: bytes, declared: int | None = None) -> bytes:
        options: dict[str, Any] = {} if declared is None else {"declared_length": declared}
        made = frame(first & 15, payload, fin=first > 127, mask=self.left.mask, **options)
        return bytes([first]) + made[1:]

    async def message(self) -> tuple[int, bytes]:
        """The next message at the other end: its opcode and payload."""
        opcode, payload = 0, b""
        while True:
            part = await self.right.read_frame()
            if part.opcode > 7:
                continue
            assert (part.opcode == 0) is (opcode != 0)
            opcode = opcode or part.opcode
            payload += part.payload
            if part.fin:
                return opcode, payload


@asynccontextmanager
async def ends(
    *,
    roles: tuple[str, str] = ("server", "client"),
    capacities: tuple[int, int] = (1 << 20, 1 << 20),
    flow: FlowControl | None = None,
) -> AsyncIterator[Ends]:
    async with AsyncExitStack() as stack:
        made = Ends(stack)
        await made.open(roles, capacities, flow or FlowControl())
        with counting(made):
            yield made


@contextmanager
def counting(made: Ends) -> Iterator[None]:
    """Count the bytes that go the direct way."""
    original = relay.Relay._pass_on

    def pass_on(this: relay.Relay, data: memoryview) -> int:
        passed = original(this, data)
        made.passed += passed
        return passed

    with patch.object(relay.Relay, "_pass_on", pass_on):
        yield


def in_way(way: str) -> AbstractContextManager[Any]:
    """Forward in the general way only, or in the direct one where that can be done."""
    return patch.object(relay, "_LEAST_FRAME", relay._LEAST_FRAME if way == "direct" else 1 << 62)


def run(backend: str, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def in_no_time() -> None:
        with anyio.fail_after(20):
            await body()

    name, options = virtual_clock(backend)
    anyio.run(in_no_time, backend=name, backend_options=options)


# -- everything passes ---------------------------------------------------------------------------

SIZES = st.one_of(st.integers(0, 300), st.integers(16_000, 17_000), st.integers(50_000, 400_000))
MESSAGES = st.lists(
    st.tuples(st.sampled_from([1, 2, 2]), st.lists(SIZES, min_size=1, max_size=3)), max_size=4
)


@BACKENDS
@BOTH_WAYS
@settings(max_examples=15, deadline=None)
@given(
    messages=MESSAGES,
    roles=st.tuples(st.sampled_from(ROLES), st.sampled_from(ROLES)),
    cuts=st.lists(st.integers(1, 100_000), max_size=5),
    capacity=st.sampled_from([0, 1000, 70_000, 1 << 20]),
    pings=st.booleans(),
    frame_size=st.sampled_from([20_000, 64 * KIB, 1 << 20]),
)
def test_messages_pass_with_their_kinds_and_boundaries(
    backend: str, way: str, messages: Any, roles: Any, cuts: Any, capacity: int, pings: bool, frame_size: int
) -> None:
    async def body() -> None:
        flow = FlowControl(frame_size=frame_size)
        async with ends(roles=roles, capacities=(1 << 20, capacity), flow=flow) as made:
            expected, wire, answers = [], b"", 0
            for number, (opcode, sizes) in enumerate(messages):
                source = PATTERN if opcode == 2 else b"text " * 200_000
                parts = [source[number : number + size] for size in sizes]
                for i, part in enumerate(parts):
                    first = (opcode if i == 0 else 0) | (0x80 if i == len(parts) - 1 else 0)
                    wire += made.encoded(first, part)
                    if pings:
                        wire += made.encoded(0x89, b"%d" % answers)
                        answers += 1
                expected.append((opcode, b"".join(parts)))

            async def send() -> None:
                start = 0
                for cut in cuts:
                    await made.left.send(wire[start : start + cut])
                    await anyio.sleep(0.01)
                    start += cut
                await made.left.send(wire[start:])

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pipe, made.source, made.sink)
                tasks.start_soon(send)
                for message in expected:
                    assert await made.message() == message
                if answers:
                    last = None
                    while last is None or last.payload != b"%d" % (answers - 1):
                        last = await made.left.read_frame()
                assert made.source.statistics().bytes_received == len(wire)
                assert made.passed == 0 or way == "direct"
                tasks.cancel_scope.cancel()
            assert made.sink.state == "open"

    with in_way(way):
        run(backend, body)


@BACKENDS
@pytest.mark.parametrize("roles", [(a, b) for a in ROLES for b in ROLES])
def test_a_large_frame_goes_the_direct_way_and_no_frame_is_above_the_limit(backend: str, roles: Any) -> None:
    async def body() -> None:
        async with ends(roles=roles) as made, anyio.create_task_group() as tasks:
            tasks.start_soon(pipe, made.source, made.sink)
            tasks.start_soon(made.frame, 0x82, PATTERN)
            received, sizes = b"", []
            while len(received) < len(PATTERN):
                part = await made.right.read_frame()
                received += part.payload
                sizes.append(len(part.payload))
            assert received == PATTERN
            assert max(sizes) <= 64 * KIB
            assert made.passed > len(PATTERN) * 0.6
            tasks.cancel_scope.cancel()

    run(backend, body)


@BACKENDS
@BOTH_WAYS
def test_what_has_come_of_a_stalled_frame_is_forwarded(backend: str, way: str) -> None:
    async def body() -> None:
        async with ends() as made, anyio.create_task_group() as tasks:
            tasks.start_soon(pipe, made.source, made.sink)
            await made.frame(0x82, PATTERN[:30_000], declared=1 << 40)
            seen = b""
            while len(seen) < 30_000:
                seen += (await made.right.read_frame()).payload
            assert seen == PATTERN[:30_000]
            # and the sink answers meanwhile
            await made.right.ping(b"?")
            assert (await made.right.read_frame()).payload == b"?"
            tasks.cancel_scope.cancel()

    with in_way(way):
        run(backend, body)


# -- bounds --------------------------------------------------------------------------------------


@BACKENDS
@BOTH_WAYS
@pytest.mark.parametrize("capacity", [0, 70_000])
def test_a_sink_that_stops_stops_the_source(backend: str, way: str, capacity: int) -> None:
    async def body() -> None:
        async with ends(capacities=(0, capacity)) as made, anyio.create_task_group() as tasks:
            tasks.start_soon(pipe, made.source, made.sink)
            tasks.start_soon(made.frame, 0x82, PATTERN)
            await anyio.sleep(5)
            held = made.source.statistics().bytes_received - made.sink.statistics().bytes_sent
            assert held <= 256 * KIB + 2 * 64 * KIB + 1024
            received = b""
            while len(received) < len(PATTERN):  # it goes on where it stopped
                received += (await made.right.read_frame()).payload
            assert received == PATTERN
            tasks.cancel_scope.cancel()

    with in_way(way):
        run(backend, body)


@BACKENDS
def test_relays_that_share_a_block_do_not_change_what_another_one_has_not_sent(backend: str) -> None:
    async def body() -> None:
        async with (
            ends(capacities=(1 << 20, 0), flow=FlowControl(frame_size=20_000)) as slow,
            ends() as fast,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(pipe, slow.source, slow.sink)
            tasks.start_soon(pipe, fast.source, fast.sink)
            tasks.start_soon(slow.frame, 0x82, b"slow" * 200_000)
            await anyio.sleep(1)
            tasks.start_soon(fast.frame, 0x82, b"fast" * 200_000)
            assert await fast.message() == (2, b"fast" * 200_000)
            assert await slow.message() == (2, b"slow" * 200_000)
            tasks.cancel_scope.cancel()

    run(backend, body)


@BACKENDS
@BOTH_WAYS
def test_a_ping_behind_a_frame_is_answered_while_the_sink_stands_still(backend: str, way: str) -> None:
    async def body() -> None:
        async with ends(capacities=(1 << 20, 0)) as made, anyio.create_task_group() as tasks:
            tasks.start_soon(pipe, made.source, made.sink)
            await made.frame(0x82, PATTERN[:200_000])
            await made.left.ping(b"there?")
            with anyio.fail_after(0.05):
                assert (await made.left.read_frame()).payload == b"there?"
            tasks.cancel_scope.cancel()

    with in_way(way):
        run(backend, body)


@BACKENDS
@BOTH_WAYS
def test_messages_of_others_and_of_several_relays_come_between_the_messages(backend: str, way: str) -> None:
    async def body() -> None:
        async with ends(capacities=(1 << 20, 1000)) as one, AsyncExitStack() as stack:
            other, peer = await stack.enter_async_context(against_peer("server", memory_pair(1 << 20)))
            tasks = await stack.enter_async_context(anyio.create_task_group())
            tasks.start_soon(pipe, one.source, one.sink)
            tasks.start_soon(pipe, other, one.sink)

            async def send() -> None:
                for _ in range(3):
                    await one.frame(0x82, b"1" * 300_000)

            async def send_other() -> None:
                for _ in range(3):
                    await peer.binary(b"2" * 300_000)

            async def send_own() -> None:
                for _ in range(3):
                    await one.sink.send(b"3" * 300_000)

            for sender in (send, send_other, send_own):
                tasks.start_soon(sender)
            received = [await one.message() for _ in range(9)]
            assert sorted(received) == sorted([(2, c * 300_000) for c in (b"1", b"2", b"3")] * 3)
            tasks.cancel_scope.cancel()

    with in_way(way):
        run(backend, body)


# -- ends ----------------------------------------------------------------------------------------


async def read_to_close(peer: RawPeer) -> list[Any]:
    """The frames up to Close; an incomplete frame raises."""
    found = []
    while not found or found[-1].opcode != 8:
        found.append(await peer.read_frame())
    return found


@pytest.mark.heavy
@BACKENDS
@BOTH_WAYS
@settings(max_examples=12, deadline=None)
@given(turns=st.integers(0, 60), capacity=st.sampled_from([0, 40_000, 1 << 20]), size=st.integers(0, 300_000))
def test_a_relay_that_is_cancelled_leaves_complete_frames_and_skips_the_rest(
    backend: str, way: str, turns: int, capacity: int, size: int
) -> None:
    async def body() -> None:
        async with ends(capacities=(1 << 20, capacity)) as made, anyio.create_task_group() as tasks:
            frames: list[Any] = []

            async def read() -> None:
                try:
                    while True:
                        frames.append(await made.right.read_frame())
                except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
                    pass

            async with anyio.create_task_group() as piping:
                piping.start_soon(pipe, made.source, made.sink)
                tasks.start_soon(read)
                await made.frame(0x82, PATTERN[:size], declared=300_000)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                piping.cancel_scope.cancel()
            begun = made.sink._driver.connection.close_sent is not None
            # the source goes on with the next message
            rest = PATTERN[size:300_000]
            await made.left.send(_masked(rest, made.left.mask, size))
            await made.frame(0x82, b"next")
            message = await made.source.receive()
            if message != b"next":  # nothing of the first one had been taken
                assert message == PATTERN[:300_000]
                assert await made.source.receive() == b"next"
            await anyio.sleep(0.5)
            data = b"".join(part.payload for part in frames if part.opcode < 3)
            assert data == PATTERN[: len(data)]
            if begun:
                assert frames[-1].close_code == 1011
                assert not any(part.fin for part in frames if part.opcode < 3)
            else:
                await made.sink.send(b"mine")
                await anyio.sleep(0.5)
                assert frames[-1].payload == b"mine"
                assert len(frames) == 1 or frames[-2].fin
            tasks.cancel_scope.cancel()

    with in_way(way):
        run(backend, body)


def _masked(data: bytes, key: bytes | None, offset: int) -> bytes:
    return data if key is None else bytes(b ^ key[(offset + i) & 3] for i, b in enumerate(data))


async def until_it_ends(source: WebSocketStream, sink: WebSocketStream) -> BaseException | None:
    try:
        await pipe(source, sink)
    except wsstream.WebSocketError as error:
        return error
    return None


@BACKENDS
@BOTH_WAYS
@pytest.mark.parametrize(
    ("first", "payload", "code"),
    [(0x82, b"again", 1002), (0xC0, b"", 1002), (0x88, b"\x03\xe8", 1000), (0x83, b"", 1002)],
    ids=["a new message", "a reserved bit", "Close", "an opcode"],
)
def test_what_the_source_does_between_two_fragments_ends_the_message(
    backend: str, way: str, first: int, payload: bytes, code: int
) -> None:
    async def body() -> None:
        async with ends() as made, anyio.create_task_group() as tasks:
            await made.frame(0x02, PATTERN[:100_000])
            await made.frame(first, payload)

            async def forward() -> None:
                error = await until_it_ends(made.source, made.sink)
                assert isinstance(error, wsstream.ConnectionBroken)
                assert error.code == code

            tasks.start_soon(forward)
            frames = await read_to_close(made.right)
            assert b"".join(part.payload for part in frames[:-1]) == PATTERN[:100_000]
            assert not any(part.fin for part in frames[:-1])
            assert frames[-1].close_code == 1011
            assert (await made.left.read_frame()).close_code == code

    with in_way(way):
        run(backend, body)


@BACKENDS
@BOTH_WAYS
def test_a_source_that_is_lost_inside_a_frame_ends_the_message(backend: str, way: str) -> None:
    async def body() -> None:
        async with ends() as made, anyio.create_task_group() as tasks:
            await made.frame(0x82, PATTERN[:100_000], declared=1 << 20)
            await made.left.aclose()

            async def forward() -> None:
                error = await until_it_ends(made.source, made.sink)
                assert isinstance(error, wsstream.ConnectionBroken)
                assert error.code == 1006

            tasks.start_soon(forward)
            frames = await read_to_close(made.right)
            assert b"".join(part.payload for part in frames[:-1]) == PATTERN[:100_000]
            assert frames[-1].close_code == 1011

    with in_way(way):
        run(backend, body)


@BACKENDS
@BOTH_WAYS
@pytest.mark.parametrize("stalled", [False, True])
def test_a_sink_that_closes_inside_a_frame_ends_the_relay(backend: str, way: str, stalled: bool) -> None:
    async def body() -> None:
        capacities = (0 if stalled else 1 << 20, 0 if stalled else 1 << 20)
        async with ends(capacities=capacities) as made, anyio.create_task_group() as tasks:
            tasks.start_soon(made.frame, 0x82, PATTERN[:300_000], 1 << 40)
            ended = anyio.Event()

            async def forward() -> None:
                error = await until_it_ends(made.source, made.sink)
                assert isinstance(error, wsstream.ConnectionBroken)
                ended.set()

            tasks.start_soon(forward)
            await anyio.sleep(1)
            await made.right.close(4000)
            await made.right.aclose()
            await anyio.sleep(1)
            if not stalled:
                assert not ended.is_set()
                await made.left.send(b"more")
            with anyio.fail_after(3):
                await ended.wait()
            assert made.source.state == "open"
            tasks.cancel_scope.cancel()

    with in_way(way):
        run(backend, body)


@BACKENDS
@BOTH_WAYS
def test_nobody_else_receives_from_the_source_of_a_relay(backend: str, way: str) -> None:
    async def body() -> None:
        async with ends(capacities=(1 << 20, 0)) as made, anyio.create_task_group() as tasks:
            tasks.start_soon(pipe, made.source, made.sink)
            await made.frame(0x82, PATTERN[:100_000])
            await made.frame(0x81, b"text")
            await anyio.sleep(1)
            with pytest.raises(anyio.BusyResourceError):
                await made.source.receive()
            with pytest.raises(anyio.BusyResourceError):
                await pipe(made.source, made.sink)
            assert [await made.message() for _ in range(2)] == [(2, PATTERN[:100_000]), (1, b"text")]
            tasks.cancel_scope.cancel()

    with in_way(way):
        run(backend, body)


@BACKENDS
@BOTH_WAYS
def test_the_time_that_a_message_may_take_counts_on(backend: str, way: str) -> None:
    async def body() -> None:
        options = {"receive_rate": wsstream.ReceiveRate(at_least=50_000), "ping_interval": None}
        async with (
            against_peer("server", memory_pair(1 << 20), **options) as (source, left),
            against_peer("client", memory_pair(1 << 20)) as (sink, _),
            anyio.create_task_group() as tasks,
        ):

            async def forward() -> None:
                error = await until_it_ends(source, sink)
                assert isinstance(error, wsstream.ConnectionBroken)
                assert isinstance(error.__cause__, wsstream.ReceiveTimeout)

            tasks.start_soon(forward)
            await left.binary(PATTERN[:200_000], declared_length=1 << 40)
            await anyio.sleep(8)  # 5 seconds, and 4 for what has come
            assert source.state == "open"
            await anyio.sleep(2)
            assert source.state != "open"

    with in_way(way):
        run(backend, body)
