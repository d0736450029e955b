"""Making frames, in Python and compiled: the same bytes, and the same errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.codec import VERSIONS, needs_compiled

from wsstream.codec import framing
from wsstream.testing import EXAMPLE_KEY, frame

KEYS = pytest.mark.parametrize("key", [None, EXAMPLE_KEY], ids=["plain", "masked"])
SIZES = [0, 1, 7, 8, 9, 125, 126, 127, 1024, 1025, 65535, 65536, 65537]


def payload_of(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


@KEYS
@pytest.mark.parametrize("size", [*SIZES, 1 << 32, (1 << 63) - 1])
def test_a_header_declares_any_length_in_the_shortest_form(size: int, key: bytes | None) -> None:
    assert framing.encode_header(0x82, size, key) == frame(2, declared_length=size, mask=key)


@KEYS
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview], ids=lambda wrap: wrap.__name__)
def test_a_frame_is_its_header_and_its_payload(
    make_frame: Any, key: bytes | None, size: int, wrap: Any
) -> None:
    payload = wrap(payload_of(size))
    made = make_frame(0x82, payload, key)
    assert type(made) is bytes
    assert made == frame(2, payload_of(size), mask=key)
    assert payload == payload_of(size)


@KEYS
def test_the_payload_may_be_a_part_of_a_buffer(make_frame: Any, key: bytes | None) -> None:
    assert make_frame(0x82, memoryview(b".Hello.")[1:-1], key) == frame(2, b"Hello", mask=key)


def test_the_first_byte_is_written_as_it_is(make_frame: Any) -> None:
    for first in range(256):
        assert make_frame(first, b"a", None) == bytes((first, 1)) + b"a"


REFUSED: dict[str, tuple[type[Exception], tuple[Any, ...]]] = {
    "every second byte": (BufferError, (0x82, memoryview(bytes(20))[::2], None)),
    "every second byte, masked": (BufferError, (0x82, memoryview(bytes(20))[::2], EXAMPLE_KEY)),
    "backwards": (BufferError, (0x82, memoryview(bytes(20))[::-1], None)),
    "an empty key": (ValueError, (0x82, b"a", b"")),
    "a short key": (ValueError, (0x82, b"a", b"key")),
    "a long key": (ValueError, (0x82, b"a", b"a key")),
    "a first byte below 0": (ValueError, (-1, b"a", None)),
    "a first byte above 255": (ValueError, (256, b"a", None)),
    "a payload that is not a buffer": (TypeError, (0x82, "a", None)),
    "no payload": (TypeError, (0x82, None, None)),
    "a first byte that is not a number": (TypeError, ("a", b"a", None)),
    "too few arguments": (TypeError, (0x82, b"a")),
    "too many arguments": (TypeError, (0x82, b"a", None, None)),
}


@pytest.mark.parametrize(("error", "arguments"), REFUSED.values(), ids=REFUSED)
def test_wrong_arguments_are_refused(
    make_frame: Any, error: type[Exception], arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(error) as caught:
        make_frame(*arguments)
    assert caught.type is error


@needs_compiled
@given(
    st.integers(0, 255),
    st.one_of(st.binary(max_size=300), st.integers(65530, 65540).map(payload_of)),
    st.none() | st.binary(min_size=4, max_size=4),
    st.integers(0, 9),
)
def test_both_versions_make_the_same_bytes(first: int, payload: bytes, key: bytes | None, start: int) -> None:
    view = memoryview(payload)[start:]
    ours, theirs = (version.make_frame(first, view, key) for version in VERSIONS)
    assert ours == theirs
