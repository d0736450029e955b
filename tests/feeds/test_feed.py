"""`Feed`: what followers get, live and from the history, and what becomes of slow ones."""

from __future__ import annotations

import logging
import threading
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import anyio
import pytest
from kit.waiting import until

from wsstream import Deflate, FlowControl, WebSocketStream
from wsstream.feeds import (
    DropOldest,
    Evict,
    Feed,
    Latest,
    MemoryEngine,
    Position,
    RedisEngine,
    Wait,
    shared,
)
from wsstream.feeds.feed import FeedStatistics
from wsstream.feeds.protocol import read_item
from wsstream.testing import connected_pair, serving

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

KIB = 1024


async def followed(feed: Feed, count: int = 1) -> None:
    await until(lambda: len(feed._live) == count)


def test_a_feed_and_its_engines_are_made_where_no_event_loop_runs() -> None:
    for engine in (MemoryEngine(), RedisEngine("redis://127.0.0.1:1")):
        assert Feed("prices", engine=engine).statistics().followers == 0


# -- what followers get ------------------------------------------------------------------------------


async def test_each_follower_gets_what_is_published_in_its_order(serve_feed: Any) -> None:
    async with (
        Feed("prices") as feed,
        serve_feed(feed) as served,
        served.client() as one,
        served.client() as other,
    ):
        await followed(feed, 2)
        for message in ("text", b"bytes", "", "ä" * 70_000, b"\0" * 200_000, bytearray(b"last")):
            feed.publish(message)
        expected = ["text", b"bytes", "", "ä" * 70_000, b"\0" * 200_000, b"last"]
        for client in (one, other):
            position, recovered = await client.announced()
            assert (position.offset, recovered) == (0, True)
            assert await client.items(6) == list(enumerate(expected, 1))


async def test_a_client_that_does_not_know_the_protocol_gets_the_messages_alone(serve_feed: Any) -> None:
    async with (
        Feed("prices") as feed,
        serve_feed(feed) as served,
        served.client(subprotocols=[]) as client,
    ):
        await followed(feed)
        feed.publish("ä" * 40_000)
        feed.publish(b"2")
        assert await client.ws.receive() == "ä" * 40_000
        assert await client.ws.receive() == b"2"


async def test_history_comes_before_what_is_live_without_a_gap_or_a_duplicate(serve_feed: Any) -> None:
    async with Feed("prices") as feed, serve_feed(feed, slow=DropOldest()) as served:
        start = feed.position
        for number in range(1, 1001):
            feed.publish(f"item {number}")

        async def publish() -> None:
            for number in range(1001, 2001):
                feed.publish(f"item {number}")
                if number % 7 == 0:
                    await anyio.lowlevel.checkpoint()

        async with served.client(since=start) as client, anyio.create_task_group() as group:
            group.start_soon(publish)
            assert await client.announced() == (start, True)
            got = await client.items(2000)
        assert got == [(number, f"item {number}") for number in range(1, 2001)]


async def test_a_follower_that_comes_back_gets_what_it_missed(serve_feed: Any) -> None:
    async with Feed("prices") as feed, serve_feed(feed) as served:
        await feed.append("1")
        position = await feed.append("2")
        await feed.append("3")
        async with served.client(since=position) as client:
            assert await client.announced() == (position, True)
            assert await client.item() == (3, "3")
            await followed(feed)
            feed.publish("4")
            assert await client.item() == (4, "4")


@pytest.mark.parametrize("since", [Position("other", 3), "lost", "later"])
async def test_a_gap_is_reported_and_what_is_live_follows(serve_feed: Any, since: Any) -> None:
    async with Feed("prices", keep=3) as feed, serve_feed(feed) as served:
        for number in range(1, 10):
            newest = await feed.append(str(number))
        if since == "lost":
            since = Position(newest.epoch, 5)  # of which the next, 6, is not kept
        if since == "later":
            since = Position(newest.epoch, 10)
        async with served.client(since=since) as client:
            assert await client.announced() == (newest, False)
            await followed(feed)
            feed.publish("live")
            assert await client.item() == (10, "live")


async def test_a_position_that_is_none_is_a_gap_and_no_error(serve_feed: Any) -> None:
    async with (
        Feed("prices") as feed,
        serve_feed(feed) as served,
        served.server.connect("/?since=%00nonsense", subprotocols=["wsstream.feed.v1"]) as ws,
    ):
        assert '"recovered": false' in await ws.receive()


