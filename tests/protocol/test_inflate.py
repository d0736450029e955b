"""Inflating, in both versions, in Python and compiled: RFC 7692 section 7.2.2 byte for byte."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.deflate import AGREED, HELLO, INFLATERS, OPTIONS, deflated, inflated, negotiated, steps
from kit.effort import examples

from wsstream.protocol.deflate import Agreed, Deflate, Deflater
from wsstream.protocol.inflate import PythonInflater

WINDOWS = range(9, 16)


@pytest.fixture(scope="session", params=INFLATERS.values(), ids=INFLATERS)
def make_inflater(request: pytest.FixtureRequest) -> Callable[[Agreed], Any]:
    return lambda agreed: request.param(agreed.receive_window, agreed.receive_takeover)


# -- what compressors make -----------------------------------------------------------------------

FRAGMENTS = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda piece, times: piece * times, st.binary(max_size=20), st.integers(0, 3000)),
)
MESSAGES = st.lists(st.lists(FRAGMENTS, min_size=1, max_size=5), min_size=1, max_size=5)


@settings(max_examples=examples(150))
@given(MESSAGES, OPTIONS, OPTIONS, st.integers(1, 5000), st.integers(1, 100))
def test_inflater_and_deflater_are_inverse_in_any_fragments_and_steps(
    make_inflater: Any, messages: list[list[bytes]], client: Deflate, server: Deflate, step: int, cut: int
) -> None:
    at_client, at_server = negotiated(client, server)
    for sends, receives in ((at_client, at_server), (at_server, at_client)):
        deflater, inflater = Deflater(sends), make_inflater(receives)
        for fragments in messages:
            data = b"".join(deflated(deflater, fragments))
            size = len(data) // cut + 1
            pieces = [data[start : start + size] for start in range(0, len(data), size)]
            assert inflated(inflater, pieces, step) == b"".join(fragments)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("takeover", [False, True])
def test_every_window_carries_more_than_its_size(
    make_inflater: Any, window: int, level: int, takeover: bool
) -> None:
    message = random.Random(window).randbytes(40_000) + bytes(range(256)) * 500
    agreed = Agreed(Deflate(level=level), window, takeover, window, takeover)
    deflater, inflater = Deflater(agreed), make_inflater(agreed)
    for _ in range(3):
        assert inflated(inflater, deflated(deflater, [message]), 1000) == message


EXAMPLES = {
    "7.2.3.1 one block": [HELLO],
    "7.2.3.1 in two fragments": [bytes.fromhex("f248cd"), bytes.fromhex("c9c90700")],
    "7.2.3.3 no compression": [bytes.fromhex("000500faff48656c6c6f00")],
    "7.2.3.4 BFINAL": [bytes.fromhex("f348cdc9c9070000")],
    "7.2.3.5 two blocks": [bytes.fromhex("f24805000000ffffcac9c90700")],
}


@pytest.mark.parametrize("payloads", EXAMPLES.values(), ids=EXAMPLES)
@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_the_examples_of_the_rfc_are_inflated(
    make_inflater: Any, payloads: list[bytes], takeover: bool, step: int
) -> None:
    inflater = make_inflater(replace(AGREED, receive_takeover=takeover))
    for _ in range(3):
        assert inflated(inflater, payloads, step) == b"Hello"
        assert inflated(inflater, [bytes([byte]) for byte in b"".join(payloads)], step) == b"Hello"


def test_sharing_the_window_makes_the_second_example(make_inflater: Any) -> None:
    """Section 7.2.3.2."""
    deflater, inflater = Deflater(AGREED), make_inflater(AGREED)
    assert deflated(deflater, [b"Hello"]) == [HELLO]
    assert deflated(deflater, [b"Hello"]) == [bytes.fromhex("f200110000")]
    assert inflated(inflater, [HELLO]) == b"Hello"
    assert inflated(inflater, [bytes.fromhex("f200110000")]) == b"Hello"


def test_a_message_may_go_on_after_a_final_block(make_inflater: Any) -> None:
    """Section 7.2.3.4: blocks of either kind, in one message."""
    final = bytes.fromhex("f348cdc9c90700")
    for takeover in (False, True):
        inflater = make_inflater(replace(AGREED, receive_takeover=takeover))
        assert inflated(inflater, [final + final + HELLO], 3) == b"HelloHelloHello"
        assert inflated(inflater, [final, final], 3) == b"HelloHello"
        assert inflated(inflater, [b"\x03\x00" * 3 + HELLO]) == b"Hello", "empty final blocks before it"
        assert inflated(inflater, [HELLO]) == b"Hello"


@pytest.mark.parametrize("takeover", [False, True])
def test_an_empty_message_is_an_empty_block(make_inflater: Any, takeover: bool) -> None:
    """Section 7.2.3.6."""
    agreed = replace(AGREED, send_takeover=takeover, receive_takeover=takeover)
    deflater, inflater = Deflater(agreed), make_inflater(agreed)
    for fragments in ([b""], [b""], [b"Hello"], [b""], [b"", b"", b""], [b"Hello", b""], [b"", b"Hello"]):
        payloads = deflated(deflater, fragments)
        assert payloads[-1], "the last frame is never empty"
        assert inflated(inflater, payloads) == b"".join(fragments)
    assert inflated(make_inflater(agreed), [b"\x00"]) == b""


GARBAGE = {
    "reserved block type": bytes([0b111]),
    "stored block with a wrong length": bytes.fromhex("000500000048656c6c6f"),
    "distance too far back": bytes.fromhex("f200110000"),
    "behind a good block": HELLO + b"\x00\x00\xff\xff" + bytes([0b111]),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_what_is_not_deflate_is_a_value_error(make_inflater: Any, data: bytes) -> None:
    with pytest.raises(ValueError, match="not deflate"):
        inflated(make_inflater(AGREED), [data])


@pytest.mark.parametrize("takeover", [True, False])
@given(message=st.text(min_size=1, max_size=50), level=st.sampled_from([0, 1, 6]))
def test_a_message_that_is_cut_is_noticed_wherever(
    make_inflater: Any, takeover: bool, message: str, level: int
) -> None:
    """Its end would else be made of the four bytes that are put behind it."""
    agreed = replace(AGREED, options=Deflate(level=level), receive_takeover=takeover)
    data = Deflater(agreed).compress(message.encode(), last=True)
    for length in range(len(data)):
        if data[:length] == b"\x00":
            continue  # an empty message
        with pytest.raises(ValueError, match=r"not deflate|inside a block|no data"):
            inflated(make_inflater(agreed), [data[:length]])
    inflater = make_inflater(agreed)
    assert inflated(inflater, [data]) == message.encode()
    with pytest.raises(ValueError, match="no data"):
        inflated(inflater, [b"", b""])


def test_nothing_is_left_of_a_message_that_was_forgotten_without_takeover(make_inflater: Any) -> None:
    inflater = make_inflater(replace(AGREED, receive_takeover=False))
    inflater.feed(HELLO[:3])
    assert inflater.take(1)
    inflater.forget()
    assert inflated(inflater, [HELLO]) == b"Hello"


@pytest.mark.parametrize("takeover", [True, False])
def test_a_released_inflater_has_no_context(make_inflater: Any, takeover: bool) -> None:
    inflater = make_inflater(replace(AGREED, receive_takeover=takeover))
    assert inflated(inflater, [HELLO]) == b"Hello"
    inflater.feed(HELLO)
    inflater.release()
    with pytest.raises(ValueError, match="not deflate"):  # it refers to a message before it
        inflated(inflater, [bytes.fromhex("f200110000")])


@pytest.mark.parametrize("takeover", [True, False])
def test_a_message_may_end_with_a_final_block_only_at_its_end(make_inflater: Any, takeover: bool) -> None:
    """What is taken for the tail is the tail, not the peer's bytes that look like it."""
    inflater = make_inflater(replace(AGREED, receive_takeover=takeover))
    final = zlib.compress(b"Hello", wbits=-15)
    assert inflated(inflater, [final]) == b"Hello"
    with pytest.raises(ValueError, match="inside a block"):
        inflated(inflater, [final, b"\x00\x00\xff\xff"])


