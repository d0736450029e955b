"""The decoder: the same events whatever the cuts, nothing else accepted, nothing kept.

The data comes from the builders of `wsstream.testing`, which know nothing of the codec, and from
other implementations. Events are compared in a normal form in which the cuts do not show: see
`normal_form`.
"""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit.effort import examples
from websockets.frames import Frame as PeerFrame
from websockets.frames import Opcode as PeerOpcode
from wsproto.frame_protocol import FrameProtocol
from wsproto.frame_protocol import Opcode as WsprotoOpcode

from wsstream.codec.decoder import MAX_EVENTS, MAX_STEPS, Decoder
from wsstream.codec.events import PIECE_OVERHEAD, Chunk, Close, Event, Kind, Ping, Pong, Violation
from wsstream.testing import (
    EXAMPLE_KEY,
    ILLEGAL_FRAMES,
    LEGAL_SEQUENCES,
    FrameCase,
    Role,
    binary,
    close,
    continuation,
    frame,
    ping,
    pong,
    text,
)
from wsstream.testing import Event as Seen

UNLIMITED = 1 << 62
ROLES = pytest.mark.parametrize("to", ["client", "server"])


def decoder_for(to: Role) -> Decoder:
    return Decoder(masked=to == "server")


def key_for(to: Role) -> bytes | None:
    return EXAMPLE_KEY if to == "server" else None


# -- feeding -------------------------------------------------------------------------------------


def feed(decoder: Decoder, pieces: Iterable[bytes | memoryview]) -> list[Event]:
    """All events of `pieces`, each of which is one read."""
    events: list[Event] = []
    for piece in pieces:
        rest = piece
        while rest:
            got = decoder.decode(rest, UNLIMITED)
            assert decoder.consumed == len(rest) or len(got) == MAX_EVENTS or decoder.steps == MAX_STEPS
            rest = rest[decoder.consumed :]
            events += got
    return events


