"""permessage-deflate without I/O: RFC 7692 section 7.2 byte for byte."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.deflate import OPTIONS, negotiated
from kit.effort import examples

from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import (
    Agreed,
    Deflate,
    Deflater,
    Inflater,
)
from wsstream.testing import parse_frames

NAME = "permessage-deflate"
PLAIN = Deflate()
AGREED = Agreed(PLAIN, 15, True, 15, True)
WINDOWS = range(9, 16)


# -- Deflate ------------------------------------------------------------------------------------


BOUNDS = {
    "level": (-1, 9),
    "mem_level": (1, 9),
    "window_bits": (9, 15),
    "peer_window_bits": (9, 15),
    "min_size": (0, 1 << 62),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_numbers_have_bounds(name: str) -> None:
    least, most = BOUNDS[name]
    for value in (least, most):
        options: dict[str, Any] = {name: value}
        assert getattr(Deflate(**options), name) == value
    for value in (least - 1, most + 1):
        options = {name: value}
        with pytest.raises(ValueError, match=name):
            Deflate(**options)


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("value", [True, None, "9", 9.0])
def test_numbers_are_ints(name: str, value: object) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(TypeError, match=name):
        Deflate(**options)


@pytest.mark.parametrize("name", ["context_takeover", "peer_context_takeover"])
@pytest.mark.parametrize("value", [1, None, "yes"])
def test_takeovers_are_bools(name: str, value: object) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(TypeError, match=name):
        Deflate(**options)


# -- section 7.1: offers ------------------------------------------------------------------------


# -- section 7.2: the two directions ------------------------------------------------------------


def steps(inflater: Inflater, size: int) -> Iterable[bytes]:
    while chunk := inflater.take(size):
        assert len(chunk) <= size
        yield chunk


def inflated(inflater: Inflater, payloads: Sequence[bytes], size: int = 65536) -> bytes:
    """The message whose frames, or pieces of them, have `payloads`."""
    chunks: list[bytes] = []
    for payload in payloads:
        inflater.feed(payload)
        chunks += steps(inflater, size)
    inflater.end()
    return b"".join(chunks)


def deflated(deflater: Deflater, fragments: Sequence[bytes]) -> list[bytes]:
    last = len(fragments) - 1
    return [deflater.compress(fragment, last=index == last) for index, fragment in enumerate(fragments)]


FRAGMENTS = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda piece, times: piece * times, st.binary(max_size=20), st.integers(0, 3000)),
)
MESSAGES = st.lists(st.lists(FRAGMENTS, min_size=1, max_size=5), min_size=1, max_size=5)


@settings(max_examples=examples(150))
@given(MESSAGES, OPTIONS, OPTIONS, st.integers(1, 5000), st.integers(1, 100))
def test_inflater_and_deflater_are_inverse_in_any_fragments_and_steps(
    messages: list[list[bytes]], client: Deflate, server: Deflate, step: int, cut: int
) -> None:
    at_client, at_server = negotiated(client, server)
    for sends, receives in ((at_client, at_server), (at_server, at_client)):
        deflater, inflater = Deflater(sends), Inflater(receives)
        for fragments in messages:
            data = b"".join(deflated(deflater, fragments))
            size = len(data) // cut + 1
            pieces = [data[start : start + size] for start in range(0, len(data), size)]
            assert inflated(inflater, pieces, step) == b"".join(fragments)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("takeover", [False, True])
def test_every_window_carries_more_than_its_size(window: int, level: int, takeover: bool) -> None:
    message = random.Random(window).randbytes(40_000) + bytes(range(256)) * 500
    agreed = Agreed(Deflate(level=level), window, takeover, window, takeover)
    deflater, inflater = Deflater(agreed), Inflater(agreed)
    for _ in range(3):
        assert inflated(inflater, deflated(deflater, [message]), 1000) == message


@pytest.mark.parametrize("window", WINDOWS)
def test_the_compressor_keeps_to_the_window(window: int) -> None:
    """What repeats further back than the window is not found: an inflater of that size is enough."""
    noise = random.Random(window).randbytes(1 << window)
    small = Deflater(replace(AGREED, send_window=window)).compress(noise * 4, last=True)
    assert len(small) > 3 * len(noise)
    if window < 15:
        large = Deflater(replace(AGREED, send_window=window + 1)).compress(noise * 4, last=True)
        assert len(large) < 2.25 * len(noise)  # zlib needs less than 2, zlib-ng a little more


def test_a_memoryview_can_be_compressed() -> None:
    data = Deflater(AGREED).compress(memoryview(bytearray(b"Hello")), last=True)
    assert data == bytes.fromhex("f248cdc9c90700")


# -- section 7.2.3: the examples ----------------------------------------------------------------

HELLO = bytes.fromhex("f248cdc9c90700")

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
def test_the_examples_of_the_rfc_are_inflated(payloads: list[bytes], takeover: bool, step: int) -> None:
    inflater = Inflater(replace(AGREED, receive_takeover=takeover))
    for _ in range(3):
        assert inflated(inflater, payloads, step) == b"Hello"
        assert inflated(inflater, [bytes([byte]) for byte in b"".join(payloads)], step) == b"Hello"


def test_the_first_example_is_made_byte_for_byte() -> None:
    """Section 7.2.3.1."""
    deflater = Deflater(replace(AGREED, send_takeover=False))
    for _ in range(2):
        assert deflated(deflater, [b"Hello"]) == [HELLO]


def test_sharing_the_window_makes_the_second_example() -> None:
    """Section 7.2.3.2."""
    deflater, inflater = Deflater(AGREED), Inflater(AGREED)
    assert deflated(deflater, [b"Hello"]) == [HELLO]
    assert deflated(deflater, [b"Hello"]) == [bytes.fromhex("f200110000")]
    assert inflated(inflater, [HELLO]) == b"Hello"
    assert inflated(inflater, [bytes.fromhex("f200110000")]) == b"Hello"


def test_a_message_may_go_on_after_a_final_block() -> None:
    """Section 7.2.3.4: blocks of either kind, in one message."""
    final = bytes.fromhex("f348cdc9c90700")
    for takeover in (False, True):
        inflater = Inflater(replace(AGREED, receive_takeover=takeover))
        assert inflated(inflater, [final + final + HELLO], 3) == b"HelloHelloHello"
        assert inflated(inflater, [final, final], 3) == b"HelloHello"
        assert inflated(inflater, [b"\x03\x00" * 3 + HELLO]) == b"Hello", "empty final blocks before it"
        assert inflated(inflater, [HELLO]) == b"Hello"


@pytest.mark.parametrize("takeover", [False, True])
def test_an_empty_message_is_an_empty_block(takeover: bool) -> None:
    """Section 7.2.3.6."""
    agreed = replace(AGREED, send_takeover=takeover, receive_takeover=takeover)
    deflater, inflater = Deflater(agreed), Inflater(agreed)
    for fragments in ([b""], [b""], [b"Hello"], [b""], [b"", b"", b""], [b"Hello", b""], [b"", b"Hello"]):
        payloads = deflated(deflater, fragments)
        assert payloads[-1], "the last frame is never empty"
        assert inflated(inflater, payloads) == b"".join(fragments)
    assert inflated(Inflater(agreed), [b"\x00"]) == b""


# -- what a peer may do -------------------------------------------------------------------------


GARBAGE = {
    "reserved block type": bytes([0b111]),
    "stored block with a wrong length": bytes.fromhex("000500000048656c6c6f"),
    "distance too far back": bytes.fromhex("f200110000"),
    "behind a good block": HELLO + b"\x00\x00\xff\xff" + bytes([0b111]),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_what_is_not_deflate_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not deflate"):
        inflated(Inflater(AGREED), [data])


@pytest.mark.parametrize("takeover", [True, False])
@given(message=st.text(min_size=1, max_size=50), level=st.sampled_from([0, 1, 6]))
def test_a_message_that_is_cut_is_noticed_wherever(takeover: bool, message: str, level: int) -> None:
    """Its end would else be made of the four bytes that are put behind it."""
    agreed = replace(AGREED, options=Deflate(level=level), receive_takeover=takeover)
    data = Deflater(agreed).compress(message.encode(), last=True)
    for length in range(len(data)):
        if data[:length] == b"\x00":
            continue  # an empty message
        with pytest.raises(ValueError, match=r"not deflate|inside a block|no data"):
            inflated(Inflater(agreed), [data[:length]])
    inflater = Inflater(agreed)
    assert inflated(inflater, [data]) == message.encode()
    with pytest.raises(ValueError, match="no data"):
        inflated(inflater, [b"", b""])


def test_nothing_is_left_of_a_message_that_was_forgotten_without_takeover() -> None:
    inflater = Inflater(replace(AGREED, receive_takeover=False))
    inflater.feed(HELLO[:3])
    assert inflater.take(1)
    inflater.forget()
    assert inflated(inflater, [HELLO]) == b"Hello"


@pytest.mark.parametrize("takeover", [True, False])
def test_a_released_inflater_has_no_context(takeover: bool) -> None:
    inflater = Inflater(replace(AGREED, receive_takeover=takeover))
    assert inflated(inflater, [HELLO]) == b"Hello"
    inflater.feed(HELLO)
    inflater.release()
    with pytest.raises(ValueError, match="not deflate"):  # it refers to a message before it
        inflated(inflater, [bytes.fromhex("f200110000")])


@pytest.mark.parametrize("takeover", [True, False])
def test_a_message_may_end_with_a_final_block_only_at_its_end(takeover: bool) -> None:
    """What is taken for the tail is the tail, not the peer's bytes that look like it."""
    inflater = Inflater(replace(AGREED, receive_takeover=takeover))
    final = zlib.compress(b"Hello", wbits=-15)
    assert inflated(inflater, [final]) == b"Hello"
    with pytest.raises(ValueError, match="inside a block"):
        inflated(inflater, [final, b"\x00\x00\xff\xff"])


