"""Which Pong answers which Ping, and what a peer can do with Pongs that answer nothing."""

from __future__ import annotations

import anyio
import pytest
from anyio import wait_all_tasks_blocked

import wsstream
from wsstream.driver.pending_pings import Pings
from wsstream.testing import RawPeer, StallStream, memory_pair

pytestmark = pytest.mark.anyio


async def test_a_pong_answers_its_ping_and_all_before() -> None:
    pings = Pings()
    records = []
    for _ in range(3):
        records.append(pings.new())
        records[-1].waiters = 1
    first, second, third = records
    pings.receive_pong(second.payload, 12.5)
    assert [record.over for record in records] == [True, True, False]
    assert [record.answered for record in records] == [12.5, 12.5, None]
    pings.receive_pong(third.payload, 13.0)
    assert (third.over, third.answered) == (True, 13.0)
    assert first.answered == 12.5


async def test_each_ping_has_a_payload_of_its_own_of_8_bytes() -> None:
    pings = Pings()
    payloads = [pings.new().payload for _ in range(1000)]
    assert len(set(payloads)) == 1000
    assert {len(payload) for payload in payloads} == {8}


@pytest.mark.parametrize("payload", [b"", b"unasked", bytes(8), b"\xff" * 8])
async def test_a_pong_that_answers_nothing_is_ignored(payload: bytes) -> None:
    pings = Pings()
    pings.receive_pong(payload, 1.0)
    record = pings.new()
    pings.receive_pong(payload, 1.0)
    assert not record.over
    assert pings.latest is record


async def test_a_second_pong_for_the_same_ping_is_ignored() -> None:
    pings = Pings()
    answered = pings.new()
    pings.receive_pong(answered.payload, 1.0)
    waiting = pings.new()
    pings.receive_pong(answered.payload, 2.0)
    assert answered.answered == 1.0
    assert not waiting.over


async def test_pings_that_nobody_waits_for_are_forgotten() -> None:
    pings = Pings()
    kept = pings.new()
    kept.waiters = 1
    for _ in range(1000):
        forgotten = pings.new()
    latest = pings.new()
    pings.receive_pong(forgotten.payload, 1.0)
    assert not forgotten.over
    assert not kept.over
    pings.receive_pong(latest.payload, 2.0)
    assert (kept.answered, latest.answered) == (2.0, 2.0)


async def test_the_latest_is_the_one_made_last_until_it_is_answered() -> None:
    pings = Pings()
    assert pings.latest is None
    pings.new().waiters = 1
    latest = pings.new()
    assert pings.latest is latest
    pings.receive_pong(latest.payload, 1.0)
    assert pings.latest is None


async def test_when_no_pong_can_come_all_are_woken_without_an_answer() -> None:
    pings = Pings()
    record = pings.new()

    async def wait() -> None:
        await record.wait()
        assert record.answered is None

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        pings.wake_all()
    assert pings.latest is None
    pings.receive_pong(record.payload, 1.0)
    assert record.answered is None


async def test_a_guessed_pong_for_a_ping_that_has_not_left_breaks_nothing() -> None:
    near, far = memory_pair()
    stalled = StallStream(near, receive=False, send=False)
    async with anyio.create_task_group() as tasks, far:
        peers: list[RawPeer] = []

        async def answer() -> None:
            peers.append(await RawPeer.as_server(far))

        tasks.start_soon(answer)
        async with wsstream.connect("ws://test/", transport=stalled, ping_interval=None) as ws:
            (peer,) = peers
            stalled.stall(receive=False)
            await ws.send("keeps the transport busy")
            times: list[float] = []

            async def ping() -> None:
                times.append(await ws.ping())

            tasks.start_soon(ping)
            await wait_all_tasks_blocked()
            assert times == []
            for guess in range(10):
                await peer.pong(guess.to_bytes(8, "big"))
            await wait_all_tasks_blocked()
            tasks.start_soon(ping)
            await wait_all_tasks_blocked()
            stalled.resume()
            await peer.read_frame()
            await peer.pong((await peer.read_frame()).payload)
            await wait_all_tasks_blocked()
            assert len(times) == 2
            ws.abort()