async def test_what_is_published_with_a_key_that_is_kept_is_published_once(serve_feed: Any) -> None:
    async with Feed("prices") as feed, serve_feed(feed) as served, served.client() as client:
        await followed(feed)
        first = await feed.append("once", key="a")
        assert await feed.append("again", key="a") == first
        feed.publish("again", key="a")
        feed.publish("next")
        await client.announced()
        assert await client.items(2) == [(1, "once"), (2, "next")]


async def test_live_followers_lose_nothing_that_the_history_does_not_keep(serve_feed: Any) -> None:
    async with Feed("game", keep=1) as feed, serve_feed(feed) as served, served.client() as client:
        await followed(feed)
        for number in range(1, 10_001):
            feed.publish(str(number))
        with pytest.raises(anyio.WouldBlock):
            feed.publish("one too many")
        await client.announced()
        assert [offset for offset, _ in await client.items(10_000)] == [*range(1, 10_001)]
        feed.publish("again")
        assert await client.item() == (10_001, "again")
        assert len(feed._engine._topics["game"]._entries) == 1  # type: ignore[attr-defined]


async def test_two_feeds_on_one_engine_are_one_feed(serve_feed: Any) -> None:
    """As those of two processes are."""
    engine = MemoryEngine()
    async with (
        Feed("prices", engine=engine) as here,
        Feed("prices", engine=engine) as there,
        Feed("other", engine=engine) as other,
        serve_feed(there) as served,
        served.client() as client,
    ):
        await followed(there)
        here.publish("from here")
        other.publish("not this")
        here.publish("again")
        await client.announced()
        assert await client.items(2) == [(1, "from here"), (2, "again")]


async def test_a_feed_that_its_event_loop_has_not_left_keeps_no_other_feed_from_the_engine(
    serve_feed: Any,
) -> None:
    engine = MemoryEngine()
    never_left = Feed("other", engine=engine)
    thread = threading.Thread(target=anyio.run, args=[never_left.__aenter__])
    thread.start()
    thread.join()
    async with (
        Feed("prices", engine=engine) as feed,
        serve_feed(feed) as served,
        served.client() as client,
    ):
        await followed(feed)
        feed.publish("item")
        await client.announced()
        with anyio.fail_after(5):
            assert await client.items(1) == [(1, "item")]


async def test_messages_of_other_tasks_pass_between_items(serve_feed: Any) -> None:
    """An item waits for the end of a message that is written in chunks."""
    async with Feed("chat") as feed:

        async def handler(ws: WebSocketStream) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(feed.follow, ws)
                await followed(feed)
                async with ws.writable.message("text") as writer:
                    await writer.send(b"my ")
                    await writer.flush()
                    feed.publish("1")
                    await anyio.sleep(1)
                    await writer.send(b"own")
                await ws.send("another")
                await ws.wait_closed()

        async with serving(handler) as server, server.connect() as ws:
            assert [await ws.receive() for _ in range(3)] == ["my own", "1", "another"]


async def test_what_a_client_sends_is_dropped_unless_a_task_receives(serve_feed: Any) -> None:
    async with Feed("chat") as feed:

        async def handler(ws: WebSocketStream) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: feed.follow(ws, receives=True))
                async for message in ws:
                    feed.publish(message)

        async with serving(handler) as server, server.connect() as ws:
            await followed(feed)
            await ws.send("hello")
            assert await ws.receive() == "hello"
        async with serve_feed(feed) as served, served.client() as client:
            await client.announced()
            for _ in range(100):
                await client.ws.send(bytes(64 * KIB))  # more than all buffers
            assert await client.ws.ping() >= 0


# -- compression, and what followers share -------------------------------------------------------------


async def test_an_item_is_framed_once_for_all_followers(
    monkeypatch: pytest.MonkeyPatch, serve_feed: Any
) -> None:
    made = []
    monkeypatch.setattr(shared, "make_frame", lambda *given: made.append(given) or b"\x82\x0a" + given[1])
    async with (
        Feed("prices") as feed,
        serve_feed(feed) as served,
        served.client() as one,
        served.client() as two,
        served.client() as three,
    ):
        await followed(feed, 3)
        feed.publish("12")
        for client in (one, two, three):
            await client.announced()
            assert await client.item() == (1, "12")
    assert len(made) == 1