def test_a_context_of_an_earlier_message_is_gone_without_takeover() -> None:
    inflater = Inflater(replace(AGREED, receive_takeover=False))
    assert inflated(inflater, [HELLO]) == b"Hello"
    with pytest.raises(ValueError, match="not deflate"):
        inflated(inflater, [bytes.fromhex("f200110000")])


@given(st.binary(max_size=200), st.integers(1, 100))
def test_any_bytes_are_inflated_or_a_value_error(data: bytes, step: int) -> None:
    inflater = Inflater(AGREED)
    inflater.feed(data)
    with contextlib.suppress(ValueError):
        assert sum(len(chunk) for chunk in steps(inflater, step)) <= 1032 * len(data)


@pytest.mark.parametrize("step", [1, 2, 257, 258, 259, 65536])
def test_the_output_of_a_step_is_exactly_what_was_asked_for_while_there_is_enough(step: int) -> None:
    message = bytes(step * 50 + 1)
    inflater = Inflater(AGREED)
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
def test_a_bomb_gives_no_more_than_is_asked_for_and_takes_no_memory() -> None:
    data = bomb(64 << 20)
    assert len(data) < 1 << 17
    inflater = Inflater(AGREED)
    tracemalloc.start()
    try:
        inflater.feed(data)
        total = sum(len(chunk) for chunk in steps(inflater, 65536))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 64 << 20
    assert peak < 600_000, "the data, its rest and two chunks"


