"""Slow and awkward networks, in virtual time."""

from __future__ import annotations

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.abc import ByteStream, SocketAttribute

from wsstream.testing import DelayStream, RateStream, SplitStream, StallStream, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def drain(stream: ByteStream, max_bytes: int = 65536) -> list[bytes]:
    pieces = []
    try:
        while True:
            pieces.append(await stream.receive(max_bytes))
    except anyio.EndOfStream:
        return pieces


WRAPPERS = [
    pytest.param(wrapper, id=wrapper(memory_pair()[0]).__class__.__name__)
    for wrapper in (
        lambda stream: SplitStream(stream, 3),
        lambda stream: DelayStream(stream, receive=1, send=1),
        lambda stream: StallStream(stream, receive=False, send=False),
        lambda stream: RateStream(stream, receive=100, send=100),
        RateStream,
    )
]


@pytest.mark.parametrize("wrap", WRAPPERS)
async def test_a_wrapped_stream_carries_the_same_bytes_and_ends_the_same_way(wrap) -> None:
    inner, far = memory_pair()
    near = wrap(inner)
    data = bytes(range(256))
    await near.send(data)
    await near.send(b"")
    await near.send_eof()
    assert b"".join(await drain(far)) == data
    await far.send(data)
    await far.send_eof()
    assert b"".join(await drain(near)) == data
    await near.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await near.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await near.send(b"x")


@pytest.mark.parametrize("wrap", WRAPPERS)
async def test_a_second_task_in_one_direction_is_refused(wrap) -> None:
    near = wrap(memory_pair(1)[0])
    async with anyio.create_task_group() as group:
        group.start_soon(near.receive)
        group.start_soon(near.send, bytes(1000))
        await wait_all_tasks_blocked()
        for call in (near.receive, lambda: near.send(b"y"), near.send_eof):
            with pytest.raises(anyio.BusyResourceError):
                await call()
        group.cancel_scope.cancel()


async def test_a_stream_is_busy_also_while_a_call_is_held_up_by_the_wrapper() -> None:
    inner, _ = memory_pair()
    near = RateStream(inner, send=10)
    async with anyio.create_task_group() as group:
        group.start_soon(near.send, bytes(1000))
        await anyio.sleep(5.01)
        assert inner.statistics().tasks_waiting_send == 0
        with pytest.raises(anyio.BusyResourceError):
            await near.send_eof()
        group.cancel_scope.cancel()


async def test_extra_attributes_are_those_of_the_wrapped_stream() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener:
        stream = await anyio.connect_tcp("127.0.0.1", listener.extra(SocketAttribute.local_port))
        async with SplitStream(stream) as wrapped:
            assert wrapped.extra(SocketAttribute.raw_socket) is stream.extra(SocketAttribute.raw_socket)


async def test_split_gives_byte_by_byte() -> None:
    inner, far = memory_pair()
    await far.send(b"abc")
    await far.aclose()
    assert await drain(SplitStream(inner)) == [b"a", b"b", b"c"]


async def test_split_gives_pieces_of_a_size_and_not_more_than_asked_for() -> None:
    inner, far = memory_pair()
    await far.send(b"abcdefgh")
    await far.aclose()
    near = SplitStream(inner, 3)
    assert await near.receive(2) == b"ab"
    assert await drain(near) == [b"cde", b"fgh"]


async def test_split_at_offsets() -> None:
    inner, far = memory_pair()
    await far.send(b"0123456789")
    await far.aclose()
    near = SplitStream(inner, at=[7, 0, 2, 3, 3, 50])
    assert await near.receive(1) == b"0"
    assert await drain(near) == [b"1", b"2", b"3456", b"789"]


async def test_split_at_no_offset_splits_nothing() -> None:
    inner, far = memory_pair()
    await far.send(b"0123456789")
    assert await SplitStream(inner, at=[]).receive() == b"0123456789"


@pytest.mark.parametrize("options", [{"size": 0}, {"at": [-1]}])
async def test_split_checks_its_arguments(options) -> None:
    with pytest.raises(
        ValueError, match=r"size must be at least 1, got 0|an offset must not be negative, got -1"
    ):
        SplitStream(memory_pair()[0], **options)


async def test_delay_takes_its_time_in_each_direction() -> None:
    inner, far = memory_pair()
    near = DelayStream(inner, receive=2, send=30)
    start = anyio.current_time()
    await near.send(b"x")
    assert anyio.current_time() - start == 30
    await near.send_eof()
    assert anyio.current_time() - start == 60
    await far.send(b"y")
    assert await near.receive() == b"y"
    assert anyio.current_time() - start == 62


async def test_a_delayed_call_that_was_cancelled_did_nothing() -> None:
    inner, far = memory_pair()
    near = DelayStream(inner, receive=2, send=2)
    await far.send(b"kept")
    for call in (near.receive, lambda: near.send(b"x")):
        with anyio.move_on_after(1) as scope:
            await call()
        assert scope.cancelled_caught
    assert inner.statistics().bytes_sent == 0
    assert await near.receive() == b"kept"


