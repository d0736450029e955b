"""Handlers and clients that do the obvious."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from wsstream import WebSocketStream, accept, connect
from wsstream.testing import MemoryStream, RawPeer, memory_pair

__all__ = ["against_peer", "check_echo", "echo", "fail_to_connect", "stay_open"]


async def echo(ws: WebSocketStream) -> None:
    """A handler that sends every message back."""
    async for message in ws:
        await ws.send(message)


async def stay_open(ws: WebSocketStream) -> None:
    """A handler that reads nothing and waits for the end."""
    await ws.wait_closed()


async def check_echo(ws: WebSocketStream) -> None:
    """Check that the other end echoes."""
    await ws.send("there and back")
    assert await ws.receive() == "there and back"


async def fail_to_connect(url: str = "ws://testserver/", **options: Any) -> None:
    """Try to connect; the test wants the error."""
    async with connect(url, **options):
        pytest.fail("connected")


@asynccontextmanager
async def against_peer(
    role: str = "client",
    streams: tuple[MemoryStream, MemoryStream] | None = None,
    *,
    headers: Iterable[tuple[str, str]] = (),
    **options: Any,
) -> AsyncIterator[tuple[WebSocketStream, RawPeer]]:
    """Our endpoint in `role`, and a peer that the test plays and that does nothing by itself.

    `headers` are the peer's, `options` ours. As the peer answers no Close, `close_timeout` is 1 second.
    """
    ours, theirs = streams or memory_pair(1 << 20)
    peers: list[RawPeer] = []

    async def open_peer() -> None:
        as_other = RawPeer.as_server if role == "client" else RawPeer.as_client
        peers.append(await as_other(theirs, headers=headers))

    options = {"close_timeout": 1, **options}
    opening = (
        connect("ws://test/", transport=ours, **options) if role == "client" else accept(ours, **options)
    )
    async with AsyncExitStack() as stack:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_peer)
            ws = await stack.enter_async_context(opening)
        yield ws, peers[0]
