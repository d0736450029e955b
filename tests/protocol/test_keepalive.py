"""Keepalive in plain numbers: the rows of API.md section 3 that are about time."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.protocol.keepalive import Action, Keepalive

NOTHING, PING, PONG, TIMEOUT = Action.NOTHING, Action.PING, Action.PONG, Action.TIMEOUT


def after_ping(interval: float | None = 20, timeout: float | None = 20) -> Keepalive:
    """At second 20 a Ping was asked for, and it has left at second 21."""
    keepalive = Keepalive(interval, timeout, 0)
    assert keepalive.tick(20) is PING
    keepalive.ping_left(21)
    return keepalive


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


def test_the_clock_of_a_ping_starts_when_it_has_left() -> None:
    keepalive = Keepalive(20, 10, 0)
    assert keepalive.tick(20) is PING
    assert keepalive.deadline == inf, "the output is blocked: nothing can be concluded from silence"
    assert keepalive.tick(1000) is NOTHING
    keepalive.ping_left(1000)
    assert keepalive.deadline == 1010
    assert keepalive.tick(1009) is NOTHING
    assert keepalive.tick(1010) is TIMEOUT


def test_any_byte_received_counts_as_life() -> None:
    keepalive = after_ping()
    keepalive.received(40)
    assert keepalive.tick(41) is NOTHING
    assert keepalive.deadline == 60
    assert keepalive.tick(60) is PING


def test_bytes_received_while_the_ping_waits_do_not_make_it_forgotten() -> None:
    keepalive = Keepalive(20, 10, 0)
    assert keepalive.tick(20) is PING
    keepalive.received(25)
    assert keepalive.deadline == inf
    keepalive.ping_left(26)
    assert keepalive.tick(36) is TIMEOUT


def test_a_ping_that_the_application_sent_starts_no_clock() -> None:
    keepalive = Keepalive(20, 10, 0)
    keepalive.ping_left(5)
    assert keepalive.deadline == 20
    assert keepalive.tick(20) is PING


def test_a_timeout_stays_a_timeout() -> None:
    keepalive = after_ping(timeout=10)
    assert [keepalive.tick(31), keepalive.tick(32)] == [TIMEOUT, TIMEOUT]


def test_the_clock_stands_still_while_reading_is_paused() -> None:
    keepalive = after_ping(timeout=10)
    keepalive.pause(25)
    assert keepalive.tick(31) is NOTHING
    keepalive.resume(100)
    assert keepalive.deadline == 106, "4 of 10 seconds had passed"
    assert keepalive.tick(105) is NOTHING
    assert keepalive.tick(106) is TIMEOUT


def test_every_pause_is_left_out() -> None:
    keepalive = after_ping(interval=20, timeout=10)
    for start in (22, 32, 42):
        keepalive.pause(start)
        keepalive.resume(start + 9)
    assert keepalive.deadline == 21 + 10 + 3 * 9


def test_a_ping_that_leaves_during_a_pause_starts_its_clock_at_the_end_of_it() -> None:
    keepalive = Keepalive(20, 10, 0)
    assert keepalive.tick(20) is PING
    keepalive.pause(22)
    keepalive.ping_left(30)
    assert keepalive.tick(41) is NOTHING
    keepalive.resume(50)
    assert keepalive.deadline == 60


def test_a_pause_longer_than_the_interval_gets_an_unsolicited_pong_each_interval() -> None:
    keepalive = Keepalive(20, 20, 0)
    keepalive.pause(10)
    assert keepalive.tick(29) is NOTHING
    assert keepalive.tick(30) is PONG
    assert keepalive.tick(31) is NOTHING
    assert keepalive.deadline == 50
    assert keepalive.tick(50) is PONG


@pytest.mark.parametrize("left", [True, False], ids=["left", "waiting"])
def test_a_long_pause_gets_a_pong_also_while_a_ping_is_outstanding(left: bool) -> None:
    keepalive = Keepalive(20, 10, 0)
    assert keepalive.tick(20) is PING
    if left:
        keepalive.ping_left(20)
    keepalive.pause(25)
    assert keepalive.deadline == 45
    assert keepalive.tick(45) is PONG
    keepalive.resume(50)
    assert keepalive.deadline == (55 if left else inf)


def test_after_a_pause_the_interval_begins_anew() -> None:
    keepalive = Keepalive(20, 20, 0)
    keepalive.pause(10)
    keepalive.resume(100)
    assert keepalive.tick(119) is NOTHING
    assert keepalive.tick(120) is PING


def test_pausing_twice_is_one_pause_and_resuming_without_one_is_nothing() -> None:
    keepalive = after_ping(timeout=10)
    keepalive.resume(22)
    assert keepalive.deadline == 31
    keepalive.pause(25)
    keepalive.pause(60)
    keepalive.resume(100)
    keepalive.resume(105)
    assert keepalive.deadline == 106


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
        keepalive.ping_left(20 * round_)


def test_a_slow_reader_of_a_flood_survives() -> None:
    """Row X9: ping 1 s, timeout 1 s, the reader takes a batch every 10 s, and the peer floods."""
    keepalive = Keepalive(1, 1, 0)
    for second in range(600):
        if second % 10 == 0:
            keepalive.resume(second)
            keepalive.received(second)
            keepalive.pause(second)
        assert keepalive.tick(second) in (NOTHING, PONG)


@dataclass
class Model:
    """What the keepalive has to know, counted second by second."""

    interval: int
    timeout: int
    keepalive: Keepalive = field(init=False)
    now: int = 0
    silent: int = 0  # since something was received, or since reading stopped or went on
    listened: int | None = None  # since the Ping left, without the pauses
    waiting: bool = False
    paused: bool = False

    def __post_init__(self) -> None:
        self.keepalive = Keepalive(self.interval, self.timeout, 0)

    def received(self) -> None:
        if not self.paused:
            self.keepalive.received(self.now)
            self.silent, self.listened = 0, None

    def pause(self) -> None:
        self.keepalive.pause(self.now)
        self.silent = self.silent if self.paused else 0
        self.paused = True

    def resume(self) -> None:
        self.keepalive.resume(self.now)
        self.silent = 0 if self.paused else self.silent
        self.paused = False

    def ping_left(self) -> None:
        self.keepalive.ping_left(self.now)
        if self.waiting:
            self.waiting, self.listened = False, 0

    def second(self) -> None:
        self.now += 1
        self.silent += 1
        if self.listened is not None and not self.paused:
            self.listened += 1
        self.check()

    def check(self) -> None:
        expected = self.expected()
        assert (self.keepalive.deadline <= self.now) is (expected is not NOTHING)
        assert self.keepalive.tick(self.now) is expected
        if expected is PONG:
            self.silent = 0
        if expected is PING:
            self.waiting = True

    def expected(self) -> Action:
        if self.paused:
            return PONG if self.silent >= self.interval else NOTHING
        if self.listened is not None:
            return TIMEOUT if self.listened >= self.timeout else NOTHING
        return PING if self.silent >= self.interval and not self.waiting else NOTHING


INPUTS = st.sampled_from(["received", "pause", "resume", "ping_left", "second", "second", "second"])


@given(st.integers(1, 5), st.integers(1, 5), st.lists(INPUTS, max_size=80))
def test_whatever_happens_the_clock_counts_listening_and_nothing_else(
    interval: int, timeout: int, inputs: list[str]
) -> None:
    model = Model(interval, timeout)
    for name in inputs:
        getattr(model, name)()
