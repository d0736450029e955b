"""The deadlines of the end."""

from __future__ import annotations

from math import inf

from wsstream.driver.endtimer import Due, EndTimer


def test_nothing_is_due_before_anything_was_started() -> None:
    timer = EndTimer(5, lambda: 0.0)
    assert (timer.deadline, timer.due(1e9)) == (inf, Due.NOTHING)


def test_the_closing_handshake_has_its_time_from_its_first_start_on() -> None:
    now = 100.0
    timer = EndTimer(5, lambda: now)
    timer.start_closing()
    now = 104.0
    timer.start_closing()
    assert timer.deadline == 105
    assert (timer.due(104.9), timer.due(105)) == (Due.NOTHING, Due.DROPPING)


def test_without_a_limit_closing_takes_any_time() -> None:
    timer = EndTimer(None, lambda: 0.0)
    timer.start_closing()
    assert timer.due(1e9) is Due.NOTHING


def test_closing_ends_the_grace_after_a_violation() -> None:
    timer = EndTimer(5, lambda: 0.0)
    timer.start_grace()
    assert (timer.due(0.05), timer.due(0.1)) == (Due.NOTHING, Due.FAILING)
    timer.start_closing()
    assert timer.due(0.1) is Due.NOTHING


def test_output_that_stands_still_for_two_seconds_has_stalled() -> None:
    timer = EndTimer(60, lambda: 10.0)
    timer.hurry()
    assert timer.due(10.5) is Due.LOOK
    assert not timer.has_stalled(10.5, 3.0), "it counts from the hurry on"
    assert timer.deadline == 11
    assert not timer.has_stalled(12.0, 11.0), "it has moved on"
    assert not timer.has_stalled(12.9, 11.0)
    assert timer.has_stalled(13.0, 11.0)


def test_output_that_is_not_blocked_needs_no_other_look() -> None:
    timer = EndTimer(60, lambda: 10.0)
    timer.hurry()
    assert not timer.has_stalled(99.0, None)
    assert timer.deadline == inf


def test_what_was_stopped_is_never_due() -> None:
    timer = EndTimer(1, lambda: 0.0)
    timer.start_grace()
    timer.hurry()
    timer.start_closing()
    timer.stop()
    assert (timer.deadline, timer.due(1e9)) == (inf, Due.NOTHING)
