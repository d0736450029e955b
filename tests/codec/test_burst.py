"""Small messages that leave together, in Python and compiled: both take the same and make the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.codec import burst as pure
from wsstream.codec import twin
from wsstream.codec.burst import FULL, LARGEST
from wsstream.testing import EXAMPLE_KEY, Frame, frame, parse_frames

TWINS = {"pure": pure.Burst} | ({"compiled": twin.Burst} if twin.COMPILED else {})
KEYS = pytest.mark.parametrize("key", [None, EXAMPLE_KEY], ids=["plain", "masked"])
FIRST = frame(2, b"first")


@pytest.fixture(params=TWINS.values(), ids=TWINS)
def make(request: pytest.FixtureRequest) -> Callable[[bytes | None], Any]:
    """A burst that has begun and may go on for long."""

    def begun(key: bytes | None = None, left: int = 1 << 30) -> Any:
        burst = request.param(None if key is None else lambda: key)
        burst.begin(0x82, b"first")
        burst.left = left
        return burst

    return begun


@KEYS
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 4096, LARGEST])
def test_messages_of_every_size_become_frames_one_behind_the_other(
    make: Any, key: bytes | None, size: int
) -> None:
    burst = make(key)
    payload = (bytes(range(256)) * 64)[:size]
    assert burst.put(payload) is False
    assert burst.put("a" * size) is False
    expected = [Frame(2, b"first", mask=key), Frame(2, payload, mask=key), Frame(1, b"a" * size, mask=key)]
    taken = burst.take()
    assert type(taken) is bytes
    assert parse_frames(taken, masked=key is not None) == expected


@pytest.mark.parametrize("text", ["é", "€", "🎉", "aé€🎉", "é" * (LARGEST // 2)])
def test_text_is_sent_as_utf8_and_counted_in_bytes(make: Any, text: str) -> None:
    burst = make()
    assert burst.put(text) is False
    assert burst.take() == FIRST + frame(1, text.encode())
    burst.begin(0x82, b"first")
    assert burst.put(text + "é" * LARGEST) is None
    assert burst.take() == FIRST


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
    burst = make()
    assert burst.put(item) is None
    assert burst.take() == FIRST


def test_a_lone_surrogate_is_refused_and_changes_nothing(make: Any) -> None:
    burst = make()
    with pytest.raises(UnicodeEncodeError):
        burst.put("\ud800")
    assert burst.take() == FIRST


def test_nothing_is_put_before_the_burst_has_begun_nor_behind_its_end(make: Any) -> None:
    burst = make()
    assert len(burst) == len(FIRST)
    assert burst.take() == FIRST
    assert (len(burst), burst.take()) == (0, b"")
    assert burst.put(b"a") is None
    burst.begin(0x81, memoryview(b"again"))
    assert burst.put(b"a") is False
    assert burst.take() == frame(1, b"again") + frame(2, b"a")


def test_nothing_is_put_while_there_is_a_reason_against_it(make: Any) -> None:
    burst = make()
    burst.shut += 2
    assert burst.put(b"a") is None
    burst.shut -= 1
    assert burst.put(b"a") is None
    burst.shut -= 1
    assert burst.put(b"a") is False
    assert burst.take() == FIRST + frame(2, b"a")


def test_a_burst_that_is_full_should_leave_and_takes_no_more_than_there_is_room_for(make: Any) -> None:
    burst = make()
    burst.room = len(FIRST) + 10
    assert burst.put(bytes(7)) is False, "one byte of room is left"
    assert burst.put(bytes(7)) is True
    assert burst.put(b"") is None
    assert len(burst) == len(FIRST) + 18


def test_a_burst_of_64_kib_should_leave_however_much_room_there_is(make: Any) -> None:
    burst = make()
    burst.room = 1 << 40
    answers = []
    while len(burst) < FULL + LARGEST:
        before = len(burst)
        answers.append((burst.put(bytes(1000)), before + 1004 >= FULL))
    assert [answer for answer, _ in answers] == [full for _, full in answers]
    assert {full for _, full in answers} == {True, False}


def test_after_so_many_messages_it_is_the_turn_of_other_tasks(make: Any) -> None:
    burst = make(left=3)
    assert [burst.put(b"a") for _ in range(4)] == [False, False, True, True]
    assert burst.left == -1


def test_each_frame_has_a_key_of_its_own() -> None:
    for twin_of_it in TWINS.values():
        keys = iter([b"abcd", b"efgh", b"ijkl"])
        burst = twin_of_it(lambda keys=keys: next(keys))
        burst.begin(0x82, b"first")
        burst.left = 10
        burst.put(b"second")
        burst.put("third")
        assert [each.mask for each in parse_frames(burst.take(), masked=True)] == [b"abcd", b"efgh", b"ijkl"]


def test_a_source_of_keys_that_fails_leaves_what_waits_as_it_was(make: Any) -> None:
    def fail() -> bytes:
        raise OSError("no random numbers")

    for twin_of_it in TWINS.values():
        burst = twin_of_it(fail)
        with pytest.raises(OSError, match="no random numbers"):
            burst.begin(0x82, b"a")
        assert len(burst) == 0


@pytest.mark.skipif(not twin.COMPILED, reason="only the compiled one checks what only a mistake can give")
def test_a_key_of_another_length_is_an_error() -> None:
    burst = twin.Burst(lambda: b"abc")
    with pytest.raises(ValueError, match="4 bytes"):
        burst.begin(0x82, b"a")
    with pytest.raises(TypeError):
        twin.Burst().begin(0x82, "a")  # type: ignore[arg-type]
    assert len(burst) == 0


def test_what_was_taken_is_not_changed_by_what_follows(make: Any) -> None:
    burst = make()
    taken = burst.take()
    burst.begin(0x82, b"FIRST")
    burst.put(bytes(5000))
    assert taken == FIRST


def test_a_burst_made_anew_is_empty_and_one_in_a_cycle_is_collected() -> None:
    class Keys:
        def __call__(self) -> bytes:
            return EXAMPLE_KEY

    for twin_of_it in TWINS.values():
        keys = Keys()
        burst: Any = twin_of_it(keys)
        burst.begin(0x82, b"a")
        burst.shut = 1
        burst.__init__(keys)
        assert (len(burst), burst.shut, burst.room, burst.left) == (0, 0, FULL, 0)
        keys.burst = burst  # type: ignore[attr-defined]
        gone = weakref.ref(keys)
        del keys, burst
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
        st.tuples(st.just("room"), st.integers(-10, 100_000)),
        st.tuples(st.just("left"), st.integers(0, 5)),
    ),
    max_size=40,
)


@pytest.mark.skipif(not twin.COMPILED, reason="there is nothing to compare")
@given(STEPS, st.booleans())
def test_both_do_the_same(steps: list[tuple[str, Any]], masked: bool) -> None:
    bursts = [each((lambda: EXAMPLE_KEY) if masked else None) for each in TWINS.values()]
    for what, value in steps:
        answers = [step(burst, what, value) for burst in bursts]
        assert answers[0] == answers[1]
        assert len(bursts[0]) == len(bursts[1])


def step(burst: Any, what: str, value: Any) -> Any:
    match what:
        case "put":
            return burst.put(value)
        case "begin":
            return burst.begin(0x82, value)
        case "take":
            return burst.take()
        case "shut":
            burst.shut += value
        case _:
            setattr(burst, what, value)
    return burst.shut, burst.room, burst.left
