"""How often other tasks run while one receives as fast as data comes, from a source that never ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from wsstream import FlowControl
from wsstream.codec.events import Chunk
from wsstream.driver.engine import Next
from wsstream.driver.fairness import STEPS_BETWEEN_YIELDS
from wsstream.driver.inbox import Inbox
from wsstream.driver.receiver import Receiver
from wsstream.protocol.state import State

pytestmark = pytest.mark.anyio


class Source:
    """An intake that always has a chunk more."""

    def __init__(self, after: Next) -> None:
        self.inbox = Inbox(FlowControl())
        self.after = after
        self.steps = 0
        self.yields: list[int] = []
        connection: Any = SimpleNamespace(state=State.OPEN)
        ending: Any = SimpleNamespace(receive_error=lambda: None)
        intake: Any = self
        sender: Any = None
        self.receiver = Receiver(self.inbox, intake, connection, ending, sender, limit=None, task_loop=None)

    def read_more(self) -> bool:
        self.steps += 1
        self.inbox.put([Chunk("binary", b"x", False, False)], 65)
        return True

    def next(self) -> Next:
        return self.after

    async def yield_after_step(self) -> None:
        self.yields.append(self.steps)


async def test_in_chunks_a_task_takes_some_steps_before_others_run() -> None:
    source = Source(Next.READ)
    await source.receiver.wait_for_data()
    assert source.yields == [1]  # before a message has begun, after each
    assert source.inbox.begin() == "binary"
    for _ in range(2 * STEPS_BETWEEN_YIELDS):
        await source.receiver.wait_for_data()
    assert source.yields == [1, 1 + STEPS_BETWEEN_YIELDS, 1 + 2 * STEPS_BETWEEN_YIELDS]


async def test_a_step_that_leaves_bytes_undecoded_is_the_last_one_of_its_turn() -> None:
    source = Source(Next.DECODE)
    source.read_more()
    assert source.inbox.begin() == "binary"
    for _ in range(3):
        await source.receiver.wait_for_data()
    assert source.yields == [2, 3, 4]
