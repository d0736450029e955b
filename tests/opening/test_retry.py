"""What the peer's last word means for the next attempt: a table, and arithmetic on header fields."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import formatdate
from itertools import islice, pairwise
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.effort import examples

from wsstream.opening.retry import (
    MAX_RETRY_AFTER,
    Backoff,
    check_delay,
    check_pauses,
    code_may_change,
    pause_after_code,
    pause_after_response,
    socks_reply_may_change,
    status_may_change,
)

NOW = 784_111_777.0  # the example of RFC 9110 section 5.6.7


def first(count: int, delays: Iterable[float]) -> list[float]:
    return list(islice(delays, count))


# -- backoff ---------------------------------------------------------------------------------


@given(
    initial=st.floats(1e-3, 1e3),
    more=st.floats(0, 1e6),
    factor=st.floats(1, 1e300),
)
def test_each_delay_is_between_nothing_and_a_limit_that_grows_to_the_maximum(
    initial: float, more: float, factor: float
) -> None:
    backoff = Backoff(initial, initial + more, factor)
    limit = initial
    for delay in first(50, backoff):
        assert 0 <= delay <= limit
        limit = min(limit * factor, initial + more)


def test_the_delays_use_the_whole_range_and_never_end() -> None:
    delays = [first(5, Backoff(1, 10, 2)) for _ in range(2000)]
    for delay, limit in zip(zip(*delays, strict=True), [1, 2, 4, 8, 10], strict=True):
        assert min(delay) < 0.02 * limit
        assert max(delay) > 0.98 * limit
        assert sum(delay) / len(delay) == pytest.approx(limit / 2, rel=0.1)
    assert len(first(5000, Backoff())) == 5000  # also far behind the range of floats


def test_two_clients_do_not_come_back_together() -> None:
    assert first(3, Backoff()) != first(3, Backoff())


def test_a_backoff_begins_anew_each_time_it_is_iterated() -> None:
    backoff = Backoff(1, 1000, 1000)
    for _ in range(100):
        assert first(3, backoff)[0] <= 1


def test_the_default_begins_as_the_rfc_proposes_and_stays_within_a_minute() -> None:
    delays = [first(20, Backoff()) for _ in range(500)]
    assert 4.5 < max(each[0] for each in delays) <= 5
    assert 55 < max(each[-1] for each in delays) <= 60


@pytest.mark.parametrize(
    "values", [(0,), (-1,), (5, 4), (5, 60, 0.9), (nan,), (1, inf), (1, 2, inf), (1, 2, nan)], ids=str
)
def test_a_backoff_of_other_values_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError):
        Backoff(*values)


@pytest.mark.parametrize("values", [("1",), (1, None), (1, 2, True)], ids=str)
def test_a_backoff_of_other_types_is_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        Backoff(*values)


def test_a_delay_is_a_number_that_can_be_waited_for() -> None:
    for good in (0, 0.0, 5, 1e9):
        check_delay("a delay", good)
    for bad in (-0.1, inf, nan):
        with pytest.raises(ValueError, match="a delay"):
            check_delay("a delay", bad)


# -- close codes and statuses ----------------------------------------------------------------


def test_these_close_codes_and_no_others_are_final() -> None:
    assert [code for code in range(1000, 5000) if not code_may_change(code)] == [1002, 1003, 1007, 1008, 1010]


def test_these_statuses_and_no_others_may_change() -> None:
    passing = {408, 429, *range(500, 600)} - {501, 505}
    assert {status for status in range(100, 1000) if status_may_change(status)} == passing


def test_a_socks_proxy_may_fare_better_where_the_network_was_at_fault() -> None:
    assert [reply for reply in [*range(256), None] if socks_reply_may_change(reply)] == [1, 3, 4, 5, 6]


def test_only_1012_and_1013_ask_for_a_pause() -> None:
    asked = {
        code: pause_after_code(code, uniform=lambda low, high: (low, high)) for code in range(1000, 5000)
    }  # type: ignore[arg-type, return-value]
    assert {code: pause for code, pause in asked.items() if pause} == {1012: (5, 30), 1013: (30, 120)}


def test_an_application_changes_pauses_and_adds_some() -> None:
    pauses = check_pauses({1012: (0.5, 1), 4000: (2, 2)})
    assert pauses == {1012: (0.5, 1), 1013: (30, 120), 4000: (2, 2)}
    assert 0.5 <= pause_after_code(1012, pauses) <= 1
    assert pause_after_code(4000, pauses) == 2
    assert check_pauses({})[1012] == (5, 30)


@pytest.mark.parametrize(
    ("pauses", "error", "text"),
    [
        (5, TypeError, "pauses must map close codes to ranges of seconds, got int"),
        ({"1012": (0, 1)}, ValueError, "pauses must have close codes that may be sent, got '1012'"),
        ({1006: (0, 1)}, ValueError, "pauses must have close codes that may be sent, got 1006"),
        ({1012: 5}, TypeError, r"the pause after 1012 must be \(least, most\) in seconds, got 5"),
        ({1012: (1, 2, 3)}, TypeError, r"the pause after 1012 must be \(least, most\)"),
        ({1012: (3, 1)}, ValueError, r"the pause after 1012 must begin with the least, got \(3, 1\)"),
        ({1012: (-1, 1)}, ValueError, "the pause after 1012 must not be negative, got -1"),
        ({1012: (0, "1")}, TypeError, "the pause after 1012 must be a number, got str"),
    ],
    ids=["no mapping", "text", "never sent", "number", "three", "swapped", "negative", "no number"],
)
def test_wrong_pauses(pauses: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check_pauses(pauses)


@pytest.mark.parametrize(("code", "low", "high"), [(1012, 5, 30), (1013, 30, 120)])
def test_the_pause_is_random_within_its_bounds(code: int, low: float, high: float) -> None:
    pauses = [pause_after_code(code) for _ in range(1000)]
    assert low <= min(pauses) < low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) < max(pauses) <= high


# -- Retry-After -----------------------------------------------------------------------------


def pause(value: str, *fields: tuple[str, str]) -> float:
    return pause_after_response([("server", "x"), ("retry-after", value), *fields], NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("1", 1),
        ("120", 120),
        (" 7\t", 7),
        ("007", 7),
        ("3600", 3600),
        ("3601", MAX_RETRY_AFTER),
        ("31536000", MAX_RETRY_AFTER),
        ("9" * 60000, MAX_RETRY_AFTER),
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    assert pause(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["", " ", "-1", "+5", "1.5", "1e3", "5 s", "soon", "٣", "²", "5, 6", "0x10", "Sun, 06 Nov", "x" * 60000],
)
def test_what_is_no_retry_after_is_no_pause(value: str) -> None:
    assert pause(value) == 0
    assert pause_after_response([], NOW) == 0


@pytest.mark.parametrize(
    "date",
    ["Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994"],
)
def test_retry_after_as_a_date_in_the_three_formats(date: str) -> None:
    assert pause(date) == 60


def test_a_date_is_bounded_and_one_in_the_past_is_no_pause() -> None:
    assert pause(formatdate(NOW + 86400 * 365, usegmt=True)) == MAX_RETRY_AFTER
    assert pause(formatdate(NOW - 10, usegmt=True)) == 0
    assert pause("Fri, 31 Dec 9999 23:59:59 GMT") == MAX_RETRY_AFTER
    assert pause("Sun, 06 Nov 999999 08:49:37 GMT") == 0


def test_a_date_is_compared_with_the_clock_of_the_server_that_sent_it() -> None:
    wrong_clock = NOW + 1e6
    date = formatdate(wrong_clock + 90, usegmt=True)
    assert pause(date, ("date", formatdate(wrong_clock, usegmt=True))) == 90
    assert pause(date, ("date", "no date")) == MAX_RETRY_AFTER


def test_of_several_fields_the_first_counts() -> None:
    assert pause("5", ("retry-after", "50")) == 5


@settings(max_examples=examples(50))
@given(st.text(max_size=80) | st.from_regex(r"\w{3,9},? \d{1,3}[ -]\w{3}[ -]\d{1,6} [\d:]{1,9} [+-]?\w{1,9}"))
def test_any_value_gives_a_pause_within_the_bounds(value: str) -> None:
    assert 0 <= pause(value) <= MAX_RETRY_AFTER
    assert 0 <= pause("Sun, 06 Nov 1994 08:50:37 GMT", ("date", value)) <= MAX_RETRY_AFTER


def test_limits_grow_by_the_factor() -> None:
    longest = [max(each) for each in zip(*(first(4, Backoff(1, 1000, 3)) for _ in range(3000)), strict=True)]
    for shorter, longer in pairwise(longest):
        assert longer / shorter == pytest.approx(3, rel=0.05)