def test_a_context_of_an_earlier_message_is_gone_without_takeover(make_inflater: Any) -> None:
    inflater = make_inflater(replace(AGREED, receive_takeover=False))
    assert inflated(inflater, [HELLO]) == b"Hello"
    with pytest.raises(ValueError, match="not deflate"):
        inflated(inflater, [bytes.fromhex("f200110000")])


@given(st.binary(max_size=200), st.integers(1, 100))
def test_any_bytes_are_inflated_or_a_value_error(make_inflater: Any, data: bytes, step: int) -> None:
    inflater = make_inflater(AGREED)
    inflater.feed(data)
    with contextlib.suppress(ValueError):
        assert sum(len(chunk) for chunk in steps(inflater, step)) <= 1032 * len(data)


@pytest.mark.parametrize("step", [1, 2, 257, 258, 259, 65536])
def test_the_output_of_a_step_is_exactly_what_was_asked_for_while_there_is_enough(
    make_inflater: Any, step: int
) -> None:
    message = bytes(step * 50 + 1)
    inflater = make_inflater(AGREED)
    inflater.feed(Deflater(AGREED).compress(message, last=True))
    sizes = [len(chunk) for chunk in steps(inflater, step)]
    assert set(sizes[:-1]) == {step}
    assert sum(sizes) == len(message)


