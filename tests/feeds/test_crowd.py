"""`Crowd`: its numbers are those that each follower would have counted by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from kit.waiting import until

from wsstream import Deflate, FlowControl, WebSocketStream, connect, serve
from wsstream.feeds import Evict, Position
from wsstream.feeds.crowd import MOST, Crowd, Crowds
from wsstream.feeds.engine import Entry
from wsstream.feeds.follower import Follower
from wsstream.feeds.shared import Batch, SharedItem
from wsstream.testing import connected_pair

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


def batch(*offsets: int, size: int = 5) -> Batch:
    return Batch([SharedItem(Entry(offset, bytes(size))) for offset in offsets])


def follow(ws: WebSocketStream, offset: int = 0) -> Follower:
    return Follower(
        ws, "feed", heads=True, slow=Evict(), high_water=1 << 20, position=Position("a", offset),
        has_room=lambda: None,
    )  # fmt: skip


@asynccontextmanager
async def connections(
    count: int, compression: Deflate | None = None
) -> AsyncIterator[list[tuple[WebSocketStream, WebSocketStream]]]:
    """The two ends of each connection: the client's, and the server's."""
    accepted: list[WebSocketStream] = []

    async def handler(ws: WebSocketStream) -> None:
        accepted.append(ws)
        await ws.wait_closed()

    flow = FlowControl(send_high_water=4096)
    async with (
        serve(handler, "127.0.0.1", flow=flow, compression=compression) as server,
        AsyncExitStack() as stack,
    ):
        pairs = []
        for number in range(count):
            client = await stack.enter_async_context(connect(server.url, compression=compression))
            await until(lambda: len(accepted) > number, pause=0.001)  # noqa: B023 - it is awaited at once
            pairs.append((client, accepted[number]))
        yield pairs


@asynccontextmanager
async def servers(count: int) -> AsyncIterator[list[WebSocketStream]]:
    async with connections(count) as pairs:
        yield [server for _, server in pairs]


async def test_a_follower_is_level_once_it_has_what_the_others_have() -> None:
    async with servers(3) as (one, two, three):
        early, late, ahead = follow(one), follow(two), follow(three, offset=3)
        crowd = Crowd(early.variant)
        crowd.add(early)
        crowd.push(batch(1))
        assert list(crowd._level) == [early]
        crowd.add(late)
        crowd.add(ahead)
        crowd.push(batch(2, 3))
        assert late.position.offset == 3, "nothing before it was published for this one"
        assert set(crowd._level) == {early, late, ahead}
        crowd.push(batch(4))
        assert [each.position.offset for each in (early, late, ahead)] == [4, 4, 4]
        for each in (early, late, ahead):
            crowd.remove(each)
        assert [each.result().items for each in (early, late, ahead)] == [4, 3, 1]
        assert not crowd


async def test_one_for_whom_something_waits_is_apart_until_it_has_left() -> None:
    async with connections(1) as ((client, server),):
        follower = follow(server)
        crowd = Crowd(follower.variant)
        crowd.add(follower)
        crowd.push(batch(1))
        assert list(crowd._level) == [follower]
        last = 1
        while crowd._level:  # the kernel keeps some
            last += 1
            crowd.push(batch(last, size=60_000))
        assert follower.unsent
        assert follower.position.offset == last
        crowd.push(batch(last + 1))
        assert not crowd._level
        for _ in range(last + 1):
            await client.receive()
        await until(lambda: not follower.unsent)
        crowd.push(batch(last + 2))
        assert list(crowd._level) == [follower]
        crowd.remove(follower)
        assert follower.result().items == last + 2


async def test_a_closed_connection_is_level_no_more() -> None:
    async with connections(2) as ((_, one), (client, two)):
        open_one, closed = follow(one), follow(two)
        crowd = Crowd(open_one.variant)
        crowd.add(open_one)
        crowd.add(closed)
        crowd.push(batch(1))
        await client.receive()
        two.abort()
        crowd.push(batch(2))
        assert list(crowd._level) == [open_one]
        assert closed.result().items == 1
        crowd.part()
        assert not crowd._level
        assert open_one.position.offset == 2


async def test_an_item_of_several_pieces_goes_to_each_by_itself() -> None:
    async with connections(1) as ((client, server),):
        follower = follow(server)
        crowd = Crowd(follower.variant)
        crowd.add(follower)
        crowd.push(batch(1))
        crowd.push(batch(2, size=200_000))
        assert follower.position.offset == 2
        assert [len(await client.receive()) for _ in range(2)] == [8 + 5, 8 + 200_000]


async def test_crowds_are_small_and_of_one_variant_and_empty_ones_go() -> None:
    async with servers(2) as (one, two), connections(1, Deflate()) as ((_, packed),):
        crowds = Crowds()
        followers = [follow(ws) for ws in [one] * MOST + [two]]
        for each in [*followers, other := follow(packed)]:
            crowds.add(each)
        assert len(crowds) == MOST + 2
        assert list(map(len, crowds._crowds)) == [MOST, 1, 1]
        crowds.discard(other)
        crowds.discard(other)
        crowds.discard(followers[0])
        crowds.add(follow(one))
        assert list(map(len, crowds._crowds)) == [MOST, 1]
        assert next(iter(crowds)) is followers[1]


async def test_a_restart_leaves_nobody_level() -> None:
    async with servers(1) as (server,):
        crowds, follower = Crowds(), follow(server)
        crowds.add(follower)
        await crowds.push(batch(1, 2))
        crowds.restart(Position("b", 7), recovered=False)
        assert follower.position == Position("b", 7)
        await crowds.push(batch(8))
        assert follower.position == Position("b", 8)
        crowds.discard(follower)
        assert follower.result().items == 3


async def test_nobody_is_level_where_the_socket_is_not_ours() -> None:
    async with connected_pair() as (client, server):
        follower = follow(server)
        crowd = Crowd(follower.variant)
        crowd.add(follower)
        crowd.push(batch(1))
        assert not crowd._level
        assert follower.position.offset == 1
        await client.receive()
