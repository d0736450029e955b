"""`reconnect`: what is tried again and when, what is not, and what a cancellation leaves behind."""

from __future__ import annotations

import gc
import logging
import ssl
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import repeat
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream
from kit.ids import stable_repr
from kit.leaks import open_sockets, tasks_of_ours
from kit.peers import linger
from kit.waiting import until

import wsstream.client.connect
from wsstream import (
    Backoff,
    ClosedLocally,
    CloseInfo,
    ConnectionBroken,
    ConnectionClosed,
    HandshakeError,
    HandshakeRejected,
    InvalidURL,
    ProtocolViolation,
    ProxyError,
    WebSocketError,
    WebSocketStream,
    accept,
    connect,
    reconnect,
)
from wsstream.client.attempts import ConnectOptions
from wsstream.client.connector import OpenStream
from wsstream.testing import FrameReader, RawPeer, memory_pair, reset_stream

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.002)]

Turn = Callable[[Any], Awaitable[object]]


class Always:
    """The same delay, for ever."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __iter__(self) -> Iterator[float]:
        return repeat(self.seconds)


# -- a server that plays its turns -----------------------------------------------------------


@dataclass
class Play:
    """What a server saw: `times` of its connections, and the `requests` and `ends` of those in `stays`."""

    url: str
    times: list[float] = field(default_factory=list)
    ends: list[CloseInfo | None] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)

    @property
    def gaps(self) -> list[float]:
        """The seconds between a connection and the next."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]

    async def stays(self, stream: ByteStream) -> None:
        """A WebSocket that is open until the client closes it."""
        async with accept(stream) as ws:
            self.requests.append(ws.request)
            with suppress(ConnectionClosed):
                async for _ in ws:
                    pass
        self.ends.append(ws.close_info)


@asynccontextmanager
async def playing(*turns: Turn, scheme: str = "ws") -> AsyncIterator[Play]:
    """Listen on loopback; each connection is handled by the next turn, and the rest stay open."""
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
    play = Play(f"{scheme}://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/")

    async def handle(stream: ByteStream) -> None:
        play.times.append(anyio.current_time())
        turn = turns[len(play.times) - 1] if len(play.times) <= len(turns) else play.stays
        async with stream:
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead, HandshakeError):
                await turn(stream)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield play
        tasks.cancel_scope.cancel()


def closes(code: int | None, reason: str = "") -> Turn:
    async def turn(stream: ByteStream) -> None:
        peer = await RawPeer.as_server(stream)
        await peer.close(code, reason)
        assert (await peer.read_frame()).kind == "close"

    return turn


def closes_cleanly_in_a_message(code: int) -> Turn:
    async def turn(stream: ByteStream) -> None:
        peer = await RawPeer.as_server(stream)
        await peer.text("begin", fin=False)
        await peer.close(code)
        await peer.read_frame()

    return turn


def answers(status: int, *fields: tuple[str, str]) -> Turn:
    async def turn(stream: ByteStream) -> None:
        await FrameReader(stream).read_head()
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        await stream.send(f"HTTP/1.1 {status} Whatever\r\n{lines}Content-Length: 0\r\n\r\n".encode())

    return turn


