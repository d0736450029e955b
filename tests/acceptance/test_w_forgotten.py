"""W63: a connection that is forgotten with sends pending ends without a crash and without noise."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import pytest
from kit.waiting import until

import wsstream
from wsstream.testing import RawPeer, memory_pair, virtual_clock


@pytest.mark.heavy_after_first
@pytest.mark.anyio
@pytest.mark.virtual_time
@pytest.mark.parametrize("count", [1, 20])
async def test_w63_dropping_everything_with_sends_pending_makes_no_noise(count: int) -> None:
    """The peer vanishes after the application has forgotten the connection without leaving its block."""
    ours, theirs = memory_pair(4096)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RawPeer.as_server, theirs)
        connection: Any = wsstream.connect("ws://testserver/", transport=ours)
        ws = await connection.__aenter__()
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(ws.send, bytes(1 << 20))
        await until(lambda: ws.statistics().tasks_waiting_send == count)  # noqa: F821 - not deleted yet
        tasks.cancel_scope.cancel()
    del ws, connection
    gc.collect()
    await theirs.aclose()
    await until(lambda: not any("wsstream" in (t.name or "") for t in anyio.get_running_tasks()))
    gc.collect()


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_w63_the_end_of_the_event_loop_with_sends_pending_makes_no_noise(
    backend: str, count: int, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        ours, theirs = memory_pair(4096)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(RawPeer.as_server, theirs)
            ws = await wsstream.connect("ws://testserver/", transport=ours).__aenter__()
        with anyio.move_on_after(1):
            async with anyio.create_task_group() as tasks:
                for _ in range(count):
                    tasks.start_soon(ws.send, bytes(1 << 20))
        assert ws.state == "open"

    name, options = virtual_clock(backend)
    anyio.run(main, backend=name, backend_options=options)
    gc.collect()
    assert capfd.readouterr() == ("", "")