async def test_a_stalled_stream_gives_and_takes_nothing_until_it_is_resumed() -> None:
    inner, far = memory_pair()
    near = StallStream(inner)
    received = []

    async def receive() -> None:
        received.append(await near.receive())

    await far.send(b"in")
    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        group.start_soon(near.send, b"out")
        await anyio.sleep(1000)
        assert received == []
        assert inner.statistics().bytes_sent == inner.statistics().bytes_received == 0
        near.resume(receive=False)
        await wait_all_tasks_blocked()
        assert await far.receive() == b"out"
        assert received == []
        near.resume(send=False)
    assert received == [b"in"]


async def test_a_stall_holds_back_what_arrives_for_a_receive_that_waited_already() -> None:
    inner, far = memory_pair()
    near = StallStream(inner, receive=False)
    async with anyio.create_task_group() as group:
        group.start_soon(near.receive)
        await wait_all_tasks_blocked()
        near.stall(send=False)
        await far.send(b"held")
        await wait_all_tasks_blocked()
        assert inner.statistics().bytes_received == 4
        group.cancel_scope.cancel()
    with anyio.move_on_after(10) as scope:
        await near.receive()
    assert scope.cancelled_caught
    near.resume()
    assert await near.receive(3) == b"hel"
    assert await near.receive() == b"d"


async def test_a_stall_of_one_direction_leaves_the_other() -> None:
    inner, far = memory_pair()
    near = StallStream(inner, receive=False, send=False)
    near.stall(receive=False)
    await far.send(b"x")
    assert await near.receive() == b"x"
    with anyio.move_on_after(10) as scope:
        await near.send_eof()
    assert scope.cancelled_caught
    near.resume()
    near.stall(send=False)
    await near.send(b"y")
    assert await far.receive() == b"y"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_stall_holds_back_the_end_too(reset: bool) -> None:
    inner, far = memory_pair()
    near = StallStream(inner, receive=False)
    ended = anyio.Event()

    async def receive() -> None:
        with pytest.raises(anyio.BrokenResourceError if reset else anyio.EndOfStream):
            await near.receive()
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await wait_all_tasks_blocked()
        near.stall()
        far.reset() if reset else await far.aclose()
        await anyio.sleep(1000)
        assert not ended.is_set()
        near.resume()


@pytest.mark.parametrize("arrived", [False, True])
async def test_closing_a_stalled_stream_wakes_its_tasks(arrived: bool) -> None:
    inner, far = memory_pair()
    near = StallStream(inner, receive=False)

    async def expect_closed(call, *args) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await call(*args)

    async with anyio.create_task_group() as group:
        group.start_soon(expect_closed, near.receive)
        group.start_soon(expect_closed, near.send, b"x")
        await wait_all_tasks_blocked()
        near.stall()
        if arrived:
            await far.send(b"held")
        await wait_all_tasks_blocked()
        await near.aclose()


async def test_a_rate_limits_receiving() -> None:
    inner, far = memory_pair()
    near = RateStream(inner, receive=1000)
    await far.send(bytes(10_000))
    start = anyio.current_time()
    received = 0
    while received < 10_000:
        received += len(await near.receive())
        assert received <= (anyio.current_time() - start) * 1000 + 51
    assert anyio.current_time() - start == pytest.approx(9.95)


async def test_a_rate_limits_sending_while_it_goes_on() -> None:
    inner, far = memory_pair()
    near = RateStream(inner, send=1000)
    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(near.send, bytes(10_000))
        await anyio.sleep(5.01)
        assert 5000 <= len(await far.receive()) <= 5100
    assert anyio.current_time() - start == pytest.approx(9.95)


async def test_a_rate_does_not_save_up_while_nothing_passes() -> None:
    inner, far = memory_pair()
    near = RateStream(inner, receive=1000)
    await anyio.sleep(3600)
    await far.send(bytes(1000))
    start = anyio.current_time()
    received = 0
    while received < 1000:
        received += len(await near.receive())
    assert anyio.current_time() - start == pytest.approx(0.95)


async def test_a_rate_below_a_byte_per_second_passes_single_bytes() -> None:
    inner, far = memory_pair()
    near = RateStream(inner, receive=0.1)
    await far.send(b"abc")
    start = anyio.current_time()
    assert [await near.receive() for _ in range(3)] == [b"a", b"b", b"c"]
    assert anyio.current_time() - start == pytest.approx(20)


async def test_a_rate_is_positive() -> None:
    with pytest.raises(ValueError, match="the rate must be greater than 0, got"):
        RateStream(memory_pair()[0], send=0)


async def test_wrappers_nest() -> None:
    inner, far = memory_pair()
    near = SplitStream(DelayStream(RateStream(inner, receive=20), receive=1), 2)
    await far.send(b"abcdef")
    await far.aclose()
    start = anyio.current_time()
    assert await drain(near) == [b"a", b"b", b"c", b"d", b"e", b"f"]
    assert anyio.current_time() - start == 7
