"""`RedisEngine`: what becomes of positions and of what is on its way when Redis is restarted or away."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
from kit.redis_server import UNCLOSED, RedisServer, redis_server
from kit.waiting import until

from wsstream.feeds import Entry, Feed, Page, Position, RedisEngine

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.filterwarnings(UNCLOSED)]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    pytest.importorskip("coredis")
    with redis_server() as server:
        yield server


async def read(engine: RedisEngine, since: Position | None) -> Page | None:
    with anyio.fail_after(30):
        while True:
            try:
                return (await engine.after({"a": since}, limit=1000, wait=0)).get("a")
            except OSError:
                await anyio.sleep(0.05)


async def test_after_a_restart_that_lost_nothing_positions_are_still_known(redis: RedisServer) -> None:
    async with RedisEngine(redis.url) as engine:
        old = await engine.append("a", "1")
        await engine.append("a", "2")
        redis.stop()
        redis.start()
        third = await engine.append("a", "3")
        assert third.offset == 3
        assert third.epoch != old.epoch
        found = await read(engine, old)
        assert found == Page([Entry(2, "2"), Entry(3, "3")], third)


async def test_offsets_that_were_lost_are_a_gap_though_others_have_them_now(redis: RedisServer) -> None:
    """The case that no comparison of offsets finds: the new items have taken the place of the lost ones."""
    async with RedisEngine(redis.url) as engine:
        kept = await engine.append("a", "kept")
        await anyio.to_thread.run_sync(redis.save)
        lost = [await engine.append("a", f"lost {number}") for number in (2, 3)]
        redis.stop(lose=True)
        redis.start()
        new = [await engine.append("a", f"new {number}") for number in (2, 3, 4)]
        assert [position.offset for position in new] == [2, 3, 4]
        for position in lost:
            assert await read(engine, position) == Page([], new[-1], recovered=False)
        found = await read(engine, kept)
        assert found is not None
        assert [entry.data for entry in found.entries] == ["new 2", "new 3", "new 4"]
        redis.stop(lose=True)  # once more, back to the same item
        redis.start()
        newest = await read(engine, None)
        assert newest is not None
        assert newest.position.offset == 1
        assert await read(engine, new[0]) == Page([], newest.position, recovered=False)
        assert await read(engine, kept) == Page([], newest.position)


async def test_a_server_that_lost_everything_begins_anew(redis: RedisServer) -> None:
    async with RedisEngine(redis.url) as engine:
        old = await engine.append("a", "1")
        redis.stop(lose=True)
        redis.start()
        new = await engine.append("a", "1 again")
        assert new.offset == 1
        assert await read(engine, old) == Page([], new, recovered=False)


async def test_what_is_appended_while_redis_is_away_arrives_once_and_in_order(redis: RedisServer) -> None:
    async with RedisEngine(redis.url) as engine, Feed("a", engine=engine) as feed:
        start = await feed.append("0")
        await anyio.to_thread.run_sync(redis.save)
        redis.stop()
        for number in range(1, 101):
            feed.publish(str(number))
        await anyio.sleep(0.3)
        assert feed.statistics().unconfirmed == 100
        redis.start()
        assert (await feed.append("last", key="last")).offset == 102
        assert (await feed.append("last", key="last")).offset == 102
        found = await read(engine, start)
        assert found is not None
        assert [entry.data for entry in found.entries] == [*(str(number) for number in range(1, 101)), "last"]
        await until(lambda: not feed.statistics().unconfirmed, pause=0.01)
        assert feed.statistics().lost == 0


async def test_an_engine_that_cannot_reach_redis_says_so(redis: RedisServer) -> None:
    redis.stop(lose=True)
    with pytest.raises(OSError, match="Redis cannot be reached"):
        await RedisEngine(redis.url).__aenter__()
    with pytest.raises(RuntimeError, match="not open"):
        RedisEngine(redis.url).append("a", "1")
    with pytest.raises(TypeError, match="url must be a str, got int"):
        RedisEngine(5)  # type: ignore[arg-type]


async def test_leaving_an_engine_fails_what_was_not_appended(redis: RedisServer) -> None:
    async with RedisEngine(redis.url) as engine:
        redis.stop(lose=True)
        pending = engine.append("a", "1")
    with pytest.raises(OSError, match="closed before"):
        await pending


async def test_an_item_that_redis_refuses_is_an_error_and_the_next_is_not(redis: RedisServer) -> None:
    async with RedisEngine(redis.url) as engine:
        await engine.append("a", "1")
        client = engine._new_client()
        async with client:
            await client.set(engine._keys("b")[1], "no hash")
        with pytest.raises(OSError, match="Redis did not take the item"):
            await engine.append("b", "1")
        assert (await engine.append("a", "2")).offset == 2
