"""`Publications`: an engine that takes its time, or refuses."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import anyio
import pytest

from wsstream.feeds import Feed, MemoryEngine, Page, Position
from wsstream.feeds.publications import Publications

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class SlowEngine:
    """Takes each item in a coroutine, after `delay` seconds; what is ``"refused"`` is."""

    def __init__(self, delay: float = 1) -> None:
        self.delay = delay
        self.memory = MemoryEngine()
        self.failures = 0  # of reads to come

    async def append(
        self, topic: str, data: str | bytes, *, key: str | None = None, keep: int = 10_000
    ) -> Position:
        await anyio.sleep(self.delay)
        if data == "refused":
            raise OSError("refused")
        return await self.memory.append(topic, data, key=key, keep=keep)

    async def after(
        self, topics: Mapping[str, Position | None], *, limit: int, wait: float
    ) -> Mapping[str, Page]:
        if self.failures:
            self.failures -= 1
            raise OSError("away")
        return await self.memory.after(topics, limit=limit, wait=wait)


async def test_what_is_appended_comes_after_what_was_published() -> None:
    publications = Publications(SlowEngine(), "a", 10, alone=False, delivered=lambda: 0)
    publications.publish("1", None)
    publications.publish("2", None)
    assert len(publications) == 2
    assert (await publications.append("3", None)).offset == 3
    assert len(publications) == 0
    assert anyio.current_time() == pytest.approx(3)


async def test_no_more_than_ten_thousand_wait_for_the_engine() -> None:
    publications = Publications(SlowEngine(0), "a", 10, alone=False, delivered=lambda: 0)
    for _ in range(10_000):
        publications.publish("1", None)
    with pytest.raises(anyio.WouldBlock):
        publications.publish("one too many", None)
    await publications.drain()
    publications.publish("again", None)
    await publications.drain()


async def test_what_the_engine_refuses_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "wsstream.feeds")
    async with Feed("a", engine=SlowEngine()) as feed:
        for data in ("refused", "1", "refused"):
            feed.publish(data)
        assert feed.statistics().unconfirmed == 3
        with pytest.raises(OSError, match="refused"):
            await feed.append("refused")
        assert feed.statistics().lost == 2
        assert feed.statistics().unconfirmed == 0
    assert ["a publication was lost" in record.getMessage() for record in caplog.records] == [True]


async def test_the_end_of_a_feed_waits_for_the_engine_no_longer_than_five_seconds() -> None:
    engine = SlowEngine()
    async with Feed("a", engine=engine) as feed:
        start = anyio.current_time()
        for _ in range(3):
            feed.publish("1")
    assert anyio.current_time() - start == pytest.approx(3)
    async with Feed("b", engine=engine) as feed:
        start = anyio.current_time()
        for _ in range(100):
            feed.publish("1")
    assert anyio.current_time() - start == pytest.approx(5)


async def test_a_reader_that_fails_goes_on_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    engine = SlowEngine()
    async with Feed("a", engine=engine) as feed:
        await anyio.sleep(1)
        engine.failures = 3
        await feed.append("1")
        while feed.position.offset < 1:
            await anyio.sleep(0.1)
    assert [record.getMessage() for record in caplog.records] == ["feeds cannot be read: away"]