def bomb(size: int) -> bytes:
    """Zeros, a thousand to a byte."""
    context = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = bytes(1 << 20)
    data = b"".join(context.compress(piece) for _ in range(size >> 20))
    return data + context.flush(zlib.Z_SYNC_FLUSH)[:-4]


@pytest.mark.heavy
def test_a_bomb_gives_no_more_than_is_asked_for_and_takes_no_memory(make_inflater: Any) -> None:
    data = bomb(64 << 20)
    assert len(data) < 1 << 17
    inflater = make_inflater(AGREED)
    tracemalloc.start()
    try:
        inflater.feed(data)
        total = sum(len(chunk) for chunk in steps(inflater, 65536))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 64 << 20
    assert peak < 600_000, "the data, its rest and two chunks"


def test_what_is_wrong_with_the_data_is_found_by_each_call(make_inflater: Any) -> None:
    inflater = make_inflater(AGREED)
    inflater.feed(GARBAGE["behind a good block"])
    assert inflater.take(4) == b"Hell", "not the byte that zlib was at when it found out"
    for call in (lambda: inflater.take(1), lambda: inflater.take(1000), inflater.end):
        with pytest.raises(ValueError, match=r"deflate|inside a block"):
            call()
    with pytest.raises(ValueError, match="not deflate"):
        make_inflater(AGREED).take_whole(GARBAGE["behind a good block"], 1000)


def test_callers_ask_for_a_byte_at_least_and_feed_when_all_was_taken(make_inflater: Any) -> None:
    inflater = make_inflater(AGREED)
    for most in (0, -1):
        for call in (lambda most: inflater.take(most), lambda most: inflater.take_whole(HELLO, most)):
            with pytest.raises(AssertionError):
                call(most)
    inflater.feed(HELLO)
    with pytest.raises(AssertionError):
        inflater.feed(HELLO)
    inflater.forget()
    assert inflater.take_whole(HELLO, 6) == (b"Hello", True)