def split(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return (data[start:end] for start, end in itertools.pairwise(borders))


def single_bytes(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


# -- comparing -----------------------------------------------------------------------------------


def size_of(message: str | bytes) -> int:
    return len(message.encode() if isinstance(message, str) else message)


def cost_of(event: Event) -> int:
    """What the event takes of the room (API: payload, and 64 for each piece)."""
    match event:
        case str() | bytes():
            return size_of(event) + 64
        case Chunk():
            return len(event.payload) + 64
    return 0


def normal_form(events: Iterable[Event]) -> list[Event]:
    """Messages as one chunk, adjacent chunks as one, and without the part just before a violation.

    How much of a message is handed on before a violation in it depends on the reads.
    """
    result: list[Event] = []
    for event in events:
        if isinstance(event, str):
            event = Chunk("text", event.encode(), True)
        elif isinstance(event, bytes):
            event = Chunk("binary", event, True)
        if isinstance(event, Violation) and result and is_unfinished(result[-1]):
            result.pop()
        if isinstance(event, Chunk) and result and is_unfinished(before := result[-1]):
            assert isinstance(before, Chunk)
            assert before.kind == event.kind
            result[-1] = event._replace(payload=before.payload + event.payload)
        else:
            result.append(event)
    return result


def is_unfinished(event: Event) -> bool:
    return isinstance(event, Chunk) and not event.last


def seen(events: Iterable[Event]) -> tuple[list[Seen], int | None]:
    """What an application sees, as the tables of `wsstream.testing` say it, and the violation's code."""
    result: list[Seen] = []
    payload = b""
    for event in events:
        match event:
            case str():
                result.append(Seen("text", event))
            case bytes():
                result.append(Seen("binary", event))
            case Chunk():
                payload += event.payload
                if event.last:
                    result.append(Seen(event.kind, payload.decode() if event.kind == "text" else payload))
                    payload = b""
            case Ping():
                result.append(Seen("ping", event.payload))
            case Pong():
                result.append(Seen("pong", event.payload))
            case Close():
                code = 1005 if event.code is None else event.code
                result.append(Seen("close", (code, event.reason)))
            case Violation():
                return result, event.code
    return result, None


# -- the tables ----------------------------------------------------------------------------------

CASES = (*LEGAL_SEQUENCES, *ILLEGAL_FRAMES)
TO_BOTH: tuple[Role, Role] = ("client", "server")


def expected_of(case: FrameCase) -> tuple[list[Seen], int | None]:
    return list(case.events), case.code


def positions(size: int) -> Iterator[int]:
    """Where to cut `size` bytes: everywhere, or near both ends of many."""
    yield from range(1, min(200, size))
    yield from range(max(size - 100, 200), size)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_of_the_tables_in_one_piece(case: FrameCase) -> None:
    for to in TO_BOTH:
        decoder = decoder_for(to)
        events = feed(decoder, [case.data(to)])
        assert seen(events) == expected_of(case), to
        ended = case.code is not None or (case.events and case.events[-1].kind == "close")
        assert decoder.finished is bool(ended), to


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_of_the_tables_byte_by_byte(case: FrameCase) -> None:
    for to in TO_BOTH:
        data = case.data(to)
        at_once = feed(decoder_for(to), [data])
        events = feed(decoder_for(to), split(data, positions(len(data))))
        assert seen(events) == expected_of(case), to
        assert normal_form(events) == normal_form(at_once), to


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_of_the_tables_split_at_every_position(case: FrameCase) -> None:
    for to in TO_BOTH:
        data = case.data(to)
        large = len(data) > 1000
        for cut in positions(len(data)) if not large else (*range(1, 16), 65535, len(data) - 1):
            assert seen(feed(decoder_for(to), split(data, [cut]))) == expected_of(case), (to, cut)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_of_the_tables_between_other_messages(case: FrameCase) -> None:
    for to in TO_BOTH:
        key = key_for(to)
        front = text("front", mask=key) + ping(b"before", mask=key)
        frames, code = expected_of(case)
        expected = [Seen("text", "front"), Seen("ping", b"before"), *frames]
        decoder = decoder_for(to)
        events = feed(decoder, [front + case.data(to) + text("next", mask=key)])
        if not decoder.finished:
            expected.append(Seen("text", "next"))
        assert seen(events) == (expected, code), to


@pytest.mark.parametrize("case", ILLEGAL_FRAMES, ids=str)
def test_everything_after_a_violation_is_ignored(case: FrameCase) -> None:
    for to in TO_BOTH:
        decoder = decoder_for(to)
        assert isinstance(feed(decoder, [case.data(to)])[-1], Violation)
        after = text("late", mask=key_for(to)) + case.data(to)[:300] + bytes(range(256))
        assert feed(decoder, [after, *single_bytes(after)]) == [], to
        assert not decoder.control


@ROLES
def test_everything_after_a_close_is_ignored(to: Role) -> None:
    decoder = decoder_for(to)
    after = text("late", mask=key_for(to)) + bytes(range(256))
    assert feed(decoder, [close(1000, mask=key_for(to)) + after]) == [Close(1000)]
    assert feed(decoder, [after, *single_bytes(after)]) == []


# -- where a violation is found ------------------------------------------------------------------


@pytest.mark.parametrize("case", ILLEGAL_FRAMES, ids=str)
def test_a_violation_is_found_at_the_byte_that_proves_it(case: FrameCase) -> None:
    for to in TO_BOTH:
        data = case.data(to)[: case.proof(to)]
        for reads in ([data[:-1]], single_bytes(data[:-1])):
            decoder = decoder_for(to)
            assert seen(feed(decoder, reads)) == (list(case.events), None), to
            assert not decoder.finished, to
            (violation,) = decoder.decode(data[-1:], UNLIMITED)
            assert isinstance(violation, Violation), to
            assert (violation.code, decoder.finished) == (case.code, True), to
        assert seen(feed(decoder_for(to), [data])) == expected_of(case), to


@pytest.mark.parametrize(("to", "wrong"), [("server", None), ("client", EXAMPLE_KEY)])
@pytest.mark.parametrize("opcode", [1, 2, 8, 9, 10])
def test_wrong_masking_is_found_in_the_second_byte(opcode: int, to: Role, wrong: bytes | None) -> None:
    data = frame(opcode, mask=wrong)
    decoder = decoder_for(to)
    assert decoder.decode(data[:1], UNLIMITED) == []
    assert not decoder.finished
    (violation,) = decoder.decode(data[1:2], UNLIMITED)
    assert isinstance(violation, Violation)
    assert violation.code == 1002
    assert {"server": "client's", "client": "server's"}[to] in violation.reason


@ROLES
def test_everything_complete_before_a_violation_is_returned_first(to: Role) -> None:
    key = key_for(to)
    data = (
        text("one", mask=key)
        + binary(b"tw", fin=False, mask=key)
        + ping(b"p", mask=key)
        + continuation(b"o", mask=key)
        + text("unfin", fin=False, mask=key)
        + frame(3, mask=key)
        + text("never", mask=key)
    )
    events = feed(decoder_for(to), [data])
    assert events[:-1] == [
        "one",
        Chunk("binary", b"tw", False),
        Ping(b"p"),
        Chunk("binary", b"o", True),
        Chunk("text", b"unfin", False),
    ]
    assert events[-1] == Violation(1002, "opcode 3 is reserved")


# -- any legal sequence, in any pieces -----------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Stream:
    """Legal frames, and what has to come of them in the normal form."""

    frames: tuple[tuple[int, bytes, bool], ...]
    expected: tuple[Event, ...]
    inside: bool  # a message was begun and not ended

    def __repr__(self) -> str:
        return str([(opcode, payload[:130], len(payload), fin) for opcode, payload, fin in self.frames])

    def data(self, to: Role, key: bytes = EXAMPLE_KEY) -> bytes:
        mask = key if to == "server" else None
        return b"".join(frame(opcode, payload, fin=fin, mask=mask) for opcode, payload, fin in self.frames)


CONTROL = st.tuples(st.sampled_from([9, 10]), st.binary(max_size=20) | st.just(bytes(range(125))))
SIZES = st.integers(0, 20) | st.sampled_from([124, 125, 126, 127, 128, 300, 1023, 1024, 1025, 65535, 65536])
BINARY = st.binary(max_size=20) | SIZES.map(lambda size: (bytes(range(256)) * 257)[:size])
TEXT = st.text(max_size=12).map(str.encode) | SIZES.map(lambda size: ("aé€\U0001f600" * 6554)[:size].encode())


@st.composite
def streams(draw: st.DrawFn, *, max_messages: int = 4) -> Stream:
    frames: list[tuple[int, bytes, bool]] = []
    expected: list[Event] = []

    def control() -> None:
        for opcode, payload in draw(st.lists(CONTROL, max_size=2)):
            frames.append((opcode, payload, True))
            expected.append(Ping(payload) if opcode == 9 else Pong(payload))

    inside = False
    for _ in range(draw(st.integers(0, max_messages))):
        control()
        kind: Kind = draw(st.sampled_from(["text", "binary"]))
        payload = draw(TEXT if kind == "text" else BINARY)
        cuts = draw(st.lists(st.integers(0, len(payload)), max_size=3))
        fragments = list(split(payload, cuts))
        for number, fragment in enumerate(fragments):
            last = number == len(fragments) - 1
            frames.append((0 if number else 1 if kind == "text" else 2, fragment, last))
            expected.append(Chunk(kind, fragment, last))
            if not last:
                control()
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["text", "binary"]))
        frames.append((1 if kind == "text" else 2, b"begun", False))
        expected.append(Chunk(kind, b"begun", False))
        inside = True
    if draw(st.booleans()):
        frames.append((8, b"\x03\xe9bye", True))
        expected.append(Close(1001, "bye"))
        frames += draw(st.lists(st.tuples(st.integers(0, 15), BINARY, st.booleans()), max_size=1))
    return Stream(tuple(frames), tuple(normal_form(expected)), inside)


