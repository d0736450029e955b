"""Table X, row 9 in virtual time: a slow consumer under a flooding peer is not a dead connection."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import anyio
import pytest

from wsstream import ConnectionBroken, Deflate, KeepaliveTimeout
from wsstream.testing import RateStream, RawPeer, connected_pair, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

NOISE = Random(9).randbytes(1 << 20)
KEEPALIVE = {"ping_interval": 1, "ping_timeout": 1}
NO_PINGS = {"ping_interval": None, "max_message_size": None}


async def consume_slowly(receive: Callable[[], Any], seconds: float, check: Callable[[Any], None]) -> int:
    """Take a message each half second; how many there were."""
    end, count = anyio.current_time() + seconds, 0
    while anyio.current_time() < end:
        await anyio.sleep(0.5)
        check(await receive())
        count += 1
    return count


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("size", [10, 65536, pytest.param(2**20, marks=pytest.mark.slow)])
async def test_x9_a_slow_consumer_survives_a_flooding_peer_for_a_minute(
    role: str, size: int, compression: Deflate | None
) -> None:
    message = NOISE[: size if compression is None else min(size, 2**18)]  # the receive mark, faster
    options: dict[str, Any] = {"client": NO_PINGS, "server": NO_PINGS, role: KEEPALIVE}
    options = {end: {**chosen, "compression": compression} for end, chosen in options.items()}
    async with (
        connected_pair(client_options=options["client"], server_options=options["server"]) as ends,
        anyio.create_task_group() as tasks,
    ):
        ours, peer = ends if role == "client" else reversed(ends)

        async def flood() -> None:
            while True:
                await peer.send(message)

        tasks.start_soon(flood)

        paused = 0

        async def receive() -> object:
            nonlocal paused
            paused += ours.statistics().reading_paused
            return await ours.receive()

        def check(received: object) -> None:
            assert received == message

        assert await consume_slowly(receive, 60, check) == 120
        assert ours.state == "open"
        assert paused > 100 or size > 100_000
        tasks.cancel_scope.cancel()


@pytest.mark.heavy
async def test_x9_over_a_slow_line_with_a_peer_that_answers_no_ping(raw_pair: Any) -> None:
    """Any byte is a sign of life. The line gives 4 KB/s, and the consumer takes 2 KB/s."""
    ours, theirs = memory_pair(4096)
    async with (
        raw_pair("client", (RateStream(ours, receive=4096), theirs), **KEEPALIVE) as (ws, peer),
        anyio.create_task_group() as tasks,
    ):

        async def flood() -> None:
            while True:
                await peer.binary(NOISE[:1024])

        tasks.start_soon(flood)
        assert await consume_slowly(ws.receive, 300, lambda message: None) == 600
        assert ws.state == "open"
        tasks.cancel_scope.cancel()


async def test_x9_any_byte_after_a_ping_is_a_sign_of_life(raw_pair: Any) -> None:
    """The peer answers no Ping, and a frame trickles in so slowly that one is due before each byte."""
    async with raw_pair(**KEEPALIVE) as (ws, peer):
        await peer.binary(b"x", declared_length=1000)
        async with ws.readable.message() as reader:
            assert await reader.receive() == b"x"
            for _ in range(40):
                await anyio.sleep(1.5)
                await peer.send(peer.part(b"x"))
                assert await reader.receive() == b"x"
        assert (await peer.read_frame()).kind == "ping"


async def test_x9_while_paused_unsolicited_pongs_go_out_and_no_ping_is_counted(raw_pair: Any) -> None:
    async with raw_pair(**KEEPALIVE) as (ws, peer), anyio.create_task_group() as tasks:
        frames: list[str] = []

        async def read() -> None:
            while True:
                frames.append((await peer.read_frame()).kind)

        async def flood() -> None:
            while True:
                await peer.binary(NOISE[:65536])

        tasks.start_soon(read)
        tasks.start_soon(flood)
        await anyio.sleep(60.5)
        assert ws.state == "open"
        assert ws.statistics().reading_paused
        assert frames.count("ping") <= 1
        assert frames.count("pong") >= 59
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("paused", [False, True], ids=["idle", "after-a-pause"])
async def test_x9_but_a_silent_peer_is_given_up_after_interval_and_timeout(
    raw_pair: Any, paused: bool
) -> None:
    async with raw_pair(**KEEPALIVE) as (ws, peer):
        if paused:
            await _flood_until_paused(ws, peer)
            await anyio.sleep(30)
            while ws.statistics().receive_buffered:
                await ws.receive()
        begin = anyio.current_time()
        with pytest.raises(ConnectionBroken) as raised:
            await ws.receive()
        assert isinstance(raised.value.__cause__, KeepaliveTimeout)
        assert 1 <= anyio.current_time() - begin <= 2.1


async def _flood_until_paused(ws: Any, peer: RawPeer) -> None:
    while not ws.statistics().reading_paused:
        await peer.binary(NOISE[:8192])
        await anyio.wait_all_tasks_blocked()
