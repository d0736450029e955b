"""How much a peer may send, in plain numbers."""

from __future__ import annotations

from typing import Any

import pytest

from wsstream.codec.unread import UNLIMITED
from wsstream.protocol.arrival import ReceiveRate
from wsstream.protocol.budget import Budget


def test_without_a_greatest_rate_there_is_no_budget() -> None:
    assert Budget.of(None, 0) is None
    assert Budget.of(ReceiveRate(5), 0) is None
    assert Budget.of(ReceiveRate(bytes_at_most=5), 0) is not None
    assert Budget.of(ReceiveRate(messages_at_most=5), 0) is not None


def test_at_first_a_second_of_each_may_come_at_once() -> None:
    budget = Budget(ReceiveRate(bytes_at_most=1000, messages_at_most=10), 7)
    assert budget.room(7) == (1000, 10)
    assert budget.spend(7, 400, 4) == 7, "reading need not stop"
    assert budget.room(7) == (600, 6)


def test_what_is_not_limited_has_no_end() -> None:
    assert Budget(ReceiveRate(bytes_at_most=3), 0).room(0) == (3, UNLIMITED)
    assert Budget(ReceiveRate(messages_at_most=3), 0).room(0) == (UNLIMITED, 3)


def test_bytes_are_given_in_all_and_messages_one_by_one() -> None:
    budget = Budget(ReceiveRate(bytes_at_most=1000, messages_at_most=10), 0)
    for received in (100, 200, 300):
        budget.spend(0, received, 1)
    assert budget.room(0) == (700, 7)


def test_reading_goes_on_when_a_tenth_of_a_second_is_back() -> None:
    budget = Budget(ReceiveRate(bytes_at_most=1000), 0)
    assert budget.spend(0, 1000, 5) == pytest.approx(0.1)
    assert budget.room(0.1) == (100, UNLIMITED)


def test_a_debt_is_paid_first() -> None:
    budget = Budget(ReceiveRate(messages_at_most=10), 0)
    assert budget.spend(0, 0, 40) == pytest.approx(3.1)
    assert budget.room(0) == (UNLIMITED, 1), "never 0, which no reader could wait for"


def test_the_one_that_takes_longer_counts() -> None:
    budget = Budget(ReceiveRate(bytes_at_most=1000, messages_at_most=10), 0)
    assert budget.spend(0, 2000, 10) == pytest.approx(1.1)


def test_silence_saves_no_more_than_a_second() -> None:
    budget = Budget(ReceiveRate(bytes_at_most=1000, messages_at_most=10), 0)
    budget.spend(0, 1000, 10)
    assert budget.room(0.5) == (500, 5)
    assert budget.room(100) == (1000, 10)
    assert budget.spend(200, 2000, 10) > 200, "also when nobody has looked since"


def test_a_rate_below_one_is_one_in_several_seconds() -> None:
    budget = Budget(ReceiveRate(messages_at_most=0.1), 0)
    assert budget.room(0) == (UNLIMITED, 1)
    assert budget.spend(0, 0, 1) == 10


@pytest.mark.parametrize("name", ["bytes_at_most", "messages_at_most"])
@pytest.mark.parametrize("rate", [True, "100", 0, -1, float("nan"), float("inf")])
def test_a_greatest_rate_must_be_finite_and_greater_than_0(name: str, rate: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"{name} must be "):
        ReceiveRate(**{name: rate})


def test_one_rate_must_be_given_and_only_the_least_by_position() -> None:
    with pytest.raises(TypeError, match="needs at_least, bytes_at_most or messages_at_most"):
        ReceiveRate()
    with pytest.raises(TypeError, match="positional"):
        ReceiveRate(1, 2)  # type: ignore[misc]
