"""UTF-8 in pieces: accepted when it is complete, refused at the first byte that proves it wrong."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsstream.codec.utf8 import UTF8Validator, split_point

# RFC 3629 section 4, the grammar of UTF-8: the values of each byte of a code point.
TAIL = range(0x80, 0xC0)
SEQUENCES: list[tuple[range, ...]] = [
    (range(0x80),),
    (range(0xC2, 0xE0), TAIL),
    (range(0xE0, 0xE1), range(0xA0, 0xC0), TAIL),
    (range(0xE1, 0xED), TAIL, TAIL),
    (range(0xED, 0xEE), range(0x80, 0xA0), TAIL),
    (range(0xEE, 0xF0), TAIL, TAIL),
    (range(0xF0, 0xF1), range(0x90, 0xC0), TAIL, TAIL),
    (range(0xF1, 0xF4), TAIL, TAIL, TAIL),
    (range(0xF4, 0xF5), range(0x80, 0x90), TAIL, TAIL),
]
# Bytes on both sides of every boundary of the grammar.
BOUNDARIES = sorted(
    {byte for sequence in SEQUENCES for part in sequence for byte in (part[0], part[-1])}
    | {0xC0, 0xC1, 0xF5, 0xF8, 0xFC, 0xFE, 0xFF}
)


def valid_prefix(data: bytes) -> tuple[int, bool]:
    """How many bytes of `data` begin valid UTF-8, and whether those end between code points."""
    position = 0
    while position < len(data):
        fitting = 0
        for sequence in SEQUENCES:
            matched = 0
            for part, byte in zip(sequence, data[position:], strict=False):
                if byte not in part:
                    break
                matched += 1
            if matched == len(sequence):
                position += matched
                break
            fitting = max(fitting, matched)
        else:
            return position + fitting, fitting == 0
    return position, True


def first_refused(data: bytes, *, last: bool = False) -> int | None:
    """The number of bytes that were accepted before one was refused, fed one at a time."""
    validator = UTF8Validator()
    for position in range(len(data)):
        final = last and position == len(data) - 1
        if not validator.feed(data[position : position + 1], last=final):
            return position
    return None


@pytest.mark.heavy
@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_sequences_are_refused_at_the_first_byte_against_the_grammar(length: int) -> None:
    for sequence in product(BOUNDARIES, repeat=length):
        data = bytes(sequence)
        valid, between = valid_prefix(data)
        expected = valid if valid < length else None
        assert first_refused(data) == expected, data.hex()
        if expected is None:
            assert UTF8Validator().feed(data, last=True) is between, data.hex()
        else:
            assert not UTF8Validator().feed(data, last=False), data.hex()


@given(st.integers(0, 0x10FFFF))
@example(0xD7FF)
@example(0xD800)
@example(0xDFFF)
@example(0xE000)
@example(0x10FFFF)
def test_every_code_point_but_the_surrogates_is_accepted(point: int) -> None:
    encoded = chr(point).encode("utf-8", "surrogatepass")
    assert UTF8Validator().feed(encoded, last=True) is not (0xD800 <= point <= 0xDFFF)


@given(st.binary(max_size=12) | st.text(max_size=8).map(str.encode), st.lists(st.integers(0, 12)))
def test_the_cuts_do_not_matter(data: bytes, cuts: list[int]) -> None:
    validator = UTF8Validator()
    boundaries = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    accepted = all(
        validator.feed(data[start:end], last=False) for start, end in pairwise(boundaries)
    ) and validator.feed(b"", last=True)
    try:
        data.decode()
    except UnicodeDecodeError:
        assert not accepted
    else:
        assert accepted


@given(st.binary(max_size=12))
def test_a_bad_byte_is_refused_as_soon_as_it_arrives(data: bytes) -> None:
    valid, _ = valid_prefix(data)
    assert first_refused(data) == (valid if valid < len(data) else None)


@pytest.mark.parametrize("code_point", ["é", "€", "\U0001f600"])
def test_an_incomplete_code_point_is_refused_only_at_the_end(code_point: str) -> None:
    for cut in range(1, len(code_point.encode())):
        start = code_point.encode()[:cut]
        assert UTF8Validator().feed(start, last=False)
        assert not UTF8Validator().feed(start, last=True)


def test_a_refused_piece_changes_nothing() -> None:
    validator = UTF8Validator()
    assert validator.feed(b"\xe2\x82", last=False)
    assert not validator.feed(b"(", last=False)
    assert not validator.feed(b"", last=True)
    assert validator.feed(b"\xac", last=True)
    assert validator.feed(b"a\xed", last=False)
    assert not validator.feed(b"\xa0", last=False), "a surrogate"
    assert validator.feed(b"\x9f\xbf", last=True)


def test_a_validator_can_be_used_for_the_next_text() -> None:
    validator = UTF8Validator()
    assert validator.feed("é".encode(), last=True)
    assert validator.feed(memoryview("€".encode()), last=True)


@given(st.text(min_size=1, max_size=20), st.integers(1, 90))
def test_text_is_cut_between_code_points_as_late_as_possible(text: str, limit: int) -> None:
    data = text.encode()
    cut = split_point(memoryview(data), limit)
    boundaries = {len(text[:count].encode()) for count in range(1, len(text) + 1)}
    fitting = [boundary for boundary in boundaries if boundary <= limit]
    assert cut == max(fitting, default=0)


@given(st.text(max_size=20), st.integers(4, 9))
def test_cutting_repeatedly_makes_pieces_of_text(text: str, limit: int) -> None:
    rest = text.encode()
    pieces = []
    while rest:
        cut = split_point(memoryview(rest), limit)
        assert 1 <= cut <= limit
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert "".join(piece.decode() for piece in pieces) == text
