"""What every transport promises: over TCP and Unix sockets, over TLS, and over a byte stream of anyio."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import anyio
import pytest

from wsstream.testing import memory_pair
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.base import Transport, receive_some, send_all
from wsstream.transports.sockets import SocketTransport

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]

KINDS = ["tcp4", "tcp6", "unix", "TLSv1_2", "TLSv1_3", "stream"]


@pytest.fixture(params=KINDS)
async def ends(
    request: pytest.FixtureRequest, connect_sockets, client_context, shake_hands
) -> AsyncIterator[tuple[Transport, Transport]]:
    """Two connected transports of each kind."""
    if request.param == "stream":
        pair = tuple(map(StreamTransport, memory_pair(1024)))
    elif request.param.startswith("TLS"):
        client_context.maximum_version = ssl.TLSVersion[request.param]
        pair = await shake_hands()
    else:
        pair = tuple(map(SocketTransport, connect_sockets(request.param)))
    yield pair
    for end in pair:
        end.close()


async def test_bytes_arrive_as_they_were_sent_both_ways(ends):
    for source, sink in (ends, ends[::-1]):
        for data in (b"a", b"b" * 1000, bytes(range(251)) * 1000):
            received = bytearray()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_all, source, data)
                while len(received) < len(data):
                    received += await receive_some(sink, 10_000)
            assert received == data


async def test_close_wakes_the_tasks_that_wait(ends):
    left, _ = ends
    woken = []

    async def wait(name: str) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await getattr(left, name)()
        woken.append(name)

    while left.send([bytes(65536)]):
        pass
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "wait_readable")
        tasks.start_soon(wait, "wait_writable")
        await anyio.wait_all_tasks_blocked()
        left.close()
    assert sorted(woken) == ["wait_readable", "wait_writable"]


async def test_calls_after_close_raise_closed_resource_error(ends):
    left, right = ends
    await send_all(right, b"unread")
    await left.wait_readable()
    left.close()
    left.close()
    await left.aclose()
    left.send_eof()
    for call in (lambda: left.recv_into(memoryview(bytearray(1))), lambda: left.send([b"x"])):
        with pytest.raises(anyio.ClosedResourceError):
            call()
    for wait in (left.wait_readable, left.wait_writable):
        with pytest.raises(anyio.ClosedResourceError):
            await wait()


async def test_a_cancelled_aclose_closes_all_the_same(ends):
    left, right = ends
    with anyio.CancelScope() as scope:
        scope.cancel()
        await left.aclose()
    assert scope.cancelled_caught
    with pytest.raises(anyio.ClosedResourceError):
        left.send([b"x"])
    assert await receive_some(right, 10) == b""
