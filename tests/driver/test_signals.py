"""Waking tasks, on both event loops."""

from __future__ import annotations

import anyio
import pytest

from wsstream.driver.signals import Signal

pytestmark = pytest.mark.anyio


async def test_a_signal_wakes_all_who_wait_and_nobody_later() -> None:
    signal, woken = Signal(), []

    async def wait(name: str) -> None:
        await signal.wait()
        woken.append(name)

    async with anyio.create_task_group() as group:
        signal.notify()  # before anybody waits
        group.start_soon(wait, "a")
        group.start_soon(wait, "b")
        await anyio.wait_all_tasks_blocked()
        assert (woken, signal.tasks_waiting) == ([], 2)
        signal.notify()
        assert signal.tasks_waiting == 0
        group.start_soon(wait, "c")
        await anyio.wait_all_tasks_blocked()
        assert (sorted(woken), signal.tasks_waiting) == (["a", "b"], 1)
        signal.notify()
    assert sorted(woken) == ["a", "b", "c"]


async def test_a_cancelled_wait_is_forgotten_and_the_others_go_on() -> None:
    signal, woken = Signal(), []

    async def wait(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await signal.wait()
            woken.append(name)

    scopes = [anyio.CancelScope() for _ in range(3)]
    async with anyio.create_task_group() as group:
        for name, scope in zip("abc", scopes, strict=True):
            group.start_soon(wait, name, scope)
        await anyio.wait_all_tasks_blocked()
        scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
        assert (woken, signal.tasks_waiting) == ([], 2)
        scopes[0].cancel()
        signal.notify()  # at the same moment
    assert woken[-1] == "c"
    assert "b" not in woken
    assert signal.tasks_waiting == 0


async def test_a_wait_in_a_cancelled_scope_is_cancelled() -> None:
    signal = Signal()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await signal.wait()
    assert scope.cancelled_caught
    assert signal.tasks_waiting == 0
