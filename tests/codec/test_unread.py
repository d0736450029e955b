"""The queue between decoder and reader, in Python and compiled: both do the same, and nothing leaks."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import types
import warnings
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.effort import examples

from wsstream.codec import speedups
from wsstream.codec import unread as pure
from wsstream.codec.events import PIECE_OVERHEAD, Chunk, Kind

QUEUES = {"pure": pure.UnreadQueue} | ({"compiled": speedups.UnreadQueue} if speedups.COMPILED else {})
TWINS = {"pure": (pure.UnreadQueue, pure.MessageIterator)} | (
    {"compiled": (speedups.UnreadQueue, speedups.MessageIterator)} if speedups.COMPILED else {}
)
CHUNK = Chunk("binary", b"chunk", False)

Item = str | bytes | Chunk


@pytest.fixture(params=QUEUES.values(), ids=QUEUES)
def UnreadQueue(request: pytest.FixtureRequest) -> Any:
    return request.param


def cost_of(*items: Item) -> int:
    payloads = (item.payload if isinstance(item, Chunk) else item for item in items)
    return sum(len(p.encode() if isinstance(p, str) else p) + PIECE_OVERHEAD for p in payloads)


def put(queue: Any, *items: Any) -> None:
    queue.extend(list(items), cost_of(*items))


# -- order, and what is held ---------------------------------------------------------------------


def test_at_first_nothing_is_here_and_nothing_is_limited(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    assert (len(queue), bool(queue), list(queue), queue.front(), queue.take_message_now()) == (
        0,
        False,
        [],
        None,
        None,
    )
    assert (queue.cost, queue.limit, queue.low_water, queue.closed_for) == (0, pure.UNLIMITED, -1, 0)
    assert UnreadQueue(7).limit == UnreadQueue(limit=7).limit == 7


def test_messages_come_out_as_they_are_in_the_order_of_arrival(UnreadQueue: Any) -> None:
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
        put(queue, text, b"behind")
        assert queue.take_message_now() == (text if fits else None)
        assert queue.cost == cost_of(b"behind") + (0 if fits else size + PIECE_OVERHEAD)


@given(st.text(max_size=50))
def test_any_text_counts_as_utf8(text: str) -> None:
    size = len(text.encode())
    assert pure.size_of(text) == pure.size_of(text.encode()) == size
    for kind in QUEUES.values():
        queue = kind()
        put(queue, text, "")
        assert queue.take_message_now() == text
        assert queue.cost == 64


def test_what_extend_is_told_is_what_is_held(UnreadQueue: Any) -> None:
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


def test_iterating_takes_nothing_and_shows_what_was_here(UnreadQueue: Any) -> None:
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


# -- what pop leaves -----------------------------------------------------------------------------


def chunks_of(kind: Kind, *payloads: bytes, compressed: bool = False) -> list[Chunk]:
    """A message in as many chunks."""
    last = len(payloads) - 1
    return [Chunk(kind, payload, i == last, compressed) for i, payload in enumerate(payloads)]


@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("payloads", [[b"one"], [b""], [b"", b""], [b"\xc3", b"\xa9", b"", b"b" * 70_000]])
def test_a_message_in_chunks_is_popped_whole_when_its_end_is_here(
    UnreadQueue: Any, kind: Kind, payloads: list[bytes]
) -> None:
    queue = UnreadQueue()
    chunks = chunks_of(kind, *payloads)
    expected: Item = b"".join(payloads)
    expected = expected.decode() if kind == "text" else expected
    for chunk in chunks:
        assert (queue.take_message_now(), queue.take_message(1 << 30)) == (None, None)
        put(queue, chunk)
    put(queue, "behind")
    message = queue.take_message_now()
    assert (message, type(message)) == (expected, type(expected))
    assert (queue.take_message_now(), queue.cost) == ("behind", 0)


def test_the_chunks_that_are_not_popped_stay_as_they_are(UnreadQueue: Any) -> None:
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


def test_the_chunks_of_a_message_are_not_interrupted(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    put(queue, CHUNK, "a")
    with pytest.raises(AssertionError):
        queue.take_message_now()
    assert (queue.cost, len(queue)) == (cost_of(CHUNK, "a"), 2)


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
    put(queue, chunk, "behind")
    assert queue.take_message(100) is None
    assert asked == [(chunk, 10), (chunk, 100)]
    assert (queue.take_message_now(), queue.cost) == ("behind", 0), "the chunk was taken"
    put(queue, *chunks_of("text", b"two", b"chunks", compressed=True))
    assert queue.take_message_now() is None
    assert len(asked) == 2


def test_what_inflating_raises_comes_out_and_the_chunk_is_taken(UnreadQueue: Any) -> None:
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


def test_pop_stops_before_the_floor_and_take_does_not(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    put(queue, b"a", b"b", b"c")
    queue.low_water = 65
    assert (queue.take_message_now(), queue.cost) == (b"a", 130)
    assert (queue.take_message_now(), queue.cost) == (None, 130), (
        "65 would be left, and somebody has to be told"
    )
    queue.low_water = 64
    assert (queue.take_message_now(), queue.cost) == (b"b", 65)
    queue.low_water = 0
    assert queue.take_message_now() is None
    assert queue.take_raw() == b"c"


def test_pop_gives_nothing_while_there_is_a_reason(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    put(queue, "a", "b")
    for shut, popped in ((1, None), (2, None), (1, None), (0, "a")):
        queue.closed_for = shut
        assert queue.take_message_now() == popped
    queue.closed_for += 1
    assert (queue.front(), queue.take_raw(), len(queue)) == ("b", "b", 0)


def test_taking_what_is_not_here_is_an_index_error(UnreadQueue: Any) -> None:
    queue = UnreadQueue()
    for _ in range(2):
        with pytest.raises(IndexError):
            queue.take_raw()
        put(queue, "a")
        queue.take_raw()


def test_clear_drops_all_and_leaves_the_rules(UnreadQueue: Any) -> None:
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


def test_a_second_init_begins_anew(UnreadQueue: Any) -> None:
    queue = UnreadQueue(9)
    queue.low_water, queue.closed_for = 3, 1
    put(queue, "a", "b")
    queue.take_raw()
    queue.__init__()
    assert (len(queue), queue.cost, queue.take_message_now()) == (0, 0, None)
    assert (queue.limit, queue.low_water, queue.closed_for) == (pure.UNLIMITED, -1, 0)
    put(queue, "c")
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
def test_many_pieces_come_out_in_order_at_every_border(UnreadQueue: Any, count: int, way: str) -> None:
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


@pytest.mark.parametrize("way", ["take_message_now", "take_raw", "front", "__iter__", "clear", "__init__"])
def test_references_are_given_back(UnreadQueue: Any, way: str) -> None:
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


def test_a_piece_lives_until_it_is_taken_and_no_longer(UnreadQueue: Any) -> None:
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


@pytest.mark.parametrize("way", ["clear", "__init__"])
def test_what_is_dropped_finds_a_queue_that_is_whole(UnreadQueue: Any, way: str) -> None:
    queue, seen = UnreadQueue(), []

    class Message(bytes):
        def __del__(self) -> None:
            seen.append((len(queue), queue.front(), queue.take_message_now(), [*queue], queue.cost))
            put(queue, b"more")

    put(queue, "a", "b", "c", Message(b"1"))
    queue.take_raw()
    getattr(queue, way)()
    assert seen == [(0, None, None, [], 0)]
    assert ([*queue], queue.cost) == ([b"more"], 68)


# -- the same, call by call ----------------------------------------------------------------------

ITEMS = st.one_of(
    st.text(max_size=6),
    st.binary(max_size=6),
    st.builds(Chunk, st.just("binary"), st.sampled_from([b"", b"a", b"abc"]), st.booleans()),
    st.builds(Chunk, st.just("text"), st.just(b"abc"), st.booleans()),
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
    st.tuples(st.just("__init__"), NUMBERS),
    st.tuples(st.just("turn"), st.integers(1, 3000)),
)


def outcome(queue: Any, name: str, *arguments: Any) -> Any:
    """What a call gives and leaves; "turn" puts and takes many."""
    result: Any = None
    if name == "turn":
        queue.extend(["a"] * arguments[0], 65 * arguments[0])
        result = [queue.take_raw() for _ in range(arguments[0] - 1)]
    elif name in ("limit", "low_water", "closed_for", "cost"):
        setattr(queue, name, *arguments)
    else:
        try:
            result = getattr(queue, name)(*arguments)
        except (IndexError, AssertionError) as error:  # nothing is here; chunks are interrupted
            result = type(error)
    if name == "__iter__":
        result = [*result]
    return result, queue.cost, queue.limit, queue.low_water, queue.closed_for, len(queue), queue.front()


@pytest.mark.skipif(not speedups.COMPILED, reason="there is no compiled twin")
@given(st.lists(CALLS, max_size=30))
@settings(max_examples=examples(300))
def test_the_twin_does_the_same_call_by_call(calls: list[tuple[Any, ...]]) -> None:
    ours, theirs = pure.UnreadQueue(), speedups.UnreadQueue()
    for call in calls:
        assert outcome(ours, *call) == outcome(theirs, *call)
        if call[0] != "turn":
            assert [*ours] == [*theirs]


@pytest.mark.skipif(not speedups.COMPILED, reason="there is no compiled twin")
def test_the_twin_refuses_what_python_could_not_do_wrong() -> None:
    queue = speedups.UnreadQueue(9)
    put(queue, "a")
    wrong: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (queue.extend, (("b",), 65)),
        (queue.extend, (["b"], 6.5)),
        (queue.extend, (["b"],)),
        (queue.__init__, ("9",)),
        (speedups.MessageIterator, ([], print)),
        (speedups.MessageIterator, (queue,)),
        (type(anext(speedups.MessageIterator(queue, print))), ()),  # type: ignore[arg-type, type-var]
    ]
    for function, arguments in wrong:
        with pytest.raises(TypeError):
            function(*arguments)
    with pytest.raises(OverflowError):
        queue.extend(["b"], 1 << 64)
    assert ([*queue], queue.cost, queue.limit) == (["a"], 65, 9)


@pytest.mark.skipif(not speedups.COMPILED, reason="there is no compiled twin")
def test_the_twin_appends_behind_what_reading_the_cost_has_changed() -> None:
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
    """A real one, of `generator`; this file may define none."""
    return anext(pure.MessageIterator(pure.UnreadQueue(), generator))  # type: ignore[arg-type, return-value]


class Reader:
    """A queue, the messages in it, and a `wait` that is told what to do."""

    def __init__(self, queue: Any, messages: Any, *items: Any) -> None:
        self.queue = queue()
        put(self.queue, *items)
        self.waits = 0
        self.answers: list[Any] = []
        self.thrown: list[BaseException] = []
        self.messages = messages(self.queue, self.wait)

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


@pytest.fixture(params=TWINS.values(), ids=TWINS)
def reader(request: pytest.FixtureRequest) -> Callable[..., Reader]:
    return lambda *items: Reader(*request.param, *items)


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
def test_messages_that_are_here_come_without_a_suspension(reader: Any, way: Any) -> None:
    taker = reader("a", b"", "é", "behind", "the last")
    assert aiter(taker.messages) is taker.messages
    with way():
        assert [at_once(awaiting(anext(taker.messages))) for _ in range(3)] == ["a", b"", "é"]
        assert at_once(anext(taker.messages)) == "behind"
        assert at_once(awaiting(anext(taker.messages, None))) == "the last"
    assert (taker.waits, taker.queue.cost) == (0, 0)


@EACH_WAY
@pytest.mark.parametrize("items", [[], [CHUNK], ["too long"]], ids=["nothing", "a chunk", "too long"])
def test_what_cannot_be_popped_is_waited_for(reader: Any, items: list[Item], way: Any) -> None:
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
def test_what_wait_raises_comes_out(reader: Any, error: type[Exception], way: Any) -> None:
    for items in ([], [CHUNK]):
        taker = reader(*items)
        taker.answers += [error(), error()]
        with way(), pytest.raises(error):
            anext(taker.messages).send(None)
        with way(), pytest.raises(error):
            awaiting(anext(taker.messages)).send(None)


@EACH_WAY
def test_what_inflating_raises_comes_out_of_iterating(reader: Any, way: Any) -> None:
    def inflate(chunk: Chunk, limit: int) -> str:
        raise KeyError(chunk.payload)

    taker = reader(*chunks_of("text", b"a", compressed=True))
    taker.queue.inflate = inflate
    with way(), pytest.raises(KeyError, match="a"):
        awaiting(anext(taker.messages)).send(None)


def test_the_end_may_have_a_default(reader: Any) -> None:
    for items in ([], [CHUNK]):
        taker = reader(*items)
        taker.answers.append(StopAsyncIteration())
        assert at_once(awaiting(anext(taker.messages, "the end"))) == "the end"


@pytest.mark.parametrize("items", [["a", "b"], [CHUNK]], ids=["popped", "waited for"])
def test_it_is_awaited_once(reader: Any, items: list[Item]) -> None:
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


# -- what is not awaited, or not to its end ------------------------------------------------------


@pytest.mark.parametrize("items", [["a"], [CHUNK]], ids=["a message", "a chunk"])
def test_nothing_is_taken_by_what_does_not_start(reader: Any, items: list[Item]) -> None:
    """As in a task that is cancelled before it runs."""
    taker = reader(*items)
    for arguments in [(KeyError(),), (KeyError,), (KeyError, KeyError(), None)]:
        with pytest.raises(KeyError), warnings.catch_warnings(action="ignore"):
            anext(taker.messages).throw(*arguments)
    closed = anext(taker.messages)
    closed.close()
    with pytest.raises(RuntimeError):
        closed.send(None)
    with warnings.catch_warnings(action="ignore"):  # the pure one warns
        anext(taker.messages)
    assert ([*taker.queue], taker.thrown) == (items, [])


def test_the_first_to_be_awaited_gets_the_first_message(reader: Any) -> None:
    taker = reader("a", "b", "c")
    steps = [anext(taker.messages) for _ in range(3)]
    assert [at_once(step) for step in reversed(steps)] == ["a", "b", "c"]


@pytest.mark.parametrize("what", ["taken", "shut"])
def test_what_has_gone_before_the_await_is_waited_for(reader: Any, what: str) -> None:
    taker = reader("a")
    step = anext(taker.messages)
    if what == "taken":
        taker.queue.take_raw()
    else:
        taker.queue.closed_for = 1
    assert [step.send(None), taker.waits] == ["waiting", 1]
    step.close()


@EACH_WAY
@pytest.mark.parametrize("items", [[], [CHUNK]], ids=["nothing", "a chunk"])
def test_what_is_thrown_reaches_wait(reader: Any, items: list[Item], way: Any) -> None:
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


def test_it_does_not_await_itself(reader: Any) -> None:
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


def test_a_call_of_wait_that_fails_is_what_comes_out(reader: Any) -> None:
    taker = reader(CHUNK)

    def wait() -> Any:
        raise KeyError("at once")

    step = anext(type(taker.messages)(taker.queue, wait))
    with pytest.raises(KeyError):
        step.send(None)


def test_it_is_a_coroutine_for_those_who_ask(reader: Any) -> None:
    step = anext(reader("a").messages)
    assert isinstance(step, Coroutine)
    assert isinstance(step, Awaitable)
    step.close()


# -- the memory of that --------------------------------------------------------------------------

CYCLES: dict[str, Callable[[Any], Any]] = {
    "not awaited": lambda taker: None,
    "kept": lambda taker: anext(taker.messages),
    "waiting": lambda taker: started(anext(taker.messages)),
}


def started(coroutine: Any) -> Any:
    coroutine.send(None)
    return coroutine


@pytest.mark.slow_after_first
@pytest.mark.parametrize("items", [[], [CHUNK]], ids=["nothing", "a chunk"])
@pytest.mark.parametrize("keep", CYCLES.values(), ids=CYCLES)
def test_a_reader_that_holds_itself_is_collected(reader: Any, items: list[Item], keep: Any) -> None:
    taker = reader(*items)
    taker.kept = keep(taker)
    gone = weakref.ref(taker)
    del taker
    assert gone() is not None, "there is a cycle"
    with warnings.catch_warnings(action="ignore"):
        gc.collect()
    assert gone() is None


def test_iterating_gives_all_references_back(reader: Any) -> None:
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
