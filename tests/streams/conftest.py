"""What the tests of the streams share: virtual time, and a peer that a test plays itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest

import wsstream
from wsstream.testing import RawPeer, memory_pair


@pytest.fixture
def raw_server() -> Callable[..., AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, RawPeer]]]:
    """``async with raw_server(**options) as (ws, peer)``: a client of ours, and an idle server."""
    return _raw_server


@asynccontextmanager
async def _raw_server(
    headers: Iterable[tuple[str, str]] = (), **options: Any
) -> AsyncIterator[tuple[wsstream.WebSocketStream, RawPeer]]:
    ours, theirs = memory_pair(1 << 20)
    peers: list[RawPeer] = []

    async def accept() -> None:
        peers.append(await RawPeer.as_server(theirs, headers=headers))

    opening = wsstream.connect("ws://test/", transport=ours, **{"close_timeout": 1, **options})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(accept)
        ws = await opening.__aenter__()
    try:
        yield ws, peers[0]
    finally:
        await opening.__aexit__(None, None, None)
