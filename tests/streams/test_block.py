"""Blocks that are used otherwise than with `async with` say what to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wsstream import WebSocketStream
from wsstream.testing import connected_pair

pytestmark = pytest.mark.anyio


async def awaited(block: Any) -> None:
    await block


async def entered_by_with(block: Any) -> None:
    with block:
        pass


async def iterated(block: Any) -> None:
    async for _ in block:
        pass


@pytest.mark.parametrize("misuse", [awaited, entered_by_with, iterated])
@pytest.mark.parametrize(
    ("block", "usage"),
    [
        (lambda ws: ws.readable.message(), "async with ws.readable.message() as message"),
        (lambda ws: ws.writable.message("text"), "async with ws.writable.message() as message"),
    ],
    ids=["readable", "writable"],
)
async def test_a_block_says_how_it_is_used(
    block: Callable[[WebSocketStream], Any], usage: str, misuse: Callable[[Any], Any]
) -> None:
    async with connected_pair() as (client, server):
        with pytest.raises(TypeError) as caught:
            await misuse(block(client))
        assert str(caught.value) == f"use it as a block: {usage}"
        await client.send("the connection goes on")
        assert await server.receive() == "the connection goes on"
