"""Two processes serve one feed over one Redis, and both are killed and restarted."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync
from kit.processes import environment
from kit.programs import free_port
from kit.redis_server import UNCLOSED, RedisServer, redis_server
from kit.waiting import until

from wsstream.feeds import Item, RedisEngine, follow

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.filterwarnings(UNCLOSED)]

PROGRAM = Path(__file__).with_name("feed_server.py")
FOLLOWERS = 200


class Servers:
    """Two server processes."""

    def __init__(self, redis: RedisServer, backend: str) -> None:
        self._arguments = [redis.url, backend]
        self.ports = [free_port(), free_port()]
        self._running: dict[int, subprocess.Popen[str]] = {}
        for port in self.ports:
            self.start(port)

    def start(self, port: int) -> None:
        process = self._running[port] = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(port), *self._arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(measured=False),
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def kill(self, port: int) -> None:
        process = self._running.pop(port)
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()

    def stop(self) -> None:
        for port in list(self._running):
            self.kill(port)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    pytest.importorskip("coredis")
    with redis_server() as server:
        yield server


@pytest.mark.parametrize("lose", [False, True], ids=["kept", "lost"])
async def test_each_follower_has_no_gap_and_no_duplicate_or_is_told(
    redis: RedisServer, anyio_backend_name: str, lose: bool
) -> None:
    with ExitStack() as stack:
        servers = await run_sync(Servers, redis, anyio_backend_name)
        stack.callback(servers.stop)
        got: list[list[Item]] = [[] for _ in range(FOLLOWERS)]
        published = 0

        async def read(number: int) -> None:
            url = f"ws://127.0.0.1:{servers.ports[number % 2]}"
            async with follow(url, delays=[0.1] * 1000) as items:
                async for item in items:
                    got[number].append(item)
                    if item.data == "last":
                        return

        async def publish(engine: RedisEngine) -> None:
            nonlocal published
            published += 1
            await engine.append("news", str(published))

        async def go_on_publishing(engine: RedisEngine) -> None:
            while True:
                await publish(engine)
                await anyio.sleep(0.01)

        async def all_have_the_next(engine: RedisEngine) -> None:
            """Publish an item, and wait until each follower has something new."""
            counts = list(map(len, got))
            await publish(engine)
            await until(lambda: all(len(items) > count for items, count in zip(got, counts, strict=True)))

        with anyio.fail_after(100):
            async with RedisEngine(redis.url) as engine, anyio.create_task_group() as group:
                for number in range(FOLLOWERS):
                    group.start_soon(read, number)
                while not all(got):  # each has its first item
                    await publish(engine)
                    await anyio.sleep(0.02)
                async with anyio.create_task_group() as publishers:
                    publishers.start_soon(go_on_publishing, engine)
                    await anyio.sleep(0.2)
                    await run_sync(servers.kill, servers.ports[0])
                    await anyio.sleep(0.2)
                    await run_sync(servers.start, servers.ports[0])
                    publishers.cancel_scope.cancel()
                if lose:
                    await all_have_the_next(engine)
                    await run_sync(redis.save)
                    await all_have_the_next(engine)  # and so each has one of those that will be lost
                async with anyio.create_task_group() as publishers:
                    publishers.start_soon(go_on_publishing, engine)
                    await anyio.sleep(0.2)
                    await run_sync(lambda: redis.stop(lose=lose))
                    await anyio.sleep(0.2)
                    await run_sync(redis.start)
                    publishers.cancel_scope.cancel()
                await all_have_the_next(engine)  # or a gap, which takes up to a second
                await engine.append("news", "last", key="last")
                await until(lambda: all(items[-1].data == "last" for items in got))
        gaps = [check(items) for items in got]
        if lose:
            assert min(gaps) >= 1, "what was lost is told to each"
        else:
            assert max(gaps) == 0, "nothing was lost"


def check(items: list[Item]) -> int:
    """How many gaps were told; no item is twice, and none is missing without one."""
    gaps = 0
    for before, item in pairwise(items):
        if item.recovered:
            assert item.position.offset == before.position.offset + 1
            if before.recovered and item.data != "last":
                assert before.data is not None
                assert item.data is not None
                assert int(item.data) == int(before.data) + 1
        else:
            gaps += 1
    data = Counter(item.data for item in items if item.recovered)
    assert set(data.values()) == {1}
    return gaps