@pytest.mark.parametrize("takeover", [False, True])
async def test_an_item_is_compressed_once_for_all_followers(
    monkeypatch: pytest.MonkeyPatch, serve_feed: Any, takeover: bool
) -> None:
    """And what the connection compresses by itself before and after can still be inflated."""
    compressed = []
    compress = shared.Deflater.compress
    deflate = Deflate(context_takeover=takeover)
    async with Feed("prices") as feed:

        async def handler(ws: WebSocketStream) -> None:
            await ws.send("own " * 100)
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: feed.follow(ws, receives=True))
                async for message in ws:
                    await ws.send(message)

        async with (
            serving(handler, compression=deflate) as server,
            server.connect(compression=Deflate()) as one,
            server.connect(compression=Deflate()) as two,
            server.connect() as plain,
        ):
            for ws in (one, two, plain):
                assert await ws.receive() == "own " * 100
            await followed(feed, 3)
            monkeypatch.setattr(
                shared.Deflater,
                "compress",
                lambda self, payload, *, last: (
                    compressed.append(payload) or compress(self, payload, last=last)
                ),
            )
            feed.publish("shared " * 100)
            feed.publish("tiny")
            for ws in (one, two, plain):
                assert await ws.receive() == "shared " * 100
                assert await ws.receive() == "tiny"
            assert len(compressed) == 1
            for _ in range(2):
                for ws in (one, two, plain):
                    await ws.send("own " * 100)
                    assert await ws.receive() == "own " * 100
                feed.publish("shared " * 100)
                for ws in (one, two, plain):
                    assert await ws.receive() == "shared " * 100


async def test_followers_that_do_not_read_hold_the_same_bytes(serve_feed: Any) -> None:
    async with (
        Feed("prices") as feed,
        serve_feed(feed, high_water=10 << 20) as served,
        served.client() as one,
        served.client() as two,
    ):
        await followed(feed, 2)
        for _ in range(300):
            feed.publish(bytes(10 * KIB))
        await until(lambda: feed.position.offset == 300)
        backlogs = [[*follower.backlog._items] for follower in feed._live]
        variant = next(iter(feed._live)).variant
        assert min(map(len, backlogs)) > 250
        for mine, others in zip(reversed(backlogs[0]), reversed(backlogs[1]), strict=False):
            assert mine.frames(variant) is others.frames(variant)
        del one, two


# -- slow followers --------------------------------------------------------------------------------------


def small_client() -> dict[str, Any]:
    return {"flow": FlowControl(receive_high_water=1024)}


async def test_the_oldest_items_are_dropped_and_counted(
    serve_feed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Feed("prices") as feed,
        serve_feed(feed, slow=DropOldest(), high_water=64 * KIB) as served,
        served.client(**small_client()) as client,
    ):
        await followed(feed)
        for number in range(1, 3001):
            feed.publish(f"{number:4}".encode() * 64)
            if number % 50 == 0:
                await until(lambda: feed.position.offset == number)  # noqa: B023 - is called at once
                (follower,) = feed._live
                assert follower.unsent < 64 * KIB
        assert follower.unsent >= 64 * KIB - 268, "no more was dropped than had to be"
        dropped = feed.statistics().dropped
        await client.announced()
        got = await client.items(3000)
        assert [data for _, data in got] == [f"{offset:4}".encode() * 64 for offset, _ in got]
        gaps = [(a[0], b[0]) for a, b in pairwise(got) if b[0] != a[0] + 1]
        assert len(gaps) == 1, "the newest were kept, without another gap"
        assert len(got) + dropped == 3000
    assert served.ends[0].dropped == dropped
    assert served.ends[0].items == len(got)
    assert not served.ends[0].evicted
    assert len([record for record in caplog.records if record.name == "wsstream.feeds"]) == 1


