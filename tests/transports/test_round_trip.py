"""A request and its answer: what is waited for, and what is told when the other side stops halfway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from wsstream.errors import HandshakeError, HandshakeRejected, ProxyError
from wsstream.opening.http1 import ClientHandshake
from wsstream.opening.proxy_connect import TunnelHandshake
from wsstream.opening.proxy_url import Proxy
from wsstream.opening.url import parse_url
from wsstream.testing import FrameReader, MemoryStream, memory_pair, reset_stream
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.round_trip import LONGEST_WAIT, Handshake, round_trip

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

Peer = Callable[[MemoryStream], Awaitable[object]]
OPEN_BODY = b"HTTP/1.1 404 Not Found\r\n\r\nno such path\n"


def _handshake(size: int = 0) -> ClientHandshake:
    """An opening handshake whose request has a field of this size."""
    return ClientHandshake(parse_url("ws://h/"), key=bytes(16), headers={"X": "y" * size})


def _tunnel() -> TunnelHandshake:
    return TunnelHandshake(Proxy("http", "p", 80), "h", 1)


HANDSHAKES = [_handshake, _tunnel]


async def _failure(handshake: Handshake[Any], peer: Peer) -> tuple[Exception, float]:
    """What asking a peer in memory raises, and after how many seconds."""
    ours, theirs = memory_pair()
    transport = StreamTransport(ours)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer, theirs)
        start = anyio.current_time()
        try:
            await round_trip(transport, handshake)
        except Exception as error:
            caught, seconds = error, anyio.current_time() - start
        else:
            pytest.fail("answered")
        tasks.cancel_scope.cancel()
    await transport.aclose()
    return caught, seconds


def _answers(*pieces: bytes, pause: float = 0) -> Peer:
    """Reads the request and sends an answer, then stays."""

    async def peer(stream: MemoryStream) -> None:
        await FrameReader(stream).read_head()
        for piece in pieces:
            await stream.send(piece)
            await anyio.sleep(pause)
        await anyio.sleep_forever()

    return peer


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OPEN_BODY, 404, b"no such path\n"),
        (b"HTTP/1.1 400 x\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n", 400, b"data: 1\n\n"),
        (b"HTTP/1.1 403 x\r\nContent-Length: 100\r\n\r\nshort", 403, b"short"),
        (b"HTTP/1.1 502 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 502, b"abc"),
        (b"HTTP/1.1 302 x\r\nLocation: /y\r\n\r\n", 302, b""),
    ],
)
@pytest.mark.parametrize("handshake", HANDSHAKES)
async def test_a_status_is_told_after_half_a_second_with_what_is_there_of_the_body(
    handshake: Callable[[], Handshake[Any]], answer: bytes, status: int, body: bytes
) -> None:
    error, seconds = await _failure(handshake(), _answers(answer))
    assert isinstance(error, HandshakeRejected | ProxyError)
    assert (error.status, error.body) == (status, body)
    assert seconds == pytest.approx(LONGEST_WAIT, abs=0.01)


async def test_a_server_that_answers_with_a_stream_of_events_has_answered() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    error, _ = await _failure(_handshake(), _answers(head, *[b"data: 1\n\n"] * 1000, pause=0.2))
    assert isinstance(error, HandshakeRejected)
    assert (error.status, error.body) == (200, b"data: 1\n\n" * 2)


async def test_a_body_that_drips_gets_half_a_second_in_all() -> None:
    error, seconds = await _failure(_handshake(), _answers(OPEN_BODY, *[b"x"] * 1000, pause=0.1))
    assert isinstance(error, HandshakeRejected)
    assert error.body == b"no such path\n" + b"x" * (len(error.body) - 13)
    assert seconds == pytest.approx(LONGEST_WAIT, abs=0.01)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 404 x\r\nContent-Length: 2\r\n\r\nno", OPEN_BODY + b"x" * 1024]
)
async def test_a_body_that_is_complete_or_long_enough_is_told_at_once(answer: bytes) -> None:
    error, seconds = await _failure(_handshake(), _answers(answer))
    assert isinstance(error, HandshakeRejected)
    assert seconds == 0


async def test_the_time_of_the_task_is_never_used_up_for_the_rest_of_a_body() -> None:
    with anyio.fail_after(0.4):
        error, seconds = await _failure(_handshake(), _answers(OPEN_BODY))
    assert isinstance(error, HandshakeRejected)
    assert 0 < seconds <= 0.2


async def test_without_a_status_there_is_no_end() -> None:
    with anyio.move_on_after(1000) as scope:
        await _failure(_handshake(), _answers(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 x\r\n"))
    assert scope.cancelled_caught


async def test_an_answer_is_read_while_the_request_is_being_sent() -> None:
    async def peer(stream: MemoryStream) -> None:
        await stream.receive(100)  # and no more
        await stream.send(b"HTTP/1.1 431 x\r\nContent-Length: 8\r\n\r\ntoo long")
        await anyio.sleep_forever()

    error, seconds = await _failure(_handshake(1 << 20), peer)
    assert isinstance(error, HandshakeRejected)
    assert (error.status, error.body, seconds) == (431, b"too long", 0)


@pytest.mark.parametrize("leave", [reset_stream, MemoryStream.aclose])
@pytest.mark.parametrize("size", [0, 1 << 20], ids=["small", "large"])
async def test_an_answer_is_read_though_sending_failed(leave: Peer, size: int) -> None:
    async def peer(stream: MemoryStream) -> None:
        await stream.receive(100)
        await stream.send(OPEN_BODY)
        await anyio.sleep(0.1)
        await leave(stream)

    error, seconds = await _failure(_handshake(size), peer)
    assert isinstance(error, HandshakeRejected)
    assert (error.status, error.body) == (404, b"no such path\n")
    assert seconds <= LONGEST_WAIT


@pytest.mark.parametrize("handshake", HANDSHAKES)
async def test_when_sending_fails_and_nothing_is_said_that_is_the_cause(
    handshake: Callable[[], Handshake[Any]],
) -> None:
    class Broken(StreamTransport):
        """Sending fails, and nothing comes."""

        __slots__ = ()

        def send(self, buffers: Any) -> int:
            raise anyio.BrokenResourceError("gone") from BrokenPipeError(32, "Broken pipe")

    ours, _theirs = memory_pair()
    transport = Broken(ours)
    start = anyio.current_time()
    with pytest.raises(HandshakeError, match="Broken pipe") as caught:
        await round_trip(transport, handshake())
    assert isinstance(caught.value.__cause__, BrokenPipeError)
    assert anyio.current_time() - start == pytest.approx(LONGEST_WAIT, abs=0.01)
    await transport.aclose()


@pytest.mark.parametrize("size", [0, 1 << 20], ids=["small", "large"])
async def test_cancelling_leaves_no_task_and_nothing_on_its_way(size: int) -> None:
    ours, _theirs = memory_pair()
    transport = StreamTransport(ours)
    before = len(anyio.get_running_tasks())
    with anyio.move_on_after(5) as scope:
        await round_trip(transport, _handshake(size))
    assert scope.cancelled_caught
    assert anyio.current_time() == pytest.approx(5, abs=0.01)
    assert len(anyio.get_running_tasks()) == before
    await transport.aclose()