def says(data: bytes) -> Turn:
    """Sends `data` instead of an answer, and waits for the client to leave."""

    async def turn(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(data)
        await linger(stream)

    return turn


def vanishes(vanish: Callable[[Any], Awaitable[None]], *, after: bytes = b"", opened: bool = False) -> Turn:
    async def turn(stream: ByteStream) -> None:
        if opened:
            await RawPeer.as_server(stream)
        else:
            await FrameReader(stream).read_head()
            await stream.send(after) if after else None
        await vanish(stream)

    return turn


def sends_a_frame(opcode: int, payload: bytes, **options: Any) -> Turn:
    async def turn(stream: ByteStream) -> None:
        peer = await RawPeer.as_server(stream)
        await peer.frame(opcode, payload, **options)
        await peer.read_to_end()

    return turn


async def fin(stream: ByteStream) -> None:
    await stream.aclose()


async def consume(ws: WebSocketStream) -> None:
    """A body as it should be."""
    with suppress(ConnectionClosed):
        async with ws:
            async for _ in ws:
                pass


async def two_attempts(play: Play, **options: Any) -> float:
    """Go on until there is a connection that stays; the seconds between the two attempts."""
    async for ws in reconnect(play.url, **{"delays": Always(2), **options}):
        if len(play.times) > 1:
            await ws.aclose()
            break
        await consume(ws)
    assert len(play.times) == 2
    return play.gaps[0]


async def go_on(url: str, **options: Any) -> None:
    """Go on until the loop raises."""
    async for ws in reconnect(url, **{"delays": Always(2), **options}):
        await consume(ws)


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No task of the library's and no socket that was not there before."""
    before = open_sockets()
    yield
    with anyio.fail_after(5):  # the server's are among them
        await until(lambda: open_sockets() <= before and not tasks_of_ours())


# -- what is tried again ---------------------------------------------------------------------

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"
DATES = [formatdate(1e9 + seconds, usegmt=True) for seconds in (0, 60)]

AGAIN: dict[str, tuple[Turn, float, float]] = {
    # the first connection: the least and the most seconds until the second, with a delay of 2
    **{f"code {code}": (closes(code), 2, 2) for code in (1000, 1001, 1009, 1011, 1014, 3000, 4000, 4999)},
    "no code": (closes(None), 2, 2),
    "code 1012": (closes(1012), 5, 30),
    "code 1013": (closes(1013), 30, 120),
    "code 1012 inside a message": (closes_cleanly_in_a_message(1012), 5, 30),
    "fin while open": (vanishes(fin, opened=True), 2, 2),
    "rst while open": (vanishes(reset_stream, opened=True), 2, 2),
    "fin instead of an answer": (vanishes(fin), 2, 2),
    "rst instead of an answer": (vanishes(reset_stream), 2, 2),
    "fin inside the answer": (vanishes(fin, after=SWITCHING), 2, 2),
    "rst inside the answer": (vanishes(reset_stream, after=SWITCHING), 2, 2),
    "silence": (linger, 12, 12),  # open_timeout
    **{f"status {status}": (answers(status), 2, 2) for status in (408, 429, 500, 503, 599)},
    **{
        f"status {status}, Retry-After": (answers(status, ("Retry-After", "7")), 9, 9)
        for status in (408, 429, 500, 503)
    },
    "Retry-After: a year": (answers(503, ("Retry-After", str(365 * 86400))), 3602, 3602),
    "Retry-After: a date": (answers(503, ("Retry-After", DATES[1]), ("Date", DATES[0])), 62, 62),
    "Retry-After: nonsense": (answers(503, ("Retry-After", "later")), 2, 2),
    "Retry-After: in the past": (answers(429, ("Retry-After", DATES[0])), 2, 2),
}


@pytest.mark.parametrize("case", AGAIN)
async def test_reconnect_tries_again_after(case: str) -> None:
    turn, least, most = AGAIN[case]
    async with playing(turn) as play:
        gap = await two_attempts(play)
    assert least - 0.01 <= gap <= most + 0.2


@pytest.mark.parametrize("code", [1012, 1013])
async def test_a_pause_that_the_code_asks_for_does_not_shorten_the_delay(code: int) -> None:
    async with playing(closes(code)) as play:
        assert await two_attempts(play, delays=[500]) == pytest.approx(500, abs=0.2)


@pytest.mark.parametrize(("code", "pause", "gap"), [(1012, (0, 0), 2), (1013, (7, 7), 7), (4000, (7, 7), 7)])
async def test_a_pause_that_the_application_has_changed(
    code: int, pause: tuple[float, float], gap: float
) -> None:
    async with playing(closes(code)) as play:
        assert await two_attempts(play, pauses={code: pause}) == pytest.approx(gap, abs=0.2)


async def through(play: Play, **options: Any) -> None:
    """Go on through the server as a proxy."""
    proxy = play.url.replace("ws:", "http:")
    await go_on("ws://server.invalid/", proxy=proxy, **options)


@pytest.mark.parametrize(
    ("turn", "delay"),
    [
        (answers(502), 2),
        (answers(503, ("Retry-After", "7")), 9),
        (vanishes(fin), 2),
        (vanishes(reset_stream), 2),
    ],
)
async def test_a_proxy_that_fails_is_tried_again(turn: Turn, delay: float) -> None:
    async with playing(turn, answers(403)) as play, nothing_left():
        with pytest.raises(ProxyError, match="403"):
            await through(play)
        assert play.gaps == pytest.approx([delay], abs=0.2)


@pytest.mark.parametrize("turn", [answers(403), answers(407), answers(301), says(b"SSH-2.0-OpenSSH_9.6\r\n")])
async def test_a_proxy_that_refuses_is_not(turn: Turn) -> None:
    async with playing(turn) as play, nothing_left():
        with pytest.raises(ProxyError):
            await through(play)
        assert len(play.times) == 1


def socks(*replies: bytes) -> Turn:
    async def turn(stream: ByteStream) -> None:
        for reply in replies:
            await stream.receive()
            await stream.send(reply)
        await stream.receive()

    return turn


NO_AUTHENTICATION = b"\x05\x00"


@pytest.mark.parametrize(
    ("turn", "attempts"),
    [
        pytest.param(socks(NO_AUTHENTICATION, b"\x05\x05\x00\x01" + bytes(6)), 2, id="refused"),
        pytest.param(socks(NO_AUTHENTICATION, b"\x05\x02\x00\x01" + bytes(6)), 1, id="not allowed"),
        pytest.param(socks(b"\x05\xff"), 1, id="no method"),
        pytest.param(socks(), 2, id="gone"),
        pytest.param(socks(NO_AUTHENTICATION), 2, id="gone half-way"),
    ],
)
async def test_a_socks_proxy_is_tried_again_where_the_network_was_at_fault(turn: Turn, attempts: int) -> None:
    async with playing(turn, turn) as play, nothing_left():
        with pytest.raises(ProxyError):
            await go_on("ws://server.invalid/", proxy=play.url.replace("ws:", "socks5h:"), delays=[2])
        assert len(play.times) == attempts


async def test_a_status_without_an_end_of_its_body_is_judged_by_itself() -> None:
    async with playing(answers_without_an_end(503)) as play:
        assert await two_attempts(play) == pytest.approx(2.5, abs=0.2)


async def test_a_date_is_compared_with_our_clock_where_the_server_tells_none() -> None:
    import time

    async with playing(answers(503, ("Retry-After", formatdate(time.time() + 100, usegmt=True)))) as play:
        assert 90 < await two_attempts(play) < 102.2


# -- what is not -----------------------------------------------------------------------------


def answers_without_an_end(status: int) -> Turn:
    return says(b"HTTP/1.1 %d Whatever\r\n\r\nand so on" % status)


FINAL: dict[str, tuple[Turn, type[Exception], str]] = {
    # the first connection: what the loop raises
    **{
        f"code {code}": (closes(code, "no"), ConnectionBroken, f"close code {code}: 'no'")
        for code in (1002, 1003, 1007, 1008, 1010)
    },
    "code 1008 inside a message": (closes_cleanly_in_a_message(1008), ConnectionBroken, "1008"),
    "a frame that is masked": (sends_a_frame(1, b"x", mask=b"abcd"), ConnectionBroken, "1002"),
    "text that is not UTF-8": (sends_a_frame(1, b"\xff"), ConnectionBroken, "1007"),
    **{
        f"status {status}": (answers(status), HandshakeRejected, str(status))
        for status in (200, 301, 400, 401, 404, 407, 426, 501, 505)
    },
    "status 404, Retry-After": (answers(404, ("Retry-After", "1")), HandshakeRejected, "404"),
    "status 404, a body without end": (answers_without_an_end(404), HandshakeRejected, "404: 'and so on'"),
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.6\r\n"), HandshakeError, "not HTTP"),
    "101 without Upgrade": (says(SWITCHING + b"\r\n"), HandshakeError, "Upgrade"),
}


@pytest.mark.parametrize("case", FINAL)
async def test_this_raises_from_the_loop(case: str) -> None:
    turn, kind, match = FINAL[case]
    async with playing(turn) as play:
        async with nothing_left():
            with pytest.raises(kind, match=match) as caught:
                await go_on(play.url)
        assert len(play.times) == 1
    assert type(caught.value) is kind


async def test_the_cause_of_the_end_is_that_of_the_error_from_the_loop() -> None:
    async with playing(sends_a_frame(1, b"x", rsv2=True)) as play:
        with pytest.raises(ConnectionBroken) as caught:
            await go_on(play.url)
    assert isinstance(caught.value.__cause__, ProtocolViolation)


async def test_after_it_raised_the_iteration_has_ended() -> None:
    async with playing(answers(404)) as play:
        connections = reconnect(play.url)
        with pytest.raises(HandshakeRejected):
            await anext(connections)
        for _ in range(2):
            assert [ws async for ws in connections] == []
        assert len(play.times) == 1


async def test_nobody_there_is_tried_again_until_the_delays_end() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
    attempts: list[Exception] = []
    async with nothing_left():
        with pytest.raises(ConnectionRefusedError) as caught:
            await go_on(f"ws://127.0.0.1:{port}/", delays=[1, 20, 300], retry=attempts.append)
    assert anyio.current_time() == pytest.approx(321, abs=1)
    assert len(attempts) == 4
    assert caught.value is attempts[-1]


async def test_what_no_server_is_to_blame_for_raises() -> None:
    async with playing(linger, scheme="wss") as play, nothing_left():
        with pytest.raises(ValueError, match="idna"):
            await go_on(play.url, server_hostname=".bad.")


# -- TLS -------------------------------------------------------------------------------------


@pytest.mark.parametrize("vanish", [fin, reset_stream])
@pytest.mark.parametrize("hello", [False, True])
async def test_a_server_that_vanishes_in_the_tls_handshake_is_tried_again(vanish: Any, hello: bool) -> None:
    async def turn(stream: ByteStream) -> None:
        if hello:
            await stream.receive()
        await vanish(stream)

    async with playing(turn, turn, turn, scheme="wss") as play:
        async with nothing_left():
            with pytest.raises(OSError):
                await go_on(play.url, delays=[2, 2])
        assert play.gaps == pytest.approx([2, 2], abs=0.2)


# An alert of TLS 1.2 (RFC 8446 section 6): fatal, and its number.
ALERT = b"\x15\x03\x03\x00\x02\x02"


@pytest.mark.parametrize(
    ("data", "attempts"),
    [
        pytest.param(ALERT + b"\x50", 2, id="internal_error"),
        pytest.param(ALERT + b"\x28", 1, id="handshake_failure"),
        pytest.param(ALERT + b"\x70", 1, id="unrecognized_name"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", 1, id="no TLS"),
    ],
)
async def test_tls_is_tried_again_only_where_the_two_sides_fit(data: bytes, attempts: int) -> None:
    async with playing(says(data), says(data), scheme="wss") as play:
        async with nothing_left():
            with pytest.raises(ssl.SSLError):
                await go_on(play.url, delays=[2])
        assert len(play.times) == attempts


async def test_a_certificate_that_does_not_hold_raises() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def turn(stream: ByteStream) -> None:
        with suppress(ssl.SSLError):
            await TLSStream.wrap(stream, server_side=True, ssl_context=context)

    async with playing(turn, scheme="wss") as play:
        async with nothing_left():
            with pytest.raises(ssl.SSLCertVerificationError):
                await go_on(play.url)
        assert len(play.times) == 1


# -- the delays ------------------------------------------------------------------------------


async def test_the_first_attempt_is_made_at_once_and_each_delay_is_used_in_turn() -> None:
    async with playing(answers(503), closes(1000), vanishes(fin), vanishes(fin, opened=True)) as play:
        start = anyio.current_time()
        async for ws in reconnect(play.url, delays=[1, 20, 3, 40]):
            await consume(ws) if len(play.times) < 5 else ws.abort()
            if len(play.times) == 5:
                break
    assert play.times[0] - start < 0.2
    assert play.gaps == pytest.approx([1, 20, 3, 40], abs=0.2)


def stays_for(seconds: float) -> Turn:
    async def turn(stream: ByteStream) -> None:
        async with accept(stream, ping_interval=None):
            await anyio.sleep(seconds)

    return turn


@pytest.mark.parametrize(
    ("lasted", "healthy_after", "gaps"),
    [
        (59, {}, [1, 20, 300]),
        (61, {}, [1, 20, 1]),
        (4, {"healthy_after": 5}, [1, 20, 300]),
        (6, {"healthy_after": 5}, [1, 20, 1]),
        (0, {"healthy_after": 0}, [1, 1, 1]),
    ],
)
async def test_the_delays_begin_anew_only_after_a_healthy_connection(
    lasted: float, healthy_after: dict[str, float], gaps: list[float]
) -> None:
    turns = [closes(1000), closes(1000), stays_for(lasted)]
    async with playing(*turns) as play:
        async for ws in reconnect(play.url, delays=[1, 20, 300], **healthy_after):
            if len(play.times) == 4:
                ws.abort()
                break
            await consume(ws)
    assert play.gaps == pytest.approx([*gaps[:2], lasted + gaps[2]], abs=0.3)


async def test_a_server_that_accepts_and_closes_at_once_is_not_hammered() -> None:
    async with playing(*[closes(1000)] * 200) as play:
        with anyio.move_on_after(1200):
            await go_on(play.url, delays=Backoff(initial=1, maximum=60))
    assert len(play.times) < 100, "the mean delay is 30 s"
    assert max(play.gaps) > 20


async def test_without_delays_there_is_one_connection() -> None:
    async with playing(closes(1000, "bye")) as play:
        with pytest.raises(ConnectionBroken, match="close code 1000: 'bye'") as caught:
            await go_on(play.url, delays=[])
        assert caught.value.info == CloseInfo(1000, "bye", True)
        assert len(play.times) == 1


@pytest.mark.parametrize(("delay", "kind"), [(-1, ValueError), (float("inf"), ValueError), ("1", TypeError)])
async def test_a_delay_that_is_none_raises_when_its_turn_comes(delay: Any, kind: type[Exception]) -> None:
    async with playing(closes(1000), closes(1000)) as play:
        with pytest.raises(kind, match="a delay"):
            await go_on(play.url, delays=[0, delay])
        assert len(play.times) == 2


# -- the body --------------------------------------------------------------------------------


async def test_a_body_that_ends_with_an_open_connection_has_it_closed_with_1000() -> None:
    async with playing() as play:
        turns = []
        async for ws in reconnect(play.url, delays=[0, 0]):
            assert ws.state == "open"
            turns.append(ws)
            if len(turns) == 3:
                await ws.aclose(4000)
                break
            await ws.send("hello")
        assert [ws.close_info for ws in turns[:2]] == [CloseInfo(1000, "", True)] * 2
        await until(lambda: len(play.ends) == 3)
    assert play.ends == [CloseInfo(1000, "", True)] * 2 + [CloseInfo(4000, "", True)]


@pytest.mark.parametrize("code", [None, 1000, 1002, 1008, 1012, 1013])
async def test_who_closes_and_goes_on_gets_another_connection(code: int | None) -> None:
    """The peer echoes the code: it is not the peer's word."""
    seen: list[Exception] = []
    async with playing() as play:
        async for ws in reconnect(play.url, delays=[2], retry=seen.append):
            await ws.aclose(code)
            if len(play.times) == 2:
                break
    assert play.gaps == pytest.approx([2], abs=0.2)
    assert [type(each) for each in seen] == [ClosedLocally]


async def test_a_close_inside_a_message_of_ours_is_ours_all_the_same() -> None:
    seen: list[Exception] = []
    async with playing() as play:
        async for ws in reconnect(play.url, delays=[2], retry=seen.append):
            if len(play.times) == 2:
                ws.abort()
                break
            with suppress(WebSocketError):
                async with ws.writable.message("text") as message:
                    await message.send("x")
                    await ws.aclose(1008)
            assert ws.close_info is not None
            assert not ws.close_info.clean
    assert [type(each) for each in seen] == [ClosedLocally]


async def test_who_aborts_and_goes_on_gets_another_connection() -> None:
    seen: list[Exception] = []
    async with playing() as play:
        async for ws in reconnect(play.url, delays=[2], retry=seen.append):
            ws.abort()
            if len(play.times) == 2:
                break
    assert play.gaps == pytest.approx([2], abs=0.2)
    assert [type(each) for each in seen] == [ClosedLocally]


async def test_a_message_that_is_too_big_for_us_does_not_end_the_loop() -> None:
    async def turn(stream: ByteStream) -> None:
        peer = await RawPeer.as_server(stream)
        await peer.binary(bytes(101))
        await peer.read_to_end()

    async with playing(turn) as play:
        async for ws in reconnect(play.url, delays=[2], max_message_size=100):
            if len(play.times) == 2:
                ws.abort()
                break
            with pytest.raises(WebSocketError) as caught:
                await ws.receive()
            assert caught.value.code == 1009
            assert ws.close_info == CloseInfo(1009, caught.value.reason, False)


async def test_an_error_of_the_body_leaves_the_loop_as_itself() -> None:
    async with playing(vanishes(reset_stream, opened=True)) as play:
        async with nothing_left():
            with pytest.raises(ConnectionBroken) as caught:
                async for ws in reconnect(play.url):
                    async with ws:
                        try:
                            await ws.receive()
                        except ConnectionBroken as error:
                            mine = error
                            raise
        assert caught.value is mine
        assert len(play.times) == 1


@pytest.mark.parametrize("way", ["normal", "error", "with a code", "cancelled"])
async def test_a_block_of_async_with_closes_as_that_of_connect(way: str) -> None:
    async with playing() as play:
        async with nothing_left():
            with suppress(ZeroDivisionError, WebSocketError), anyio.CancelScope() as scope:
                async for ws in reconnect(play.url):
                    async with ws:
                        match way:
                            case "normal":
                                break
                            case "error":
                                raise ZeroDivisionError
                            case "with a code":
                                raise WebSocketError(code=4444, reason="so")
                            case "cancelled":
                                scope.cancel()
                                await anyio.sleep(1)
        await until(lambda: play.ends)
    code = {"normal": 1000, "error": 1011, "with a code": 4444, "cancelled": 1001}[way]
    assert play.ends == [CloseInfo(code, "so" if code == 4444 else "", True)]


async def test_leaving_the_loop_leaves_the_connection_to_whoever_has_it() -> None:
    async with playing() as play:
        async for each in reconnect(play.url):
            ws = each
            break
        gc.collect()
        await anyio.sleep(100)
        await ws.send("still here")
        assert ws.state == "open"
        await ws.aclose()


# -- the hook --------------------------------------------------------------------------------


async def test_the_hook_sees_what_happened_and_leaves_it_to_the_rules() -> None:
    seen: list[Exception] = []
    turns = [answers(503), vanishes(fin), closes(1001, "going"), vanishes(fin, opened=True), answers(404)]
    async with playing(*turns) as play:
        with pytest.raises(HandshakeRejected):
            await go_on(play.url, retry=seen.append)
        assert len(play.times) == 5
    kinds = [HandshakeRejected, HandshakeError, ConnectionBroken, ConnectionBroken, HandshakeRejected]
    assert [type(each) for each in seen] == kinds
    infos = [each.info for each in seen if isinstance(each, ConnectionClosed)]
    assert infos == [CloseInfo(1001, "going", True), CloseInfo(1006, "", False)]


async def test_the_hook_may_try_what_is_final_and_end_what_is_not() -> None:
    async with playing(answers(404), closes(1008), closes(1000)) as play:
        with pytest.raises(ConnectionBroken, match="1000"):
            await go_on(
                play.url,
                retry=lambda error: not (isinstance(error, ConnectionClosed) and error.code == 1000),
            )
        assert play.gaps == pytest.approx([2, 2], abs=0.2)


@pytest.mark.parametrize("turn", [answers(503), closes(1000)])
async def test_what_the_hook_raises_leaves_the_loop(turn: Turn) -> None:
    def hook(error: Exception) -> bool:
        raise ZeroDivisionError

    async with playing(turn) as play:
        connections = reconnect(play.url, retry=hook)
        async with nothing_left():
            with pytest.raises(ZeroDivisionError):
                async for ws in connections:
                    await consume(ws)
        assert [ws async for ws in connections] == []


async def test_a_hook_that_gives_something_else_is_a_type_error() -> None:
    async with playing(answers(503)) as play:
        with pytest.raises(TypeError, match="True, False or None, got int"):
            await go_on(play.url, retry=lambda _: 5)


async def test_each_further_attempt_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "wsstream.client"):
        async with playing(answers(503), closes(1000)) as play:
            with pytest.raises(ConnectionBroken):
                await go_on(play.url, delays=[2])
    assert [record.message for record in caplog.records if record.name == "wsstream.client"] == [
        f"connecting to {play.url} again in 2.0 s after HandshakeRejected: "
        f"the server answered the opening handshake with HTTP status 503 ({play.url})"
    ]


# -- the options -----------------------------------------------------------------------------


def test_the_options_are_those_of_connect_except_for_the_transport() -> None:
    hints = typing.get_type_hints(connect, vars(wsstream.client.connect))
    hints["transport"] = OpenStream | None  # one stream would be one connection
    del hints["url"], hints["return"]
    assert typing.get_type_hints(ConnectOptions) == hints


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"url": "ftp://127.0.0.1/"}, InvalidURL),
        ({"delays": iter([1])}, TypeError),
        ({"delays": 5}, TypeError),
        ({"retry": True}, TypeError),
        ({"healthy_after": None}, TypeError),
        ({"healthy_after": -1}, ValueError),
        ({"transport": memory_pair()[0]}, TypeError),
        ({"transport": 5}, TypeError),
        ({"nonsense": 1}, TypeError),
        ({"subprotocols": "chat"}, TypeError),
        ({"subprotocols": ["a", "a"]}, ValueError),
        ({"headers": [("Bad Name", "x")]}, ValueError),
        ({"headers": {"X": 5}}, TypeError),
        ({"ping_interval": 0}, ValueError),
        ({"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, ValueError),
    ],
    ids=stable_repr,
)
def test_a_wrong_argument_is_rejected_by_the_call_itself(options: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        reconnect(**{"url": "ws://127.0.0.1/", **options})


async def test_iterators_among_the_options_serve_every_attempt() -> None:
    async with playing() as play:
        with suppress(HandshakeError):  # the server agrees to none of the subprotocols
            await go_on(play.url, subprotocols=iter(["a", "b"]), headers=iter([("X-A", "1")]), delays=[])
        async for ws in reconnect(play.url, headers=iter([("X-A", "1")]), delays=[0]):
            await ws.aclose()
            if len(play.times) == 3:
                break
        await until(lambda: len(play.requests) == 3)
    assert play.requests[0].subprotocols == ("a", "b")
    assert [request.headers.get("x-a") for request in play.requests] == ["1", "1", "1"]


async def test_a_mapping_of_headers_is_read_anew_for_each_attempt() -> None:
    headers = {"Authorization": "Bearer old"}

    def refresh(error: Exception) -> bool | None:
        if isinstance(error, HandshakeRejected) and error.status == 401:
            headers["Authorization"] = "Bearer new"
            return True
        return None

    async with playing(answers(401)) as play:
        async for ws in reconnect(play.url, headers=headers, retry=refresh, delays=[0]):
            await ws.aclose()
            break
        await until(lambda: play.requests)
    assert play.requests[0].headers["authorization"] == "Bearer new"


# -- cancellation ----------------------------------------------------------------------------


async def test_cancelled_while_it_waits_it_waits_for_the_rest_afterwards() -> None:
    async with playing(closes(1000)) as play:
        connections = reconnect(play.url, delays=[10])
        await consume(await anext(connections))
        for _ in range(3):
            async with nothing_left():
                with anyio.move_on_after(3) as scope:
                    await anext(connections)
            assert scope.cancelled_caught
        async with await anext(connections):
            assert play.gaps == pytest.approx([10], abs=0.2)


async def test_cancelled_while_it_connects_nothing_is_left_and_the_next_call_connects() -> None:
    left = anyio.Event()

    async def turn(stream: ByteStream) -> None:
        await linger(stream)
        left.set()

    async with playing(turn) as play:
        connections = reconnect(play.url, delays=[10])
        async with nothing_left():
            with anyio.move_on_after(3) as scope:
                await anext(connections)
        assert scope.cancelled_caught
        await left.wait()
        async with await anext(connections):
            assert play.gaps == pytest.approx([3], abs=0.2)


async def test_cancelled_while_it_closes_the_connection_is_dropped_and_the_next_call_goes_on() -> None:
    left = anyio.Event()

    async def turn(stream: ByteStream) -> None:
        await RawPeer.as_server(stream)
        await linger(stream)  # Close is not answered
        left.set()

    async with playing(turn) as play:
        connections = reconnect(play.url, delays=[10])
        ws = await anext(connections)
        with anyio.move_on_after(3) as scope:
            await anext(connections)
        assert scope.cancelled_caught
        await left.wait()
        await until(lambda: ws.state == "closed")
        assert ws.close_info == CloseInfo(1006, "", False)
        async with await anext(connections):
            assert play.gaps == pytest.approx([13], abs=0.3)


async def test_closing_takes_no_longer_than_the_close_timeout() -> None:
    async def turn(stream: ByteStream) -> None:
        await RawPeer.as_server(stream)
        await linger(stream)

    async with playing(turn) as play:
        gap = 0.0
        async for ws in reconnect(play.url, delays=[10], close_timeout=4):
            if len(play.times) == 2:
                await ws.aclose()
                break
        gap = play.gaps[0]
    assert gap == pytest.approx(14, abs=0.3)


async def test_cancelled_at_any_moment_nothing_is_left_and_the_iterator_is_usable() -> None:
    async with playing() as play:
        connections = reconnect(play.url, delays=Always(0))
        ws = None
        async with nothing_left():
            for moment in range(60):
                async with anyio.create_task_group() as tasks:
                    found: list[WebSocketStream] = []

                    async def ask(found: list[WebSocketStream] = found) -> None:
                        found.append(await anext(connections))

                    tasks.start_soon(ask)
                    for _ in range(moment):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
                if found:
                    assert found[0] is not ws, "a connection that was given before"
                    ws = found[0]
            async with await anext(connections) as ws:
                await ws.ping()
            await until(lambda: len(play.ends) + 60 >= len(play.times))


async def test_two_tasks_cannot_ask_at_the_same_time() -> None:
    async with playing(linger) as play:
        connections = reconnect(play.url)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anext, connections)
            await anyio.sleep(1)
            with pytest.raises(anyio.BusyResourceError, match="reconnecting"):
                await anext(connections)
            tasks.cancel_scope.cancel()


# -- memory ----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_nothing_grows_with_the_number_of_connections() -> None:
    count = 2000
    turns = [closes(1000), answers(503), vanishes(fin, opened=True), vanishes(fin)]
    async with playing(*turns * (count // 4)) as play:
        attempts, sizes = 0, []

        def look(error: Exception) -> None:
            nonlocal attempts
            attempts += 1
            if attempts in (count // 2, count):
                gc.collect()
                sizes.append(len(gc.get_objects()))

        async with nothing_left():
            async for ws in reconnect(play.url, delays=Always(0), retry=look):
                if attempts == count:
                    await ws.aclose()
                    break
                await consume(ws)
    assert sizes[1] - sizes[0] < count // 10