def test_only_takeover_makes_a_skipped_message_matter() -> None:
    assert Inflater(AGREED).remembers
    assert not Inflater(replace(AGREED, receive_takeover=False)).remembers


def test_contexts_are_made_at_first_use_and_released_without_takeover() -> None:
    """Measured by what they take: a window of 32 KiB and more."""
    data = HELLO

    def memory(takeover: bool) -> list[int]:
        agreed = replace(AGREED, send_takeover=takeover, receive_takeover=takeover)
        tracemalloc.start()
        try:
            ends = [(Deflater(agreed), Inflater(agreed)) for _ in range(10)]
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


# -- in a connection ----------------------------------------------------------------------------


def sender(options: Deflate = PLAIN) -> Connection:
    return Connection(client=False, deflate=Agreed(options, 15, True, 15, True))


def sent(connection: Connection) -> bytes:
    data = b"".join(bytes(buffer) for buffer in connection.queue.buffers())
    connection.queue.advance(len(data))
    return data


def test_whole_messages_are_compressed_from_min_size_on() -> None:
    connection = sender(Deflate(min_size=5))
    for size, expected in ((0, False), (4, False), (5, True), (500, True)):
        assert connection.compresses(size) is expected
        connection.send(bytes(size))
        connection.send_message("text", bytes(size))
        assert [frame.rsv1 for frame in parse_frames(sent(connection))] == [expected] * 2
    connection.send_message("binary", bytes(500), compress=False)
    assert sent(connection) == b"\x82\x7e\x01\xf4" + bytes(500)


