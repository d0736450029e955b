"""The queue between decoder and reader: both versions do the same, and neither leaks."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import types
import warnings
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.codec import VERSIONS, Version, needs_compiled
from kit.effort import examples

from wsstream.codec import speedups, unread
from wsstream.codec.events import PIECE_OVERHEAD, Chunk, Kind

CHUNK = Chunk("binary", b"chunk", False)

Item = str | bytes | Chunk


def cost_of(*items: Item) -> int:
    payloads = (item.payload if isinstance(item, Chunk) else item for item in items)
    return sum(len(p.encode() if isinstance(p, str) else p) + PIECE_OVERHEAD for p in payloads)


def put(queue: Any, *items: Any) -> None:
    queue.extend(list(items), cost_of(*items))


# -- order, and cost ----------------------------------------------------------------------------


def test_a_new_queue_is_empty_and_without_limits(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    assert (len(queue), bool(queue), list(queue), queue.front(), queue.take_message_now()) == (
        0,
        False,
        [],
        None,
        None,
    )
    assert (queue.cost, queue.limit, queue.low_water, queue.closed_for) == (0, unread.UNLIMITED, -1, 0)
    assert UnreadQueue(7).limit == UnreadQueue(limit=7).limit == 7


def test_messages_are_taken_unchanged_in_the_order_of_arrival(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    items = ["", b"", "é", b"\xff", "a" * 5000, b"b" * 5000]
    put(queue, *items[:2])
    put(queue)
    put(queue, *items[2:])
    for item in items:
        popped = queue.take_message_now()
        assert popped is item
    assert (queue.take_message_now(), queue.cost) == (None, 0)


TEXTS = [
    "",
    "a",
    "ÿ",
    "aÿ",
    "߿",
    "ࠀ",
    "a€",
    "\ufffd\uffff",
    "𐀀",
    "a𐀀",
    "\U0010ffff",
    "aÿ€🎉" * 999,
    "a" * 9999,
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_text_counts_as_utf8(UnreadQueue: Any, text: str) -> None:
    size = len(text.encode())
    for queue, fits in ((UnreadQueue(size), True), (UnreadQueue(size - 1), False)):
        put(queue, text, b"next")
        assert queue.take_message_now() == (text if fits else None)
        assert queue.cost == cost_of(b"next") + (0 if fits else size + PIECE_OVERHEAD)


@given(st.text(max_size=50))
def test_any_text_counts_as_utf8(UnreadQueue: Any, text: str) -> None:
    size = len(text.encode())
    assert unread.size_of(text) == unread.size_of(text.encode()) == size
    queue = UnreadQueue()
    put(queue, text, "")
    assert queue.take_message_now() == text
    assert queue.cost == 64


def test_the_cost_is_the_sum_of_what_extend_was_told(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    queue.extend(["a", CHUNK], 1000)
    queue.extend([], 1)
    assert queue.cost == 1001
    assert queue.take_message_now() == "a"
    assert queue.cost == 1001 - 65


def test_the_list_that_was_put_is_not_kept(UnreadQueue: Any) -> None:
    queue, items = UnreadQueue(), ["a", "b"]
    queue.extend(items, cost_of("a", "b"))
    items.clear()
    assert [queue.take_message_now(), queue.take_message_now()] == ["a", "b"]


def test_iterating_shows_the_items_of_that_moment_and_takes_none(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    put(queue, "taken", "a", CHUNK, b"b")
    queue.take_message_now()
    seen = iter(queue)
    assert next(seen) == "a"
    queue.take_message_now()
    put(queue, "later")
    assert [*seen] == [CHUNK, b"b"]
    assert [*queue] == [CHUNK, b"b", "later"]
    assert len(queue) == 3


# -- chunks, and limits --------------------------------------------------------------------------


def chunks_of(kind: Kind, *payloads: bytes, compressed: bool = False) -> list[Chunk]:
    """A message in as many chunks."""
    last = len(payloads) - 1
    return [Chunk(kind, payload, i == last, compressed) for i, payload in enumerate(payloads)]


@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("payloads", [[b"one"], [b""], [b"", b""], [b"\xc3", b"\xa9", b"", b"b" * 70_000]])
def test_a_message_in_chunks_is_taken_once_it_is_complete(
    UnreadQueue: Any, kind: Kind, payloads: list[bytes]
) -> None:
    queue = UnreadQueue()
    chunks = chunks_of(kind, *payloads)
    expected: Item = b"".join(payloads)
    expected = expected.decode() if kind == "text" else expected
    for chunk in chunks:
        assert (queue.take_message_now(), queue.take_message(1 << 30)) == (None, None)
        put(queue, chunk)
    put(queue, "next")
    message = queue.take_message_now()
    assert (message, type(message)) == (expected, type(expected))
    assert (queue.take_message_now(), queue.cost) == ("next", 0)


def test_chunks_that_cannot_be_taken_stay_in_the_queue(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    chunks = chunks_of("binary", b"one", b"two")
    put(queue, *chunks)
    held = queue.cost
    queue.limit = 5
    assert (queue.take_message_now(), queue.take_message(5), [*queue], queue.cost) == (
        None,
        None,
        chunks,
        held,
    )
    queue.limit, queue.low_water = 6, 0
    assert (queue.take_message_now(), [*queue], queue.cost) == (None, chunks, held)
    assert (queue.take_message(6), queue.cost) == (b"onetwo", 0)
    put(queue, *chunks)
    assert queue.front() is chunks[0]
    assert queue.take_raw() is chunks[0]
    assert queue.cost == held, "the caller counts it"


class Flag:
    """A flag of a chunk that says what it is asked for, and does something first."""

    def __init__(self, answer: bool, action: Callable[[], object] = lambda: None) -> None:
        self.answer, self.action = answer, action

    def __bool__(self) -> bool:
        self.action()
        return self.answer


@pytest.mark.parametrize(
    ("yes", "no"), [(1, 0), ("yes", ""), ([0], []), (Flag(True), Flag(False)), (2, None)]
)
def test_flags_of_chunks_count_by_their_truth(UnreadQueue: Any, yes: Any, no: Any) -> None:
    queue = UnreadQueue()
    put(queue, Chunk("binary", b"one", no, no), Chunk("binary", b"two", yes, no))
    put(queue, Chunk("text", b"three", yes, yes))
    assert (queue.take_message_now(), queue.take_message_now()) == (b"onetwo", None)
    queue.inflate = lambda chunk, limit: f"inflated {chunk.payload!r}"
    assert (queue.take_message_now(), queue.cost) == ("inflated b'three'", 0)


def test_inflate_is_called_whatever_its_truth(UnreadQueue: Any) -> None:
    class Falsy(Flag):
        def __call__(self, chunk: Chunk, limit: int) -> str:
            return "inflated"

    queue = UnreadQueue()
    queue.inflate = Falsy(False)
    put(queue, Chunk("text", b"a", True, True))
    assert queue.take_message_now() == "inflated"


def test_an_error_of_a_flag_is_raised_and_the_chunks_stay(UnreadQueue: Any) -> None:
    def fail() -> None:
        raise KeyError("flag")

    for flags in ((Flag(True, fail), False), (True, Flag(False, fail))):
        queue, chunk = UnreadQueue(), Chunk("binary", b"a", *flags)
        put(queue, chunk)
        with pytest.raises(KeyError, match="flag"):
            queue.take_message_now()
        assert (queue.front(), queue.cost) == (chunk, 65)


@pytest.mark.parametrize("between", ["a", b"a", None, 5, ("binary", b"a", True, False)], ids=repr)
def test_the_chunks_of_a_message_must_not_be_interrupted(UnreadQueue: Any, between: Any) -> None:
    queue = UnreadQueue()
    put(queue, CHUNK)
    queue.extend([between], 65)
    with pytest.raises(AssertionError):
        queue.take_message_now()
    assert (queue.cost, len(queue)) == (cost_of(CHUNK) + 65, 2)


def test_a_chunk_may_be_of_a_subclass(UnreadQueue: Any) -> None:
    class Sub(Chunk):
        pass

    queue = UnreadQueue()
    put(queue, Sub("text", b"a", False), Sub("text", b"b", True))
    assert queue.take_message_now() == "ab"


def test_a_compressed_message_in_one_chunk_is_inflated_within_the_limit(UnreadQueue: Any) -> None:
    queue, asked = UnreadQueue(10), []
    (chunk,) = chunks_of("text", b"compressed", compressed=True)
    put(queue, chunk)
    assert (queue.take_message_now(), [*queue]) == (None, [chunk]), "nobody can"

    def inflate(chunk: Chunk, limit: int) -> str | None:
        asked.append((chunk, limit))
        return "inflated" if limit < 100 else None

    queue.inflate = inflate
    assert (queue.take_message_now(), queue.cost, len(queue)) == ("inflated", 0, 0)
    put(queue, chunk, "next")
    assert queue.take_message(100) is None
    assert asked == [(chunk, 10), (chunk, 100)]
    assert (queue.take_message_now(), queue.cost) == ("next", 0), "the chunk was taken"
    put(queue, *chunks_of("text", b"two", b"chunks", compressed=True))
    assert queue.take_message_now() is None
    assert len(asked) == 2


def test_an_error_of_inflate_is_raised_and_the_chunk_is_taken(UnreadQueue: Any) -> None:
    queue = UnreadQueue()

    def inflate(chunk: Chunk, limit: int) -> str:
        raise OSError("no")

    queue.inflate = inflate
    put(queue, *chunks_of("text", b"a", compressed=True))
    with pytest.raises(OSError, match="no"):
        queue.take_message_now()
    assert (queue.cost, len(queue)) == (0, 0)


@pytest.mark.parametrize("message", [b"12345", "123é"])
def test_the_limit_is_exact_to_the_byte_and_may_be_changed(UnreadQueue: Any, message: str | bytes) -> None:
    queue = UnreadQueue(4)
    put(queue, message, "")
    assert (queue.take_message_now(), queue.front(), queue.cost) == (None, message, 5 + 2 * 64)
    queue.limit = 5
    assert (queue.take_message_now(), queue.cost) == (message, 64)
    queue.limit = -1
    assert queue.take_message_now() is None
    queue.limit = 0
    assert queue.take_message_now() == ""


def test_take_message_now_stops_at_the_low_water_mark_and_take_raw_does_not(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    put(queue, b"a", b"b", b"c")
    queue.low_water = 65
    assert (queue.take_message_now(), queue.cost) == (b"a", 130)
    assert (queue.take_message_now(), queue.cost) == (None, 130), "65 would be left, and reading resumes"
    queue.low_water = 64
    assert (queue.take_message_now(), queue.cost) == (b"b", 65)
    queue.low_water = 0
    assert queue.take_message_now() is None
    assert queue.take_raw() == b"c"


def test_take_message_now_takes_nothing_while_the_queue_is_closed_for_a_reason(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    put(queue, "a", "b")
    for bits, taken in ((1, None), (3, None), (2, None), (0, "a")):
        queue.closed_for = bits
        assert queue.take_message_now() == taken
    queue.closed_for |= unread.CLOSED_FOR_RECEIVER
    assert (queue.front(), queue.take_raw(), len(queue)) == ("b", "b", 0)


def test_take_raw_from_an_empty_queue_is_an_index_error(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    for _ in range(2):
        with pytest.raises(IndexError):
            queue.take_raw()
        put(queue, "a")
        queue.take_raw()


def test_clear_drops_the_items_and_keeps_the_limits(UnreadQueue: Any) -> None:
    queue = UnreadQueue(9)
    queue.low_water, queue.closed_for = 3, 1
    put(queue, "a", CHUNK, b"b")
    queue.take_raw()
    queue.clear()
    assert (len(queue), queue.cost, [*queue], queue.front()) == (0, 0, [], None)
    assert (queue.limit, queue.low_water, queue.closed_for) == (9, 3, 1)
    queue.closed_for = 0
    put(queue, "c", "d")
    assert queue.take_message_now() == "c"


# -- memory --------------------------------------------------------------------------------------


def test_a_queue_that_never_becomes_empty_does_not_grow(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    messages = [b"message %d" % number for number in range(100)]
    put(queue, *messages)

    def go_round(times: int) -> None:
        for _ in range(times):
            for message in messages:
                assert queue.take_message_now() is message
                put(queue, message)

    go_round(50)
    tracemalloc.start()
    try:
        go_round(50)
        before, _ = tracemalloc.get_traced_memory()
        go_round(200)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 16_384
    assert peak - before < 65_536
    assert [*queue] == messages


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 2047, 2048, 2049, 5000])
@pytest.mark.parametrize("way", ["take_message_now", "take_raw"])
def test_many_items_are_taken_in_order_at_every_boundary(UnreadQueue: Any, count: int, way: str) -> None:
    queue = UnreadQueue()
    put(queue, *map(str, range(count)))
    for number in range(count):
        assert len(queue) == count - number
        if number in (1022, 1023, 1024, 1025, count // 2 + 1):
            assert [*queue] == [*map(str, range(number, count))]
        assert getattr(queue, way)() == str(number)
    assert len(queue) == 0
    put(queue, "a")
    assert queue.take_message_now() == "a"


@pytest.mark.parametrize("way", ["take_message_now", "take_raw", "front", "__iter__", "clear"])
def test_the_queue_keeps_no_reference_to_taken_items(UnreadQueue: Any, way: str) -> None:
    message, queue = bytes(100), UnreadQueue()
    before = sys.getrefcount(message)
    for _ in range(3000):
        put(queue, message, message)
        getattr(queue, way)()
        assert sys.getrefcount(message) - before == len(queue)
        if len(queue) > 1500:
            queue.take_raw()
    queue.clear()
    assert sys.getrefcount(message) == before
    put(queue, message)
    del queue
    assert sys.getrefcount(message) == before


def test_an_item_lives_until_it_is_taken_and_no_longer(UnreadQueue: Any) -> None:
    class Message(str):
        pass

    def alive() -> list[bool]:
        return [ref() is not None for ref in refs]

    queue = UnreadQueue()
    items = [Message(number) for number in range(4)]
    refs = [*map(weakref.ref, items)]
    put(queue, *items)
    items.clear()
    assert alive() == [True] * 4
    queue.take_message_now()
    assert alive() == [False, True, True, True]
    queue.take_raw()
    assert alive() == [False, False, True, True]
    queue.clear()
    assert alive() == [False] * 4


def test_the_destructor_of_a_dropped_item_may_use_the_queue(UnreadQueue: Any) -> None:
    queue, seen = UnreadQueue(), []

    class Message(bytes):
        def __del__(self) -> None:
            seen.append((len(queue), queue.front(), queue.take_message_now(), [*queue], queue.cost))
            put(queue, b"more")

    put(queue, "a", "b", "c", Message(b"1"))
    queue.take_raw()
    queue.clear()
    assert seen == [(0, None, None, [], 0)]
    assert ([*queue], queue.cost) == ([b"more"], 68)


CHANGES: dict[str, Callable[[Any], object]] = {
    "cleared": lambda queue: queue.clear(),
    "one taken": lambda queue: queue.take_raw(),
    "all taken": lambda queue: [queue.take_raw() for _ in range(len(queue))],
    "larger chunks": lambda queue: (
        queue.clear(),
        put(queue, *chunks_of("binary", bytes(9999), bytes(9999))),
    ),
    "smaller chunks": lambda queue: (queue.clear(), put(queue, *chunks_of("binary", b"", b""))),
    "messages": lambda queue: (queue.clear(), put(queue, "a", "b", "c")),
    "no longer inflated": lambda queue: setattr(queue, "inflate", None),
}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_flag_that_changes_the_queue_does_no_harm(UnreadQueue: Any, change: Any, compressed: bool) -> None:
    queue = UnreadQueue()
    queue.inflate = lambda chunk, limit: "inflated"
    once = iter([lambda: change(queue)])
    flag = Flag(True, lambda: next(once, bool)())
    put(queue, *[] if compressed else [Chunk("binary", b"one", False)])
    put(queue, Chunk("binary", b"two", flag, compressed))
    with suppress(RuntimeError, IndexError, AssertionError):
        queue.take_message_now()
    queue.clear()
    put(queue, "a")
    assert queue.take_message_now() == "a"


def test_a_payload_whose_destructor_changes_the_queue_does_no_harm(UnreadQueue: Any) -> None:
    class Payload(bytes):
        def __del__(self) -> None:
            queue.clear()

    queue = UnreadQueue()
    queue.extend(
        [Chunk("binary", Payload(b"one"), False), Chunk("binary", b"two", True)], cost_of(b"one", b"two")
    )
    with suppress(RuntimeError):
        queue.take_message_now()
    queue.clear()
    put(queue, "a")
    assert queue.take_message_now() == "a"


# -- the same, call by call ----------------------------------------------------------------------

FLAGS = st.sampled_from([False, True, False, True, 0, 1, "", "yes", None, [0]])
ITEMS = st.one_of(
    st.text(max_size=6),
    st.binary(max_size=6),
    st.builds(Chunk, st.just("binary"), st.sampled_from([b"", b"a", b"abc"]), FLAGS, FLAGS),
    st.builds(Chunk, st.just("text"), st.just(b"abc"), FLAGS),
)
NUMBERS = st.integers(-2, 400)
CALLS = st.one_of(
    st.tuples(st.just("extend"), st.lists(ITEMS, max_size=5), st.integers(0, 600)),
    st.tuples(
        st.sampled_from(
            [
                "take_message_now",
                "take_message_now",
                "take_message_now",
                "front",
                "take_raw",
                "clear",
                "__len__",
                "__iter__",
            ]
        )
    ),
    st.tuples(st.sampled_from(["limit", "low_water", "closed_for", "cost", "take_message"]), NUMBERS),
    st.tuples(st.just("inflate"), st.sampled_from([None, lambda chunk, limit: f"{chunk.payload!r} {limit}"])),
    st.tuples(st.just("turn"), st.integers(1, 3000)),
)


def outcome(queue: Any, name: str, *arguments: Any) -> Any:
    """What a call returns and leaves; "turn" puts and takes many."""
    result: Any = None
    if name == "turn":
        queue.extend(["a"] * arguments[0], 65 * arguments[0])
        result = [queue.take_raw() for _ in range(arguments[0] - 1)]
    elif name in ("limit", "low_water", "closed_for", "cost", "inflate"):
        setattr(queue, name, *arguments)
    else:
        try:
            result = getattr(queue, name)(*arguments)
        except (IndexError, AssertionError) as error:  # the queue is empty; chunks are interrupted
            result = type(error)
    if name == "__iter__":
        result = [*result]
    return result, queue.cost, queue.limit, queue.low_water, queue.closed_for, len(queue), queue.front()


@needs_compiled
@given(st.lists(CALLS, max_size=30))
@settings(max_examples=examples(300))
def test_both_versions_do_the_same_call_by_call(calls: list[tuple[Any, ...]]) -> None:
    ours, theirs = (version.UnreadQueue() for version in VERSIONS)
    for call in calls:
        assert outcome(ours, *call) == outcome(theirs, *call)
        if call[0] != "turn":
            assert [*ours] == [*theirs]


@needs_compiled
def test_the_compiled_version_checks_its_arguments() -> None:
    queue = speedups.UnreadQueue(9)
    put(queue, "a")
    wrong: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (queue.extend, (("b",), 65)),
        (queue.extend, (["b"], 6.5)),
        (queue.extend, (["b"],)),
        (speedups.UnreadQueue, ("9",)),
        (speedups.MessageIterator, ([], print)),
        (speedups.MessageIterator, (queue,)),
        (type(anext(speedups.MessageIterator(queue, print))), ()),  # type: ignore[arg-type, type-var]
    ]
    for function, arguments in wrong:
        with pytest.raises(TypeError):
            function(*arguments)
    with pytest.raises(OverflowError):
        queue.extend(["b"], 1 << 64)
    malformed: list[Any] = [
        tuple.__new__(Chunk),
        tuple.__new__(Chunk, ("binary", b"a", True)),
        Chunk(None, b"a", True),  # type: ignore[arg-type]
        Chunk("binary", bytearray(b"a"), True),  # type: ignore[arg-type]
    ]
    for chunk in malformed:
        other = speedups.UnreadQueue()
        other.extend([chunk], 65)
        with pytest.raises(AssertionError):
            other.take_message_now()
    assert ([*queue], queue.cost, queue.limit) == (["a"], 65, 9)


@needs_compiled
def test_items_are_appended_after_those_that_reading_the_cost_has_added() -> None:
    class Cost:
        def __index__(self) -> int:
            while queue:
                queue.take_raw()
            queue.extend(["a"] * 2000, 0)
            for _ in range(1000):
                queue.take_raw()
            return 1

    queue = speedups.UnreadQueue()
    put(queue, "1", "2", "3")
    queue.extend(["last"], Cost())  # type: ignore[arg-type]
    assert [*queue] == ["a"] * 1000 + ["last"]


# -- async for -----------------------------------------------------------------------------------


def coroutine(generator: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
    """A coroutine that runs `generator`; tests of the codec define no asynchronous functions."""
    return anext(unread.MessageIterator(unread.UnreadQueue(), generator))  # type: ignore[arg-type, return-value]


class Reader:
    """A queue, the messages in it, and a `wait` that is told what to do."""

    def __init__(self, version: Version, *items: Any) -> None:
        self.queue = version.UnreadQueue()
        put(self.queue, *items)
        self.waits = 0
        self.answers: list[Any] = []
        self.thrown: list[BaseException] = []
        self.messages = version.MessageIterator(self.queue, self.wait)

    def wait(self) -> Coroutine[Any, Any, Any]:
        return coroutine(self.answer)

    @types.coroutine
    def answer(self) -> Generator[Any, Any, Any]:
        self.waits += 1
        try:
            answer = self.answers.pop(0) if self.answers else (yield "waiting")
        except BaseException as error:
            self.thrown.append(error)
            raise
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def reader(version: Version) -> Callable[..., Reader]:
    return lambda *items: Reader(version, *items)


@types.coroutine
def awaiting(awaitable: Any) -> Generator[Any, Any, Any]:
    """``await``, as far as this file may."""
    return (yield from awaitable)


def at_once(coroutine: Any) -> Any:
    """What `coroutine` returns without a suspension."""
    try:
        pytest.fail(f"it waits: {coroutine.send(None)}")
    except StopIteration as stop:
        return stop.value


def default(awaitable: Any) -> Any:
    return awaitable


@contextmanager
def observed(install: Callable[[Any], None], before: Any) -> Iterator[None]:
    install(lambda *_: None)
    try:
        yield
    finally:
        install(before)


WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "plain": nullcontext,
    "traced": lambda: observed(sys.settrace, sys.gettrace()),
    "profiled": lambda: observed(sys.setprofile, sys.getprofile()),
}
EACH_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@EACH_WAY
def test_complete_messages_are_taken_without_a_suspension(reader: Any, way: Any) -> None:
    taker = reader("a", b"", "é", "next", "the last")
    assert aiter(taker.messages) is taker.messages
    with way():
        assert [at_once(awaiting(anext(taker.messages))) for _ in range(3)] == ["a", b"", "é"]
        assert at_once(anext(taker.messages)) == "next"
        assert at_once(awaiting(anext(taker.messages, None))) == "the last"
    assert (taker.waits, taker.queue.cost) == (0, 0)


@EACH_WAY
@pytest.mark.parametrize("items", [[], [CHUNK], ["too long"]], ids=["nothing", "a chunk", "too long"])
def test_wait_is_called_for_what_take_message_now_refuses(reader: Any, items: list[Item], way: Any) -> None:
    taker = reader(*items)
    taker.queue.limit = 3
    with way():
        waiting = awaiting(anext(taker.messages))
        assert waiting.send(None) == "waiting"
        with pytest.raises(StopIteration) as caught:
            waiting.send("answer")
    assert caught.value.value == "answer"
    assert ([*taker.queue], taker.waits) == (items, 1)


@EACH_WAY
@pytest.mark.parametrize("error", [StopAsyncIteration, KeyError])
def test_an_error_of_wait_is_raised(reader: Any, error: type[Exception], way: Any) -> None:
    for items in ([], [CHUNK]):
        taker = reader(*items)
        taker.answers += [error(), error()]
        with way(), pytest.raises(error):
            anext(taker.messages).send(None)
        with way(), pytest.raises(error):
            awaiting(anext(taker.messages)).send(None)


@EACH_WAY
def test_an_error_of_inflate_is_raised_by_iterating(reader: Any, way: Any) -> None:
    def inflate(chunk: Chunk, limit: int) -> str:
        raise KeyError(chunk.payload)

    taker = reader(*chunks_of("text", b"a", compressed=True))
    taker.queue.inflate = inflate
    with way(), pytest.raises(KeyError, match="a"):
        awaiting(anext(taker.messages)).send(None)


def test_anext_may_have_a_default(reader: Any) -> None:
    for items in ([], [CHUNK]):
        taker = reader(*items)
        taker.answers.append(StopAsyncIteration())
        assert at_once(awaiting(anext(taker.messages, "the end"))) == "the end"


@pytest.mark.parametrize("items", [["a", "b"], [CHUNK]], ids=["taken", "waited for"])
def test_a_step_is_awaited_once(reader: Any, items: list[Item]) -> None:
    taker = reader(*items)
    taker.answers.append("a")
    awaitable = anext(taker.messages)
    assert at_once(awaiting(awaitable)) == "a"
    for again in (awaiting(awaitable), awaitable):
        with pytest.raises(RuntimeError, match="already"):
            again.send(None)
    with pytest.raises(RuntimeError, match="already"):
        awaitable.throw(KeyError())
    awaitable.close()
    assert [*taker.queue] == items[-1:]


# -- steps that are not awaited, or not to the end--------------------------------------------------


@pytest.mark.parametrize("items", [["a"], [CHUNK]], ids=["a message", "a chunk"])
def test_a_step_that_does_not_start_takes_nothing(reader: Any, items: list[Item]) -> None:
    """As in a task that is cancelled before it runs."""
    taker = reader(*items)
    for arguments in [(KeyError(),), (KeyError,), (KeyError, KeyError(), None)]:
        with pytest.raises(KeyError), warnings.catch_warnings(action="ignore"):
            anext(taker.messages).throw(*arguments)
    closed = anext(taker.messages)
    closed.close()
    with pytest.raises(RuntimeError):
        closed.send(None)
    with warnings.catch_warnings(action="ignore"):  # the Python version warns
        anext(taker.messages)
    assert ([*taker.queue], taker.thrown) == (items, [])


def test_the_step_awaited_first_takes_the_first_message(reader: Any) -> None:
    taker = reader("a", "b", "c")
    steps = [anext(taker.messages) for _ in range(3)]
    assert [at_once(step) for step in reversed(steps)] == ["a", "b", "c"]


@pytest.mark.parametrize("change", ["taken", "closed"])
def test_a_message_that_can_no_longer_be_taken_is_waited_for(reader: Any, change: str) -> None:
    taker = reader("a")
    step = anext(taker.messages)
    if change == "taken":
        taker.queue.take_raw()
    else:
        taker.queue.closed_for = unread.CLOSED_FOR_RECEIVER
    assert [step.send(None), taker.waits] == ["waiting", 1]
    step.close()


@EACH_WAY
@pytest.mark.parametrize("items", [[], [CHUNK]], ids=["nothing", "a chunk"])
def test_exceptions_are_thrown_into_wait(reader: Any, items: list[Item], way: Any) -> None:
    taker = reader(*items)
    for wrap in (awaiting, default):
        step = wrap(anext(taker.messages))
        with way():
            step.send(None)
            with pytest.raises(KeyError):
                step.throw(KeyError("thrown"))
            other = wrap(anext(taker.messages))
            other.send(None)
            other.close()
    assert [*map(type, taker.thrown)] == [KeyError, GeneratorExit] * 2


def test_a_step_cannot_await_itself(reader: Any) -> None:
    taker = reader(CHUNK)
    steps: list[Any] = []

    @types.coroutine
    def wait() -> Generator[Any, Any, Any]:
        with pytest.raises(ValueError, match="already executing"):
            steps[0].send(None)
        return (yield "waiting")

    steps.append(anext(type(taker.messages)(taker.queue, lambda: coroutine(wait))))
    assert steps[0].send(None) == "waiting"
    steps[0].close()


def test_an_error_of_calling_wait_is_raised(reader: Any) -> None:
    taker = reader(CHUNK)

    def wait() -> Any:
        raise KeyError("at once")

    step = anext(type(taker.messages)(taker.queue, wait))
    with pytest.raises(KeyError):
        step.send(None)


def test_a_step_is_a_coroutine_by_its_interface(reader: Any) -> None:
    step = anext(reader("a").messages)
    assert isinstance(step, Coroutine)
    assert isinstance(step, Awaitable)
    step.close()


def test_a_step_outlives_its_iterator(version: Version) -> None:
    queue = version.UnreadQueue()
    put(queue, "a", "b")
    messages = version.MessageIterator(queue, lambda: pytest.fail("nothing to wait for"))
    steps = [anext(messages), anext(messages)]
    del messages
    assert [at_once(steps.pop()), at_once(steps.pop())] == ["a", "b"]


# -- memory of iterating -------------------------------------------------------------------------

CYCLES: dict[str, Callable[[Any], Any]] = {
    "not awaited": lambda taker: None,
    "kept": lambda taker: anext(taker.messages),
    "waiting": lambda taker: started(anext(taker.messages)),
}


def started(coroutine: Any) -> Any:
    coroutine.send(None)
    return coroutine


@pytest.mark.parametrize("items", [[], [CHUNK]], ids=["nothing", "a chunk"])
@pytest.mark.parametrize("keep", CYCLES.values(), ids=CYCLES)
def test_a_reader_in_a_reference_cycle_is_collected(reader: Any, items: list[Item], keep: Any) -> None:
    taker = reader(*items)
    taker.kept = keep(taker)
    gone = weakref.ref(taker)
    del taker
    assert gone() is not None, "the cycle keeps it alive"
    with warnings.catch_warnings(action="ignore"):
        gc.collect()
    assert gone() is None


def test_iterating_keeps_no_references(reader: Any) -> None:
    message = bytes(100)
    taker = reader()
    before = [sys.getrefcount(one) for one in (message, taker, taker.messages, taker.queue, CHUNK)]
    for _ in range(1000):
        put(taker.queue, message, message, CHUNK)
        assert at_once(awaiting(anext(taker.messages))) is message
        assert at_once(anext(taker.messages)) is message
        waiting = awaiting(anext(taker.messages))
        waiting.send(None)
        waiting.close()
        anext(taker.messages).close()
        taker.queue.clear()
    taker.thrown.clear()
    del waiting
    assert [sys.getrefcount(one) for one in (message, taker, taker.messages, taker.queue, CHUNK)] == before


# -- waiting for a message to arrive, without asyncio: see also tests/driver/test_parked.py -------------


class Parked:
    def __await__(self) -> Generator[str, None, None]:
        yield "parked"


def test_while_nothing_else_is_to_do_it_waits_by_park(version: Version) -> None:
    queue, batch = version.UnreadQueue(), version.FrameBatch()
    step = version.ReadStep(queue, batch, False, False, print, memoryview(bytearray(10)))
    step.open = step.drained = True
    waits: list[str] = []

    @types.coroutine
    def wait() -> Generator[None, None, str]:
        waits.append("waited")
        return "of wait"
        yield

    messages = version.MessageIterator(queue, wait, step, Parked)
    waiting = awaiting(anext(messages))
    assert waiting.send(None) == "parked"
    assert queue.closed_for == unread.CLOSED_FOR_RECEIVER
    assert not queue.parked  # it waits by `park`
    queue.extend(["a"], 65)
    assert queue.wake() is False
    assert at_once(waiting) == "a"
    waiting = awaiting(anext(messages))
    waiting.send(None)
    assert at_once(waiting) == "of wait"
    waiting = awaiting(anext(messages))
    waiting.send(None)
    with pytest.raises(KeyError):
        waiting.throw(KeyError())
    assert queue.closed_for == 0
    step.drained = False
    assert at_once(awaiting(anext(messages))) == "of wait"
    assert waits == ["waited"] * 2
    step.watched = True
    assert awaiting(anext(messages)).send(None) == "parked"
