"""The connection as a whole: state, ping, closing, leaving, statistics, keepalive."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

import wsstream
from wsstream.testing import (
    RawPeer,
    StallStream,
    connected_pair,
    memory_pair,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def test_the_states_of_a_connection() -> None:
    async with connected_pair() as (client, server):
        assert (client.state, client.close_info) == ("open", None)
        assert "open" in repr(client)
        client.begin_close(4000)
        assert client.state == "closing"
        assert await client.wait_closed() == (4000, "", True)
        assert client.state == wsstream.ConnectionState.CLOSED
        with pytest.raises(wsstream.StreamEnded):
            await server.receive()
        assert server.state != "open"
        with pytest.raises(wsstream.ConnectionBroken):
            await server.send("too late")


async def test_pings_measure_the_round_trip_and_share_one_that_waits() -> None:
    ours, theirs = memory_pair()
    stalled = StallStream(ours, receive=False, send=False)
    async with connected_pair(streams=(stalled, theirs)) as (client, _):
        stalled.stall(receive=False)
        times: list[float] = []

        async def ping() -> None:
            times.append(await client.ping())

        async with anyio.create_task_group() as tasks:
            await client.send("keeps the transport busy")
            for _ in range(3):
                tasks.start_soon(ping)
                await anyio.sleep(1)
            stalled.resume()
        assert sorted(times) == pytest.approx([1, 2, 3], abs=0.1)


async def test_a_ping_whose_connection_ends_raises() -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        peers: list[RawPeer] = []

        async def accept() -> None:
            peers.append(await RawPeer.as_server(theirs))

        tasks.start_soon(accept)
        async with wsstream.connect("ws://test/", transport=ours, close_timeout=0) as ws:

            async def ping() -> None:
                with pytest.raises(wsstream.ConnectionBroken):
                    await ws.ping()

            async with anyio.create_task_group() as inner:
                inner.start_soon(ping)
                await anyio.wait_all_tasks_blocked()
                await peers[0].pong(b"not asked for")
                await anyio.wait_all_tasks_blocked()
                await peers[0].aclose()


async def test_keepalive_gives_up_a_silent_peer_and_says_so() -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RawPeer.as_server, theirs)
        start = anyio.current_time()
        async with wsstream.connect("ws://test/", transport=ours, ping_interval=5, ping_timeout=3) as ws:
            with pytest.raises(wsstream.ConnectionBroken) as caught:
                await ws.receive()
        assert anyio.current_time() - start == pytest.approx(8, abs=0.1)
        assert caught.value.info == (1006, "", False)
        assert isinstance(caught.value.__cause__, wsstream.KeepaliveTimeout)


async def test_a_paused_reader_sends_unsolicited_pongs_and_is_not_given_up() -> None:
    ours, theirs = memory_pair(1 << 20)
    async with anyio.create_task_group() as tasks:
        peers: list[RawPeer] = []

        async def accept() -> None:
            peers.append(await RawPeer.as_server(theirs))

        tasks.start_soon(accept)
        async with wsstream.connect(
            "ws://test/", transport=ours, ping_interval=5, ping_timeout=3, close_timeout=0
        ) as ws:
            await peers[0].binary(bytes(300_000))
            await anyio.sleep(31)
            assert ws.statistics().reading_paused
            assert ws.state == "open"
            assert [(await peers[0].read_frame()).opcode for _ in range(6)] == [10] * 6
            assert len(await ws.receive()) == 300_000


async def test_close_timeout_bounds_a_peer_that_does_not_answer() -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RawPeer.as_server, theirs)
        async with wsstream.connect("ws://test/", transport=ours, close_timeout=4) as ws:
            start = anyio.current_time()
            await ws.aclose(1000)
            assert anyio.current_time() - start == pytest.approx(4, abs=0.1)
            assert ws.close_info == (1006, "", False)
            with pytest.raises(wsstream.ConnectionBroken):
                await ws.wait_closed()


async def test_a_cancelled_aclose_drops_the_connection() -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RawPeer.as_server, theirs)
        async with wsstream.connect("ws://test/", transport=ours) as ws:
            with anyio.move_on_after(1):
                await ws.aclose()
            assert (await ws.wait_closed()) == (1006, "", False)
            assert ws.state == "closed"


async def test_abort_never_waits() -> None:
    async with connected_pair() as (client, server):
        client.abort()
        client.abort()
        with pytest.raises(wsstream.ClosedLocally):
            await client.receive()
        with pytest.raises(wsstream.ClosedLocally):
            await client.send("x")
        assert await client.wait_closed() == (1006, "", False)
        with pytest.raises(wsstream.ConnectionBroken):
            await server.receive()


async def test_writable_abort_closes_without_what_has_not_left() -> None:
    ours, theirs = memory_pair()
    stalled = StallStream(ours, receive=False, send=False)
    async with connected_pair(streams=(stalled, theirs)) as (client, server):
        stalled.stall(receive=False)
        for _ in range(4):
            await client.send(bytes(10_000))
        client.writable.abort(3333, "stop")
        stalled.resume()
        assert await client.wait_closed() == (3333, "stop", True)
        received = [message async for message in server]
        assert len(received) <= 1
        assert server.close_info == (3333, "stop", True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (wsstream.WebSocketError("policy", code=1008), 1008),
        (wsstream.WebSocketError(reason="just so"), 1000),
        (wsstream.WebSocketError("no code"), 1011),
        (KeyError("bug"), 1011),
        (wsstream.ConnectionBroken("elsewhere", wsstream.CloseInfo(1006, "", False)), 1011),
    ],
)
async def test_the_body_of_connect_closes_with_the_code_of_its_exception(error: Exception, code: int) -> None:
    streams = memory_pair()
    infos: list[wsstream.CloseInfo | None] = []

    async def serve() -> None:
        async with wsstream.accept(streams[1]) as ws:
            async for _ in ws:
                pass
            infos.append(ws.close_info)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        with pytest.raises(type(error)) as caught:
            async with wsstream.connect("ws://test/", transport=streams[0]):
                raise error
        assert caught.value is error
    assert infos == [(code, error.reason if code in (1000, 1008) else "", True)]  # type: ignore[attr-defined]


async def test_a_connection_is_entered_once() -> None:
    streams = memory_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RawPeer.as_server, streams[1])
        opening = wsstream.connect("ws://test/", transport=streams[0], close_timeout=0)
        async with opening:
            with pytest.raises(RuntimeError, match="entered before"):
                await opening.__aenter__()


async def test_what_leaves_by_a_base_exception_drops_the_connection() -> None:
    class Stop(BaseException):
        pass

    streams = memory_pair()
    peers: list[RawPeer] = []

    async def accept() -> None:
        peers.append(await RawPeer.as_server(streams[1]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(accept)
        with pytest.raises(Stop):
            async with wsstream.connect("ws://test/", transport=streams[0]):
                raise Stop
    assert await peers[0].read_to_end() == []


async def test_statistics_tell_what_is_buffered() -> None:
    async with connected_pair() as (client, server):
        await client.send(bytes(1000))
        await client.send("é")
        await anyio.wait_all_tasks_blocked()
        now = server.statistics()
        assert (now.receive_buffered, now.reading_paused) == (1000 + 64 + 2 + 64, False)
        assert now.bytes_received == client.statistics().bytes_sent == 1000 + 8 + 2 + 6
        assert await server.receive() == bytes(1000)
        assert server.statistics().receive_buffered == 2 + 64
        assert await server.receive() == "é"
        assert server.statistics().receive_buffered == 0


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_a_closed_connection_is_freed_without_the_garbage_collector(
    no_collector: None, anyio_backend_name: str
) -> None:
    if anyio_backend_name == "trio" and sys.version_info >= (3, 12):
        pytest.skip("Trio keeps the frames of an exception that has ended one of its tasks")
    async with connected_pair() as (client, server):
        await client.send("x")
        await server.receive()
        references = [weakref.ref(client._driver), weakref.ref(server._driver)]
    del client, server
    await anyio.wait_all_tasks_blocked()
    assert [reference() for reference in references] == [None, None]


async def test_so_is_a_closed_connection_over_a_socket(no_collector: None) -> None:
    references: list[weakref.ref[Any]] = []

    async def handler(ws: wsstream.WebSocketStream) -> None:
        references.append(weakref.ref(ws._driver))
        async for message in ws:
            await ws.send(message)

    async with wsstream.serve(handler, "127.0.0.1") as server:
        async with wsstream.connect(server.url) as ws:
            await ws.send("x")
            await ws.receive()
            references.append(weakref.ref(ws._driver))
        del ws
        await anyio.wait_all_tasks_blocked()
        assert [reference() for reference in references] == [None, None]


async def test_extra_attributes_are_those_of_the_transport() -> None:
    async with connected_pair() as (client, _):
        assert client.extra(SocketAttribute.remote_address, None) is None
