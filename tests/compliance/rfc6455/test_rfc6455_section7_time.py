"""RFC 6455 section 7.1: what becomes of TCP when the peer does not do its part, and what is still read.

Time is virtual: nothing here waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

import wsstream
from wsstream import CloseInfo
from wsstream.testing import RawPeer, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CLOSE_TIMEOUT = 7

TIMES: dict[str, tuple[list[str], float, CloseInfo]] = {
    # What happens, the seconds after which TCP is closed by us, and what is known then.
    "7.1.1-server-closes-at-once": (["server", "we close", "answer"], 0, CloseInfo(1000, "", True)),
    "7.1.1-server-closes-at-once-when-the-peer-began": (["server", "close"], 0, CloseInfo(1000, "", True)),
    "7.1.1-client-waits-for-the-server": (
        ["client", "we close", "answer", "eof in 3"],
        3,
        CloseInfo(1000, "", True),
    ),
    "7.1.1-client-waits-no-longer-than-it-was-told": (
        ["client", "we close", "answer"],
        7,
        CloseInfo(1000, "", True),
    ),
    "7.1.1-client-waits-no-longer-when-the-peer-began": (["client", "close"], 7, CloseInfo(1000, "", True)),
    "7.1.2-no-answer-to-our-close": (["both", "we close"], 7, CloseInfo(1006, "", False)),
    "7.1.2-data-is-no-answer-to-our-close": (["both", "we close", "flood"], 7, CloseInfo(1006, "", False)),
    "7.1.7-peer-closes-tcp-when-failed": (
        ["both", "violate", "eof in 3"],
        3,
        CloseInfo(1002, "opcode 3 is reserved", False),
    ),
    "7.1.7-peer-does-nothing-when-failed": (
        ["both", "violate"],
        7,
        CloseInfo(1002, "opcode 3 is reserved", False),
    ),
    "7.1.7-peer-answers-when-failed": (
        ["both", "violate", "answer"],
        7,
        CloseInfo(1002, "opcode 3 is reserved", False),
    ),
}


@asynccontextmanager
async def opened(role: str) -> AsyncIterator[tuple[wsstream.WebSocketStream, RawPeer]]:
    ours, theirs = memory_pair()
    peers: list[RawPeer] = []

    async def open_peer() -> None:
        peers.append(await (RawPeer.as_server if role == "client" else RawPeer.as_client)(theirs))

    async with AsyncExitStack() as stack:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_peer)
            options: dict[str, Any] = {"close_timeout": CLOSE_TIMEOUT, "ping_interval": None}
            connect = wsstream.connect("ws://a.example", transport=ours, **options)
            opening = connect if role == "client" else wsstream.accept(ours, **options)
            ws = await stack.enter_async_context(opening)
        yield ws, peers[0]


async def flood(peer: RawPeer) -> None:
    with pytest.raises(anyio.BrokenResourceError):
        while True:
            await peer.binary(bytes(1000))
            await anyio.sleep(0.1)


async def act(what: str, ws: wsstream.WebSocketStream, peer: RawPeer, tasks: Any) -> None:
    match what.split():
        case ["we", "close"]:
            ws.begin_close(1000)
        case ["answer" | "close"]:
            await peer.close(1000)
        case ["violate"]:
            await peer.frame(3)
        case ["flood"]:
            tasks.start_soon(flood, peer)
        case ["eof", "in", seconds]:
            await anyio.sleep(float(seconds))
            await peer.aclose()
        case _:
            pytest.fail(what)


@pytest.mark.parametrize(
    ("row", "role"),
    [
        pytest.param(row, role, id=f"{name}-{role}")
        for name, row in TIMES.items()
        for role in ("client", "server")
        if row[0][0] in (role, "both")
    ],
)
async def test_who_closes_tcp_and_when(row: Any, role: str) -> None:
    (_, *steps), seconds, info = row
    async with opened(role) as (ws, peer), anyio.create_task_group() as tasks:
        start = anyio.current_time()
        for step in steps:
            await act(step, ws, peer, tasks)
        if info.clean:
            assert await ws.wait_closed() == info
        else:
            with pytest.raises(wsstream.ConnectionBroken) as caught:
                await ws.wait_closed()
            assert caught.value.info == info
        assert seconds <= anyio.current_time() - start <= seconds + 0.2
        assert ws.state == "closed"
