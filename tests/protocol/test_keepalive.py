"""Keepalive in plain numbers: when a Ping, a Pong or the end is due, for silence in both directions."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.protocol.keepalive import REACH, STANDSTILL, Action, Keepalive

NOTHING, PING, PONG, TIMEOUT = Action.NOTHING, Action.PING, Action.PONG, Action.TIMEOUT


def after_ping(interval: float | None = 20, timeout: float | None = 20) -> Keepalive:
    """At second 20 a Ping was due."""
    keepalive = Keepalive(interval, timeout, 0)
    assert keepalive.tick(20) is PING
    return keepalive


def watch(keepalive: Keepalive, outcomes: dict[int, int], *, until: int, ping_waits: bool = False) -> int:
    """Look at blocked output each second, `outcomes` says what had moved on by when; when is the end?"""
    moved = 0
    for second in range(until):
        moved = outcomes.get(second, moved)
        keepalive.look(second, moved, True, ping_waits)
        while (action := keepalive.tick(second)) is not NOTHING:
            if action is TIMEOUT:
                return second
    return until


def test_a_ping_is_due_when_nothing_was_received_for_an_interval() -> None:
    keepalive = Keepalive(20, 30, 100)
    assert keepalive.deadline == 120
    assert keepalive.tick(119.9) is NOTHING
    assert keepalive.deadline == 120
    assert keepalive.tick(120) is PING


def test_any_byte_received_puts_the_ping_off() -> None:
    keepalive = Keepalive(20, 20, 0)
    keepalive.received(15)
    assert keepalive.tick(20) is NOTHING
    assert keepalive.deadline == 35
    assert keepalive.tick(35) is PING


@pytest.mark.parametrize("timeout", [1, 2, 3, 7, 100, None])
def test_pings_come_each_interval_whatever_the_timeout_is(timeout: float | None) -> None:
    """The peer answers each at once: the deadline never becomes an earlier one than was told."""
    keepalive = Keepalive(2, timeout, 0)
    pings, now = [], 0.0
    while now < 20:
        now = keepalive.deadline
        while keepalive.tick(now) is PING:
            pings.append(now)
            told = keepalive.deadline
            keepalive.received(now + 0.125)
            assert keepalive.deadline >= min(told, now + 2)
    assert pings == pytest.approx([2.0 + 2.125 * n for n in range(len(pings))])
    assert len(pings) == 10


def test_pings_go_on_each_interval_while_the_first_is_not_answered() -> None:
    keepalive = Keepalive(20, 70, 0)
    assert [keepalive.tick(second) for second in (20, 40, 60, 80)] == [PING] * 4
    assert keepalive.deadline == 20 + 70
    assert keepalive.tick(90) is TIMEOUT


def test_the_end_is_due_a_timeout_after_the_ping_was_whether_or_not_it_left() -> None:
    keepalive = after_ping(timeout=10)
    assert keepalive.deadline == 30
    assert keepalive.tick(29) is NOTHING
    assert [keepalive.tick(30), keepalive.tick(31)] == [TIMEOUT, TIMEOUT]


def test_any_byte_received_counts_as_life() -> None:
    keepalive = after_ping()
    keepalive.received(39)
    assert keepalive.tick(41) is NOTHING
    assert keepalive.deadline == 59
    assert keepalive.tick(59) is PING


def test_the_clock_stands_still_while_reading_is_paused() -> None:
    keepalive = after_ping(interval=20, timeout=10)
    keepalive.sent(20)
    keepalive.pause(25)
    assert keepalive.tick(31) is NOTHING
    keepalive.resume(100)
    keepalive.sent(100)
    assert keepalive.deadline == 105, "5 of 10 seconds had passed"
    assert keepalive.tick(105) is TIMEOUT


def test_every_pause_is_left_out() -> None:
    keepalive = after_ping(interval=20, timeout=10)
    for start in (22, 32, 42):
        keepalive.pause(start)
        keepalive.resume(start + 9)
        keepalive.sent(start + 9)
    assert keepalive.deadline == 20 + 10 + 3 * 9


# -- Pongs of a paused reader ----------------------------------------------------------------------


def test_a_paused_reader_sends_a_pong_an_interval_after_its_last_frame() -> None:
    keepalive = Keepalive(20, 20, 0)
    keepalive.sent(5)
    keepalive.pause(10)
    assert keepalive.tick(24) is NOTHING
    assert keepalive.deadline == 25
    assert keepalive.tick(25) is PONG
    assert keepalive.tick(26) is NOTHING
    assert keepalive.deadline == 45
    keepalive.sent(40)
    assert keepalive.tick(45) is NOTHING
    assert keepalive.tick(60) is PONG


def test_a_reader_that_pauses_often_sends_its_pong_all_the_same() -> None:
    """A slow, steady reader: its peer's Pings are behind the data that it has not read."""
    keepalive, pongs = Keepalive(2, 2, 0), []
    for tenth in range(1, 101):
        now = tenth / 10
        keepalive.resume(now)
        keepalive.received(now)
        keepalive.pause(now)
        if keepalive.tick(now + 0.05) is PONG:
            pongs.append(now)
    assert pongs == [2.0, 4.0, 6.0, 8.0, 10.0]


