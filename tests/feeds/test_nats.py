"""The bridge from NATS JetStream in docs/how-to/feeds.md, with a real server. nats-py needs asyncio."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit.programs import find_program, free_port, wait_for_port
from kit.waiting import until

from wsstream.feeds import Feed, Position

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "feeds.md"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [find_program("nats-server"), "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_the_bridge_of_the_page_publishes_each_message_once(servers: str) -> None:
    nats = pytest.importorskip("nats")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if "import nats" in block]
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    async with Feed("news") as feed:
        start = feed.position
        async with await nats.connect(servers) as client:
            stream = client.jetstream()
            await stream.add_stream(name="NEWS", subjects=["news"])
            for number in range(1, 51):
                await stream.publish("news", str(number).encode())
            async with anyio.create_task_group() as group:
                group.start_soon(names["bridge"], feed, servers, "NEWS", "news")
                await until(lambda: feed.position.offset >= 50, pause=0.01)
                group.cancel_scope.cancel()
            await stream.delete_consumer("NEWS", "feed")  # so that all of it is delivered another time
            await stream.publish("news", b"51")
            async with anyio.create_task_group() as group:
                group.start_soon(names["bridge"], feed, servers, "NEWS", "news")
                await until(lambda: feed.position.offset >= 51, pause=0.01)
                await anyio.sleep(0.2)
                group.cancel_scope.cancel()
        pages = await feed._engine.after({"news": Position(start.epoch, 0)}, limit=100, wait=0)
        assert [entry.data for entry in pages["news"].entries] == [str(n).encode() for n in range(1, 52)]
