"""Connections that end in the wrong place."""

from __future__ import annotations

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.abc import ByteStream, SocketAttribute
from kit.versions import TELLS_CAUSES

from wsstream.testing import (
    CutStream,
    DelayStream,
    StallStream,
    lockstep_pair,
    memory_pair,
    reset_stream,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

# Older ones raise it "from None" on asyncio.


async def test_receiving_ends_after_the_given_bytes_as_by_a_fin() -> None:
    inner, far = memory_pair()
    near = CutStream(inner, after_receive=5)
    await far.send(b"0123456789")
    assert await near.receive(3) == b"012"
    assert await near.receive() == b"34"
    for _ in range(2):
        with pytest.raises(anyio.EndOfStream):
            await near.receive()
    await near.send(b"the other direction goes on")
    assert await far.receive() == b"the other direction goes on"
    await near.send_eof()
    with pytest.raises(anyio.EndOfStream):
        await far.receive()


async def test_sending_ends_after_the_given_bytes_as_by_a_fin() -> None:
    inner, far = memory_pair()
    near = CutStream(inner, after_send=5)
    await near.send(b"012")
    with pytest.raises(anyio.BrokenResourceError):
        await near.send(b"3456")
    assert await far.receive() == b"01234"
    with pytest.raises(anyio.EndOfStream):
        await far.receive()
    with pytest.raises(anyio.BrokenResourceError):
        await near.send(b"x")
    await far.send(b"the other direction goes on")
    assert await near.receive() == b"the other direction goes on"


async def test_a_send_that_ends_at_the_limit_succeeds_and_the_end_is_seen_at_once() -> None:
    inner, far = memory_pair()
    near = CutStream(inner, after_send=3)
    await near.send(b"")
    await near.send(b"012")
    assert await far.receive() == b"012"
    with pytest.raises(anyio.EndOfStream):
        await far.receive()
    await near.send_eof()


async def test_without_limits_nothing_is_cut() -> None:
    inner, far = memory_pair()
    near = CutStream(inner)
    await near.send(b"there")
    await far.send(b"back")
    assert (await far.receive(), await near.receive()) == (b"there", b"back")
    await near.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await near.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await near.send(b"x")


@pytest.mark.parametrize("limit", ["after_receive", "after_send"])
async def test_a_limit_of_zero_cuts_the_first_call(limit: str) -> None:
    inner, far = memory_pair()
    await far.send(b"x")
    near = CutStream(inner, **{limit: 0})
    if limit == "after_receive":
        with pytest.raises(anyio.EndOfStream):
            await near.receive()
    else:
        with pytest.raises(anyio.BrokenResourceError):
            await near.send(b"x")
        with pytest.raises(anyio.EndOfStream):
            await far.receive()


async def expect_broken(stream: ByteStream) -> None:
    for call in (stream.receive, lambda: stream.send(b"x")):
        with pytest.raises(anyio.BrokenResourceError):
            await call()


async def test_a_reset_while_receiving_breaks_both_ends() -> None:
    inner, far = memory_pair()
    near = CutStream(inner, after_receive=5, reset=True)
    await far.send(b"0123456789")
    assert await near.receive() == b"01234"
    await expect_broken(far)
    await expect_broken(near)
    with pytest.raises(anyio.BrokenResourceError):
        await near.send_eof()
    await near.aclose()


async def test_a_reset_while_sending_breaks_both_ends() -> None:
    inner, far = memory_pair()
    near = CutStream(inner, after_send=5, reset=True)
    with pytest.raises(anyio.BrokenResourceError):
        await near.send(b"0123456789")
    assert await far.receive() == b"01234"
    await expect_broken(far)
    await expect_broken(near)


@pytest.mark.parametrize("limit", ["after_receive", "after_send"])
async def test_a_reset_before_the_first_byte(limit: str) -> None:
    inner, far = memory_pair()
    near = CutStream(inner, reset=True, **{limit: 0})
    with pytest.raises(anyio.BrokenResourceError):
        await (near.receive() if limit == "after_receive" else near.send(b"x"))
    await expect_broken(far)
    await expect_broken(near)


async def test_a_reset_breaks_the_call_that_waits_in_the_other_direction() -> None:
    async def expect(call, *args) -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await call(*args)

    near = CutStream(memory_pair()[0], after_send=1, reset=True)
    async with anyio.create_task_group() as group:
        group.start_soon(expect, near.receive)
        await wait_all_tasks_blocked()
        await near.send(b"x")
    inner, far = lockstep_pair()
    near = CutStream(inner, after_receive=1, reset=True)
    async with anyio.create_task_group() as group:
        group.start_soon(expect, near.send, b"x")
        group.start_soon(far.send, b"y")
        await wait_all_tasks_blocked()
        assert await near.receive() == b"y"


async def test_a_reset_does_not_lose_what_was_received_to_a_cancellation() -> None:
    inner, far = memory_pair()
    near = CutStream(CancelAtClose(inner), after_receive=1, reset=True)
    await far.send(b"x")
    with anyio.CancelScope() as near.stream.scope:
        data = await near.receive()
    assert data == b"x"


class CancelAtClose(DelayStream):
    """Its closing takes a while, and meanwhile `scope` is cancelled."""

    scope: anyio.CancelScope

    async def aclose(self) -> None:
        self.scope.cancel()
        await super().aclose()
        await anyio.lowlevel.checkpoint()


async def test_limits_are_not_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        CutStream(memory_pair()[0], after_send=-1)


async def test_reset_stream_reaches_through_wrappers_and_wakes_them() -> None:
    inner, far = memory_pair()
    near = StallStream(DelayStream(inner))

    async def receive() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await near.receive()

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await wait_all_tasks_blocked()
        await reset_stream(near)
    await expect_broken(far)


async def test_reset_stream_sends_an_rst_on_a_socket() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    done = anyio.Event()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with pytest.raises(anyio.BrokenResourceError) as caught:
                await stream.receive()
            if TELLS_CAUSES:
                assert isinstance(caught.value.__cause__, ConnectionResetError)
        done.set()

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        stream = await anyio.connect_tcp("127.0.0.1", listener.extra(SocketAttribute.local_port))
        near = CutStream(stream, after_send=0, reset=True)
        with pytest.raises(anyio.BrokenResourceError):
            await near.send(b"x")
        await done.wait()
        await reset_stream(near)  # again, on a closed socket
        group.cancel_scope.cancel()


async def test_reset_stream_closes_what_is_neither() -> None:
    a_send, a_receive = anyio.create_memory_object_stream[bytes](1)
    stream = anyio.streams.stapled.StapledByteStream(ObjectsAsBytes(a_send), ObjectsAsBytes(a_receive))
    await reset_stream(stream)
    with pytest.raises(anyio.ClosedResourceError):
        a_send.send_nowait(b"x")
    a_receive.close()


class ObjectsAsBytes:
    def __init__(self, stream) -> None:
        self.aclose = stream.aclose
        self.extra_attributes: dict = {}
