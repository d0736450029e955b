"""The shortcut for unfragmented messages: both versions find the same, also in hostile bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.codec import VERSIONS, needs_compiled

from wsstream.codec import speedups
from wsstream.codec.events import PIECE_OVERHEAD, Chunk
from wsstream.testing import EXAMPLE_KEY, binary, close, continuation, frame, ping, text

UNLIMITED = 1 << 62
MASKS = pytest.mark.parametrize("mask", [None, EXAMPLE_KEY], ids=["unmasked", "masked"])


def payload_of(event: Any) -> bytes:
    if isinstance(event, Chunk):
        return event.payload
    return event.encode() if isinstance(event, str) else event


def messages(
    scan: Any, data: Any, mask: bytes | None, *, pos: int = 0, rsv1: bool = False
) -> tuple[list[Any], int]:
    """The messages found, and the position after them; checks the cost on the way."""
    events: list[Any] = []
    end, cost = scan(data, pos, mask is not None, rsv1, UNLIMITED, UNLIMITED, events)
    payloads = [payload_of(event) for event in events]
    assert cost == sum(len(payload) + PIECE_OVERHEAD for payload in payloads)
    return events, end


SIZES = [0, 1, 7, 8, 9, 125, 126, 127, 1000, 4096, 4097, 65535, 65536, 70_001]


@MASKS
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview], ids=lambda wrap: wrap.__name__)
def test_complete_messages_of_any_size_are_found(scan: Any, mask: bytes | None, size: int, wrap: Any) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    letters = "aä€🎉" * (size // 4 + 1)
    data = binary(payload[:size], mask=mask) + text(letters[:size], mask=mask)
    found, end = messages(scan, wrap(data + data), mask)
    assert found == [payload[:size], letters[:size]] * 2
    assert [type(message) for message in found] == [bytes, str] * 2
    assert end == 2 * len(data)


STOPS: dict[str, Callable[[bytes | None], bytes]] = {
    "nothing": lambda _: b"",
    "one byte": lambda _: b"\x82",
    "a header cut off": lambda mask: binary(bytes(126), mask=mask)[:3],
    "a long header cut off": lambda mask: binary(bytes(65536), mask=mask)[:9],
    "a key cut off": lambda _: b"\x82\x80abc",
    "a payload cut off": lambda mask: text(b"hello", mask=mask)[:-1],
    "a payload of 2**62": lambda mask: binary(b"a", mask=mask, declared_length=1 << 62),
    "the largest length": lambda mask: binary(b"a", mask=mask, declared_length=(1 << 63) - 1),
    "a length that is too large": lambda mask: binary(b"a", mask=mask, declared_length=(1 << 64) - 1),
    "a length that is not minimal": lambda mask: binary(bytes(125), mask=mask, length_bytes=2),
    "a long length that is not minimal": lambda mask: binary(bytes(65535), mask=mask, length_bytes=8),
    "a first fragment": lambda mask: text(b"a", fin=False, mask=mask),
    "a continuation": lambda mask: continuation(b"a", mask=mask),
    "a ping": lambda mask: ping(b"a", mask=mask),
    "a close": lambda mask: close(1000, mask=mask),
    "rsv1": lambda mask: binary(b"a", rsv1=True, mask=mask),
    "rsv2": lambda mask: binary(b"a", rsv2=True, mask=mask),
    "rsv3": lambda mask: text(b"a", rsv3=True, mask=mask),
    "an opcode that is reserved": lambda mask: frame(3, b"a", mask=mask),
    "the other masking": lambda mask: text(b"a", mask=None if mask else EXAMPLE_KEY),
    "the other masking, 126 bytes": lambda mask: text(b"a" * 126, mask=None if mask else EXAMPLE_KEY),
    "the other masking, 65536 bytes": lambda mask: text(b"a" * 65536, mask=None if mask else EXAMPLE_KEY),
    "text that is not utf-8": lambda mask: text(b"a\xff", mask=mask),
    "text that ends inside a code point": lambda mask: text(b"a\xe2\x82", mask=mask),
    "a surrogate": lambda mask: text(b"\xed\xa0\x80", mask=mask),
    "long text that is not utf-8": lambda mask: text(b"a" * 5000 + b"\xff", mask=mask),
}


@MASKS
@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_everything_else_is_left_to_the_decoder(scan: Any, mask: bytes | None, stop: Any) -> None:
    front = binary(b"one", mask=mask) + text("zwei €", mask=mask)
    data = front + stop(mask)
    assert messages(scan, data, mask) == ([b"one", "zwei €"], len(front))
    assert messages(scan, data, mask, pos=len(front)) == ([], len(front))


@MASKS
def test_only_messages_that_are_complete_before_a_cut_are_found(scan: Any, mask: bytes | None) -> None:
    frames = [binary(b"one", mask=mask), text("two", mask=mask), binary(bytes(200), mask=mask)]
    data = b"".join(frames)
    ends = [0, len(frames[0]), len(frames[0] + frames[1]), len(data)]
    for cut in range(len(data) + 1):
        found, end = messages(scan, data[:cut], mask)
        complete = sum(cut >= end for end in ends[1:])
        assert (len(found), end) == (complete, ends[complete])


@MASKS
def test_scan_stops_when_the_room_is_used_up_or_after_most_messages(scan: Any, mask: bytes | None) -> None:
    data = text(b"a" * 36, mask=mask) * 10  # 100 each
    for room, most, count in [(1, 9, 1), (100, 9, 1), (101, 9, 2), (500, 9, 5), (5000, 9, 9), (0, 9, 0)]:
        events: list[Any] = []
        assert scan(data, 0, mask is not None, False, room, most, events) == (
            count * len(data) // 10,
            count * 100,
        )
        assert len(events) == count
    assert scan(data, 0, mask is not None, False, -5, 9, []) == (0, 0)
    assert scan(data, 0, mask is not None, False, 500, 0, []) == (0, 0)


@MASKS
@pytest.mark.parametrize("size", SIZES)
def test_compressed_messages_are_found_where_rsv1_marks_them(
    scan: Any, mask: bytes | None, size: int
) -> None:
    """As chunks, unchecked, between others; and no reserved bit but RSV1."""
    payload = b"\xff" * size
    data = binary(payload, rsv1=True, mask=mask) + text(b"plain", mask=mask)
    data += text(payload, rsv1=True, mask=mask)
    found, end = messages(scan, data, mask, rsv1=True)
    expected = [Chunk("binary", payload, True, True), "plain", Chunk("text", payload, True, True)]
    assert (found, end) == (expected, len(data))
    assert [type(event) for event in found] == [Chunk, str, Chunk]
    assert [type(field) for field in found[0]] == [str, bytes, bool, bool]
    assert messages(scan, data, mask) == ([], 0)
    for stop in (
        text(payload, rsv1=True, mask=mask, fin=False),
        text(payload, rsv1=True, rsv2=True, mask=mask),
        binary(payload, rsv1=True, rsv3=True, mask=mask),
        frame(0, payload, rsv1=True, mask=mask),
        frame(3, payload, rsv1=True, mask=mask),
        frame(9, b"a", rsv1=True, mask=mask),
        text(payload, rsv1=True, mask=None if mask else EXAMPLE_KEY),
        text(payload, rsv1=True, mask=mask)[:-1],
    ):
        assert messages(scan, data + stop, mask, rsv1=True) == (expected, len(data))


def test_messages_are_appended_to_events(scan: Any) -> None:
    events = ["before"]
    scan(text("after"), 0, False, False, UNLIMITED, UNLIMITED, events)
    assert events == ["before", "after"]


PIECES = st.one_of(
    st.builds(
        frame,
        st.sampled_from([0, 1, 2, 2, 2, 1, 1, 8, 9, 3]),
        st.one_of(st.binary(max_size=200), st.text(max_size=80).map(str.encode)),
        mask=st.sampled_from([None, EXAMPLE_KEY]),
        fin=st.sampled_from([True, True, True, False]),
        rsv1=st.booleans(),
        length_bytes=st.sampled_from([None, None, None, 2, 8]),
    ),
    st.binary(max_size=20),
)


@needs_compiled
@given(
    st.lists(PIECES, max_size=8).map(b"".join),
    st.booleans(),
    st.booleans(),
    st.integers(0, 900),
    st.integers(0, 9),
)
def test_both_versions_find_the_same_in_any_bytes(
    data: bytes, masked: bool, rsv1: bool, room: int, most: int
) -> None:
    for pos in (0, len(data) // 2, len(data)):
        results = []
        for version in VERSIONS:
            events: list[Any] = []
            results.append((version.scan(data, pos, masked, rsv1, room, most, events), events))
        assert results[0] == results[1]


@needs_compiled
def test_the_compiled_version_checks_its_arguments() -> None:
    scan, apply_mask = speedups.scan_messages, speedups.apply_mask
    for pos in (-1, 4, 1 << 40):
        with pytest.raises(ValueError, match="pos"):
            scan(b"abc", pos, False, False, 1, 1, [])
    wrong: list[tuple[Any, ...]] = [
        (b"abc", 0, False, False, 1, 1),
        (b"abc", 0, False, False, 1, 1, ()),
        ("abc", 0, False, False, 1, 1, []),
        (b"abc", "0", False, False, 1, 1, []),
        (b"abc", 0, False, False, 1.5, 1, []),
    ]
    for arguments in wrong:
        with pytest.raises(TypeError):
            scan(*arguments)
    with pytest.raises(OverflowError):
        scan(b"abc", 0, False, False, 1 << 64, 1, [])
    with pytest.raises(ValueError, match="4 bytes"):
        apply_mask(b"abc", b"key")
    for arguments in [(b"abc",), ("abc", b"abcd"), (b"abc", "abcd"), (b"abc", b"abcd", "1"), (b"a",) * 4]:
        with pytest.raises(TypeError):
            apply_mask(*arguments)
