"""Credit in plain numbers: what may be sent, how the window follows the receiver, when acks are due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.files.errors import TransferError
from wsstream.files.protocol.messages import Ack
from wsstream.files.protocol.window import MAX_WINDOW, MIN_WINDOW, SEGMENT, Credit, Grant

KIB, MIB = 1 << 10, 1 << 20


# -- the sender ----------------------------------------------------------------------------------


def test_segments_are_sent_until_the_window_is_full() -> None:
    credit = Credit(0, 1000, 300, None)
    for _ in range(3):
        assert credit.next_segment() == 300
        credit.send(300)
    assert credit.next_segment() == 0, "100 bytes are left, and no segment is cut for that"
    credit.acknowledge(Ack(1, 199, 0))
    assert credit.next_segment() == 0
    credit.acknowledge(Ack(1, 200, 100))
    assert credit.next_segment() == 300
    assert (credit.written, credit.durable) == (200, 100)


def test_the_last_segment_is_what_is_left_of_the_file() -> None:
    credit = Credit(500, 1000, 300, 900)
    credit.send(300)
    assert credit.next_segment() == 100
    credit.send(40)
    assert credit.next_segment() == 60, "a segment may be shorter than it could be"
    credit.send(60)
    assert credit.next_segment() == 0


@pytest.mark.parametrize("size", [-1, 0, 301])
def test_more_than_a_segment_or_nothing_cannot_be_sent(size: int) -> None:
    with pytest.raises(ValueError, match="a segment must have 1 to 300 bytes now"):
        Credit(0, 1000, 300, None).send(size)


def test_a_window_that_shrinks_takes_nothing_back() -> None:
    credit = Credit(0, 1000, 300, None)
    credit.send(300)
    credit.send(300)
    credit.acknowledge(Ack(1, 0, 0, 300))
    assert credit.next_segment() == 0
    credit.acknowledge(Ack(1, 600, 0))
    assert credit.next_segment() == 300


@pytest.mark.parametrize(
    "ack", [Ack(1, 499, 0), Ack(1, 801, 0), Ack(1, 500, 99), Ack(1, 500, 100, 299)], ids=str
)
def test_an_ack_that_cannot_be_is_a_protocol_error(ack: Ack) -> None:
    credit = Credit(500, 1000, 300, None)
    credit.send(300)
    credit.acknowledge(Ack(1, 500, 100))
    with pytest.raises(TransferError, match="protocol"):
        credit.acknowledge(ack)


# -- the receiver --------------------------------------------------------------------------------


def grant(offset: int = 0, window: int = MIN_WINDOW, limit: int = MAX_WINDOW, now: float = 100.0) -> Grant:
    return Grant(offset, window, SEGMENT, limit, now)


@pytest.mark.parametrize(("size", "words"), [(0, "0 bytes"), (SEGMENT + 1, "not 1 to 262144")])
def test_a_segment_has_a_size_that_was_agreed(size: int, words: str) -> None:
    with pytest.raises(TransferError, match=words):
        grant().receive(size)


def test_data_beyond_every_window_that_was_granted_is_a_protocol_error() -> None:
    subject = grant(offset=1000)
    subject.receive(SEGMENT)
    subject.receive(SEGMENT)
    with pytest.raises(TransferError, match="without credit"):
        subject.receive(1)
    subject.write(SEGMENT, 100)
    with pytest.raises(TransferError, match="without credit"):
        subject.receive(1)
    subject.ack(1, 100)
    subject.receive(SEGMENT)


def test_what_was_granted_counts_though_the_window_has_shrunk_since() -> None:
    subject = grant(window=4 * MIB)
    assert subject.ack(1, 200).window == MIN_WINDOW
    for _ in range(16):
        subject.receive(SEGMENT)
    with pytest.raises(TransferError, match="without credit"):
        subject.receive(1)


@pytest.mark.parametrize("size", [-1, SEGMENT + 1])
def test_no_more_is_written_than_was_received(size: int) -> None:
    subject = grant()
    subject.receive(SEGMENT)
    with pytest.raises(ValueError, match="at most 262144 bytes can be written"):
        subject.write(size, 100)


@pytest.mark.parametrize("offset", [999, 1011])
def test_no_more_is_durable_than_was_written_and_it_never_goes_back(offset: int) -> None:
    subject = grant(offset=1000)
    assert subject.durable == 1000, "a transfer resumes at what is durable"
    subject.receive(10)
    subject.write(10, 100)
    with pytest.raises(ValueError, match="durable must be 1000 to 1010"):
        subject.sync(offset)


# -- the window ----------------------------------------------------------------------------------


def run(rate: float, seconds: float, *, limit: int = MAX_WINDOW, step: float = 0.05) -> Grant:
    """A receiver that writes at `rate`, with a sender that is always ahead of it."""
    subject, now, left = grant(limit=limit), 100.0, 0.0
    end = now + seconds
    while now < end:
        now += step
        left += rate * step
        while left >= 1 and subject.received - subject.written < left:
            try:
                subject.receive(SEGMENT)
            except TransferError:
                break
        size = min(int(left), subject.received - subject.written)
        left = 0 if size < int(left) else left - size
        subject.write(size, now)
        if subject.ack_is_due(now):
            subject.ack(1, now)
    return subject


@pytest.mark.parametrize("rate", [300e3, 1e6, 5e6, 20e6])
def test_the_window_is_what_was_written_in_the_last_2_to_3_seconds(rate: float) -> None:
    for seconds in (20, 20.5, 20.9):
        window = run(rate, seconds).window
        assert max(1.9 * rate, MIN_WINDOW) <= window <= max(3.1 * rate, MIN_WINDOW)


def test_the_window_grows_quickly_and_not_beyond_its_limit() -> None:
    assert run(1e9, 1.5).window == MAX_WINDOW
    assert run(1e9, 1.5, limit=3 * MIB).window == 3 * MIB
    assert run(1e9, 1.5, limit=1).window == MIN_WINDOW


def test_a_receiver_that_stands_still_grants_little_after_3_seconds() -> None:
    subject = run(10e6, 10)
    assert subject.window >= 19e6
    assert subject.ack(1, 113.1).window == MIN_WINDOW
    assert subject.ack(1, 1e9).window is None


def test_a_window_has_room_for_two_segments() -> None:
    subject = Grant(0, 2 * MIB, 2 * MIB, 1, 100.0)
    assert subject.ack(1, 100).window == 4 * MIB


def test_the_window_is_told_when_it_changes() -> None:
    subject = grant()
    assert subject.ack(7, 100) == Ack(7, 0, 0, None)
    for _ in range(2):
        subject.receive(SEGMENT)
    subject.write(2 * SEGMENT, 100)
    assert subject.ack(7, 100) == Ack(7, 2 * SEGMENT, 0, None)
    for _ in range(2):
        subject.receive(SEGMENT)
    subject.write(2 * SEGMENT, 100)
    subject.sync(SEGMENT)
    assert subject.ack(7, 100) == Ack(7, 4 * SEGMENT, SEGMENT, 4 * SEGMENT)


# -- when acks are due ---------------------------------------------------------------------------


def test_an_ack_is_due_after_a_quarter_of_the_window() -> None:
    subject = grant(window=MIB)
    subject.receive(SEGMENT)
    subject.write(SEGMENT - 1, 100)
    assert not subject.ack_is_due(100.1)
    subject.write(1, 100.1)
    assert subject.ack_is_due(100.1)
    subject.ack(1, 100.1)
    assert not subject.ack_is_due(100.1)


def test_an_ack_is_due_1_second_after_the_last_one_if_there_is_news() -> None:
    subject = grant()
    subject.receive(10)
    assert subject.deadline == 110, "what was received is no news, only what was written"
    subject.write(10, 100.5)
    assert subject.deadline == 101
    assert not subject.ack_is_due(100.99)
    assert subject.ack_is_due(101)
    subject.ack(1, 101)
    assert subject.deadline == 111
    subject.sync(10)
    assert subject.deadline == 102
    subject.ack(1, 102)
    subject.sync(10)
    subject.write(0, 102)
    assert subject.deadline == 112


def test_an_ack_is_due_every_10_seconds() -> None:
    subject = grant()
    assert not subject.ack_is_due(109.9)
    assert subject.ack_is_due(110)
    assert subject.ack(1, 110) == Ack(1, 0, 0)
    assert subject.deadline == 120


# -- both together -------------------------------------------------------------------------------


@given(
    st.integers(1, 64).map(lambda size: size * KIB),
    st.lists(st.tuples(st.sampled_from("sswat"), st.floats(0, 1)), max_size=200),
)
def test_the_sender_keeps_to_what_the_receiver_grants_and_never_stands_still(
    segment: int, steps: list[tuple[str, float]]
) -> None:
    now, window = 100.0, 2 * segment
    sender, receiver = Credit(0, window, segment, None), Grant(0, window, segment, MAX_WINDOW, now)
    underway: list[int] = []
    for what, share in steps:
        now += share / 10
        if what == "s" and (most := sender.next_segment()):
            size = max(1, int(share * most))
            sender.send(size)
            underway.append(size)
        elif what == "a" and underway:
            receiver.receive(underway.pop(0))  # raises if it came without credit
        elif what == "w":
            receiver.write(int(share * (receiver.received - receiver.written)), now)
        elif what == "t" and receiver.ack_is_due(now):
            sender.acknowledge(receiver.ack(1, now))
        assert sender.sent - receiver.written <= MAX_WINDOW
    for size in underway:
        receiver.receive(size)
    receiver.write(receiver.received - receiver.written, now)
    sender.acknowledge(receiver.ack(1, now))
    assert sender.next_segment() == segment
