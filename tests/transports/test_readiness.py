"""Readiness: a task and a callback that wait for a condition."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import anyio
import pytest

from wsstream.transports.readiness import Readiness

pytestmark = pytest.mark.anyio


class Turns:
    """An event loop whose turns the test takes."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def take(self) -> int:
        """Take a turn; returns how many callbacks it had."""
        due, self.soon = self.soon, []
        for callback in due:
            callback()
        return len(due)


class Owner:
    """What is ready as long as `left` is not 0; each call takes one."""

    def __init__(self, left: int = 0) -> None:
        self.left = left
        self.calls = 0
        self.turns = Turns()
        self.readiness = Readiness(self.turns, lambda: self.left > 0)

    def called(self) -> None:
        self.calls += 1
        self.left -= 1


async def test_it_calls_back_in_each_turn_as_long_as_it_is_ready() -> None:
    owner = Owner(left=2)
    owner.readiness.watch(owner.called)
    assert owner.calls == 0, "not at once"
    assert [owner.turns.take(), owner.turns.take(), owner.turns.take()] == [1, 1, 0]
    assert owner.calls == 2
    owner.left = 2
    owner.readiness.changed()
    assert owner.calls == 3, "a change is told at once"
    assert owner.turns.take() == 1


async def test_a_turn_has_one_call_and_none_after_unwatch() -> None:
    owner = Owner(left=9)
    owner.readiness.watch(owner.called)
    owner.readiness.changed()
    owner.readiness.changed()
    assert len(owner.turns.soon) == 1
    owner.readiness.unwatch()
    owner.turns.take()
    owner.readiness.changed()
    assert owner.calls == 2


async def test_a_task_waits_for_the_change() -> None:
    owner = Owner()
    async with anyio.create_task_group() as group:
        group.start_soon(owner.readiness.wait)
        await anyio.wait_all_tasks_blocked()
        owner.left = 1
        owner.readiness.changed()
    await owner.readiness.wait()  # it is ready


async def test_the_end_wakes_the_task_and_leaves_no_cycle() -> None:
    owner = Owner(left=1)
    owner.readiness.watch(owner.called)
    owner.left = 0
    async with anyio.create_task_group() as group:
        group.start_soon(owner.readiness.wait)
        await anyio.wait_all_tasks_blocked()
        owner.readiness.end()
    owner.turns.take()
    assert owner.calls == 0
    gc.disable()
    try:
        gone = weakref.ref(owner)
        del owner
        assert gone() is None
    finally:
        gc.enable()