def test_without_an_agreement_nothing_is_compressed() -> None:
    connection = Connection(client=False)
    assert not connection.compresses(1000)
    connection.send_message("binary", b"a")
    connection.send_data("binary", b"b", last=False)
    connection.send_data("binary", b"c", last=True)
    assert [(frame.rsv1, frame.payload) for frame in parse_frames(sent(connection))] == [
        (False, b"a"),
        (False, b"b"),
        (False, b"c"),
    ]


def test_the_first_frame_decides_for_its_message() -> None:
    connection, inflater = sender(), Inflater(AGREED)
    connection.send_data("text", b"Hel", last=False)
    connection.send_data("text", b"lo", last=True, compress=False)
    first, second = parse_frames(sent(connection))
    assert (first.opcode, first.rsv1, second.opcode, second.rsv1) == (1, True, 0, False)
    assert inflated(inflater, [first.payload, second.payload]) == b"Hello"
    connection.send_data("text", b"Hel", last=False, compress=False)
    connection.send_data("text", b"lo", last=True)
    first, second = parse_frames(sent(connection))
    assert (first.rsv1, first.payload, second.rsv1, second.payload) == (False, b"Hel", False, b"lo")


def test_a_frame_of_declared_size_is_never_compressed() -> None:
    connection = sender()
    connection.begin_frame("binary", 100)
    connection.send_part(bytes(100))
    assert sent(connection) == b"\x82\x64" + bytes(100)


def test_a_refused_frame_leaves_the_compressor_as_it_was() -> None:
    connection, inflater = sender(), Inflater(AGREED)
    connection.send_data("text", b"Hello" * 20, last=False)
    with pytest.raises(Exception, match="not finished"):
        connection.send_data("binary", bytes(1000), last=True)
    with pytest.raises(Exception, match="not finished"):
        connection.send_message("text", b"x" * 1000)
    connection.send_data("text", b"!", last=True)
    assert (
        inflated(inflater, [frame.payload for frame in parse_frames(sent(connection))])
        == b"Hello" * 20 + b"!"
    )


# -- a message that is complete ------------------------------------------------------------------


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


def outcome(inflater: Inflater, data: bytes, most: int | None) -> bytes | None:
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
def test_a_message_taken_whole_is_what_it_is_in_steps(data: bytes, most: int, takeover: bool) -> None:
    """Also which endings are violations: in steps that is found out by a copy of the context."""
    agreed = replace(AGREED, receive_takeover=takeover)
    whole, stepwise = Inflater(agreed), Inflater(agreed)
    for message in (HELLO, data, HELLO, bytes.fromhex("f200110000")):
        result = outcome(stepwise, message, None)
        assert outcome(whole, message, most) == result
        if result is None:
            return


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=[pytest.mark.slow] if size > 18 else []) for size in range(3, 23)]
)
def test_no_table_of_codes_passes_for_an_ending(size: int) -> None:
    """All that begin after the last inflated byte, in the last bits of the data, and are cut there."""
    start = LITERAL if size % 2 == 0 else LONG_LITERAL
    while (len(start) + size) % 8:
        start = start + EMPTY
    prefix = sum(bit << place for place, bit in enumerate(start))
    inflater = Inflater(AGREED)
    for rest in range(1 << (size - 2)):
        table = rest & 1 | 0b10 << 1 | rest >> 1 << 3  # final or not, dynamic codes, and all that may follow
        data = (prefix | table << len(start)).to_bytes((len(start) + size) // 8, "little")
        try:
            ending = inflater._ends_at_boundary_near(primed(data))
        except zlib.error:
            continue
        assert not ending, data.hex()


def primed(data: bytes) -> Any:
    context = zlib.decompressobj(-15)
    assert context.decompress(data)
    return context


@pytest.mark.parametrize("takeover", [True, False])
def test_a_final_block_may_end_with_the_tail_but_not_inside_it(takeover: bool) -> None:
    agreed = replace(AGREED, receive_takeover=takeover)
    for most in (None, 100):
        inflater = Inflater(agreed)
        for _ in range(2):
            assert outcome(inflater, bytes.fromhex("4a0404"), most) == b"a", "empty, stored"
            assert outcome(inflater, HELLO, most) == b"Hello"
        assert outcome(inflater, bytes.fromhex("f348cdc9c907"), most) is None


def test_a_window_of_2_to_the_8th_can_be_inflated() -> None:
    inflater = Inflater(replace(AGREED, receive_window=8))
    assert inflated(inflater, [bytes.fromhex("f248cdc9c90700")]) == b"Hello"


# -- section 7.1: responses ---------------------------------------------------------------------
