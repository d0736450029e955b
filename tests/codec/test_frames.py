"""The opcodes and limits that RFC 6455 fixes."""

from __future__ import annotations

from wsstream.codec.frames import MAX_CONTROL_PAYLOAD, MAX_HEADER, MAX_REASON, Opcode
from wsstream.testing import binary, close, frame


def test_the_opcodes_are_those_of_section_11_8() -> None:
    assert {opcode.name: opcode.value for opcode in Opcode} == {
        "CONTINUATION": 0,
        "TEXT": 1,
        "BINARY": 2,
        "CLOSE": 8,
        "PING": 9,
        "PONG": 10,
    }


def test_control_frames_are_the_opcodes_with_the_bit_8() -> None:
    assert [opcode.name for opcode in Opcode if opcode & 8] == ["CLOSE", "PING", "PONG"]


def test_the_longest_header_has_a_length_of_64_bits_and_a_key() -> None:
    longest = binary(declared_length=1 << 16, mask=b"1234")
    assert len(longest) == MAX_HEADER


def test_a_control_payload_never_needs_an_extended_length() -> None:
    assert frame(9, bytes(MAX_CONTROL_PAYLOAD))[1] == 125
    assert frame(9, bytes(MAX_CONTROL_PAYLOAD + 1))[1] == 126


def test_the_longest_reason_fills_a_close_frame() -> None:
    assert len(close(1000, b"." * MAX_REASON)) == 2 + MAX_CONTROL_PAYLOAD
