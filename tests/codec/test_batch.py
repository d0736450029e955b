"""Small messages that leave together, in Python and compiled: both take the same and make the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.codec import batch as pure
from wsstream.codec import speedups
from wsstream.codec.batch import FULL, LARGEST
from wsstream.testing import EXAMPLE_KEY, Frame, frame, parse_frames

TWINS = {"pure": pure.FrameBatch} | ({"compiled": speedups.FrameBatch} if speedups.COMPILED else {})
KEYS = pytest.mark.parametrize("key", [None, EXAMPLE_KEY], ids=["plain", "masked"])
FIRST = frame(2, b"first")


@pytest.fixture(params=TWINS.values(), ids=TWINS)
def make(request: pytest.FixtureRequest) -> Callable[[bytes | None], Any]:
    """A batch that has begun and may go on for long."""

    def begun(key: bytes | None = None, left: int = 1 << 30) -> Any:
        batch = request.param(None if key is None else lambda: key)
        batch.begin(0x82, b"first")
        batch.sends_until_yield = left
        return batch

    return begun


@KEYS
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 4096, LARGEST])
def test_messages_of_every_size_become_frames_one_behind_the_other(
    make: Any, key: bytes | None, size: int
) -> None:
    batch = make(key)
    payload = (bytes(range(256)) * 64)[:size]
    assert batch.put(payload) is False
    assert batch.put("a" * size) is False
    expected = [Frame(2, b"first", mask=key), Frame(2, payload, mask=key), Frame(1, b"a" * size, mask=key)]
    taken = batch.take()
    assert type(taken) is bytes
    assert parse_frames(taken, masked=key is not None) == expected


@pytest.mark.parametrize("text", ["é", "€", "🎉", "aé€🎉", "é" * (LARGEST // 2)])
def test_text_is_sent_as_utf8_and_counted_in_bytes(make: Any, text: str) -> None:
    batch = make()
    assert batch.put(text) is False
    assert batch.take() == FIRST + frame(1, text.encode())
    batch.begin(0x82, b"first")
    assert batch.put(text + "é" * LARGEST) is None
    assert batch.take() == FIRST


@pytest.mark.parametrize(
    "item",
    [
        bytes(LARGEST + 1),
        "a" * (LARGEST + 1),
        bytearray(b"a"),
        memoryview(b"a"),
        type("Text", (str,), {})("a"),
        type("Bytes", (bytes,), {})(b"a"),
        5,
        None,
    ],
    ids=lambda item: type(item).__name__,
)
def test_what_is_not_a_plain_small_message_goes_another_way(make: Any, item: Any) -> None:
    batch = make()
    assert batch.put(item) is None
    assert batch.take() == FIRST


def test_a_lone_surrogate_is_refused_and_changes_nothing(make: Any) -> None:
    batch = make()
    with pytest.raises(UnicodeEncodeError):
        batch.put("\ud800")
    assert batch.take() == FIRST


def test_nothing_is_put_before_the_burst_has_begun_nor_behind_its_end(make: Any) -> None:
    batch = make()
    assert len(batch) == len(FIRST)
    assert batch.take() == FIRST
    assert (len(batch), batch.take()) == (0, b"")
    assert batch.put(b"a") is None
    batch.begin(0x81, memoryview(b"again"))
    assert batch.put(b"a") is False
    assert batch.take() == frame(1, b"again") + frame(2, b"a")


def test_nothing_is_put_while_there_is_a_reason_against_it(make: Any) -> None:
    batch = make()
    batch.closed_for += 2
    assert batch.put(b"a") is None
    batch.closed_for -= 1
    assert batch.put(b"a") is None
    batch.closed_for -= 1
    assert batch.put(b"a") is False
    assert batch.take() == FIRST + frame(2, b"a")


def test_a_burst_that_is_full_should_leave_and_takes_no_more_than_there_is_room_for(make: Any) -> None:
    batch = make()
    batch.capacity = len(FIRST) + 10
    assert batch.put(bytes(7)) is False, "one byte of room is left"
    assert batch.put(bytes(7)) is True
    assert batch.put(b"") is None
    assert len(batch) == len(FIRST) + 18


def test_a_burst_of_64_kib_should_leave_however_much_room_there_is(make: Any) -> None:
    batch = make()
    batch.capacity = 1 << 40
    answers = []
    while len(batch) < FULL + LARGEST:
        before = len(batch)
        answers.append((batch.put(bytes(1000)), before + 1004 >= FULL))
    assert [answer for answer, _ in answers] == [full for _, full in answers]
    assert {full for _, full in answers} == {True, False}


def test_after_so_many_messages_it_is_the_turn_of_other_tasks(make: Any) -> None:
    batch = make(left=3)
    assert [batch.put(b"a") for _ in range(4)] == [False, False, True, True]
    assert batch.sends_until_yield == -1


def test_each_frame_has_a_key_of_its_own() -> None:
    for twin_of_it in TWINS.values():
        keys = iter([b"abcd", b"efgh", b"ijkl"])
        batch = twin_of_it(lambda keys=keys: next(keys))
        batch.begin(0x82, b"first")
        batch.sends_until_yield = 10
        batch.put(b"second")
        batch.put("third")
        assert [each.mask for each in parse_frames(batch.take(), masked=True)] == [b"abcd", b"efgh", b"ijkl"]


def test_a_source_of_keys_that_fails_leaves_what_waits_as_it_was(make: Any) -> None:
    def fail() -> bytes:
        raise OSError("no random numbers")

    for twin_of_it in TWINS.values():
        batch = twin_of_it(fail)
        with pytest.raises(OSError, match="no random numbers"):
            batch.begin(0x82, b"a")
        assert len(batch) == 0


@pytest.mark.skipif(not speedups.COMPILED, reason="only the compiled one checks what only a mistake can give")
def test_a_key_of_another_length_is_an_error() -> None:
    batch = speedups.FrameBatch(lambda: b"abc")
    with pytest.raises(ValueError, match="4 bytes"):
        batch.begin(0x82, b"a")
    with pytest.raises(TypeError):
        speedups.FrameBatch().begin(0x82, "a")  # type: ignore[arg-type]
    assert len(batch) == 0


def test_what_was_taken_is_not_changed_by_what_follows(make: Any) -> None:
    batch = make()
    taken = batch.take()
    batch.begin(0x82, b"FIRST")
    batch.put(bytes(5000))
    assert taken == FIRST


def test_a_burst_made_anew_is_empty_and_one_in_a_cycle_is_collected() -> None:
    class Keys:
        def __call__(self) -> bytes:
            return EXAMPLE_KEY

    for twin_of_it in TWINS.values():
        keys = Keys()
        batch: Any = twin_of_it(keys)
        batch.begin(0x82, b"a")
        batch.closed_for = 1
        batch.__init__(keys)
        assert (len(batch), batch.closed_for, batch.capacity, batch.sends_until_yield) == (0, 0, FULL, 0)
        keys.batch = batch  # type: ignore[attr-defined]
        gone = weakref.ref(keys)
        del keys, batch
        gc.collect()
        assert gone() is None


ITEMS = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=100),
    st.sampled_from([bytes(LARGEST), bytes(LARGEST + 1), "é" * LARGEST, None, bytearray(b"a")]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), ITEMS),
        st.tuples(st.just("begin"), st.binary(max_size=300)),
        st.tuples(st.just("take"), st.none()),
        st.tuples(st.just("shut"), st.sampled_from([-1, 1])),
        st.tuples(st.just("capacity"), st.integers(-10, 100_000)),
        st.tuples(st.just("sends_until_yield"), st.integers(0, 5)),
    ),
    max_size=40,
)


@pytest.mark.skipif(not speedups.COMPILED, reason="there is nothing to compare")
@given(STEPS, st.booleans())
def test_both_do_the_same(steps: list[tuple[str, Any]], masked: bool) -> None:
    bursts = [each((lambda: EXAMPLE_KEY) if masked else None) for each in TWINS.values()]
    for what, value in steps:
        answers = [step(batch, what, value) for batch in bursts]
        assert answers[0] == answers[1]
        assert len(bursts[0]) == len(bursts[1])


def step(batch: Any, what: str, value: Any) -> Any:
    match what:
        case "put":
            return batch.put(value)
        case "begin":
            return batch.begin(0x82, value)
        case "take":
            return batch.take()
        case "shut":
            batch.closed_for += value
        case _:
            setattr(batch, what, value)
    return batch.closed_for, batch.capacity, batch.sends_until_yield
