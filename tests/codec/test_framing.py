"""Appending frames, in Python and compiled: the same bytes, and all of a frame or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.codec import framing, twin
from wsstream.testing import EXAMPLE_KEY, frame

TWINS = {"pure": framing.append_frame} | ({"compiled": twin.append_frame} if twin.COMPILED else {})
BOTH = pytest.mark.parametrize("append_frame", TWINS.values(), ids=TWINS)
KEYS = pytest.mark.parametrize("key", [None, EXAMPLE_KEY], ids=["plain", "masked"])
BORDERS = [0, 1, 7, 8, 9, 125, 126, 127, 1024, 1025, 65535, 65536, 65537]


def payload_of(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


@KEYS
@pytest.mark.parametrize("size", [*BORDERS, 1 << 32, (1 << 63) - 1])
def test_a_header_declares_any_length_in_the_shortest_form(size: int, key: bytes | None) -> None:
    assert framing.encode_header(0x82, size, key) == frame(2, declared_length=size, mask=key)


@BOTH
@KEYS
@pytest.mark.parametrize("size", BORDERS)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview], ids=lambda wrap: wrap.__name__)
def test_a_frame_is_appended_to_what_is_there(
    append_frame: Any, key: bytes | None, size: int, wrap: Any
) -> None:
    expected = frame(2, payload_of(size), mask=key)
    payload = wrap(payload_of(size))
    buffer = bytearray(b"before")
    assert [append_frame(buffer, 0x82, payload, key) for _ in range(2)] == [len(expected)] * 2
    assert buffer == b"before" + expected * 2
    assert payload == payload_of(size)


@BOTH
@KEYS
def test_the_payload_may_be_a_part_of_a_buffer(append_frame: Any, key: bytes | None) -> None:
    buffer = bytearray()
    append_frame(buffer, 0x82, memoryview(b".Hello.")[1:-1], key)
    assert buffer == frame(2, b"Hello", mask=key)


@BOTH
def test_the_first_byte_is_as_given(append_frame: Any) -> None:
    for first in range(256):
        buffer = bytearray()
        assert append_frame(buffer, first, b"a", None) == 3
        assert buffer == bytes((first, 1)) + b"a"


@BOTH
@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.binary(max_size=300), st.none() | st.binary(min_size=4, max_size=4))
    )
)
def test_many_frames_are_one_after_the_other(
    append_frame: Any, frames: list[tuple[int, bytes, bytes | None]]
) -> None:
    buffer = bytearray()
    expected = b""
    for first, payload, key in frames:
        append_frame(buffer, first, payload, key)
        expected += bytes((first,)) + frame(0, payload, mask=key)[1:]
    assert buffer == expected


def refused(append_frame: Any, buffer: bytearray, *arguments: Any) -> type[Exception]:
    """What is raised; `buffer` is as it was, and can grow as before."""
    before, size = bytes(buffer), len(buffer)
    with pytest.raises(Exception) as caught:
        append_frame(buffer, *arguments)
    assert (bytes(buffer), len(buffer)) == (before, size)
    return caught.type


REFUSED: dict[str, tuple[type[Exception], tuple[Any, ...]]] = {
    "every second byte": (BufferError, (0x82, memoryview(bytes(20))[::2], None)),
    "every second byte, masked": (BufferError, (0x82, memoryview(bytes(20))[::2], EXAMPLE_KEY)),
    "backwards": (BufferError, (0x82, memoryview(bytes(20))[::-1], None)),
    "an empty key": (ValueError, (0x82, b"a", b"")),
    "a short key": (ValueError, (0x82, b"a", b"key")),
    "a long key": (ValueError, (0x82, b"a", b"a key")),
    "a first byte below 0": (ValueError, (-1, b"a", None)),
    "a first byte above 255": (ValueError, (256, b"a", None)),
    "a payload that is no buffer": (TypeError, (0x82, "a", None)),
    "no payload": (TypeError, (0x82, None, None)),
    "a first byte that is no number": (TypeError, ("a", b"a", None)),
    "too few arguments": (TypeError, (0x82, b"a")),
    "too many arguments": (TypeError, (0x82, b"a", None, None)),
}


@BOTH
@pytest.mark.parametrize(("error", "arguments"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_leaves_the_buffer_as_it_was(
    append_frame: Any, error: type[Exception], arguments: tuple[Any, ...]
) -> None:
    buffer = bytearray(b"before")
    assert refused(append_frame, buffer, *arguments) is error
    append_frame(buffer, 0x82, b"", None)
    assert buffer == b"before\x82\x00"


@BOTH
@KEYS
@pytest.mark.parametrize("payload", [b"", b"a", bytes(70_000)], ids=len)
def test_a_buffer_that_somebody_looks_at_cannot_grow(
    append_frame: Any, key: bytes | None, payload: bytes
) -> None:
    buffer = bytearray(b"before")
    with memoryview(buffer):
        assert refused(append_frame, buffer, 0x82, payload, key) is BufferError
    append_frame(buffer, 0x82, payload, key)
    assert buffer == b"before" + frame(2, payload, mask=key)


@BOTH
@KEYS
@pytest.mark.parametrize("size", [0, 6, 70_000])
def test_a_buffer_is_not_appended_to_itself(append_frame: Any, key: bytes | None, size: int) -> None:
    buffer = bytearray(size)
    assert refused(append_frame, buffer, 0x82, buffer, key) is BufferError
    with memoryview(buffer) as view, view[size // 2 :] as part:
        assert refused(append_frame, buffer, 0x82, part, key) is BufferError
    append_frame(buffer, 0x82, bytes(buffer), key)
    assert buffer == bytes(size) + frame(2, bytes(size), mask=key)


@pytest.mark.skipif(not twin.COMPILED, reason="there is no compiled twin")
@pytest.mark.parametrize("buffer", [b"", memoryview(bytearray()), [], None])
def test_the_twin_appends_to_a_bytearray_only(buffer: Any) -> None:
    with pytest.raises(TypeError):
        twin.append_frame(buffer, 0x82, b"a", None)


@pytest.mark.skipif(not twin.COMPILED, reason="there is no compiled twin")
@given(
    st.binary(max_size=40),
    st.integers(0, 255),
    st.one_of(st.binary(max_size=300), st.integers(65530, 65540).map(payload_of)),
    st.none() | st.binary(min_size=4, max_size=4),
    st.integers(0, 9),
)
def test_the_twin_appends_the_same_bytes(
    before: bytes, first: int, payload: bytes, key: bytes | None, start: int
) -> None:
    ours, theirs = bytearray(before), bytearray(before)
    view = memoryview(payload)[start:]
    assert framing.append_frame(ours, first, view, key) == twin.append_frame(theirs, first, view, key)
    assert ours == theirs
