"""A gate: whoever acts in place of an event loop is done before that goes on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from wsstream.transports.gate import Gate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="asyncio's usual loop waits otherwise there")


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def loop(gate: Gate) -> Iterator[Any]:
    """An event loop that runs in another thread."""
    assert gate.loop_factory is not None
    loop = gate.loop_factory()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def until_asleep(gate: Gate) -> None:
    while not gate.asleep:
        time.sleep(0.001)


def test_the_event_loop_waits_for_the_thread_that_acts(gate: Gate, loop: Any) -> None:
    called = threading.Event()
    until_asleep(gate)
    with gate.lock:
        assert gate.asleep
        loop.call_soon_threadsafe(called.set)
        assert not called.wait(0.05)
    assert called.wait(30)


def test_it_is_not_asleep_while_it_calls_back_and_does_not_hold_the_lock(gate: Gate, loop: Any) -> None:
    seen: list[object] = []
    called = threading.Event()

    def look() -> None:
        seen.extend([gate.asleep, gate.lock.locked()])
        called.set()

    loop.call_soon_threadsafe(look)
    assert called.wait(30)
    assert seen == [False, False]
    until_asleep(gate)
