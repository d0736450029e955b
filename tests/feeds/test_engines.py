"""What every engine of feeds promises: one suite for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from kit.redis_server import UNCLOSED, RedisServer, redis_server

from wsstream.feeds import Engine, Entry, Feed, MemoryEngine, Page, Position, RedisEngine

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings(UNCLOSED)]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    pytest.importorskip("coredis")
    with redis_server() as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.slow)])
async def engine(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[Engine]:
    if request.param == "memory":
        yield MemoryEngine()
        return
    server: RedisServer = request.getfixturevalue("redis")
    async with RedisEngine(server.url, prefix=request.node.name) as engine:
        yield engine


async def page(
    engine: Engine, topic: str, since: Position | None, *, limit: int = 100, wait: float = 0
) -> Page | None:
    pages = await engine.after({topic: since}, limit=limit, wait=wait)
    assert set(pages) <= {topic}
    return pages.get(topic)


async def head(engine: Engine, topic: str) -> Position:
    found = await page(engine, topic, None)
    assert found is not None
    assert not found.entries
    assert found.recovered
    return found.position


async def test_offsets_begin_with_one_and_have_no_gap(engine: Engine) -> None:
    start = await head(engine, "a")
    assert start.offset == 0
    positions = [await engine.append("a", f"{number}") for number in range(1, 6)]
    assert positions == [Position(start.epoch, number) for number in range(1, 6)]
    assert await head(engine, "a") == positions[-1]


async def test_items_come_back_as_they_were_appended(engine: Engine) -> None:
    start = await head(engine, "a")
    items = ["", b"", "text ä\0\r\n", bytes(range(256)), "x" * 100_000]
    for item in items:
        await engine.append("a", item)
    assert await page(engine, "a", start) == Page(
        [Entry(number, item) for number, item in enumerate(items, 1)], Position(start.epoch, 5)
    )


async def test_a_page_has_no_more_than_its_limit_and_the_next_follows_it(engine: Engine) -> None:
    since = await head(engine, "a")
    for number in range(1, 11):
        await engine.append("a", str(number))
    got: list[int] = []
    while (found := await page(engine, "a", since, limit=4)) is not None:
        assert len(found.entries) <= 4
        got += [entry.offset for entry in found.entries]
        since = found.position
    assert got == [*range(1, 11)]


async def test_topics_do_not_mix_and_those_without_news_are_left_out(engine: Engine) -> None:
    starts: dict[str, Position | None] = {name: await head(engine, name) for name in ("a", "b", "c")}
    await engine.append("a", "of a")
    await engine.append("c", "of c")
    pages = await engine.after(starts, limit=10, wait=0)
    assert {name: [entry.data for entry in found.entries] for name, found in pages.items()} == {
        "a": ["of a"],
        "c": ["of c"],
    }


async def test_a_key_that_is_kept_is_appended_once(engine: Engine) -> None:
    first = await engine.append("a", "once", key="k", keep=3)
    assert await engine.append("a", "twice", key="k", keep=3) == first
    assert (await engine.append("b", "in another topic", key="k", keep=3)).offset == 1
    for number in range(3):
        await engine.append("a", str(number), key=str(number), keep=3)
    assert (await engine.append("a", "again", key="k", keep=3)).offset == 5, "it is kept no more"


async def test_what_is_not_kept_is_a_gap(engine: Engine) -> None:
    start = await head(engine, "a")
    for number in range(1, 11):
        newest = await engine.append("a", str(number), keep=4)
    kept = await page(engine, "a", Position(start.epoch, 6))
    assert kept is not None
    assert [entry.offset for entry in kept.entries] == [7, 8, 9, 10]
    assert await page(engine, "a", newest) is None
    for since in (start, Position(start.epoch, 5), Position(start.epoch, 11), Position("other", 10)):
        lost = await page(engine, "a", since)
        assert lost is not None
        assert (list(lost.entries), lost.position, lost.recovered) == ([], newest, False)


async def test_reading_waits_for_the_next_item_and_no_longer_than_it_may(engine: Engine) -> None:
    start = await head(engine, "a")
    assert await page(engine, "a", start, wait=0.05) is None
    async with anyio.create_task_group() as group:

        async def append() -> None:
            await anyio.sleep(0.05)
            await engine.append("a", "1")

        group.start_soon(append)
        with anyio.fail_after(30):
            found = None
            while found is None:
                found = await page(engine, "a", start, wait=10)
    assert [entry.data for entry in found.entries] == ["1"]


async def test_a_cancelled_read_loses_nothing_and_appends_nothing(engine: Engine) -> None:
    start = await head(engine, "a")
    for number in range(10):
        with anyio.move_on_after(0.01):
            await page(engine, "a", start, wait=10)
        await engine.append("a", str(number))
    found = await page(engine, "a", start)
    assert found is not None
    assert [entry.data for entry in found.entries] == [str(number) for number in range(10)]


async def test_appends_take_effect_in_the_order_of_the_calls(engine: Engine) -> None:
    start = await head(engine, "a")
    pending = [engine.append("a", str(number)) for number in range(2000)]
    assert [(await each).offset for each in pending] == [*range(1, 2001)]
    found = await page(engine, "a", start, limit=5000)
    assert found is not None
    assert [entry.data for entry in found.entries] == [str(number) for number in range(2000)]


async def test_a_feed_over_the_engine_gives_each_item_once(engine: Engine, serve_feed: Any) -> None:
    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(Feed("a", engine=engine))
        other = await stack.enter_async_context(Feed("a", engine=engine))
        start = feed.position
        served = await stack.enter_async_context(serve_feed(other))
        for number in range(1, 301):
            feed.publish(str(number))
        client = await stack.enter_async_context(served.client(since=start))
        for number in range(301, 601):
            feed.publish(str(number))
        with anyio.fail_after(30):
            await client.announced()
            assert await client.items(600) == [(number, str(number)) for number in range(1, 601)]
