"""The readers and writers of one message: how their blocks are used, and what a writer takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wsstream import WebSocketStream
from wsstream.testing import connected_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


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
    ("block", "use"),
    [
        (lambda ws: ws.readable.message(), "async with ws.readable.message() as message"),
        (lambda ws: ws.writable.message("text"), "async with ws.writable.message() as message"),
    ],
    ids=["readable", "writable"],
)
async def test_a_block_that_is_used_otherwise_says_what_to_write(
    block: Callable[[WebSocketStream], Any], use: str, misuse: Callable[[Any], Any]
) -> None:
    async with connected_pair() as (client, server):
        with pytest.raises(TypeError) as caught:
            await misuse(block(client))
        assert str(caught.value) == f'use "{use}"'
        await client.send("the connection goes on")
        assert await server.receive() == "the connection goes on"


async def test_what_is_not_bytes_like_is_told_what_it_was_given_to() -> None:
    async with connected_pair() as (client, server):
        with pytest.raises(TypeError, match=r"^a message must be str or bytes-like, not int$"):
            await client.send(5)  # type: ignore[arg-type]
        async with client.writable.message() as writer:
            for wrong in ("text", 5):
                kind = type(wrong).__name__
                with pytest.raises(TypeError, match=f"^a binary message takes bytes, not {kind}$"):
                    await writer.send(wrong)
            await writer.send(b"bytes")
        async with client.writable.message("text") as writer:
            with pytest.raises(TypeError, match=r"^a text message takes str or bytes, not NoneType$"):
                await writer.send(None)  # type: ignore[arg-type]
            await writer.send("text")
        assert [await server.receive(), await server.receive()] == [b"bytes", "text"]
