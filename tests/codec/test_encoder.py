"""Frames to bytes, held against the builders of `wsstream.testing` and other implementations."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as PeerFrame
from websockets.frames import Opcode as PeerOpcode
from wsproto.frame_protocol import FrameProtocol
from wsproto.frame_protocol import Opcode as WsprotoOpcode

from wsstream.codec.decoder import Decoder
from wsstream.codec.encoder import encode_close, encode_frame
from wsstream.codec.events import Chunk, Close, Ping, Pong
from wsstream.codec.frames import Opcode
from wsstream.testing import EXAMPLE_KEY, Frame, frame, parse_frames

KEYS = st.none() | st.binary(min_size=4, max_size=4)
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 65537]
DATA = [Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY]
CONTROL = [Opcode.CLOSE, Opcode.PING, Opcode.PONG]


@pytest.mark.parametrize("key", [None, EXAMPLE_KEY], ids=["plain", "masked"])
@pytest.mark.parametrize("fin", [True, False], ids=["last", "fragment"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", DATA, ids=lambda opcode: opcode.name)
def test_data_frames_are_the_same_bytes_as_those_of_the_builders(
    opcode: Opcode, size: int, fin: bool, key: bytes | None
) -> None:
    payload = (bytes(range(256)) * 257)[:size]
    assert encode_frame(opcode, payload, key, fin=fin) == frame(opcode, payload, fin=fin, mask=key)


@pytest.mark.parametrize("key", [None, EXAMPLE_KEY], ids=["plain", "masked"])
@pytest.mark.parametrize("opcode", CONTROL, ids=lambda opcode: opcode.name)
def test_control_frames_are_the_same_bytes_as_those_of_the_builders(
    opcode: Opcode, key: bytes | None
) -> None:
    for size in (0, 1, 2, 124, 125):
        payload = bytes(range(size))
        assert encode_frame(opcode, payload, key) == frame(opcode, payload, mask=key)


@pytest.mark.parametrize("opcode", CONTROL, ids=lambda opcode: opcode.name)
def test_encoding_a_control_frame_of_126_bytes_fails_an_assertion(opcode: Opcode) -> None:
    with pytest.raises(AssertionError):
        encode_frame(opcode, bytes(126), None)


@given(st.sampled_from(DATA), st.binary(max_size=300), KEYS, st.booleans())
def test_a_strict_reader_parses_encoded_frames(
    opcode: Opcode, payload: bytes, key: bytes | None, fin: bool
) -> None:
    encoded = encode_frame(opcode, payload, key, fin=fin)
    assert parse_frames(encoded, masked=key is not None) == [Frame(opcode, payload, fin, mask=key)]


@given(st.sampled_from(DATA), st.binary(max_size=300), st.booleans())
def test_websockets_encodes_the_same_bytes(opcode: Opcode, payload: bytes, fin: bool) -> None:
    theirs = PeerFrame(PeerOpcode(opcode), payload, fin).serialize(mask=False)
    assert encode_frame(opcode, payload, None, fin=fin) == theirs


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
@pytest.mark.parametrize("size", SIZES)
def test_wsproto_reads_encoded_frames(size: int, client: bool) -> None:
    reader = FrameProtocol(client=not client, extensions=[])
    payload = (bytes(range(256)) * 257)[:size]
    reader.receive_bytes(encode_frame(Opcode.BINARY, payload, EXAMPLE_KEY if client else None))
    seen = list(reader.received_frames())
    assert b"".join(bytes(part.payload) for part in seen) == payload
    assert {part.opcode for part in seen} == {WsprotoOpcode.BINARY}
    assert seen[-1].message_finished


@given(st.binary(max_size=300), KEYS, st.sampled_from(["binary", "text"]), st.booleans())
def test_decoding_is_the_inverse_of_encoding(payload: bytes, key: bytes | None, kind: str, fin: bool) -> None:
    opcode = Opcode.BINARY
    message: str | bytes = payload
    if kind == "text":
        opcode, message = Opcode.TEXT, payload.decode("latin-1")
        payload = message.encode()
    expected = message if fin else Chunk(kind, payload, False)
    decoder = Decoder(masked=key is not None)
    assert decoder.decode(encode_frame(opcode, payload, key, fin=fin), 1 << 20) == [expected]
    assert decoder.inside_message is not fin


@given(st.binary(max_size=125), KEYS)
def test_decoding_a_control_frame_is_the_inverse_of_encoding(payload: bytes, key: bytes | None) -> None:
    decoder = Decoder(masked=key is not None)
    data = encode_frame(Opcode.PING, payload, key) + encode_frame(Opcode.PONG, payload, key)
    assert decoder.decode(data, 1) == [Ping(payload), Pong(payload)]


def test_any_buffer_can_be_encoded() -> None:
    buffer = bytearray(b"Hello")
    for payload in (bytes(buffer), memoryview(buffer), memoryview(b"Hello")):
        for key in (None, EXAMPLE_KEY):
            encoded = encode_frame(Opcode.TEXT, payload, key)
            assert type(encoded) is bytes
            assert encoded == frame(1, b"Hello", mask=key)
    encoded = encode_frame(Opcode.TEXT, memoryview(buffer), None)
    buffer[0] = 0
    assert encoded == frame(1, b"Hello")


def test_a_close_without_a_code_has_no_body() -> None:
    assert encode_close(None, "") == b""


@given(st.sampled_from([1000, 1003, 1007, 1014, 3000, 4999]), st.text(max_size=30))
def test_a_close_body_is_a_code_and_utf8_and_is_decoded_to_the_same(code: int, reason: str) -> None:
    body = encode_close(code, reason)
    assert body == struct.pack("!H", code) + reason.encode()
    data = encode_frame(Opcode.CLOSE, body, None)
    assert Decoder(masked=False).decode(data, 1) == [Close(code, reason)]
