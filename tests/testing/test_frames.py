"""The frame builders and the strict reader, against the examples of the RFC and against each other."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.testing import (
    EXAMPLE_KEY,
    Frame,
    PeerError,
    binary,
    close,
    continuation,
    frame,
    next_frame,
    parse_frames,
    ping,
    pong,
    text,
)

EXAMPLES = [  # RFC 6455 section 5.7
    ("810548656c6c6f", text("Hello")),
    ("818537fa213d7f9f4d5158", text("Hello", mask=EXAMPLE_KEY)),
    ("010348656c", text("Hel", fin=False)),
    ("80026c6f", continuation("lo")),
    ("890548656c6c6f", ping(b"Hello")),
    ("8a8537fa213d7f9f4d5158", pong(b"Hello", mask=EXAMPLE_KEY)),
    ("827e0100" + "00" * 256, binary(bytes(256))),
    ("827f0000000000010000" + "00" * 65536, binary(bytes(65536))),
]


@pytest.mark.parametrize(("expected", "built"), EXAMPLES, ids=[example[0][:20] for example in EXAMPLES])
def test_the_examples_of_the_rfc_are_built(expected: str, built: bytes) -> None:
    assert built.hex() == expected


def test_text_is_utf8_and_bytes_stay_as_they_are() -> None:
    assert text("é") == b"\x81\x02\xc3\xa9"
    assert text(b"\xff") == b"\x81\x01\xff"
    assert continuation(b"\xff") == b"\x80\x01\xff"


def test_close_has_a_code_and_a_reason_or_no_body() -> None:
    assert close() == b"\x88\x00"
    assert close(1000) == b"\x88\x02\x03\xe8"
    assert close(65535, "é") == b"\x88\x04\xff\xff\xc3\xa9"
    assert close(0, b"\xff") == b"\x88\x03\x00\x00\xff"
    assert frame(8, b"\x03") == b"\x88\x01\x03"
    with pytest.raises(ValueError, match="must have a code"):
        close(reason="why")


def test_each_flag_has_its_bit() -> None:
    assert frame(1)[0] == 0x81
    assert frame(1, fin=False)[0] == 0x01
    assert frame(1, rsv1=True)[0] == 0xC1
    assert frame(1, rsv2=True)[0] == 0xA1
    assert frame(1, rsv3=True)[0] == 0x91
    assert frame(15, fin=False)[0] == 0x0F


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "8200"), (125, "827d"), (126, "827e007e"), (65535, "827effff"), (65536, "827f0000000000010000")],
)
def test_lengths_are_minimal_unless_told(size: int, head: str) -> None:
    assert binary(bytes(size)) == bytes.fromhex(head) + bytes(size)


def test_lengths_can_be_longer_than_needed() -> None:
    assert binary(b"x", length_bytes=2) == b"\x82\x7e\x00\x01x"
    assert binary(b"x", length_bytes=8) == b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01x"
    assert binary(b"x", length_bytes=0) == b"\x82\x01x"


def test_lengths_can_be_untrue() -> None:
    assert binary(b"x", declared_length=5) == b"\x82\x05x"
    assert binary(declared_length=1 << 63) == b"\x82\x7f\x80" + bytes(7)
    assert binary(declared_length=126, mask=b"abcd") == b"\x82\xfe\x00\x7eabcd"


@pytest.mark.parametrize(
    "options",
    [
        {"opcode": 16},
        {"opcode": -1},
        {"mask": b"abc"},
        {"declared_length": -1},
        {"declared_length": 1 << 64},
        {"declared_length": 126, "length_bytes": 0},
        {"declared_length": 1 << 16, "length_bytes": 2},
        {"length_bytes": 4},
    ],
    ids=str,
)
def test_what_does_not_fit_into_a_header_is_refused(options: dict) -> None:
    with pytest.raises(ValueError):
        frame(**{"opcode": 1, **options})


FRAMES = st.builds(
    Frame,
    opcode=st.sampled_from([0, 1, 2]),
    payload=st.binary(max_size=70) | st.integers(120, 70_000).map(bytes),
    fin=st.booleans(),
    rsv1=st.booleans(),
    mask=st.none() | st.binary(min_size=4, max_size=4),
) | st.builds(
    Frame,
    opcode=st.sampled_from([8, 9, 10]),
    payload=st.binary(max_size=125),
    mask=st.none() | st.binary(min_size=4, max_size=4),
)


def built(item: Frame) -> bytes:
    return frame(item.opcode, item.payload, fin=item.fin, rsv1=item.rsv1, mask=item.mask)


@given(st.lists(FRAMES, max_size=5))
def test_reading_gives_what_was_built(items: list[Frame]) -> None:
    assert parse_frames(b"".join(built(item) for item in items)) == items


@given(st.binary(max_size=40), st.binary(min_size=4, max_size=4))
def test_masking_is_xor_with_the_key_over_and_over(payload: bytes, key: bytes) -> None:
    masked = binary(payload, mask=key)[6:]
    assert masked == bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


@given(FRAMES)
def test_a_frame_that_is_cut_off_is_not_yet_a_frame(item: Frame) -> None:
    data = built(item)
    for end in {*range(min(20, len(data))), len(data) - 1}:
        assert next_frame(data[:end]) is None
    assert next_frame(data + b"more") == (item, len(data))
    assert next_frame(b"front" + data, 5) == (item, 5 + len(data))


def test_a_cut_off_frame_at_the_end_is_an_error() -> None:
    with pytest.raises(PeerError, match="byte 2 is cut off"):
        parse_frames(ping() + b"\x81")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        *[(frame(opcode), f"opcode {opcode} is reserved") for opcode in (3, 7, 11, 15)],
        (text(rsv2=True), "RSV2 or RSV3"),
        (text(rsv3=True), "RSV2 or RSV3"),
        (ping(fin=False), "a ping frame is a fragment"),
        (close(1000, b"." * 124), "a close frame has 126 bytes"),
        (ping(declared_length=126), "a ping frame has 126 bytes"),
        (binary(b"x", length_bytes=2), "length of 1 is not encoded in the fewest"),
        (binary(bytes(125), length_bytes=2), "length of 125"),
        (binary(b"x", length_bytes=8), "length of 1 is"),
        (binary(bytes(65535), length_bytes=8), "length of 65535"),
        (binary(declared_length=1 << 63), "first bit"),
    ],
)
def test_reading_is_strict(data: bytes, reason: str) -> None:
    with pytest.raises(PeerError, match=reason):
        parse_frames(data)


def test_reading_checks_the_masking_when_told_who_sent() -> None:
    plain, masked = ping(), ping(mask=EXAMPLE_KEY)
    assert len(parse_frames(plain + masked)) == 2
    assert len(parse_frames(plain, masked=False)) == len(parse_frames(masked, masked=True)) == 1
    with pytest.raises(PeerError, match="ping frame is not masked"):
        parse_frames(plain, masked=True)
    with pytest.raises(PeerError, match="ping frame is masked"):
        parse_frames(masked, masked=False)


def test_a_frame_tells_what_it_is() -> None:
    data = text("é", fin=False, mask=EXAMPLE_KEY) + continuation() + close(1001, "né") + close() + pong(b"p")
    first, second, third, fourth, fifth = parse_frames(data)
    assert (first.kind, first.text, first.fin, first.mask) == ("text", "é", False, EXAMPLE_KEY)
    assert (second.kind, second.payload, second.fin, second.mask) == ("continuation", b"", True, None)
    assert (third.kind, third.close_code, third.close_reason) == ("close", 1001, "né")
    assert (fourth.close_code, fourth.close_reason) == (None, "")
    assert (fifth.kind, fifth.payload) == ("pong", b"p")
    assert struct.pack("!H", 1001) == third.payload[:2]