@pytest.mark.skipif("compiled" not in INFLATERS, reason="the compiled version is not in use")
def test_the_compiled_version_checks_its_arguments() -> None:
    inflater = INFLATERS["compiled"](15, True)
    wrong: list[Callable[[], object]] = [
        lambda: inflater.feed("text"),
        lambda: inflater.feed(bytearray(HELLO)),
        lambda: inflater.take("1"),
        lambda: inflater.take_whole(HELLO),
        lambda: inflater.take_whole(HELLO, None),
        lambda: inflater.take_whole(memoryview(HELLO), 10),
        lambda: INFLATERS["compiled"]("15", True),
        lambda: INFLATERS["compiled"](15),
        lambda: type("Sub", (INFLATERS["compiled"],), {}),
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()
    with pytest.raises(OverflowError):
        inflater.take(1 << 64)
    with pytest.raises(ValueError, match="deflate"):
        INFLATERS["compiled"](16, True).take_whole(HELLO, 10)
    with pytest.raises(AttributeError):
        inflater.remembers = False
    assert inflater.take_whole(HELLO, 1 << 40) == (b"Hello", True)


@pytest.mark.parametrize("takeover", [True, False])
def test_the_memory_of_an_inflater_is_a_window_and_no_output(make_inflater: Any, takeover: bool) -> None:
    """However large the messages were, as long as their context is kept, and none without it."""
    agreed = replace(AGREED, receive_takeover=takeover)
    data = Deflater(agreed).compress(random.Random(1).randbytes(60_000), last=True)
    tracemalloc.start()
    try:
        inflaters = [make_inflater(agreed) for _ in range(10)]
        fresh = tracemalloc.get_traced_memory()[0] // 10
        for inflater in inflaters:
            assert len(inflater.take_whole(data, 65536)[0]) == 60_000
        ended = tracemalloc.get_traced_memory()[0] // 10
        for inflater in inflaters:
            inflater.release()
        released = tracemalloc.get_traced_memory()[0] // 10
    finally:
        tracemalloc.stop()
    assert fresh < 500
    assert 30_000 < ended < 50_000 if takeover else ended < 500
    assert released < 500


def test_only_takeover_makes_a_skipped_message_matter(make_inflater: Any) -> None:
    assert make_inflater(AGREED).remembers
    assert not make_inflater(replace(AGREED, receive_takeover=False)).remembers


def test_contexts_are_made_at_first_use_and_released_without_takeover(make_inflater: Any) -> None:
    """Measured by what they take: a window of 32 KiB and more."""
    data = HELLO

    def memory(takeover: bool) -> list[int]:
        agreed = replace(AGREED, send_takeover=takeover, receive_takeover=takeover)
        tracemalloc.start()
        try:
            ends = [(Deflater(agreed), make_inflater(agreed)) for _ in range(10)]
            sizes = [tracemalloc.get_traced_memory()[0] // 10]
            for deflater, inflater in ends:
                deflater.compress(b"Hello", last=False)
                inflater.feed(data)
                inflater.take(100)
            sizes.append(tracemalloc.get_traced_memory()[0] // 10)
            for deflater, inflater in ends:
                deflater.compress(b"", last=True)
                inflater.take(100)
                inflater.end()
            sizes.append(tracemalloc.get_traced_memory()[0] // 10)
        finally:
            tracemalloc.stop()
        return sizes

    for takeover in (True, False):
        fresh, used, ended = memory(takeover)
        assert fresh < 2_000
        assert used > 100_000
        assert ended > 100_000 if takeover else ended < 2_000


def bits(value: int, count: int) -> list[int]:
    return [value >> bit & 1 for bit in range(count)]


LITERAL = [0, 1, 0, *bits(0b00001100, 8), *[0] * 7]  # a block of fixed codes with a zero byte, 18 bits
LONG_LITERAL = [0, 1, 0, *bits(0b000010011, 9), *[0] * 7]  # 19 bits
EMPTY = [0, 1, 0, *[0] * 7]
STARTS = st.lists(st.sampled_from([LITERAL, LONG_LITERAL, EMPTY]), max_size=6).map(
    lambda parts: [bit for part in parts for bit in part]
)
ENDS = st.one_of(
    st.just([]),
    st.just([0, 0, 0]),
    st.just([1, 0, 0]),
    st.integers(0, 2**27 - 1).map(lambda value: bits(value, 27)),
    st.builds(
        lambda final, rest, size: [final, 0, 1, *bits(rest, size)],
        st.integers(0, 1),
        st.integers(0, 2**29),
        st.integers(0, 29),
    ),
)
HAND_MADE = st.builds(
    lambda start, end, cut: bytes(
        sum(bit << place for place, bit in enumerate((start + end)[at : at + 8]))
        for at in range(0, len(start + end) - cut, 8)
    ),
    STARTS,
    ENDS,
    st.integers(0, 16),
)
COMPRESSED = st.builds(
    lambda content, level, final, cut: cut_off(content, level, final, cut),
    FRAGMENTS,
    st.sampled_from([0, 1, 6]),
    st.booleans(),
    st.integers(0, 12),
)


def cut_off(content: bytes, level: int, final: bool, cut: int) -> bytes:
    """What a compressor makes of `content`, with as much left off as stands for the tail, or not."""
    context = zlib.compressobj(level, zlib.DEFLATED, -15)
    data = context.compress(content) + context.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
    return data[: max(0, len(data) - cut)]


def outcome(inflater: Any, data: bytes, most: int | None) -> bytes | None:
    """The message, or ``None`` if it breaks a rule; taken whole if at most `most`, or else in steps."""
    try:
        if most is None:
            return inflated(inflater, [data], 50)
        chunk, whole = inflater.take_whole(data, most)
        if whole:
            assert len(chunk) < most
            return chunk
        assert len(chunk) <= most
        rest = b"".join(steps(inflater, 50))
        inflater.end()
        return chunk + rest
    except ValueError:
        return None


@settings(max_examples=examples(1000))
@given(
    data=st.one_of(HAND_MADE, COMPRESSED), most=st.sampled_from([1, 2, 3, 100, 65536]), takeover=st.booleans()
)
def test_a_message_taken_whole_is_what_it_is_in_steps(
    make_inflater: Any, data: bytes, most: int, takeover: bool
) -> None:
    """Also which endings are violations: in steps, zlib in Python finds that out by a copy of the context."""
    agreed = replace(AGREED, receive_takeover=takeover)
    whole, stepwise = make_inflater(agreed), make_inflater(agreed)
    for message in (HELLO, data, HELLO, bytes.fromhex("f200110000")):
        result = outcome(stepwise, message, None)
        assert outcome(whole, message, most) == result
        if result is None:
            return


def literal_before(size: int) -> list[int]:
    """Blocks with one byte that end `size` bits before the end of a byte."""
    start = LITERAL if size % 2 == 0 else LONG_LITERAL
    while (len(start) + size) % 8:
        start = start + EMPTY
    return start


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=[pytest.mark.slow] if size > 18 else []) for size in range(3, 23)]
)
def test_no_table_of_codes_passes_for_an_ending(size: int) -> None:
    """All that begin after the last inflated byte, in the last bits of the data, and are cut there."""
    start = literal_before(size)
    prefix = sum(bit << place for place, bit in enumerate(start))
    inflater = PythonInflater(15, True)
    for rest in range(1 << (size - 2)):
        table = rest & 1 | 0b10 << 1 | rest >> 1 << 3  # final or not, dynamic codes, and all that may follow
        data = (prefix | table << len(start)).to_bytes((len(start) + size) // 8, "little")
        try:
            ending = inflater._ends_at_boundary_near(primed(data))
        except zlib.error:
            continue
        assert not ending, data.hex()


@pytest.mark.parametrize("size", range(3, 15))
def test_no_message_ends_in_a_table_of_codes(make_inflater: Any, size: int) -> None:
    start = literal_before(size)
    for rest in range(1 << (size - 2)):
        table = [rest & 1, 0, 1, *bits(rest >> 1, size - 3)]
        data = sum(bit << place for place, bit in enumerate(start + table))
        with pytest.raises(ValueError, match=r"deflate|inside a block"):
            make_inflater(AGREED).take_whole(data.to_bytes((len(start) + size) // 8, "little"), 65536)


def primed(data: bytes) -> Any:
    context = zlib.decompressobj(-15)
    assert context.decompress(data)
    return context


@pytest.mark.parametrize("takeover", [True, False])
def test_a_final_block_may_end_with_the_tail_but_not_inside_it(make_inflater: Any, takeover: bool) -> None:
    agreed = replace(AGREED, receive_takeover=takeover)
    for most in (None, 100):
        inflater = make_inflater(agreed)
        for _ in range(2):
            assert outcome(inflater, bytes.fromhex("4a0404"), most) == b"a", "empty, stored"
            assert outcome(inflater, HELLO, most) == b"Hello"
        assert outcome(inflater, bytes.fromhex("f348cdc9c907"), most) is None


def test_a_window_of_2_to_the_8th_can_be_inflated(make_inflater: Any) -> None:
    inflater = make_inflater(replace(AGREED, receive_window=8))
    assert inflated(inflater, [bytes.fromhex("f248cdc9c90700")]) == b"Hello"
