"""Test a handler without a network: a connected pair in memory, and a clock that need not wait.

Usage: pytest testing_your_app.py
"""

from typing import Any

import anyio
import pytest

from wsstream import WebSocketStream
from wsstream.testing import connected_pair, virtual_clock


async def ticker(ws: WebSocketStream) -> None:
    """The application: a tick a minute, until the peer says stop."""
    async with anyio.create_task_group() as tasks:

        async def tick() -> None:
            while True:
                await anyio.sleep(60)
                await ws.send("tick")

        tasks.start_soon(tick)
        await ws.receive()
        tasks.cancel_scope.cancel()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_clock(request.param)


@pytest.mark.anyio
async def test_it_ticks_once_a_minute() -> None:
    async with connected_pair() as (client, server), anyio.create_task_group() as tasks:
        tasks.start_soon(ticker, server)
        start = anyio.current_time()
        assert [await client.receive() for _ in range(3)] == ["tick"] * 3
        assert anyio.current_time() - start == pytest.approx(180)
        await client.send("stop")
