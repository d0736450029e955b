"""How long a message may take to arrive, in plain numbers."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from wsstream.protocol.arrival import GRACE, Arrival, ReceiveRate


def receive(arrival: Arrival, now: float, size: int = 1, **what: bool) -> None:
    arrival.received(now, size, **{"inside": True, "crossed": False, "in_chunks": False, **what})


def test_before_a_message_begins_nothing_is_due() -> None:
    arrival = Arrival(10, ReceiveRate(100))
    assert arrival.deadline == inf
    receive(arrival, 5, 100, inside=False, crossed=True)
    assert arrival.deadline == inf


def test_a_message_has_the_timeout_from_its_first_byte_to_its_end() -> None:
    arrival = Arrival(10, None)
    receive(arrival, 5)
    for now in (6, 9, 14):
        receive(arrival, now)
    assert arrival.deadline == 15
    receive(arrival, 15, inside=False, crossed=True)
    assert arrival.deadline == inf


def test_each_message_has_a_time_of_its_own() -> None:
    arrival = Arrival(10, None)
    receive(arrival, 5)
    receive(arrival, 12, crossed=True)
    assert arrival.deadline == 22


def test_of_a_message_that_is_read_in_chunks_only_the_progress_counts() -> None:
    arrival = Arrival(10, None)
    for now in range(5, 100, 9):
        receive(arrival, now, in_chunks=True)
        assert arrival.deadline == now + 10


def test_a_least_rate_counts_from_the_first_byte_with_a_grace() -> None:
    arrival = Arrival(None, ReceiveRate(at_least=100))
    receive(arrival, 5, 1)
    assert arrival.deadline == 5 + GRACE + 0.01
    receive(arrival, 6, 1000)
    assert arrival.deadline == 5 + GRACE + 10.01
    receive(arrival, 7, 1000, in_chunks=True)
    assert arrival.deadline == 5 + GRACE + 20.01, "in chunks too"


def test_the_earlier_of_the_two_counts() -> None:
    arrival = Arrival(7, ReceiveRate(100))
    receive(arrival, 0, 1)
    assert arrival.deadline == GRACE + 0.01
    receive(arrival, 0, 10_000)
    assert arrival.deadline == 7


def test_the_clock_stands_still_while_reading_is_paused() -> None:
    arrival = Arrival(10, ReceiveRate(1))
    receive(arrival, 5, 1000)
    arrival.pause(8)
    assert arrival.deadline == inf
    arrival.pause(9)
    arrival.resume(108)
    arrival.resume(109)
    assert arrival.deadline == 115


@pytest.mark.parametrize("rate", [True, "100", 0, -1, float("nan")])
def test_a_rate_must_be_greater_than_0(rate: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"at_least must be "):
        ReceiveRate(rate)