TO = st.sampled_from(["client", "server"])
KEYS = st.binary(min_size=4, max_size=4)
CUTS = st.lists(st.integers(0, 400) | st.integers(0, 140_000), max_size=12)


@given(streams(), TO, KEYS, CUTS)
def test_legal_frames_in_any_pieces_are_decoded_to_what_was_encoded(
    stream: Stream, to: Role, key: bytes, cuts: list[int]
) -> None:
    data = stream.data(to, key)
    decoder = decoder_for(to)
    assert normal_form(feed(decoder, [data])) == list(stream.expected)
    assert decoder.inside_message is stream.inside
    assert normal_form(feed(decoder_for(to), split(data, cuts))) == list(stream.expected)


@given(streams(max_messages=3).filter(lambda stream: len(stream.data("server")) < 3000), TO, KEYS)
def test_legal_frames_byte_by_byte_are_decoded_to_what_was_encoded(
    stream: Stream, to: Role, key: bytes
) -> None:
    events = feed(decoder_for(to), single_bytes(stream.data(to, key)))
    assert normal_form(events) == list(stream.expected)


@given(streams(), TO, CUTS)
def test_only_empty_fragments_become_empty_chunks(stream: Stream, to: Role, cuts: list[int]) -> None:
    empty_fragments = sum(
        1 for opcode, payload, fin in stream.frames if opcode < 3 and not payload and (opcode == 0 or not fin)
    )
    events = feed(decoder_for(to), split(stream.data(to), cuts))
    assert sum(1 for event in events if isinstance(event, Chunk) and not event.payload) <= empty_fragments


