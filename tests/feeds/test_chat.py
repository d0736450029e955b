"""The chat of the examples: short, and correct with a client that does not read."""

from __future__ import annotations

import ast
import logging
import runpy
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit.waiting import until

from wsstream import FlowControl
from wsstream.testing import serving

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CHAT = Path(__file__).parents[2] / "examples" / "chat.py"


def test_it_is_a_program_of_fifteen_lines() -> None:
    """Without its imports, and without the clients that show it."""
    lines: set[int] = set()
    for statement in ast.parse(CHAT.read_text()).body[1:]:
        if not isinstance(statement, ast.Import | ast.ImportFrom | ast.If):
            for node in ast.walk(statement):
                lines |= {node.lineno} if isinstance(node, ast.stmt) else set()
            lines |= {each.lineno for each in getattr(statement, "decorator_list", [])}
        if getattr(statement, "name", "") == "main":
            shown = statement.body[0].body[-1]  # type: ignore[attr-defined]
            assert "connect" in ast.unparse(shown.items[0])
            lines -= set(range(shown.lineno, shown.end_lineno + 1))
    assert len(lines) <= 14, "serve_forever() is the last"


async def test_a_client_that_does_not_read_is_closed_and_nobody_waits_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    program: dict[str, Any] = runpy.run_path(str(CHAT))
    small = FlowControl(receive_high_water=1024)
    caplog.set_level(logging.WARNING, "wsstream.feeds")
    async with (
        program["rooms"]["lobby"] as room,
        program["rooms"]["python"],
        serving(program["router"], shutdown_timeout=1) as server,
        server.connect("/chat/lobby") as ann,
        server.connect("/chat/lobby") as bob,
        server.connect("/chat/lobby", flow=small) as silent,
        server.connect("/chat/python") as elsewhere,
    ):
        await until(lambda: room.statistics().followers == 3)
        start = anyio.current_time()
        for number in range(300):
            await ann.send(f"{number} " + "x" * 10_000)
            for reader in (ann, bob):
                message = await reader.receive()
                assert message.split()[0] == str(number)
        assert anyio.current_time() - start < 1, "nobody was late"
        assert room.statistics().evicted == 1
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        await elsewhere.send("alone")
        assert await elsewhere.receive() == "alone"
        await silent.aclose()
