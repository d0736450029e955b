"""The deadlines behind one timer: who is woken, when, and how large the heap grows. Time is a number here."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable
from math import inf

import pytest

from wsstream.transports.alarms import Alarms


class Timer:
    """An event loop's clock and timer, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.time = inf
        self.starts = 0
        self.alarms = Alarms(lambda: self.now, self.start)

    def start(self, time: float) -> None:
        self.time = time
        self.starts += 1

    def go_on(self, until: float) -> None:
        while self.time <= until:
            self.now = max(self.now, self.time)
            self.alarms.ring()
        self.now = until


class Sleeper:
    def __init__(self, timer: Timer, then: Callable[[], object] = lambda: None) -> None:
        self.timer = timer
        self.woken: list[float] = []
        self.then = then

    def on_time(self) -> None:
        self.woken.append(self.timer.now)
        self.then()


def test_each_sleeper_is_woken_once_at_its_deadline() -> None:
    timer = Timer()
    sleepers = [Sleeper(timer) for _ in range(5)]
    for sleeper, deadline in zip(sleepers, [3, 1, 2, 1, 7], strict=True):
        timer.alarms.set(deadline, sleeper)
    timer.go_on(6)
    assert [sleeper.woken for sleeper in sleepers] == [[3], [1], [2], [1], []]
    timer.go_on(100)
    assert sleepers[4].woken == [7]
    assert timer.time == inf


def test_the_timer_is_started_for_the_earliest_deadline_only() -> None:
    timer = Timer()
    for deadline in (5, 6, 7, 4, 8):
        timer.alarms.set(deadline, Sleeper(timer))
    assert (timer.time, timer.starts) == (4, 2)


def test_who_has_cancelled_is_not_woken_and_not_kept() -> None:
    timer = Timer()
    sleeper, other = Sleeper(timer), Sleeper(timer)
    alarm = timer.alarms.set(1, sleeper)
    timer.alarms.set(2, other)
    timer.alarms.cancel(alarm)
    timer.alarms.cancel(alarm)
    forgotten, woken = weakref.ref(sleeper), sleeper.woken
    del sleeper
    assert forgotten() is None
    timer.go_on(3)
    assert (woken, other.woken) == ([], [2])


def test_cancelling_after_the_deadline_does_nothing() -> None:
    timer = Timer()
    sleeper, later = Sleeper(timer), Sleeper(timer)
    alarm = timer.alarms.set(1, sleeper)
    timer.go_on(2)
    timer.alarms.cancel(alarm)
    timer.alarms.set(3, later)
    timer.go_on(3)
    assert (sleeper.woken, later.woken) == ([1], [3])


def test_without_sleepers_there_is_no_timer() -> None:
    timer = Timer()
    alarms = [timer.alarms.set(deadline, Sleeper(timer)) for deadline in (1, 2, 3)]
    for alarm in alarms:
        timer.alarms.cancel(alarm)
    assert timer.time == inf
    timer.alarms.set(9, late := Sleeper(timer))
    timer.go_on(9)
    assert late.woken == [9]


def test_a_sleeper_may_set_and_cancel_others() -> None:
    timer = Timer()
    second, third = Sleeper(timer), Sleeper(timer)

    def change() -> None:
        timer.alarms.cancel(cancelled)
        timer.alarms.set(1, second)

    timer.alarms.set(1, Sleeper(timer, change))
    cancelled = timer.alarms.set(2, third)
    timer.go_on(3)
    assert (second.woken, third.woken, timer.time) == ([1], [], inf)


def test_one_that_sets_itself_again_at_once_leaves_the_loop_its_turn() -> None:
    timer = Timer()
    sleeper = Sleeper(timer, lambda: timer.alarms.set(0, sleeper))
    timer.alarms.set(0, sleeper)
    timer.alarms.ring()
    assert 0 < len(sleeper.woken) < 1000
    assert timer.time == 0, "it goes on in the next turn"


def test_many_deadlines_at_once_are_met_in_several_turns() -> None:
    timer = Timer()
    sleepers = [Sleeper(timer) for _ in range(1000)]
    for sleeper in sleepers:
        timer.alarms.set(1, sleeper)
    timer.now, turns = 1.0, 0
    while timer.time <= 1:
        before = sum(len(sleeper.woken) for sleeper in sleepers)
        timer.alarms.ring()
        assert sum(len(sleeper.woken) for sleeper in sleepers) - before <= 200
        turns += 1
    assert turns > 4
    assert all(sleeper.woken == [1] for sleeper in sleepers)


def test_what_stops_the_program_leaves_the_timer_running() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    timer = Timer()
    timer.alarms.set(1, Sleeper(timer, interrupt))
    timer.alarms.set(2, later := Sleeper(timer))
    with pytest.raises(KeyboardInterrupt):
        timer.go_on(3)
    timer.go_on(3)
    assert later.woken == [2]


def test_cancelled_deadlines_take_no_more_memory_than_those_that_stand() -> None:
    """As with connections that open and close, each with a deadline far away."""
    timer = Timer()
    stays = [Sleeper(timer) for _ in range(100)]
    for sleeper in stays:
        timer.alarms.set(50, sleeper)
    tracemalloc.start()
    try:
        for number in range(20_000):
            timer.alarms.cancel(timer.alarms.set(20 + number, stays[0]))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 64 * 1024
    timer.go_on(60)
    assert all(sleeper.woken == [50] for sleeper in stays)