@given(streams(), TO, CUTS, st.lists(st.integers(1, 2000) | st.just(1), min_size=1, max_size=6))
def test_decoding_stops_when_the_room_is_used_up_and_continues_with_the_rest(
    stream: Stream, to: Role, cuts: list[int], rooms: list[int]
) -> None:
    decoder = decoder_for(to)
    events: list[Event] = []
    step = 0
    for piece in split(stream.data(to), cuts):
        tail = piece
        while tail:
            room = rooms[step % len(rooms)]
            step += 1
            got = decoder.decode(tail, room)
            assert decoder.cost == sum(map(cost_of, got))
            costs = [cost for event in got if (cost := cost_of(event))]
            assert sum(costs[:-1]) < room, "it went on although the room was used up"
            stopped = decoder.consumed < len(tail)
            assert not stopped or decoder.cost >= room, "it stopped although there was room"
            assert 0 < decoder.consumed <= len(tail)
            events += got
            tail = tail[decoder.consumed :]
    assert normal_form(events) == list(stream.expected)


@pytest.mark.parametrize("room", [0, -1, -1000])
def test_without_room_nothing_is_decoded(room: int) -> None:
    decoder = Decoder(masked=False)
    assert decoder.decode(text("hi"), room) == []
    assert (decoder.consumed, decoder.cost) == (0, 0)
    assert decoder.decode(text("hi"), 1) == ["hi"]


@pytest.mark.parametrize("piece", [binary(), binary(fin=False) + continuation()], ids=["message", "fragment"])
def test_empty_messages_and_fragments_use_up_the_room(piece: bytes) -> None:
    decoder = Decoder(masked=False)
    events = decoder.decode(piece * 1000, 6400)
    assert len(events) == 100
    assert decoder.cost == 100 * PIECE_OVERHEAD == 6400


