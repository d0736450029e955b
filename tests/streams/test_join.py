"""join(): both ways, each end passed on as what it was, and neither stream left open."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from wsstream import ClosedLocally, ConnectionBroken, FlowControl, WebSocketError, WebSocketStream, join
from wsstream.testing import MemoryStream, connected_pair, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Joined:
    """`near` ... [a, b] ... `far`: the ends of two connections, whose other ends are joined."""

    def __init__(self, near: MemoryStream, a: ByteStream, b: ByteStream, far: ByteStream) -> None:
        self.near, self.a, self.b, self.far = near, a, b, far
        self.ws: WebSocketStream | None = None  # under `far`,
        self.server: WebSocketStream | None = None  # and under what is joined
        self.result: list[Exception | None] = []
        self.raised: list[Exception] = []
        self.scope = anyio.CancelScope()

    async def run(self) -> None:
        try:
            with self.scope:
                self.result.append(await join(self.a, self.b))
        except Exception as error:
            self.raised.append(error)


@asynccontextmanager
async def joined(kind: str, max_buffer: int = 1000, *, swapped: bool = False) -> AsyncIterator[Joined]:
    """With `far` in memory, or at the other end of a WebSocket with or without an end mark."""
    near, a = memory_pair(max_buffer)
    flow = {"flow": FlowControl(receive_high_water=2000, send_high_water=1000, frame_size=100)}
    pair = connected_pair(client_options=flow, server_options=flow, streams=memory_pair(max_buffer))
    async with near, pair as (client, server):
        if kind == "memory":
            b, far = memory_pair(max_buffer)
        else:
            mark = b"" if kind == "marked" else None
            b, far = server.byte_stream(eof=mark), client.byte_stream(eof=mark)
        both = Joined(near, b, a, far) if swapped else Joined(near, a, b, far)
        both.ws, both.server = client, server
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(both.run)
            yield both


async def read_all(stream: ByteStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def is_closed(stream: ByteStream) -> bool:
    try:
        await stream.send(b"x")
    except (anyio.ClosedResourceError, anyio.BrokenResourceError):
        return True
    return False


HALF_CLOSING = pytest.mark.parametrize("kind", ["memory", "marked"])
ALL = pytest.mark.parametrize("kind", ["memory", "marked", "unmarked"])
EITHER_WAY = pytest.mark.parametrize("swapped", [False, True])


@HALF_CLOSING
@EITHER_WAY
async def test_each_direction_ends_by_itself(kind: str, swapped: bool) -> None:
    for first, second in (("near", "far"), ("far", "near")):
        async with joined(kind, swapped=swapped) as both:
            one, other = getattr(both, first), getattr(both, second)
            await one.send(b"a question")
            await one.send_eof()
            assert await read_all(other) == b"a question"
            assert both.result == []
            await other.send(b"the answer")
            await other.send_eof()
            assert await read_all(one) == b"the answer"
        assert both.result == [None]
        assert await is_closed(both.a)
        assert await is_closed(both.b)
        if kind == "marked":
            assert both.ws.close_info == (1000, "", True)


@pytest.mark.heavy_after_first
@HALF_CLOSING
async def test_all_bytes_pass_both_ways_at_once(kind: str) -> None:
    there, back = bytes(range(256)) * 1000, bytes(reversed(range(256))) * 1000
    got: dict[str, bytes] = {}

    async def talk(name: str, stream: ByteStream, data: bytes) -> None:
        async def send() -> None:
            for start in range(0, len(data), 7001):
                await stream.send(data[start : start + 7001])
            await stream.send_eof()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            got[name] = await read_all(stream)

    async with joined(kind) as both, anyio.create_task_group() as tasks:
        tasks.start_soon(talk, "near", both.near, there)
        tasks.start_soon(talk, "far", both.far, back)
    assert got == {"near": back, "far": there}
    assert both.result == [None]


@ALL
async def test_the_slower_side_sets_the_pace(kind: str) -> None:
    async with joined(kind) as both:
        sent = 0
        with anyio.move_on_after(5):
            while True:
                await both.near.send(bytes(100))
                sent += 100
        assert sent < 10_000
        await both.near.send_eof()
        assert len(await read_all(both.far)) >= sent
        both.scope.cancel()


@ALL
@EITHER_WAY
async def test_a_reset_of_a_stream_resets_the_other(kind: str, swapped: bool) -> None:
    async with joined(kind, swapped=swapped) as both:
        await both.near.send(b"the beginning")
        assert await both.far.receive() == b"the beginning"
        both.near.reset()
        with pytest.raises(anyio.BrokenResourceError):
            await both.far.receive()
        if kind != "memory":
            assert (both.ws.close_info.code, both.ws.close_info.reason) == (1011, "the byte stream was reset")
    [error] = both.result
    assert type(error) is anyio.BrokenResourceError
    assert await is_closed(both.a)
    assert await is_closed(both.b)


@HALF_CLOSING
async def test_a_reset_behind_the_end_of_one_direction_is_passed_on_too(kind: str) -> None:
    async with joined(kind) as both:
        await both.near.send_eof()
        assert await read_all(both.far) == b""
        both.near.reset()
        await both.far.send(b"an answer that nobody takes")
        with anyio.fail_after(1):
            while not both.result:
                await anyio.sleep(0.01)
        with pytest.raises(anyio.BrokenResourceError):
            await both.far.send(b"more of it")
            await both.far.receive()
        if kind == "marked":
            assert both.ws.close_info.code == 1011
    assert type(both.result[0]) is anyio.BrokenResourceError


@pytest.mark.parametrize("kind", ["marked", "unmarked"])
@pytest.mark.parametrize("how", ["abort", "close", "reset", "crash"])
async def test_a_broken_websocket_resets_the_other_stream(kind: str, how: str) -> None:
    async with joined(kind) as both:
        await both.far.send(b"the beginning")
        assert await both.near.receive() == b"the beginning"
        match how:
            case "abort":
                both.ws.abort()
            case "close":
                await both.ws.aclose(4000)
            case "reset":
                both.far.reset()
            case "crash":
                with pytest.raises(ZeroDivisionError):
                    async with both.far:
                        1 / 0  # noqa: B018
        with pytest.raises(anyio.BrokenResourceError):
            await both.near.receive()
    [error] = both.result
    assert isinstance(error, ConnectionBroken)
    assert error.code == {"abort": 1006, "close": 4000}.get(how, 1011)


@pytest.mark.parametrize("kind", ["marked", "unmarked"])
async def test_a_text_message_is_no_part_of_a_byte_stream(kind: str) -> None:
    async with joined(kind) as both:
        await both.ws.send("text")
        with pytest.raises(anyio.BrokenResourceError):
            await both.near.receive()
        assert (await both.ws.wait_closed()).code == 1003
    [error] = both.result
    assert type(error) is WebSocketError
    assert error.code == 1003


async def test_without_a_mark_the_end_of_tcp_closes_the_websocket_in_good_order() -> None:
    async with joined("unmarked") as both:
        await both.near.send(b"all of it")
        await both.near.send_eof()
        assert await read_all(both.far) == b"all of it"
        assert both.ws.close_info == (1000, "", True)
        with pytest.raises(anyio.BrokenResourceError):  # the other direction did not end, it was ended
            await both.near.receive()
    assert both.result == [None]


async def test_without_a_mark_the_end_of_the_websocket_ends_both_directions() -> None:
    async with joined("unmarked") as both:
        await both.far.send(b"all of it")
        await both.far.aclose()
        assert await read_all(both.near) == b"all of it"
        with anyio.fail_after(1):
            while not both.result:
                await anyio.sleep(0.01)
    assert both.result == [None]
    assert await is_closed(both.a)


@ALL
async def test_if_cancelled_both_are_reset(kind: str) -> None:
    async with joined(kind) as both:
        await both.near.send(b"the beginning")
        assert await both.far.receive() == b"the beginning"
        both.scope.cancel()
        for stream in (both.near, both.far):
            with pytest.raises(anyio.BrokenResourceError):
                await stream.receive()
    assert both.result == []


@ALL
async def test_a_stream_that_was_closed_here_is_a_mistake_and_resets_both(kind: str) -> None:
    for closed in ("a", "b"):
        async with joined(kind) as both:
            await anyio.sleep(1)
            await getattr(both, closed).aclose()
        [error] = both.raised
        assert isinstance(error, anyio.ClosedResourceError)
        assert await is_closed(both.a)
        assert await is_closed(both.b)


async def test_a_websocket_that_is_closed_here_meanwhile_is_said_to_be() -> None:
    async with joined("marked") as both:
        await anyio.sleep(1)
        both.server.begin_close(1001)  # as a server does that shuts down
        with pytest.raises(anyio.BrokenResourceError):
            await both.near.receive()
    [error] = both.raised
    assert isinstance(error, ClosedLocally)


async def test_only_byte_streams_can_be_joined() -> None:
    async with connected_pair() as (client, server):
        with pytest.raises(TypeError, match=r"such as ws\.byte_stream\(\), not a WebSocketStream"):
            await join(client, server.byte_stream())  # type: ignore[arg-type]
        assert client.state == server.state == "open"


# -- streams that cannot close one direction alone -----------------------------------------------


@pytest.fixture
def tls_pair(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> Callable[[], object]:
    async def tls_pair() -> tuple[TLSStream, TLSStream]:
        ours, theirs = memory_pair()
        ends: list[TLSStream] = []

        async def serve() -> None:
            ends.append(await TLSStream.wrap(ours, server_side=True, ssl_context=server_tls))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            client = await TLSStream.wrap(theirs, hostname="localhost", ssl_context=client_tls)
        return ends[0], client

    return tls_pair


async def test_tls_is_closed_in_good_order_where_its_direction_ends(tls_pair) -> None:
    near, a = memory_pair()
    b, far = await tls_pair()
    result: list[Exception | None] = []

    async def run() -> None:
        result.append(await join(a, b))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await near.send(b"all of it")
        await near.send_eof()
        assert await read_all(far) == b"all of it"
        await far.aclose()
        with pytest.raises(anyio.BrokenResourceError):
            await near.receive()
    assert result == [None]


async def test_a_tls_peer_that_ended_before_is_no_reason_for_a_reset(tls_pair) -> None:
    near, a = memory_pair()
    b, far = await tls_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(join, a, b)
        await far.send(b"all of it")
        tasks.start_soon(far.aclose)  # which waits for the other side to close
        assert await read_all(near) == b"all of it"
        await near.send_eof()


async def test_tls_is_reset_without_a_farewell(tls_pair) -> None:
    near, a = memory_pair()
    b, far = await tls_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(join, a, b)
        await near.send(b"the beginning")
        assert await far.receive() == b"the beginning"
        near.reset()
        with pytest.raises(anyio.BrokenResourceError):
            await far.receive()


async def test_a_peer_that_never_answers_the_end_of_tls_does_not_hold_up_for_ever(tls_pair) -> None:
    near, a = memory_pair()
    b, _far = await tls_pair()
    await near.send_eof()
    start = anyio.current_time()
    assert await join(a, b) is None
    assert anyio.current_time() - start == pytest.approx(10)


class Failing(MemoryStream):
    async def aclose(self) -> None:
        await super().aclose()
        raise anyio.BrokenResourceError


async def test_what_breaks_while_it_is_closed_was_complete() -> None:
    (near, a), (b, far) = memory_pair(), memory_pair()
    a.__class__ = Failing
    await near.send_eof()
    await far.send_eof()
    assert await join(a, b) is None
    assert await is_closed(b)
