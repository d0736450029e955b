"""When messages that are sent one after the other leave: alone, or as a burst. The time is the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

import wsstream
from wsstream.driver import sender
from wsstream.driver.pump import Pump
from wsstream.protocol.deflate import Deflater
from wsstream.testing import connected_pair

pytestmark = pytest.mark.anyio

COMPRESSING = 60e-6  # seconds that the compressor takes for each message
MESSAGE = "message" * 100


class Times:
    """What the clock says, and when messages were compressed and left."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sending = 0.0  # seconds that a step takes which sends something
        self.waiting: list[float] = []
        self.bursts: list[list[float]] = []  # for each burst that left, how long each message was held

    def compress(self) -> None:
        self.now += COMPRESSING
        self.waiting.append(self.now)

    def leave(self) -> None:
        if self.waiting:
            self.bursts.append([self.now - began for began in self.waiting])
            self.waiting = []
            self.now += self.sending


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    """The clock does not move by itself: it stands still while a task runs, as that of uvloop does."""
    times = Times()
    compress, step = Deflater.compress, Pump.step

    def compress_for_a_while(self: Deflater, payload: bytes, *, last: bool) -> bytes:
        times.compress()
        return compress(self, payload, last=last)

    def step_at(self: Pump, *, called: bool = False) -> None:
        times.leave()
        step(self, called=called)

    monkeypatch.setattr(sender, "monotonic", lambda: times.now)
    monkeypatch.setattr(Deflater, "compress", compress_for_a_while)
    monkeypatch.setattr(Pump, "step", step_at)
    return times


@pytest.fixture
async def ws(times: Times) -> AsyncIterator[wsstream.WebSocketStream]:
    options = {"compression": wsstream.Deflate()}
    async with connected_pair(client_options=options, server_options=options) as (client, server):
        server.readable.discard()
        yield client


def sizes(times: Times) -> list[int]:
    return [len(burst) for burst in times.bursts]


async def test_messages_are_a_burst_however_long_each_takes_to_compress(
    ws: wsstream.WebSocketStream, times: Times
) -> None:
    for _ in range(10):
        await ws.send(MESSAGE)
    assert sizes(times) == [1]
    await anyio.wait_all_tasks_blocked()
    assert sizes(times) == [1, 9]


async def test_no_message_of_a_burst_is_held_for_longer_than_a_millisecond(
    ws: wsstream.WebSocketStream, times: Times
) -> None:
    for _ in range(200):
        await ws.send(MESSAGE)
    await anyio.wait_all_tasks_blocked()
    assert sum(sizes(times)) == 200
    assert max(max(burst) for burst in times.bursts) < 1e-3 + COMPRESSING
    assert len(times.bursts) < 20


async def test_a_message_that_comes_later_leaves_alone(ws: wsstream.WebSocketStream, times: Times) -> None:
    for _ in range(5):
        await ws.send(MESSAGE)
        times.now += 60e-6
    assert sizes(times) == [1] * 5


async def test_the_time_that_sending_takes_is_not_a_pause(ws: wsstream.WebSocketStream, times: Times) -> None:
    times.sending = 200e-6
    for _ in range(3):
        await ws.send(MESSAGE)
    assert sizes(times) == [1]
