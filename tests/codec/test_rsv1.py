"""RSV1 in the codec: the mark of a compressed message (RFC 7692 section 6, RFC 6455 section 5.2)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from wsstream.codec.decoder import Decoder
from wsstream.codec.encoder import encode_frame, first_byte
from wsstream.codec.events import Chunk, Event, Kind, Ping, Violation
from wsstream.codec.framing import encode_header
from wsstream.testing import EXAMPLE_KEY, Frame, binary, continuation, frame, parse_frames, ping, text

NOT_UTF8 = b"\xff\xfe\xc3"
UNLIMITED = 1 << 62


def feed(decoder: Decoder, pieces: Iterable[bytes]) -> list[Event]:
    return [event for piece in pieces for event in decoder.decode(piece, UNLIMITED)]


def joined(events: list[Event]) -> tuple[set[tuple[Kind, bool]], bytes, list[bool]]:
    """Kind and mark of the chunks, their payload, and which of them end a message."""
    chunks = [event for event in events if isinstance(event, Chunk)]
    assert len(chunks) == len(events), events
    marks = {(chunk.kind, chunk.compressed) for chunk in chunks}
    return marks, b"".join(chunk.payload for chunk in chunks), [chunk.last for chunk in chunks if chunk.last]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("opcode", "kind"), [(1, "text"), (2, "binary")])
def test_a_compressed_message_becomes_marked_chunks_however_it_is_cut(
    masked: bool, opcode: int, kind: Kind
) -> None:
    key = EXAMPLE_KEY if masked else None
    data = frame(opcode, NOT_UTF8 * 50, rsv1=True, mask=key)
    for cut in range(len(data)):
        decoder = Decoder(masked=masked, rsv1=True)
        events = feed(decoder, (data[:cut], data[cut:]))
        assert joined(events) == ({(kind, True)}, NOT_UTF8 * 50, [True])
        assert not decoder.inside_message
    assert joined(feed(Decoder(masked=masked, rsv1=True), ([bytes([b]) for b in data])))[1] == NOT_UTF8 * 50


def test_a_complete_compressed_frame_is_one_chunk_even_if_it_is_empty() -> None:
    decoder = Decoder(masked=False, rsv1=True)
    assert feed(decoder, [binary(b"abc", rsv1=True)]) == [Chunk("binary", b"abc", True, True)]
    assert feed(decoder, [text(rsv1=True)]) == [Chunk("text", b"", True, True)]


def test_the_first_frame_marks_all_of_a_fragmented_message() -> None:
    decoder = Decoder(masked=False, rsv1=True)
    data = text(NOT_UTF8, fin=False, rsv1=True) + ping(b"p") + continuation(NOT_UTF8)
    assert feed(decoder, [data]) == [
        Chunk("text", NOT_UTF8, False, True),
        Ping(b"p"),
        Chunk("text", NOT_UTF8, True, True),
    ]


def test_messages_with_and_without_the_mark_follow_each_other() -> None:
    decoder = Decoder(masked=False, rsv1=True)
    data = text("a") + text(b"z", rsv1=True) + binary(b"b") + binary(b"c", fin=False) + continuation(b"d")
    assert feed(decoder, [data]) == [
        "a",
        Chunk("text", b"z", True, True),
        b"b",
        Chunk("binary", b"c", False),
        Chunk("binary", b"d", True),
    ]


def test_uncompressed_text_is_validated_even_if_compression_was_negotiated() -> None:
    for before in (b"", text(NOT_UTF8, rsv1=True), text(NOT_UTF8, fin=False, rsv1=True) + continuation(b"")):
        complete, begun = Decoder(masked=False, rsv1=True), Decoder(masked=False, rsv1=True)
        *_, violation = feed(complete, [before + text(NOT_UTF8)])
        assert isinstance(violation, Violation)
        assert violation.code == 1007
        *_, violation = feed(begun, [before + text(NOT_UTF8, fin=False)])
        assert isinstance(violation, Violation)
        assert violation.code == 1007


def violation_of(decoder: Decoder, data: bytes) -> Violation:
    """The violation at the end of `data`."""
    *_, event = feed(decoder, [data])
    assert isinstance(event, Violation), event
    assert decoder.finished
    return event


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_rsv1_in_a_continuation_frame_is_a_violation(compressed: bool) -> None:
    data = text(b"a", fin=False, rsv1=compressed) + continuation(b"b", rsv1=True)
    assert violation_of(Decoder(masked=False, rsv1=True), data).code == 1002


@pytest.mark.parametrize("opcode", [8, 9, 10])
def test_rsv1_in_a_control_frame_is_a_violation(opcode: int) -> None:
    assert violation_of(Decoder(masked=False, rsv1=True), frame(opcode, rsv1=True)).code == 1002


RESERVED = [bits for bits in itertools.product((False, True), repeat=3) if bits[1] or bits[2]]


@pytest.mark.parametrize("bits", RESERVED)
@pytest.mark.parametrize("opcode", [1, 2, 8, 9, 10])
def test_rsv2_and_rsv3_are_a_violation_at_the_first_byte(opcode: int, bits: tuple[bool, bool, bool]) -> None:
    data = frame(opcode, rsv1=bits[0], rsv2=bits[1], rsv3=bits[2])
    for allowed in (False, True):
        assert violation_of(Decoder(masked=False, rsv1=allowed), data[:1]).code == 1002


@pytest.mark.parametrize("key", [None, EXAMPLE_KEY])
@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("size", [0, 125, 126, 65536])
def test_the_encoder_sets_rsv1_and_nothing_else(key: bytes | None, fin: bool, size: int) -> None:
    for opcode, rsv1 in itertools.product((1, 2), (False, True)):
        data = encode_frame(opcode, bytes(size), key, fin=fin, rsv1=rsv1)
        assert parse_frames(data) == [Frame(opcode, bytes(size), fin, rsv1, key)]
        assert data.startswith(encode_header(first_byte(opcode, fin=fin, rsv1=rsv1), size, key))
