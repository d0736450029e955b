"""Small messages that leave together: both versions take the same and make the same frames."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.codec import VERSIONS, Version, needs_compiled

from wsstream.codec.batch import CLOSED_FOR_COMPRESSION, CLOSED_FOR_END, CLOSED_FOR_TURN, FULL, GAP, LARGEST
from wsstream.testing import EXAMPLE_KEY, Frame, frame, parse_frames

KEYS = pytest.mark.parametrize("key", [None, EXAMPLE_KEY], ids=["plain", "masked"])
FIRST = frame(2, b"first")


@pytest.fixture
def make(version: Version) -> Callable[..., Any]:
    """A batch that has begun and may go on for long."""

    def begun(key: bytes | None = None, left: int = 1 << 30) -> Any:
        batch = version.FrameBatch(None if key is None else lambda: key)
        batch.begin(0x82, b"first")
        batch.sends_until_yield = left
        return batch

    return begun


@KEYS
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 4096, LARGEST])
def test_messages_of_every_size_become_frames_one_after_the_other(
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
def test_anything_but_a_small_plain_message_is_refused(make: Any, item: Any) -> None:
    batch = make()
    assert batch.put(item) is None
    assert batch.take() == FIRST


def test_a_lone_surrogate_is_refused_and_changes_nothing(make: Any) -> None:
    batch = make()
    with pytest.raises(UnicodeEncodeError):
        batch.put("\ud800")
    assert batch.take() == FIRST


def test_put_refuses_messages_unless_a_frame_is_waiting(make: Any) -> None:
    batch = make()
    assert len(batch) == len(FIRST)
    assert batch.take() == FIRST
    assert (len(batch), batch.take()) == (0, b"")
    assert batch.put(b"a") is None
    batch.begin(0x81, memoryview(b"again"))
    assert batch.put(b"a") is False
    assert batch.take() == frame(1, b"again") + frame(2, b"a")


def test_put_refuses_messages_while_the_batch_is_closed_for_a_reason(make: Any) -> None:
    batch = make()
    batch.closed_for |= CLOSED_FOR_TURN
    batch.closed_for |= CLOSED_FOR_COMPRESSION
    assert batch.put(b"a") is None
    batch.closed_for &= ~CLOSED_FOR_TURN
    assert batch.put(b"a") is None
    batch.closed_for &= ~CLOSED_FOR_COMPRESSION
    assert batch.put(b"a") is False
    assert batch.take() == FIRST + frame(2, b"a")


def test_a_full_batch_should_leave_and_refuses_messages(make: Any) -> None:
    batch = make()
    batch.capacity = len(FIRST) + 10
    assert batch.put(bytes(7)) is False, "one byte of room is left"
    assert batch.put(bytes(7)) is True
    assert batch.put(b"") is None
    assert len(batch) == len(FIRST) + 18


def test_a_batch_of_64_kib_should_leave_whatever_its_capacity(make: Any) -> None:
    batch = make()
    batch.capacity = 1 << 40
    answers = []
    while len(batch) < FULL + LARGEST:
        before = len(batch)
        answers.append((batch.put(bytes(1000)), before + 1004 >= FULL))
    assert [answer for answer, _ in answers] == [full for _, full in answers]
    assert {full for _, full in answers} == {True, False}


def test_after_sends_until_yield_messages_other_tasks_should_run(make: Any) -> None:
    batch = make(left=3)
    assert [batch.put(b"a") for _ in range(4)] == [False, False, True, True]
    assert batch.sends_until_yield == -1


def test_each_frame_has_a_key_of_its_own(version: Version) -> None:
    keys = iter([b"abcd", b"efgh", b"ijkl"])
    batch = version.FrameBatch(lambda: next(keys))
    batch.begin(0x82, b"first")
    batch.sends_until_yield = 10
    batch.put(b"second")
    batch.put("third")
    assert [each.mask for each in parse_frames(batch.take(), masked=True)] == [b"abcd", b"efgh", b"ijkl"]


def test_a_failing_source_of_keys_leaves_the_waiting_frames_unchanged(version: Version) -> None:
    keys: list[Any] = [EXAMPLE_KEY]
    batch = version.FrameBatch(lambda: keys.pop())
    batch.begin(0x82, b"a")
    waiting = len(batch)
    for key, error in [(None, IndexError), (b"abc", ValueError), (b"", ValueError), ("abcd", TypeError)]:
        keys += [] if key is None else [key]
        with pytest.raises(error):
            batch.begin(0x82, b"a")
        assert len(batch) == waiting


def test_a_batch_begins_with_bytes_only(version: Version) -> None:
    batch = version.FrameBatch()
    for wrong in ("a", 5, None):
        with pytest.raises(TypeError):
            batch.begin(0x82, wrong)
    assert len(batch) == 0


def test_taken_bytes_are_not_changed_by_later_frames(make: Any) -> None:
    batch = make()
    taken = batch.take()
    batch.begin(0x82, b"FIRST")
    batch.put(bytes(5000))
    assert taken == FIRST


def test_a_new_batch_is_empty_and_open(version: Version) -> None:
    for batch in (version.FrameBatch(), version.FrameBatch(None), version.FrameBatch(next_key=None)):
        assert (len(batch), batch.closed_for, batch.capacity, batch.sends_until_yield) == (0, 0, FULL, 0)
        batch.begin(0x82, b"a")
        assert batch.take() == frame(2, b"a")


def test_a_batch_in_a_reference_cycle_is_collected(version: Version) -> None:
    class Keys:
        def __call__(self) -> bytes:
            return EXAMPLE_KEY

    keys = Keys()
    keys.batch = version.FrameBatch(keys)  # type: ignore[attr-defined]
    keys.batch.begin(0x82, b"a")  # type: ignore[attr-defined]
    gone = weakref.ref(keys)
    del keys
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
        st.tuples(st.just("closed_for"), st.integers(0, 7)),
        st.tuples(st.just("capacity"), st.integers(-10, 100_000)),
        st.tuples(st.just("sends_until_yield"), st.integers(0, 5)),
    ),
    max_size=40,
)


class Kernel:
    """Takes what it is told to, and writes it down; its clock stands still."""

    def __init__(self, batch: Any) -> None:
        self.now = 0.0
        self.most = 1 << 20
        self.error: BaseException | None = None
        self.sent: list[bytes] = []
        self.rests: list[tuple[bytes, int, BaseException | None]] = []
        batch.clock = batch.loop_clock = lambda: self.now
        batch.send = self.send
        batch.send_rest = lambda *rest: self.rests.append(rest)

    def send(self, frame: bytes) -> int:
        self.sent.append(frame)
        if self.error is not None:
            raise self.error
        return min(len(frame), self.most)


@pytest.fixture(params=[None, EXAMPLE_KEY], ids=["plain", "masked"])
def alone(request: pytest.FixtureRequest, version: Version) -> tuple[Any, Kernel]:
    """A batch in which nothing waits, and who sends what comes alone."""
    key = request.param
    batch = version.FrameBatch(None if key is None else lambda: key)
    batch.sends_until_yield = 100
    return batch, Kernel(batch)


def test_a_message_that_comes_alone_leaves_at_once(alone: tuple[Any, Kernel]) -> None:
    batch, kernel = alone
    kernel.now = 7.0
    assert batch.put("é") is False
    (sent,) = kernel.sent
    assert parse_frames(sent, masked=len(sent) > 4)[0].payload == "é".encode()
    assert len(batch) == 0
    assert batch.sent == len(sent)
    assert batch.last_send == batch.left_at == 7.0
    assert batch.sends_until_yield == 99
    assert kernel.rests == []


def test_one_that_follows_too_soon_goes_another_way_unless_it_answers(alone: tuple[Any, Kernel]) -> None:
    batch, kernel = alone
    assert batch.put(b"a") is False
    kernel.now += GAP
    assert batch.put(b"b") is None
    batch.answers = True
    assert batch.put(b"c") is False
    assert batch.answers is False
    assert batch.put(b"d") is None
    kernel.now += 2 * GAP
    assert batch.put(b"e") is False
    assert len(kernel.sent) == 3


def test_what_the_kernel_does_not_take_is_handed_on(alone: tuple[Any, Kernel]) -> None:
    batch, kernel = alone
    kernel.most = 2
    assert batch.put(b"message") is False
    assert kernel.rests == [(kernel.sent[0], 2, None)]
    assert batch.sent == 0
    kernel.now, kernel.error = 1.0, BlockingIOError()
    batch.put(b"message")
    kernel.now, kernel.error = 2.0, ConnectionResetError()
    batch.put(b"message")
    assert kernel.rests[1:] == [(kernel.sent[1], 0, None), (kernel.sent[2], 0, kernel.error)]


def test_nothing_leaves_alone_before_what_waits_elsewhere(alone: tuple[Any, Kernel]) -> None:
    batch, kernel = alone
    batch.others = 1
    assert batch.put(b"a") is None
    batch.others = 0
    batch.closed_for = CLOSED_FOR_TURN
    assert batch.put(b"a") is None
    batch.closed_for, batch.largest = 0, 1
    assert batch.put(b"ab") is None
    assert batch.put(5) is None
    batch.capacity = 0
    assert batch.put(b"a") is None
    assert kernel.sent == []


def test_frames_that_are_made_already_leave_if_nothing_waits(version: Version) -> None:
    batch = version.FrameBatch(None)
    kernel = Kernel(batch)
    frames = b"\x82\x01a\x82\x01b"
    batch.closed_for = CLOSED_FOR_COMPRESSION
    assert batch.send_frames(frames) is True
    assert kernel.sent[0] is frames
    assert batch.sent == len(frames)
    for reason in (CLOSED_FOR_TURN, CLOSED_FOR_END):
        batch.closed_for = reason
        assert batch.send_frames(frames) is None
    batch.closed_for = 0
    batch.others = 1
    assert batch.send_frames(frames) is None
    batch.others = 0
    batch.begin(0x82, b"waits")
    assert batch.send_frames(frames) is None
    batch.take()
    batch.send = None
    assert batch.send_frames(frames) is None
    assert len(kernel.sent) == 1


def test_frames_that_do_not_all_leave_are_handed_on(version: Version) -> None:
    batch = version.FrameBatch(None)
    kernel = Kernel(batch)
    batch.send_rest = lambda frame, sent, error: setattr(batch, "others", len(frame) - sent)
    kernel.most = 2
    assert batch.send_frames(b"\x82\x01a") is False


def test_an_interrupt_while_it_is_sent_is_raised(alone: tuple[Any, Kernel]) -> None:
    batch, kernel = alone
    kernel.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        batch.put(b"a")


def test_who_sends_by_other_means_asks_whether_a_message_comes_alone(alone: tuple[Any, Kernel]) -> None:
    batch, _ = alone
    assert [batch.take_alone(now) for now in (0.0, GAP, 3 * GAP)] == [True, False, True]
    batch.answers = True
    assert [batch.take_alone(3 * GAP) for _ in range(2)] == [True, False]
    assert batch.last_send == 3 * GAP


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets that do not block."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def over_a_socket(alone: tuple[Any, Kernel], sock: socket.socket) -> tuple[Any, Kernel]:
    batch, kernel = alone
    batch.send, batch.fileno = sock.send, sock.fileno
    batch.answers = True
    return batch, kernel


def test_a_frame_leaves_by_the_socket(
    alone: tuple[Any, Kernel], ends: tuple[socket.socket, socket.socket]
) -> None:
    batch, kernel = over_a_socket(alone, ends[0])
    assert batch.put(b"message") is False
    received = ends[1].recv(100)
    assert len(received) == batch.sent
    assert parse_frames(received, masked=batch.sent > 9)[0].payload == b"message"
    assert kernel.rests == []


def test_what_a_full_socket_does_not_take_is_handed_on(
    alone: tuple[Any, Kernel], ends: tuple[socket.socket, socket.socket]
) -> None:
    batch, kernel = over_a_socket(alone, ends[0])
    taken = 0
    while not kernel.rests:
        batch.answers = True
        batch.put(bytes(LARGEST))
        taken += 1
        assert taken < 1000
    ((frame, sent, error),) = kernel.rests
    assert sent < len(frame)
    assert error is None


@pytest.mark.parametrize("end", ["closed here", "closed there"])
def test_a_socket_that_takes_nothing_for_good_is_an_error(
    alone: tuple[Any, Kernel], ends: tuple[socket.socket, socket.socket], end: str
) -> None:
    batch, kernel = over_a_socket(alone, ends[0])
    ends[0 if end == "closed here" else 1].close()
    batch.put(b"message")
    ((frame, sent, error),) = kernel.rests
    assert sent == 0
    assert parse_frames(frame, masked=len(frame) > 9)[0].payload == b"message"
    assert type(error) is (OSError if end == "closed here" else BrokenPipeError)


@needs_compiled
@given(STEPS, st.booleans())
def test_both_versions_do_the_same(steps: list[tuple[str, Any]], masked: bool) -> None:
    batches = [version.FrameBatch((lambda: EXAMPLE_KEY) if masked else None) for version in VERSIONS]
    for what, value in steps:
        answers = [step(batch, what, value) for batch in batches]
        assert answers[0] == answers[1]
        assert len(batches[0]) == len(batches[1])


def step(batch: Any, what: str, value: Any) -> Any:
    match what:
        case "put":
            return batch.put(value)
        case "begin":
            return batch.begin(0x82, value)
        case "take":
            return batch.take()
        case _:
            setattr(batch, what, value)
    return batch.closed_for, batch.capacity, batch.sends_until_yield