async def test_the_newest_item_of_each_key_is_kept(serve_feed: Any) -> None:
    policy = Latest(key=lambda message: message[:1])
    async with (
        Feed("game") as feed,
        serve_feed(feed, slow=policy, high_water=64 * KIB) as served,
        served.client(**small_client()) as client,
    ):
        await followed(feed)
        for number in range(1, 1001):
            feed.publish(f"{'abc'[number % 3]} {number}".encode().ljust(512))
            if number % 10 == 0:
                await anyio.sleep(0.01)
        await until(lambda: feed.position.offset == 1000)
        dropped = feed.statistics().dropped
        await client.announced()
        got = await client.items(1000)
        assert [offset for offset, _ in got[-3:]] == [998, 999, 1000]
        assert len(got) + dropped == 1000
        assert dropped > 600
        feed.publish(b"b")  # it has caught up, and gets each item again
        feed.publish(b"b")
        assert await client.items(1002) == [(1001, b"b"), (1002, b"b")]


async def test_more_keys_than_fit_drop_those_that_wait_longest(serve_feed: Any) -> None:
    policy = Latest(key=lambda message: message)
    async with (
        Feed("game") as feed,
        serve_feed(feed, slow=policy, high_water=16 * KIB) as served,
        served.client(**small_client()) as client,
    ):
        await followed(feed)
        for number in range(1, 1001):
            feed.publish(f"{number:512}")
            if number % 10 == 0:
                await anyio.sleep(0.01)
        (follower,) = feed._live
        assert follower.unsent < 16 * KIB
        await client.announced()
        got = await client.items(1000)
        assert len(got) + feed.statistics().dropped == 1000


