"""Memory pairs behave as the two ends of a TCP connection."""

from __future__ import annotations

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from wsstream.testing import MemoryStream, lockstep_pair, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


PAIRS = pytest.mark.parametrize("make", [memory_pair, lockstep_pair])


async def receive_exactly(stream: MemoryStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive(count - len(data))
    return data


@PAIRS
async def test_bytes_pass_in_both_directions_at_once(make) -> None:
    a, b = make()
    there, back = bytes(range(256)) * 1000, bytes(range(255)) * 1000
    received = {}

    async def read(stream: MemoryStream, count: int) -> None:
        received[stream] = await receive_exactly(stream, count)

    async with anyio.create_task_group() as group:
        group.start_soon(a.send, there)
        group.start_soon(b.send, back)
        group.start_soon(read, a, len(back))
        group.start_soon(read, b, len(there))
    assert received == {a: back, b: there}


async def test_send_waits_when_the_buffer_is_full_and_a_big_item_flows_through_in_pieces() -> None:
    a, b = memory_pair(10)
    async with anyio.create_task_group() as group:
        group.start_soon(a.send, bytes(range(25)))
        await wait_all_tasks_blocked()
        assert a.statistics().bytes_sent == 10
        assert a.statistics().send_buffered == b.statistics().receive_buffered == 10
        assert a.statistics().tasks_waiting_send == 1
        assert await b.receive(4) == bytes(range(4))
        assert a.statistics().bytes_sent == 14
        assert await b.receive() == bytes(range(4, 14))
        assert await b.receive() == bytes(range(14, 24))
        assert await b.receive() == bytes([24])
    assert a.statistics().tasks_waiting_send == 0
    assert (a.statistics().bytes_sent, b.statistics().bytes_received) == (25, 25)


async def test_send_returns_at_once_while_there_is_room() -> None:
    a, b = memory_pair(10)
    await a.send(b"12345")
    await a.send(b"67890")
    assert await b.receive() == b"1234567890"


async def test_a_pair_needs_room_for_a_byte() -> None:
    with pytest.raises(ValueError, match="lockstep_pair"):
        memory_pair(0)


async def test_lockstep_send_returns_only_when_every_byte_was_received() -> None:
    a, b = lockstep_pair()
    sent = anyio.Event()

    async def send() -> None:
        await a.send(b"abc")
        sent.set()

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await wait_all_tasks_blocked()
        assert a.statistics().bytes_sent == 0
        assert await b.receive(2) == b"ab"
        await wait_all_tasks_blocked()
        assert not sent.is_set()
        assert a.statistics().bytes_sent == 2
        assert await b.receive(2) == b"c"
        await sent.wait()


@PAIRS
async def test_an_empty_item_is_sent_at_once(make) -> None:
    a, b = make()
    await a.send(b"")
    assert a.statistics().bytes_sent == 0
    await b.aclose()
    with pytest.raises(anyio.BrokenResourceError):
        await a.send(b"")


@PAIRS
async def test_a_cancelled_receive_loses_nothing(make) -> None:
    a, b = make()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(b.receive)
            await wait_all_tasks_blocked()
            assert b.statistics().tasks_waiting_receive == 1
            scope.cancel()
    assert b.statistics().tasks_waiting_receive == 0
    async with anyio.create_task_group() as group:
        group.start_soon(a.send, b"kept")
        assert await receive_exactly(b, 4) == b"kept"


async def test_a_receive_cancelled_after_it_was_woken_loses_nothing() -> None:
    a, b = memory_pair()
    received = []

    async def receive() -> None:
        with scope:
            received.append(await b.receive())

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await wait_all_tasks_blocked()
        await a.send(b"kept")
        scope.cancel()  # the receiver was woken and has not run yet; whether it still gets the bytes ...
    if not received:  # ... or is cancelled is up to the backend
        received.append(await b.receive())
    assert received == [b"kept"]


async def test_a_receive_in_a_cancelled_scope_takes_nothing() -> None:
    a, b = memory_pair()
    await a.send(b"kept")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await b.receive()
    assert scope.cancelled_caught
    assert await b.receive() == b"kept"


@pytest.mark.parametrize(("make", "taken", "left"), [(lambda: memory_pair(4), 2, 6), (lockstep_pair, 2, 2)])
async def test_a_cancelled_send_leaves_a_prefix_and_says_how_long_it_is(make, taken: int, left: int) -> None:
    a, b = make()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(a.send, b"0123456789")
            await wait_all_tasks_blocked()
            await b.receive(taken)
            scope.cancel()
    assert a.statistics().bytes_sent == left
    await a.send_eof()
    rest = b""
    with pytest.raises(anyio.EndOfStream):
        while True:
            rest += await b.receive()
    assert rest == b"0123456789"[taken:left]


async def test_a_send_in_a_cancelled_scope_leaves_nothing() -> None:
    a, b = memory_pair()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await a.send(b"never")
    assert scope.cancelled_caught
    assert b.statistics().receive_buffered == 0


async def test_a_mutable_item_is_free_after_a_cancelled_send() -> None:
    a, _ = memory_pair(2)
    item = bytearray(b"abcdef")
    async with anyio.create_task_group() as group:
        group.start_soon(a.send, item)
        await wait_all_tasks_blocked()
        with pytest.raises(BufferError):
            item.clear()
        group.cancel_scope.cancel()
    item.clear()  # raises BufferError while somebody holds it


async def test_send_eof_ends_one_direction_only() -> None:
    a, b = memory_pair()
    await a.send(b"last")
    await a.send_eof()
    await a.send_eof()
    assert await b.receive() == b"last"
    for _ in range(2):
        with pytest.raises(anyio.EndOfStream):
            await b.receive()
    await b.send(b"still open")
    assert await a.receive() == b"still open"
    with pytest.raises(anyio.ClosedResourceError):
        await a.send(b"more")


async def test_send_eof_wakes_the_receiver() -> None:
    a, b = memory_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(expect, anyio.EndOfStream, b.receive)
        await wait_all_tasks_blocked()
        await a.send_eof()


async def expect(error: type[Exception], call, *args: object) -> None:
    with pytest.raises(error):
        await call(*args)


@PAIRS
async def test_closing_wakes_the_tasks_of_both_ends(make) -> None:
    a, b = make()
    async with anyio.create_task_group() as group:
        group.start_soon(expect, anyio.ClosedResourceError, a.receive)
        group.start_soon(expect, anyio.ClosedResourceError, a.send, bytes(100_000))
        await wait_all_tasks_blocked()
        await a.aclose()
    a, b = make()
    async with anyio.create_task_group() as group:
        group.start_soon(expect, anyio.EndOfStream, b.receive)
        await wait_all_tasks_blocked()
        await a.aclose()
    a, b = make()
    async with anyio.create_task_group() as group:
        group.start_soon(expect, anyio.BrokenResourceError, b.send, bytes(100_000))
        await wait_all_tasks_blocked()
        await a.aclose()


async def test_what_was_sent_before_closing_can_still_be_received() -> None:
    a, b = memory_pair()
    await a.send(b"last")
    await a.aclose()
    assert await b.receive() == b"last"
    with pytest.raises(anyio.EndOfStream):
        await b.receive()
    with pytest.raises(anyio.BrokenResourceError):
        await b.send(b"into the void")


async def test_closing_takes_back_what_a_waiting_send_had_not_put_in_the_buffer() -> None:
    for _ in range(20):  # tasks that wake together run in any order on Trio
        a, b = memory_pair(4)
        async with anyio.create_task_group() as group:
            group.start_soon(expect, anyio.ClosedResourceError, a.send, b"0123456789")
            await wait_all_tasks_blocked()
            a.reset()
            assert await b.receive() == b"0123"
            with pytest.raises(anyio.BrokenResourceError):
                await b.receive()
        assert a.statistics().bytes_sent == 4


async def test_a_send_that_was_received_whole_succeeds_although_the_receiver_then_closed() -> None:
    a, b = lockstep_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(a.send, b"abc")
        await wait_all_tasks_blocked()
        assert await b.receive() == b"abc"
        await b.aclose()


async def test_calls_on_a_closed_end_raise_and_closing_again_does_nothing() -> None:
    a, b = memory_pair()
    await b.send(b"unread")
    await a.aclose()
    await a.aclose()
    a.reset()
    for call in (a.receive, lambda: a.send(b"x"), a.send_eof):
        with pytest.raises(anyio.ClosedResourceError):
            await call()
    with pytest.raises(anyio.EndOfStream):  # reset() after aclose() did nothing
        await b.receive()
    assert a.statistics().receive_buffered == 0


async def test_a_cancelled_aclose_closes_all_the_same() -> None:
    a, b = memory_pair()
    await anyio.aclose_forcefully(a)
    with pytest.raises(anyio.EndOfStream):
        await b.receive()


async def test_after_a_reset_the_other_end_reads_what_arrived_and_then_breaks() -> None:
    a, b = memory_pair()
    await a.send(b"arrived")
    a.reset()
    assert await b.receive() == b"arrived"
    with pytest.raises(anyio.BrokenResourceError):
        await b.receive()
    with pytest.raises(anyio.BrokenResourceError):
        await b.send(b"x")
    with pytest.raises(anyio.ClosedResourceError):
        await a.receive()


async def test_a_reset_wakes_the_other_end() -> None:
    a, b = memory_pair(1)
    async with anyio.create_task_group() as group:
        group.start_soon(expect, anyio.BrokenResourceError, b.receive)
        group.start_soon(expect, anyio.BrokenResourceError, b.send, b"too long")
        await wait_all_tasks_blocked()
        a.reset()


async def test_a_second_task_in_one_direction_is_refused() -> None:
    a, _ = lockstep_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(a.receive)
        group.start_soon(a.send, b"x")
        await wait_all_tasks_blocked()
        for call in (a.receive, lambda: a.send(b"y"), a.send_eof):
            with pytest.raises(anyio.BusyResourceError):
                await call()
        group.cancel_scope.cancel()


async def test_receive_asks_for_at_least_one_byte() -> None:
    a, _ = memory_pair()
    with pytest.raises(ValueError, match="at least 1"):
        await a.receive(0)