def test_who_never_pauses_owes_no_pong() -> None:
    keepalive = Keepalive(2, 2, 0)
    for second in range(1, 60):
        keepalive.received(second)
        assert keepalive.tick(second) is NOTHING


def test_a_long_pause_gets_a_pong_also_while_a_ping_is_outstanding() -> None:
    keepalive = Keepalive(20, 10, 0)
    assert keepalive.tick(20) is PING
    keepalive.sent(20)
    keepalive.pause(25)
    assert keepalive.deadline == 40
    assert keepalive.tick(40) is PONG
    keepalive.resume(50)
    assert keepalive.deadline == 55


def test_after_a_pause_the_interval_begins_anew() -> None:
    keepalive = Keepalive(20, 20, 0)
    keepalive.pause(10)
    keepalive.sent(99)
    keepalive.resume(100)
    keepalive.sent(100)
    assert keepalive.tick(119) is NOTHING
    assert keepalive.tick(120) is PING


def test_pausing_twice_is_one_pause_and_resuming_without_one_is_nothing() -> None:
    keepalive = after_ping(timeout=10)
    keepalive.resume(22)
    assert keepalive.deadline == 30
    keepalive.pause(25)
    keepalive.pause(60)
    keepalive.resume(100)
    keepalive.resume(105)
    keepalive.sent(105)
    assert keepalive.deadline == 105


def test_without_an_interval_nothing_is_ever_due() -> None:
    keepalive = Keepalive(None, 10, 0)
    assert keepalive.deadline == inf
    assert keepalive.tick(1e9) is NOTHING
    keepalive.pause(1e9)
    assert keepalive.deadline == inf
    assert keepalive.tick(2e9) is NOTHING
    keepalive.resume(2e9)
    assert keepalive.deadline == inf


def test_without_a_timeout_pings_go_on_each_interval() -> None:
    keepalive = Keepalive(20, None, 0)
    for round_ in range(1, 4):
        assert keepalive.deadline == 20 * round_
        assert keepalive.tick(20 * round_) is PING


def test_a_slow_reader_of_a_flood_survives() -> None:
    """Row X9: ping 1 s, timeout 1 s, the reader takes a batch every 10 s, and the peer floods."""
    keepalive = Keepalive(1, 1, 0)
    for second in range(600):
        if second % 10 == 0:
            keepalive.resume(second)
            keepalive.received(second)
            keepalive.pause(second)
        assert keepalive.tick(second) in (NOTHING, PONG)


# -- blocked output --------------------------------------------------------------------------------


def test_a_peer_that_hangs_while_output_is_blocked_is_given_up_in_time() -> None:
    assert watch(Keepalive(8, 8, 0), {}, until=60) == 16


def test_output_that_moves_on_is_a_sign_of_life() -> None:
    """A slow, steady reader whose Pong is behind our data."""
    steady = {second: second * 100_000 for second in range(300)}
    assert watch(Keepalive(8, 8, 0), steady, until=300) == 300


def test_a_peer_that_stops_reading_is_given_up_in_time_after_the_last_byte_that_moved() -> None:
    outcomes = {second: second * 100_000 for second in range(100)}
    assert 99 + 8 - 1 <= watch(Keepalive(8, 8, 0), outcomes, until=300) <= 99 + 8 + 8


def test_a_reader_that_took_its_time_before_may_take_half_as_long_again() -> None:
    bites = {second: second * 100_000 for second in (0, 11, 24, 40, 62)}
    assert watch(Keepalive(8, 8, 0), bites, until=80) == 80
    assert watch(Keepalive(8, 8, 0), bites, until=300) <= 62 + 2 * 16 + 1, "but not for ever"
    assert watch(Keepalive(8, 8, 0), {0: 1, 11: 2, 32: 3}, until=300) < 32


def test_a_byte_that_the_kernel_took_at_once_is_no_sign_of_life() -> None:
    keepalive, moved = Keepalive(8, 8, 0), 0
    for second in range(60):
        moved += 1000
        keepalive.sent(second)
        keepalive.look(second, moved, False, False)
        while (action := keepalive.tick(second)) is not NOTHING:
            if action is TIMEOUT:
                assert second == 16
                return
    pytest.fail("the peer was not given up")


