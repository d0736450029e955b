"""A connected pair: two open WebSockets over memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from wsstream import HandshakeError, WebSocketError, accept
from wsstream.testing import (
    MemoryStream,
    RawPeer,
    SplitStream,
    connected_pair,
    lockstep_pair,
    memory_pair,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


@pytest.fixture
async def streams(anyio_backend: tuple[str, dict]) -> AsyncIterator[tuple[MemoryStream, MemoryStream]]:
    """A pair of which both ends have to be closed at the end of the test."""
    pair = memory_pair()
    yield pair
    for end in pair:
        with pytest.raises(anyio.ClosedResourceError):
            await end.send(b"")


async def test_messages_pass_both_ways() -> None:
    async with connected_pair() as (client, server):
        await client.send("there")
        assert await server.receive() == "there"
        await server.send(b"back")
        assert await client.receive() == b"back"


async def test_options_go_to_the_end_they_are_meant_for() -> None:
    async with connected_pair(
        url="ws://example.com/chat",
        client_options={"subprotocols": ["a", "b"]},
        server_options={"subprotocols": ["b"]},
    ) as (client, server):
        assert client.url == "ws://example.com/chat"
        assert client.subprotocol == server.subprotocol == "b"


@pytest.mark.parametrize("wrap", [lambda stream: stream, SplitStream])
async def test_it_runs_over_other_streams(wrap) -> None:
    a, b = lockstep_pair()
    async with connected_pair(streams=(wrap(a), wrap(b))) as (client, server):
        await client.send("x" * 1000)
        assert await server.receive() == "x" * 1000


async def test_leaving_the_block_closes_cleanly_with_the_code_of_the_client(streams) -> None:
    async with connected_pair(streams=streams) as (client, server):
        pass
    assert client.close_info == server.close_info == (1000, "", True)


async def test_either_end_may_close_within_the_block(streams) -> None:
    for closing in (0, 1):
        async with connected_pair() as pair:
            await pair[closing].aclose(4000, "enough")
        assert pair[0].close_info == pair[1].close_info == (4000, "enough", True)
    async with connected_pair(streams=streams):
        pass


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("mine"), 1011), (WebSocketError("mine", code=4001), 4001)], ids=str
)
async def test_an_exception_of_the_block_arrives_as_itself(streams, error: Exception, code: int) -> None:
    with pytest.raises(type(error)) as caught:
        async with connected_pair(streams=streams) as (_, server):
            raise error
    assert caught.value is error
    assert server.close_info.code == code


async def test_a_cancelled_block_leaves_nothing_open(streams) -> None:
    with anyio.move_on_after(1) as scope:
        async with connected_pair(streams=streams):
            await anyio.sleep_forever()
    assert scope.cancelled_caught


@pytest.mark.parametrize("end", ["client_options", "server_options"])
async def test_wrong_options_arrive_as_themselves_and_at_once(streams, end: str) -> None:
    start = anyio.current_time()
    with pytest.raises(TypeError, match="no_such_option"):
        async with connected_pair(streams=streams, **{end: {"no_such_option": 1}}):
            raise AssertionError("not reached")
    assert anyio.current_time() == start


async def test_if_both_ends_fail_the_first_error_arrives(streams) -> None:
    wrong = {"client_options": {"of_the_client": 1}, "server_options": {"of_the_server": 1}}
    with pytest.raises(TypeError, match="of_the_client"):
        async with connected_pair(streams=streams, **wrong):
            raise AssertionError("not reached")


async def test_an_opening_handshake_that_fails_arrives_as_itself(streams) -> None:
    with pytest.raises(HandshakeError):
        async with connected_pair(
            streams=streams,
            client_options={"subprotocols": ["a"]},
            server_options={"subprotocols": ["b"]},
        ):
            raise AssertionError("not reached")


async def test_a_raw_peer_plays_the_other_end_of_a_handler() -> None:
    """What one does without the pair, when the peer is to misbehave."""
    a, b = memory_pair()

    async def handler() -> None:
        async with accept(b) as server:
            await server.send(await server.receive())

    async with anyio.create_task_group() as group:
        group.start_soon(handler)
        async with await RawPeer.as_client(a) as peer:
            await peer.text("hello")
            assert (await peer.read_frame()).text == "hello"
            closing = await peer.read_frame()
            assert closing.close_code == 1000
            await peer.close(1000)
            assert await peer.read_to_end() == []
