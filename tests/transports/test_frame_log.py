"""The log of frames: each frame once, escaped and cut, in whatever pieces it comes."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.endpoints import check_echo, echo

from wsstream import Deflate, connect, serve
from wsstream.codec.framing import make_frame
from wsstream.transports.frame_log import FrameReader, LoggedTransport

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]

_KEY = b"\x01\x02\x03\x04"
FRAMES = {
    "text": (make_frame(0x81, b"hello", None), "text, 5 bytes: 'hello'"),
    "masked": (make_frame(0x81, b"hello", _KEY), "text, 5 bytes: 'hello'"),
    "empty": (make_frame(0x82, b"", None), "binary, 0 bytes"),
    "escaped": (make_frame(0x81, b"a\r\n\x1b[31m", None), r"text, 8 bytes: 'a\r\n\x1b[31m'"),
    "not-utf-8": (make_frame(0x81, b"\xff", None), "text, 1 bytes: '\ufffd'"),
    "cut": (make_frame(0x81, b"x" * 200, _KEY), f"text, 200 bytes: '{'x' * 60}'..."),
    "large": (make_frame(0x82, bytes(70_000), None), f"binary, 70000 bytes: {bytes(60).hex(' ')}..."),
    "begun": (make_frame(0x02, b"\x00\x01", None), "binary, to be continued, 2 bytes: 00 01"),
    "rest": (make_frame(0x80, b"\x02", _KEY), "continuation, 1 bytes: 02"),
    "compressed": (make_frame(0xC1, b"\x01", None), "text, compressed, 1 bytes: 01"),
    "ping": (make_frame(0x89, b"abc", _KEY), "ping, 3 bytes: 61 62 63"),
    "close": (make_frame(0x88, b"\x03\xe8bye", None), "close, 5 bytes: 1000 'bye'"),
    "close-without-code": (make_frame(0x88, b"", None), "close, 0 bytes"),
    "reserved": (make_frame(0x83, b"", None), "opcode 3, 0 bytes"),
}


@given(st.lists(st.sampled_from(sorted(FRAMES)), max_size=8), st.integers(1, 200))
def test_each_frame_is_shown_once_in_whatever_pieces_it_comes(names: list[str], size: int) -> None:
    shown: list[str] = []
    reader = FrameReader(shown.append)
    data = b"".join(FRAMES[name][0] for name in names)
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    assert shown == [FRAMES[name][1] for name in names]


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_shown(name: str) -> None:
    shown: list[str] = []
    FrameReader(shown.append).feed(FRAMES[name][0])
    assert shown == [FRAMES[name][1]]


@pytest.mark.also_on_uvloop
@pytest.mark.parametrize("over_tls", [False, True], ids=["tcp", "tls"])
async def test_both_ends_log_what_passes(
    over_tls: bool, caplog: pytest.LogCaptureFixture, server_tls: object, client_tls: object
) -> None:
    caplog.set_level(logging.DEBUG, "wsstream.frames")
    tls = SimpleNamespace(server=server_tls, client=client_tls) if over_tls else None
    async with (
        serve(echo, "127.0.0.1", ssl=tls and tls.server) as server,
        connect(server.url, ssl=tls and tls.client) as ws,
    ):
        await check_echo(ws)
        await ws.send(bytes(1_000_000))
        assert len(await ws.receive()) == 1_000_000
        there = next(iter(server.connections)).id
        await ws.ping()
    lines = [record.getMessage() for record in caplog.records if record.name == "wsstream.frames"]
    for end in (ws.id, there):
        for way in "<>":
            of_this = [line for line in lines if line.startswith(f"connection {end} {way} ")]
            assert of_this[0].endswith(f"connection {end} {way} text, 14 bytes: 'there and back'")
            sizes = [int(line.partition(", ")[2].split(" bytes")[0].split(", ")[-1]) for line in of_this[1:]]
            assert sum(sizes) >= 1_000_000
            assert of_this[-1].startswith(f"connection {end} {way} close, 2 bytes: 1000")
    assert all(len(line) < 300 for line in lines)


async def test_compression_and_frames_that_came_with_the_handshake_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "wsstream.frames")

    async def greet(ws: object) -> None:
        await ws.send("hello " * 100)  # type: ignore[attr-defined]

    async with (
        serve(greet, "127.0.0.1", compression=Deflate(min_size=1)) as server,
        connect(server.url, compression=Deflate(min_size=1)) as ws,
    ):
        assert await ws.receive() == "hello " * 100
    assert sum("text, compressed, " in record.getMessage() for record in caplog.records) == 2


async def test_where_the_log_is_off_the_transport_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wsstream.frames")
    async with serve(echo, "127.0.0.1") as server, connect(server.url) as ws:
        await check_echo(ws)
        assert not isinstance(ws._driver.transport, LoggedTransport)