async def test_a_key_that_raises_costs_its_follower_alone(
    serve_feed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Feed("game") as feed,
        serve_feed(feed, slow=Latest(key=lambda message: 1 // 0), high_water=8 * KIB) as served,
        serve_feed(feed) as others,
        served.client(**small_client()) as client,
        others.client() as other,
    ):
        await followed(feed, 2)
        for number in range(1, 501):
            feed.publish(bytes(1024))
            if number % 10 == 0:
                await anyio.sleep(0.01)
        await other.announced()
        assert len(await other.items(500)) == 500
        client.ws.readable.discard()
        assert (await client.ws.wait_closed()).code == 1011
    assert "a follower of the feed game failed" in caplog.text


async def test_a_slow_follower_is_evicted_and_the_others_are_not_late(
    serve_feed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Feed("prices") as feed,
        serve_feed(feed, high_water=64 * KIB) as served,
        served.client(**small_client()) as slow,
        served.client() as quick,
    ):
        await followed(feed, 2)
        await quick.announced()
        for number in range(1, 501):
            feed.publish(bytes(1024))
            assert (await quick.item())[0] == number
        await until(lambda: served.ends)
        slow.ws.readable.discard()
        info = await slow.ws.wait_closed()
        assert (info.code, info.reason) == (1013, "too slow for the feed")
        assert feed.statistics() == FeedStatistics(1, served.ends[0].dropped, 1, 0, 0)
    assert served.ends[0].evicted
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


async def test_append_waits_for_a_follower_that_may_miss_nothing(serve_feed: Any) -> None:
    async with (
        Feed("pipe", keep=50) as feed,
        serve_feed(feed, slow=Wait(), high_water=16 * KIB) as served,
        served.client(**small_client()) as client,
        anyio.create_task_group() as group,
    ):
        appended = []

        async def append() -> None:
            for number in range(1, 301):
                await feed.append(f"{number:1024}")
                appended.append(number)

        await followed(feed)
        group.start_soon(append)
        await anyio.sleep(5)
        assert 10 < len(appended) < 200, "it waits"
        await client.announced()
        assert [offset for offset, _ in await client.items(300)] == [*range(1, 301)]
    assert served.ends[0].dropped == 0


async def test_publish_does_not_wait_and_the_history_has_what_it_missed(serve_feed: Any) -> None:
    async with (
        Feed("pipe") as feed,
        serve_feed(feed, slow=Wait(), high_water=16 * KIB) as served,
        served.client(**small_client()) as client,
    ):
        await followed(feed)
        for number in range(1, 1001):
            feed.publish(f"{number:1024}")
        await anyio.sleep(5)
        await client.announced()
        assert [offset for offset, _ in await client.items(1000)] == [*range(1, 1001)]


async def test_what_the_history_has_no_more_is_a_gap(serve_feed: Any) -> None:
    async with (
        Feed("pipe", keep=10) as feed,
        serve_feed(feed, slow=Wait(), high_water=16 * KIB) as served,
        served.client(**small_client()) as client,
    ):
        await followed(feed)
        for number in range(1, 1001):
            feed.publish(f"{number:1024}")
            if number % 20 == 0:
                await anyio.sleep(0.1)
        await client.announced()
        messages = []
        while not messages or isinstance(messages[-1], bytes):
            messages.append(await client.ws.receive())
        assert '"recovered": false' in messages[-1]
        offsets = [read_item(message)[0] for message in messages[:-1]]
        assert offsets == [*range(1, len(offsets) + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("policy", [DropOldest(), Evict()], ids=["drop", "evict"])
async def test_two_hundred_followers_of_whom_ten_do_not_read(serve_feed: Any, policy: Any) -> None:
    """Nobody else is late: in virtual time, all have the item before the next is published."""
    async with (
        Feed("prices", keep=100) as feed,
        serve_feed(feed, slow=policy, high_water=32 * KIB) as served,
        anyio.create_task_group() as group,
    ):
        late: list[float] = []
        held = 0
        finished = []

        async def read(number: int) -> None:
            async with served.client() as client:
                await client.announced()
                for offset in range(1, 251):
                    got, data = await client.item()
                    assert got == offset
                    late.append(anyio.current_time() - float(data[:20]))
                finished.append(number)

        async def stall(number: int) -> None:
            async with served.client(**small_client(), close_timeout=0.1):
                await until(lambda: len(finished) == 190)

        for number in range(200):
            group.start_soon(stall if number % 20 == 7 else read, number)
        await followed(feed, 200)
        for _ in range(250):
            feed.publish(f"{anyio.current_time():20.6f}".ljust(512).encode())
            held = max(held, *(follower.unsent for follower in feed._live))
            await anyio.sleep(0.001)
        assert 16 * KIB < held < 32 * KIB
        await until(lambda: len(finished) == 190)
        assert len(late) == 190 * 250
        assert max(late) < 0.0011
        statistics = feed.statistics()
        assert statistics.evicted == (10 if policy == Evict() else 0)
        assert statistics.dropped > 0


# -- the end, and wrong use -------------------------------------------------------------------------------


async def test_the_end_of_a_feed_closes_its_followers(serve_feed: Any) -> None:
    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(Feed("prices"))
        async with serve_feed(feed) as served, served.client() as client:
            await client.announced()
            await followed(feed)
            await stack.aclose()
            client.ws.readable.discard()
            assert (await client.ws.wait_closed()).code == 1001
            await until(lambda: served.ends)


async def test_a_cancelled_follow_leaves_the_connection_open() -> None:
    async with Feed("prices") as feed, connected_pair() as (client, server):
        with anyio.move_on_after(1):
            await feed.follow(server)
        feed.publish("not sent")
        await anyio.sleep(1)
        await server.send("open")
        assert await client.receive() == "open"
        assert feed.statistics().followers == 0


async def test_publishing_to_a_feed_that_is_not_open_raises() -> None:
    feed = Feed("prices")
    with pytest.raises(RuntimeError, match="not open"):
        feed.publish("1")
    with pytest.raises(RuntimeError, match="not open"):
        await feed.append("1")
    async with feed:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        feed.publish("1")
    with pytest.raises(RuntimeError, match="entered before"):
        await feed.__aenter__()


async def test_wrong_arguments_raise_before_anything_is_done() -> None:
    with pytest.raises(TypeError, match="name must be a str, got int"):
        Feed(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name must not be empty"):
        Feed("")
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Feed("a", keep=0)
    async with Feed("prices") as feed, connected_pair() as (client, server):
        with pytest.raises(TypeError, match="message must be a str or bytes-like, got int"):
            feed.publish(5)  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            feed.publish("\ud800")
        with pytest.raises(TypeError, match="key must be a str or None, got int"):
            await feed.append("a", key=5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a server accepted"):
            await feed.follow(client)
        with pytest.raises(TypeError, match="since must be a Position or None, got str"):
            await feed.follow(server, since="a:1")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"slow must be Wait\(\).*, got Evict"):
            await feed.follow(server, slow=Evict)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="high_water must be at least 1, got 0"):
            await feed.follow(server, high_water=0)
        with pytest.raises(ValueError, match="framing must be 'v1', 'plain' or None"):
            await feed.follow(server, framing="v2")  # type: ignore[arg-type]
        assert feed.position.offset == 0
