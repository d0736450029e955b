"""Who is called for a signal, and that everybody gets back what they had."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from wsstream.transports.eventloop import event_loop
from wsstream.transports.signals import StopSignals, on_signal, sigterm_as_ctrl_c

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]

HUP, INT, TERM = signal.SIGHUP, signal.SIGINT, signal.SIGTERM


class Calls:
    """Notes who is called."""

    def __init__(self) -> None:
        self.made: list[object] = []

    def handler(self, number: int, frame: Any) -> None:
        self.made.append("before")

    def first(self, number: signal.Signals) -> None:
        self.made.append(("first", number))

    def second(self, number: signal.Signals) -> None:
        self.made.append(("second", number))


@pytest.fixture
def calls() -> Iterator[Calls]:
    """The handlers that a program had before."""
    calls = Calls()
    before = {number: signal.signal(number, calls.handler) for number in (HUP, INT, TERM)}
    yield calls
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_the_first_signal_is_told_by_the_event_loop_and_the_second_at_once(calls: Calls) -> None:
    with StopSignals(calls.first, calls.second):
        signal.raise_signal(TERM)
        assert calls.made == []
        await anyio.sleep(0.01)
        assert calls.made == [("first", TERM)]
        signal.raise_signal(INT)
        assert calls.made == [("first", TERM), ("second", INT)]
        signal.raise_signal(TERM)
        assert calls.made[2:] == ["before"]
    assert signal.getsignal(INT) == signal.getsignal(TERM) == calls.handler


async def test_all_who_want_a_signal_are_told_in_whatever_order_they_leave(calls: Calls) -> None:
    one, other = Calls(), Calls()
    outer, inner = StopSignals(one.first, one.second), StopSignals(other.first, other.second)
    with outer:
        inner.__enter__()
        signal.raise_signal(INT)
        await anyio.sleep(0.01)
        assert one.made == other.made == [("first", INT)]
    assert calls.made == []
    signal.raise_signal(INT)
    assert (one.made[1:], other.made[1:]) == ([], [("second", INT)])
    assert signal.getsignal(INT) == calls.handler


async def test_a_handler_that_somebody_installs_meanwhile_is_kept(calls: Calls) -> None:
    later = Calls()
    with StopSignals(calls.first, calls.second):
        signal.signal(INT, later.handler)
    assert signal.getsignal(INT) == later.handler
    assert signal.getsignal(TERM) == calls.handler


async def test_a_handler_between_two_blocks_gets_the_signal_back(
    calls: Calls,
) -> None:
    later, inner = Calls(), Calls()
    with StopSignals(calls.first, calls.second):
        outer = signal.signal(INT, later.handler)
        with StopSignals(inner.first, inner.second):
            signal.raise_signal(INT)
            await anyio.sleep(0.01)
        signal.raise_signal(INT)
        assert (inner.made, later.made, calls.made) == ([("first", INT)], ["before"], [])
        signal.signal(INT, outer)
        signal.raise_signal(INT)
        await anyio.sleep(0.01)
        assert calls.made == [("first", INT)]
    signal.raise_signal(INT)
    assert calls.made[1:] == ["before"]


async def test_a_handler_that_is_put_back_too_late_gives_the_signal_back(
    calls: Calls,
) -> None:
    with StopSignals(calls.first, calls.second):
        ours = signal.signal(TERM, Calls().handler)
    signal.signal(TERM, ours)
    signal.raise_signal(TERM)
    assert calls.made == ["before"]
    assert signal.getsignal(TERM) == calls.handler


async def test_a_block_within_ctrl_c_for_sigterm_that_nobody_released_handles_sigterm(calls: Calls) -> None:
    before = signal.signal(TERM, signal.SIG_DFL)
    never_called = sigterm_as_ctrl_c()  # as by a server whose block is never left
    signal.signal(TERM, before)
    stop = Calls()
    with StopSignals(stop.first, stop.second):
        signal.raise_signal(TERM)
        await anyio.sleep(0.01)
        assert stop.made == [("first", TERM)]
    assert signal.getsignal(TERM) == calls.handler
    del never_called


async def test_each_signal_calls_back(calls: Calls) -> None:
    count: list[int] = []
    with on_signal(HUP, lambda: count.append(1)):
        for expected in (1, 2):
            signal.raise_signal(HUP)
            await anyio.sleep(0.01)
            assert len(count) == expected
    assert signal.getsignal(HUP) == calls.handler


async def test_sigterm_does_once_what_ctrl_c_does_where_nobody_else_wants_it(calls: Calls) -> None:
    signal.signal(TERM, signal.SIG_DFL)
    release, release_other = sigterm_as_ctrl_c(), sigterm_as_ctrl_c()
    stop = Calls()
    with StopSignals(stop.first, stop.second):
        signal.raise_signal(TERM)
        await anyio.sleep(0.01)
        assert (stop.made, calls.made) == ([("first", TERM)], [])
    signal.raise_signal(TERM)
    assert calls.made == ["before"]  # that of SIGINT, once
    # After a second Ctrl-C in a row asyncio may wait for ever, so the next SIGTERM is the system's.
    assert signal.getsignal(TERM) is signal.SIG_DFL
    release()
    release_other()
    assert signal.getsignal(TERM) is signal.SIG_DFL


async def test_who_is_left_has_ctrl_c_for_sigterm_until_it_goes(calls: Calls) -> None:
    signal.signal(TERM, signal.SIG_DFL)
    sigterm_as_ctrl_c()()
    assert signal.getsignal(TERM) is signal.SIG_DFL
    release, release_other = sigterm_as_ctrl_c(), sigterm_as_ctrl_c()
    release()
    signal.raise_signal(TERM)
    assert calls.made == ["before"]
    release_other()
    assert signal.getsignal(TERM) is signal.SIG_DFL


@pytest.mark.parametrize("handler", ["taken", "sigint-ignored"])
async def test_sigterm_stays_as_it_is(handler: str, calls: Calls) -> None:
    if handler == "sigint-ignored":
        signal.signal(TERM, signal.SIG_DFL)
        signal.signal(INT, signal.SIG_IGN)
    before = signal.getsignal(TERM)
    release = sigterm_as_ctrl_c()
    assert signal.getsignal(TERM) == before
    release()
    assert signal.getsignal(TERM) == before


async def test_in_another_thread_nothing_happens(calls: Calls) -> None:
    async def main() -> None:
        sigterm_as_ctrl_c()()
        with StopSignals(calls.first, calls.second):
            assert signal.getsignal(INT) == calls.handler

    thread = threading.Thread(target=anyio.run, args=[main])
    thread.start()
    await anyio.to_thread.run_sync(thread.join)


async def test_a_handler_that_calls_the_one_before_it_stays_and_has_the_signal_passed_on(
    calls: Calls,
) -> None:
    passing: list[int] = []
    with StopSignals(Calls().first, Calls().second):
        ours: Any = signal.getsignal(TERM)

        def pass_on(number: int, frame: Any) -> None:
            passing.append(number)
            ours(number, frame)

        signal.signal(TERM, pass_on)
    signal.raise_signal(TERM)
    assert (passing, calls.made) == ([TERM], ["before"])
    assert signal.getsignal(TERM) is pass_on


async def ended() -> Any:
    """What has an event loop call a function that has ended."""
    loops: list[Any] = []

    async def main() -> None:
        loops.append(event_loop().from_signal())

    await anyio.to_thread.run_sync(anyio.run, main)
    return loops[0]


@pytest.mark.parametrize("after", [0, 1])
async def test_a_block_that_its_event_loop_has_not_left_keeps_no_signal(calls: Calls, after: int) -> None:
    loop: list[Any] = [lambda callback: None]
    never_left, live = Calls(), Calls()
    StopSignals(never_left.first, never_left.second, lambda callback: loop[0](callback)).__enter__()
    for _ in range(after):
        signal.raise_signal(TERM)
    loop[0] = await ended()
    with StopSignals(live.first, live.second):
        signal.raise_signal(TERM)
        await anyio.sleep(0.01)
        assert (live.made, calls.made) == ([("first", TERM)], [])
    signal.raise_signal(TERM)
    signal.raise_signal(INT)
    assert (calls.made, never_left.made) == (["before"] * 2, [])
    assert signal.getsignal(INT) == signal.getsignal(TERM) == calls.handler


async def test_ctrl_c_for_sigterm_ends_with_the_event_loop(calls: Calls) -> None:
    got: list[str] = []
    signal.signal(TERM, signal.SIG_DFL)
    sigterm_as_ctrl_c(await ended())
    ours: Any = signal.getsignal(TERM)
    ours.before = lambda number, frame: got.append("the system")  # it would kill this process
    signal.raise_signal(TERM)
    assert (got, calls.made) == (["the system"], [])
