"""permessage-deflate without I/O: the settings, and compressing (RFC 7692 section 7.2.1)."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from kit.deflate import AGREED, HELLO, deflated, inflated

from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed, Deflate, Deflater
from wsstream.protocol.inflate import Inflater
from wsstream.testing import parse_frames

PLAIN = Deflate()
WINDOWS = range(9, 16)
BOUNDS = {
    "level": (-1, 9),
    "mem_level": (1, 9),
    "window_bits": (9, 15),
    "peer_window_bits": (9, 15),
    "min_size": (0, 1 << 62),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_numbers_have_bounds(name: str) -> None:
    least, most = BOUNDS[name]
    for value in (least, most):
        options: dict[str, Any] = {name: value}
        assert getattr(Deflate(**options), name) == value
    for value in (least - 1, most + 1):
        options = {name: value}
        with pytest.raises(ValueError, match=name):
            Deflate(**options)


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("value", [True, None, "9", 9.0])
def test_numbers_are_ints(name: str, value: object) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(TypeError, match=name):
        Deflate(**options)


@pytest.mark.parametrize("name", ["context_takeover", "peer_context_takeover"])
@pytest.mark.parametrize("value", [1, None, "yes"])
def test_takeovers_are_bools(name: str, value: object) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(TypeError, match=name):
        Deflate(**options)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_compressor_keeps_to_the_window(window: int) -> None:
    """What repeats further back than the window is not found: an inflater of that size is enough."""
    noise = random.Random(window).randbytes(1 << window)
    small = Deflater(replace(AGREED, send_window=window)).compress(noise * 4, last=True)
    assert len(small) > 3 * len(noise)
    if window < 15:
        large = Deflater(replace(AGREED, send_window=window + 1)).compress(noise * 4, last=True)
        assert len(large) < 2.25 * len(noise)  # zlib needs less than 2, zlib-ng a little more


def test_a_memoryview_can_be_compressed() -> None:
    data = Deflater(AGREED).compress(memoryview(bytearray(b"Hello")), last=True)
    assert data == bytes.fromhex("f248cdc9c90700")


def test_the_first_example_is_made_byte_for_byte() -> None:
    """Section 7.2.3.1."""
    deflater = Deflater(replace(AGREED, send_takeover=False))
    for _ in range(2):
        assert deflated(deflater, [b"Hello"]) == [HELLO]


def sender(options: Deflate = PLAIN) -> Connection:
    return Connection(client=False, deflate=Agreed(options, 15, True, 15, True))


def sent(connection: Connection) -> bytes:
    data = b"".join(bytes(buffer) for buffer in connection.queue.buffers())
    connection.queue.advance(len(data))
    return data


def test_whole_messages_are_compressed_from_min_size_on() -> None:
    connection = sender(Deflate(min_size=5))
    for size, expected in ((0, False), (4, False), (5, True), (500, True)):
        assert connection.compresses(size) is expected
        connection.send(bytes(size))
        connection.send_message("text", bytes(size))
        assert [frame.rsv1 for frame in parse_frames(sent(connection))] == [expected] * 2
    connection.send_message("binary", bytes(500), compress=False)
    assert sent(connection) == b"\x82\x7e\x01\xf4" + bytes(500)


def test_without_an_agreement_nothing_is_compressed() -> None:
    connection = Connection(client=False)
    assert not connection.compresses(1000)
    connection.send_message("binary", b"a")
    connection.send_data("binary", b"b", last=False)
    connection.send_data("binary", b"c", last=True)
    assert [(frame.rsv1, frame.payload) for frame in parse_frames(sent(connection))] == [
        (False, b"a"),
        (False, b"b"),
        (False, b"c"),
    ]


def test_the_first_frame_decides_for_its_message() -> None:
    connection, inflater = sender(), Inflater(15, True)
    connection.send_data("text", b"Hel", last=False)
    connection.send_data("text", b"lo", last=True, compress=False)
    first, second = parse_frames(sent(connection))
    assert (first.opcode, first.rsv1, second.opcode, second.rsv1) == (1, True, 0, False)
    assert inflated(inflater, [first.payload, second.payload]) == b"Hello"
    connection.send_data("text", b"Hel", last=False, compress=False)
    connection.send_data("text", b"lo", last=True)
    first, second = parse_frames(sent(connection))
    assert (first.rsv1, first.payload, second.rsv1, second.payload) == (False, b"Hel", False, b"lo")


def test_a_frame_of_declared_size_is_never_compressed() -> None:
    connection = sender()
    connection.begin_frame("binary", 100)
    connection.send_part(bytes(100))
    assert sent(connection) == b"\x82\x64" + bytes(100)


def test_a_refused_frame_leaves_the_compressor_as_it_was() -> None:
    connection, inflater = sender(), Inflater(15, True)
    connection.send_data("text", b"Hello" * 20, last=False)
    with pytest.raises(Exception, match="not finished"):
        connection.send_data("binary", bytes(1000), last=True)
    with pytest.raises(Exception, match="not finished"):
        connection.send_message("text", b"x" * 1000)
    connection.send_data("text", b"!", last=True)
    assert (
        inflated(inflater, [frame.payload for frame in parse_frames(sent(connection))])
        == b"Hello" * 20 + b"!"
    )
