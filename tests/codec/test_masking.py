"""Masking: XOR with the key over and over, whatever the size, the offset and the kind of buffer."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit.codec import needs_compiled

from wsstream.codec import speedups
from wsstream.testing import EXAMPLE_KEY

KEYS = st.binary(min_size=4, max_size=4)
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 1020, 1021, 1023, 1024, 1025, 1026, 1027, 1028, 4095, 65537]


def xor(payload: bytes, key: bytes, offset: int = 0) -> bytes:
    """Section 5.3, literally."""
    return bytes(octet ^ key[(i + offset) % 4] for i, octet in enumerate(payload))


def payload_of(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def test_the_example_of_the_rfc(apply_mask: Any) -> None:
    assert apply_mask(b"Hello", EXAMPLE_KEY) == bytes.fromhex("7f9f4d5158")


@pytest.mark.parametrize("offset", range(9))
@pytest.mark.parametrize("size", SIZES)
def test_any_size_at_any_offset_is_masked(apply_mask: Any, size: int, offset: int) -> None:
    payload = payload_of(size)
    assert apply_mask(payload, b"\x01\x80\x00\xff", offset) == xor(payload, b"\x01\x80\x00\xff", offset)


@given(st.binary(max_size=3000), KEYS, st.integers(-9, 1 << 70))
@example(b"12345678", bytes(4), 0)
def test_masking_is_xor_with_the_repeated_key(
    apply_mask: Any, payload: bytes, key: bytes, offset: int
) -> None:
    assert apply_mask(payload, key, offset) == xor(payload, key, offset)


@given(st.integers(0, 5000), KEYS, st.lists(st.integers(0, 5000), max_size=4))
@example(2048, b"abcd", [1024, 1025])
def test_a_payload_may_be_masked_in_pieces(apply_mask: Any, size: int, key: bytes, cuts: list[int]) -> None:
    payload = payload_of(size)
    boundaries = [0, *sorted(min(cut, size) for cut in cuts), size]
    pieces = [apply_mask(payload[start:end], key, start) for start, end in itertools.pairwise(boundaries)]
    assert b"".join(pieces) == apply_mask(payload, key)


@pytest.mark.parametrize("size", [5, 5000])
def test_any_buffer_is_masked_into_new_bytes_and_not_changed(apply_mask: Any, size: int) -> None:
    payload = payload_of(size)
    expected = xor(payload, EXAMPLE_KEY)
    buffer = bytearray(payload)
    for source in (payload, memoryview(payload), memoryview(buffer), memoryview(b"." + payload)[1:]):
        masked = apply_mask(source, EXAMPLE_KEY)
        assert type(masked) is bytes
        assert masked == expected
    assert buffer == payload


@given(st.binary(max_size=3000), KEYS, st.integers(0, 100), st.integers(0, 100))
@example(bytes(300), b"abcd", 3, 7)
@example(bytes(1000), b"abcd", 1, 0)
def test_a_part_of_a_buffer_is_masked_in_place(
    mask_in_place: Any, content: bytes, key: bytes, before: int, after: int
) -> None:
    buffer = bytearray(content)
    start, end = min(before, len(content)), max(len(content) - after, 0)
    assert mask_in_place(memoryview(buffer)[start:end], key) is None
    assert buffer == content[:start] + xor(content[start:end], key) + content[max(start, end) :]


@pytest.mark.parametrize("payload", [b"abcd", memoryview(b"abcd")])
def test_what_cannot_be_changed_is_not_masked_in_place(mask_in_place: Any, payload: Any) -> None:
    with pytest.raises((TypeError, BufferError)):
        mask_in_place(payload, EXAMPLE_KEY)
    assert bytes(payload) == b"abcd"


@needs_compiled
@pytest.mark.parametrize("arguments", [(), (bytearray(4),), (bytearray(4), b"abc"), (bytearray(4), "abcd")])
def test_the_compiled_version_checks_what_it_is_given(arguments: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        speedups.mask_in_place(*arguments)