@pytest.mark.parametrize(
    ("first", "tiny", "at_once"),
    [
        (b"", binary(), MAX_EVENTS),
        (b"", ping(), MAX_STEPS),
        (b"", pong(b"p"), MAX_STEPS),
        (text(fin=False), continuation(fin=False), MAX_STEPS),
        (text(fin=False), continuation(b"x", fin=False), MAX_STEPS // 2),
        (b"", ping() + binary(), 2 * MAX_STEPS),
    ],
    ids=["messages", "pings", "pongs", "empty fragments", "fragments", "pings and messages"],
)
def test_one_call_decodes_a_limited_number_of_tiny_frames(first: bytes, tiny: bytes, at_once: int) -> None:
    """A read full of them would hold up everybody else for 25 ms."""
    decoder = Decoder(masked=False)
    data = first + tiny * 3000 + close(1000)
    sizes = []
    while data:
        sizes.append(len(decoder.decode(data, UNLIMITED)))
        assert decoder.steps <= MAX_STEPS
        data = data[decoder.consumed :]
    assert sizes[1:-1] == [at_once] * (len(sizes) - 2)
    assert decoder.finished


def test_a_violation_after_the_last_event_of_a_call_is_found_by_the_next() -> None:
    decoder = Decoder(masked=False)
    data = ping() * MAX_STEPS + b"\x83"
    assert len(decoder.decode(data, UNLIMITED)) == MAX_STEPS
    assert (decoder.finished, decoder.consumed) == (False, len(data) - 1)
    assert seen(decoder.decode(data[-1:], UNLIMITED)) == ([], 1002)


def test_a_close_after_the_room_is_used_up_is_found_by_the_next_call() -> None:
    decoder = Decoder(masked=False)
    data = text("hi") + close(1000)
    assert decoder.decode(data, 1) == ["hi"]
    assert not decoder.finished
    assert decoder.decode(data[decoder.consumed :], 1) == [Close(1000)]


def test_the_part_of_a_frame_that_has_arrived_is_returned() -> None:
    decoder = Decoder(masked=False)
    data = binary(b"abcdef")
    assert decoder.decode(data[:2], UNLIMITED) == []
    assert decoder.inside_message
    assert decoder.decode(data[2:4], UNLIMITED) == [Chunk("binary", b"ab", False)]
    assert decoder.decode(data[4:5], UNLIMITED) == [Chunk("binary", b"c", False)]
    assert decoder.decode(data[5:] + data, UNLIMITED) == [Chunk("binary", b"def", True), b"abcdef"]
    assert not decoder.inside_message


def test_a_complete_frame_in_one_read_is_one_message_even_if_its_header_was_cut() -> None:
    for cut in range(1, 8):
        decoder = Decoder(masked=True)
        data = text("κόσμε" * 20, mask=EXAMPLE_KEY)
        assert feed(decoder, [data[:cut], data[cut:]]) == ["κόσμε" * 20]


def test_control_says_whether_a_call_returned_anything_but_data() -> None:
    decoder = Decoder(masked=False)
    for data, control in [
        (text("a"), False),
        (text("a") + ping(), True),
        (binary(b"b", fin=False), False),
        (pong() + continuation(b"c"), True),
        (text("d"), False),
        (text("e") + frame(3), True),
        (text("f"), False),
    ]:
        decoder.decode(data, UNLIMITED)
        assert decoder.control is control
    decoder = Decoder(masked=False)
    decoder.decode(text("a") + close(), UNLIMITED)
    assert decoder.control


STATES = [
    # after byte: inside_message, inside_frame
    (text("a"), [(False, True), (True, False), (False, False)]),
    (binary(b"ab", fin=False), [(False, True), (True, False), (True, False), (True, False)]),
    (ping(b"p"), [(True, True), (True, True), (True, False)]),
    (continuation(fin=False), [(True, True), (True, False)]),
    (continuation(b"c"), [(True, True), (True, False), (False, False)]),
    (close(1000), [(False, True), (False, True), (False, True), (False, False)]),
]


def test_the_state_after_each_byte_says_what_has_begun() -> None:
    decoder = Decoder(masked=False)
    for data, states in STATES:
        for byte, state in zip(single_bytes(data), states, strict=True):
            decoder.decode(byte, UNLIMITED)
            assert (decoder.inside_message, decoder.inside_frame) == state
    assert decoder.finished


@pytest.mark.parametrize(("masked", "key"), [(1, EXAMPLE_KEY), ("yes", EXAMPLE_KEY), (0, None), ("", None)])
def test_masked_counts_by_its_truth(masked: Any, key: bytes | None) -> None:
    decoder = Decoder(masked=masked)
    data = text("a", mask=key) + ping(mask=key) + binary(b"b", fin=False, mask=key)
    assert feed(decoder, [data]) == ["a", Ping(), Chunk("binary", b"b", False)]


# -- the buffer belongs to somebody else ---------------------------------------------------------


@given(streams(max_messages=2), TO, CUTS)
@settings(max_examples=examples(50))
def test_a_buffer_may_be_overwritten_once_it_was_decoded(stream: Stream, to: Role, cuts: list[int]) -> None:
    decoder = decoder_for(to)
    buffer = bytearray(200_000)
    events: list[Event] = []
    for piece in split(stream.data(to), cuts):
        buffer[: len(piece)] = piece
        events += decoder.decode(memoryview(buffer)[: len(piece)], UNLIMITED)
        buffer[: len(piece)] = b"\xff" * len(piece)
    assert normal_form(events) == list(stream.expected)
    assert all(type(event) is not bytearray for event in events)


def test_messages_are_str_and_bytes_whatever_the_buffer() -> None:
    for to in TO_BOTH:
        data = bytearray(text("a", mask=key_for(to)) + binary(b"b", mask=key_for(to)))
        for source in (bytes(data), memoryview(data), memoryview(bytes(data))):
            assert [type(event) for event in feed(decoder_for(to), [source])] == [str, bytes]


# -- a hostile peer ------------------------------------------------------------------------------


TELLING = bytes.fromhex("00 01 02 03 08 0a 41 80 81 82 83 88 89 8a 8b c1 05 7d 7e 7f 85 fd fe ff e2 f0")
RANDOM = st.binary(max_size=300) | st.lists(st.sampled_from(TELLING), max_size=60).map(bytes)


@given(RANDOM, CUTS, TO)
@settings(max_examples=examples(200))
def test_random_bytes_become_events_and_never_raise(data: bytes, cuts: list[int], to: Role) -> None:
    at_once = feed(decoder_for(to), [data])
    pieces = feed(decoder_for(to), split(data, cuts))
    singles = feed(decoder_for(to), single_bytes(data))
    assert seen(at_once) == seen(pieces) == seen(singles)
    assert normal_form(at_once) == normal_form(singles)
    assert all(not isinstance(event, Violation | Close) for event in at_once[:-1])


@given(streams(max_messages=3), TO, st.integers(0, 400), st.integers(1, 255), CUTS)
def test_a_changed_byte_becomes_events_and_never_raises(
    stream: Stream, to: Role, position: int, change: int, cuts: list[int]
) -> None:
    data = bytearray(stream.data(to))
    if data:
        data[position % len(data)] ^= change
    at_once = feed(decoder_for(to), [bytes(data)])
    pieces = feed(decoder_for(to), split(bytes(data), cuts))
    assert seen(at_once) == seen(pieces)
    assert normal_form(at_once) == normal_form(pieces)
    assert sum(map(cost_of, pieces)) <= len(data) + 64 * len(pieces)


@ROLES
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("length", [1 << 31, 1 << 36, (1 << 63) - 1])
def test_a_declared_length_costs_no_memory(length: int, fin: bool, to: Role) -> None:
    header = binary(declared_length=length, fin=fin, mask=key_for(to))
    decoder = decoder_for(to)
    data = bytes(1000)
    decoder.decode(b"", UNLIMITED)
    tracemalloc.start()
    try:
        assert decoder.decode(header, UNLIMITED) == []
        received = 0
        for _ in range(1000):
            for event in decoder.decode(data, UNLIMITED):
                assert isinstance(event, Chunk)
                assert not event.last
                received += len(event.payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert received == 1_000_000
    assert peak < 64 * 1024
    assert decoder.inside_message


@pytest.mark.heavy
def test_the_memory_for_an_incomplete_control_frame_is_bounded() -> None:
    decoder = Decoder(masked=True)
    data = ping(bytes(125), mask=EXAMPLE_KEY)
    tracemalloc.start()
    try:
        for _ in range(200):
            for byte in single_bytes(data):
                decoder.decode(byte, UNLIMITED)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024


@pytest.mark.heavy
def test_65536_fragments_in_one_message() -> None:
    data = text("a", fin=False) + continuation("b", fin=False) * 65534 + continuation("c")
    events = feed(Decoder(masked=False), [data])
    assert len(events) == 65536
    assert normal_form(events) == [Chunk("text", b"a" + b"b" * 65534 + b"c", True)]


def test_a_frame_of_16_mib_is_decoded_in_one_piece_and_in_many() -> None:
    payload = bytes(range(256)) * 65536
    data = binary(payload, mask=EXAMPLE_KEY)
    assert feed(Decoder(masked=True), [data]) == [payload]
    pieces = feed(Decoder(masked=True), (data[at : at + 100_001] for at in range(0, len(data), 100_001)))
    assert b"".join(piece.payload for piece in pieces if isinstance(piece, Chunk)) == payload
    assert [piece.last for piece in pieces if isinstance(piece, Chunk)].index(True) == len(pieces) - 1


# -- other implementations -----------------------------------------------------------------------


def seen_by_wsproto(data: bytes, to: Role) -> list[Seen]:
    """What wsproto makes of legal frames, up to a Close."""
    protocol = FrameProtocol(client=to == "client", extensions=[])
    protocol.receive_bytes(data)
    result: list[Seen] = []
    pieces: list = []
    for part in protocol.received_frames():
        if part.opcode in (WsprotoOpcode.PING, WsprotoOpcode.PONG):
            result.append(Seen(part.opcode.name.lower(), bytes(part.payload)))
        elif part.opcode is WsprotoOpcode.CLOSE:
            code, reason = part.payload
            return [*result, Seen("close", (int(code), reason or ""))]
        else:
            pieces.append(part.payload)
            if part.message_finished:
                complete = "".join(pieces) if isinstance(pieces[0], str) else b"".join(pieces)
                result.append(Seen("text" if isinstance(complete, str) else "binary", complete))
                pieces = []
    return result


@given(streams(max_messages=3), TO, KEYS)
@settings(max_examples=examples(60))
def test_wsproto_sees_the_same(stream: Stream, to: Role, key: bytes) -> None:
    data = stream.data(to, key)
    assert seen(feed(decoder_for(to), [data])) == (seen_by_wsproto(data, to), None)


@given(streams(max_messages=3), CUTS, st.booleans())
@settings(max_examples=examples(60))
def test_frames_that_websockets_wrote_are_decoded(stream: Stream, cuts: list[int], masked: bool) -> None:
    data = b"".join(
        PeerFrame(PeerOpcode(opcode), payload, fin).serialize(mask=masked)
        for opcode, payload, fin in stream.frames
        if opcode in set(PeerOpcode) and (opcode < 8 or (fin and len(payload) < 126))
    )
    events = feed(Decoder(masked=masked), split(data, cuts))
    assert normal_form(events) == list(stream.expected)


@given(
    st.binary(min_size=1, max_size=40), st.booleans(), st.sampled_from([b"", b"\x02\x81abcd.", b"\x02\x01."])
)
@example(b"\x82\x7e\x40\x00", False, b"")
@example(b"\x80\x00", False, b"\x02\x01.")
@example(b"\x00\x7e\x40\x00", False, b"\x02\x01.")
@example(b"\x82\xfe\x40\x00abcdxyz", True, b"")
@example(b"\x82\x03abc", False, b"")
@example(b"\x00\x03abc", False, b"")
@example(b"\x82\x7e\x00\x03abc", False, b"")
def test_a_frame_whose_payload_another_takes_is_the_frame_that_is_decoded(
    data: bytes, masked: bool, before: bytes
) -> None:
    one, other = Decoder(masked=masked), Decoder(masked=masked)
    for decoder in (one, other):
        decoder.decode(before, 1 << 20)
    events = one.decode(data, 1 << 20)
    start = other.enter_frame(memoryview(data), 0, 16_000) if not other.finished else 0
    if start == 0:
        assert other.decode(data, 1 << 20) == events  # nothing has happened
        return
    payload = data[start : start + other.payload_due]
    assert other.payload_due >= 16_000 or data[0] == 0x80
    key, last = other.pass_payload(len(payload))
    plain = payload if key is None else bytes(b ^ key[i & 3] for i, b in enumerate(payload))
    if payload or last:
        assert events[0] == Chunk("binary", plain, last) or (last and events[0] == plain)
    assert other.inside_message is one.inside_message or other.payload_due == 0


@pytest.mark.parametrize(
    ("frame", "due"),
    [
        (binary(bytes(1000)), 800),
        (binary(bytes(1000), fin=False), 0),
        (text("x" * 1000), 0),
    ],
    ids=["the last frame", "not the last one", "text"],
)
def test_the_rest_of_the_last_frame_of_a_binary_message_is_known(frame: bytes, due: int) -> None:
    decoder = Decoder(masked=False)
    assert decoder.rest_due == 0
    decoder.decode(frame[:-800], 1 << 20)
    assert decoder.rest_due == due
    decoder.decode(frame[-800:], 1 << 20)
    assert decoder.rest_due == 0


def test_one_call_returns_no_more_events_than_it_may() -> None:
    decoder = Decoder(masked=False)
    decoder.most_events = 3
    data = frame(2, b"x") * 4 + frame(9, b"p") * 4
    sizes = []
    while data:
        sizes.append(len(decoder.decode(data, 1 << 20)))
        data = data[decoder.consumed :]
    assert sizes == [3, 3, 2]
