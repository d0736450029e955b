"""`follow`: each item once, over connections that break, and gaps that are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from kit.waiting import until

from wsstream import HandshakeError, InvalidURL, ProtocolViolation, WebSocketStream, serve
from wsstream.feeds import SUBPROTOCOL, DropOldest, Feed, Item, Position, follow
from wsstream.feeds.protocol import announcement, item_head

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]

AT_ONCE = [0.0] * 1000


@asynccontextmanager
async def feed_server(feed: Feed, **options: Any) -> AsyncIterator[Any]:
    async def handler(ws: WebSocketStream) -> None:
        await feed.follow(ws, since=Position.parse(ws.request), **options)

    async with serve(handler, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], shutdown_timeout=1) as server:
        yield server


@asynccontextmanager
async def scripted(
    script: Callable[[WebSocketStream], Awaitable[None]], **options: Any
) -> AsyncIterator[str]:
    options.setdefault("subprotocols", [SUBPROTOCOL])
    async with serve(script, "127.0.0.1", 0, shutdown_timeout=1, **options) as server:
        yield server.url


async def test_each_item_comes_once_over_connections_that_break() -> None:
    async with Feed("prices") as feed, feed_server(feed) as server:
        got: list[Item] = []

        async def publish() -> None:
            for number in range(1, 401):
                feed.publish(f"item {number}")
                if number % 10 == 0:
                    await anyio.sleep(0.002)
                if number % 50 == 0:
                    for ws in list(server.connections):
                        ws.abort()

        async with (
            anyio.create_task_group() as group,
            follow(server.url, since=feed.position, delays=AT_ONCE) as items,
        ):
            group.start_soon(publish)
            async for item in items:
                got.append(item)
                if item.position.offset == 400:
                    break
        assert [item.data for item in got] == [f"item {number}" for number in range(1, 401)]
        assert all(item.recovered for item in got)
        assert str(items.position) == f"{feed.position.epoch}:400"


@pytest.mark.heavy_after_first
async def test_a_server_that_lost_its_items_is_a_gap() -> None:
    async with Feed("prices") as lost, Feed("prices") as feed:
        serving = [lost, feed]

        async def handler(ws: WebSocketStream) -> None:
            current = serving.pop(0)
            with anyio.move_on_after(0.3 if current is lost else 60):
                await current.follow(ws, since=Position.parse(ws.request))
            await ws.aclose(1001)

        start = lost.position
        lost.publish("1")
        await feed.append("not seen")
        async with scripted(handler) as url, follow(url, since=start, delays=AT_ONCE) as items:
            assert await anext(items) == Item("1", Position(lost.position.epoch, 1))
            assert await anext(items) == Item(None, feed.position, recovered=False)
            await until(lambda: feed._live, pause=0.01)
            feed.publish(b"2")
            assert await anext(items) == Item(b"2", Position(feed.position.epoch, 2))


async def test_dropped_items_are_a_gap_before_the_next() -> None:
    async def script(ws: WebSocketStream) -> None:
        await ws.send(announcement(Position("e", 4), recovered=True))
        for offset in (5, 9, 10):
            await ws.send(item_head(offset, text=True) + b"ab")
        await ws.wait_closed()

    async with scripted(script) as url, follow(url) as items:
        got = [await anext(items) for _ in range(4)]
        assert got == [
            Item("ab", Position("e", 5)),
            Item(None, Position("e", 8), recovered=False),
            Item("ab", Position("e", 9)),
            Item("ab", Position("e", 10)),
        ]


async def test_a_new_numbering_that_was_recovered_is_no_gap() -> None:
    async def script(ws: WebSocketStream) -> None:
        await ws.send(announcement(Position("old", 4), recovered=True))
        await ws.send(item_head(5, text=True) + b"5")
        await ws.send(announcement(Position("new", 5), recovered=True))
        await ws.send(item_head(6, text=True) + b"6")
        await ws.wait_closed()

    async with scripted(script) as url, follow(url) as items:
        assert [await anext(items), await anext(items)] == [
            Item("5", Position("old", 5)),
            Item("6", Position("new", 6)),
        ]


@pytest.mark.parametrize(
    "messages",
    [
        ["no JSON"],
        ['{"epoch": "e", "offset": -1, "recovered": true}'],
        ['{"epoch": "e", "offset": 1, "recovered": "yes"}'],
        ["[" * 100_000],
        [b"12345678data"],
        [announcement(Position("e", 1), recovered=True), b"short"],
        [announcement(Position("e", 5), recovered=True), item_head(5, text=False)],
        [announcement(Position("e", 5), recovered=True), item_head(6, text=True) + b"\xff"],
        [announcement(Position("e", 5), recovered=True), announcement(Position("f", 9), recovered=True)],
    ],
)
async def test_a_server_that_breaks_the_protocol_is_a_violation(messages: list[Any]) -> None:
    codes = []

    async def script(ws: WebSocketStream) -> None:
        for message in messages:
            await ws.send(message)
        ws.readable.discard()
        codes.append((await ws.wait_closed()).code)

    async with scripted(script) as url, follow(url) as items:
        with pytest.raises(ProtocolViolation, match="the server of the feed broke a rule"):
            await anext(items)
        await until(lambda: codes, pause=0.01)
        assert codes == [1002]


async def test_a_server_that_does_not_know_the_protocol_is_named() -> None:
    async def script(ws: WebSocketStream) -> None:
        await ws.send(b"hello, world")
        await ws.wait_closed()

    async with scripted(script, subprotocols=[]) as url, follow(url) as items:
        with pytest.raises(HandshakeError, match="none of the subprotocols"):
            await anext(items)


async def test_a_call_that_was_cancelled_loses_no_item() -> None:
    async with Feed("prices") as feed, feed_server(feed) as server, follow(server.url) as items:
        with anyio.move_on_after(0.2):
            await anext(items)
        feed.publish("1")
        assert (await anext(items)).data == "1"
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(items)
        feed.publish("2")
        assert (await anext(items)).data == "2"


async def test_closing_ends_the_loop_and_the_connection() -> None:
    async with Feed("prices") as feed, feed_server(feed, slow=DropOldest()) as server:
        items = follow(server.url)
        with anyio.move_on_after(0.2):
            await anext(items)
        await until(lambda: feed.statistics().followers == 1, pause=0.01)
        await items.aclose()
        assert [item async for item in items] == []
        await until(lambda: feed.statistics().followers == 0, pause=0.01)


async def test_the_url_of_each_attempt_may_come_from_a_function() -> None:
    async with Feed("prices") as feed, feed_server(feed) as server:
        asked = []

        async def url() -> str:
            asked.append(items.position)
            return f"{server.url}?token=secret"

        items = follow(url, since=feed.position, delays=AT_ONCE)
        async with items:
            feed.publish("1")
            assert (await anext(items)).data == "1"
            for ws in list(server.connections):
                ws.abort()
            feed.publish("2")
            assert (await anext(items)).data == "2"
        assert [position.offset for position in asked if position] == [0, 1]


async def test_wrong_arguments_raise_at_once() -> None:
    with pytest.raises(InvalidURL):
        follow("ftp://feed.example/")
    with pytest.raises(TypeError, match="since must be a Position or None, got str"):
        follow("ws://feed.example/", since="e:1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no subprotocols"):
        follow("ws://feed.example/", subprotocols=["a"])
    with pytest.raises(TypeError, match="ping_interval"):
        follow("ws://feed.example/", ping_interval="5")  # type: ignore[arg-type]
