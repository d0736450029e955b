"""`RedisAppends`: in order, in pipelines, again after a failure, and no more than fits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from wsstream.feeds import Position
from wsstream.feeds.redis_appends import Call, RedisAppends

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Redis:
    """Answers as the script does, with the number of the item."""

    def __init__(self) -> None:
        self.pipelines: list[list[Any]] = []
        self.away = 0  # calls that fail yet

    async def send(self, calls: Sequence[Call]) -> list[Any]:
        await anyio.lowlevel.checkpoint()
        self.pipelines.append([arguments[0] for _, arguments in calls])
        if self.away:
            self.away -= 1
            raise ConnectionResetError
        return [
            ValueError("wrong") if arguments[0] == "wrong" else [b"a", str(number).encode()]
            for number, (_, arguments) in enumerate(calls, 1)
        ]


@asynccontextmanager
async def running(redis: Redis) -> AsyncIterator[RedisAppends]:
    appends = RedisAppends(redis.send, (OSError,))
    async with anyio.create_task_group() as group:
        group.start_soon(appends.run)
        yield appends
        group.cancel_scope.cancel()


async def test_items_of_one_turn_leave_in_one_pipeline_and_a_refused_one_fails_alone() -> None:
    async with running(redis := Redis()) as appends:
        one, two, three = (appends.add(["k"], [data]) for data in ("1", "wrong", "3"))
        assert await one == Position("a", 1)
        with pytest.raises(OSError, match="did not take the item: wrong"):
            await two
        assert await three == Position("a", 3)
    assert redis.pipelines == [["1", "wrong", "3"]]


async def test_a_pipeline_has_500_items_or_a_mebibyte() -> None:
    async with running(redis := Redis()) as appends:
        for _ in range(501):
            last = appends.add(["k"], ["x"])
        await last
        for _ in range(3):
            last = appends.add(["k"], [bytes(600 * 1024)])
        await last
    assert list(map(len, redis.pipelines)) == [500, 1, 1, 1, 1]


async def test_after_a_failure_the_same_items_go_again_and_later(caplog: pytest.LogCaptureFixture) -> None:
    async with running(redis := Redis()) as appends:
        redis.away = 3
        start = anyio.current_time()
        await appends.add(["k"], ["1"])
        assert anyio.current_time() - start == pytest.approx(0.05 + 0.1 + 0.2)
    assert redis.pipelines == [["1"]] * 4
    assert len(caplog.records) == 1, "the log has one line"


async def test_no_more_than_64_mebibytes_wait_and_those_fail_at_the_end() -> None:
    appends = RedisAppends(Redis().send, (OSError,))
    first = appends.add(["k"], [bytes(40 << 20)])
    with pytest.raises(anyio.WouldBlock):
        appends.add(["k"], [bytes(30 << 20)])
    second = appends.add(["k"], ["small"])
    appends.fail(OSError("closed"))
    for item in (first, second):
        with pytest.raises(OSError, match="closed"):
            await item
    appends.add(["k"], [bytes(30 << 20)])