def test_what_moves_on_far_behind_the_ping_is_no_sign_of_life() -> None:
    """Something reads for a peer that hangs: a proxy without a bound, or an event loop that buffers."""
    fast = {second: second * REACH // 4 for second in range(300)}
    assert 16 <= watch(Keepalive(8, 8, 0), fast, until=300) <= 24
    assert watch(Keepalive(8, 8, 0), fast, until=300, ping_waits=True) == 300, "it cannot have answered"


def test_while_output_is_blocked_somebody_looks_four_times_in_the_shorter_period() -> None:
    for interval, timeout, pace in ((8, 40, 2), (40, 8, 2), (None, None, 10)):
        keepalive = Keepalive(interval, timeout, 0)
        keepalive.look(1, 0, True, False)
        assert keepalive.watches_output
        assert keepalive.deadline == 1 + pace
        keepalive.look(1, 0, False, False)
        assert keepalive.deadline == (inf if interval is None else interval)


def test_a_standstill_is_told_once() -> None:
    keepalive = Keepalive(None, None, 0)
    keepalive.look(0, 0, True, False)
    keepalive.pause(5)
    told = []
    for second in range(200):
        keepalive.look(second, 1 if second >= 100 else 0, True, False)
        if keepalive.tick(second) is Action.STANDSTILL:
            told.append(second)
    assert told == [5 + STANDSTILL, 100 + STANDSTILL]


def test_a_standstill_is_reported_again_after_reading_was_resumed() -> None:
    keepalive = Keepalive(None, None, 0)
    keepalive.pause(0)
    told = []
    for second in range(100):
        if second == 50:
            keepalive.resume(50)
            keepalive.pause(50)
        keepalive.look(second, 0, True, False)
        if keepalive.tick(second) is Action.STANDSTILL:
            told.append(second)
    assert told == [STANDSTILL, 50 + STANDSTILL]


def test_a_side_that_reads_or_can_send_does_not_stand_still() -> None:
    reading, sending = Keepalive(None, None, 0), Keepalive(None, None, 0)
    sending.pause(0)
    for second in range(100):
        reading.look(second, 0, True, False)
        sending.look(second, second, second % 2 == 0, False)
        assert reading.tick(second) is NOTHING
        assert sending.tick(second) is NOTHING


# -- whatever happens ------------------------------------------------------------------------------


@dataclass
class Model:
    """What the keepalive has to know while output is not blocked, counted second by second."""

    interval: int
    timeout: int
    keepalive: Keepalive = field(init=False)
    now: int = 0
    silent: int = 0  # since something was received, a Ping was due, or reading went on
    listened: int | None = None  # since the first Ping was due, without the pauses
    quiet: int = 0  # since a frame of ours left
    owes: bool = False
    paused: bool = False

    def __post_init__(self) -> None:
        self.keepalive = Keepalive(self.interval, self.timeout, 0)

    def received(self) -> None:
        if not self.paused:
            self.keepalive.received(self.now)
            self.silent, self.listened = 0, None

    def sent(self) -> None:
        self.keepalive.sent(self.now)
        self.quiet, self.owes = 0, self.paused

    def pause(self) -> None:
        self.keepalive.pause(self.now)
        self.paused = self.owes = True

    def resume(self) -> None:
        self.keepalive.resume(self.now)
        self.silent = 0 if self.paused else self.silent
        self.paused = False

    def second(self) -> None:
        self.now += 1
        self.silent += 1
        self.quiet += 1
        if self.listened is not None and not self.paused:
            self.listened += 1
        self.check()

    def check(self) -> None:
        assert (self.keepalive.deadline <= self.now) is (self.expected() is not NOTHING)
        for _ in range(3):
            expected = self.expected()
            assert self.keepalive.tick(self.now) is expected
            if expected is PONG:
                self.quiet, self.owes = 0, self.paused
            if expected is PING:
                self.silent = 0
                self.listened = 0 if self.listened is None else self.listened

    def expected(self) -> Action:
        if not self.paused and self.listened is not None and self.listened >= self.timeout:
            return TIMEOUT
        if not self.paused and self.silent >= self.interval:
            return PING
        return PONG if self.owes and self.quiet >= self.interval else NOTHING


INPUTS = st.sampled_from(["received", "sent", "pause", "resume", "second", "second", "second"])


@given(st.integers(1, 5), st.integers(1, 5), st.lists(INPUTS, max_size=80))
def test_whatever_happens_the_clock_counts_listening_and_nothing_else(
    interval: int, timeout: int, inputs: list[str]
) -> None:
    model = Model(interval, timeout)
    for name in inputs:
        getattr(model, name)()


def test_it_is_known_since_when_blocked_output_stands_still() -> None:
    keepalive = Keepalive(None, None, 0)
    for now, moved in ((1, 0), (2, 5), (3, 5), (4, 5)):
        keepalive.look(now, moved, True, False)
    assert keepalive.standing_since == 2
