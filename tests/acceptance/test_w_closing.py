"""W6–10, W18–31, W64, W65: how this side closes. Over sockets, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from wsstream import ClosedLocally, CloseInfo, ConnectionBroken, WebSocketError, WebSocketStream
from wsstream.testing import Frame, RawPeer

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]

# The arguments of a close, and what the peer's Close frame has to have: code and reason.
FAREWELLS = [
    pytest.param((), (None, ""), id="nothing"),
    pytest.param((None, ""), (None, ""), id="empty-reason"),
    pytest.param((3333,), (3333, ""), id="code"),
    pytest.param((3333, "pizza"), (3333, "pizza"), id="code-and-reason"),
    pytest.param((None, "réason"), (1000, "réason"), id="reason-alone"),
]
Opened = AbstractAsyncContextManager[tuple[WebSocketStream, RawPeer]]


@pytest.fixture(params=["readable", "writable", "ws"])
def side(request: pytest.FixtureRequest) -> Callable[[WebSocketStream], Any]:
    """What is closed: one of the two streams, or the WebSocket itself."""
    if request.param == "ws":
        return lambda ws: ws
    return lambda ws: getattr(ws, request.param)


def _said(frame: Frame) -> tuple[int | None, str]:
    assert frame.kind == "close"
    return frame.close_code, frame.close_reason


async def _echo_close(peer: RawPeer, seen: list[Frame]) -> None:
    """Answer the Close that comes next with the same; nothing may come behind it."""
    frame = await peer.read_frame()
    seen.append(frame)
    await peer.close(frame.close_code, frame.close_reason)
    await peer.aclose()


@pytest.mark.parametrize(("arguments", "said"), FAREWELLS)
async def test_w6_w10_w18_w26_aclose_closes_cleanly_with_what_it_was_given(
    opened: Callable[..., Opened],
    side: Callable[[WebSocketStream], Any],
    arguments: tuple[Any, ...],
    said: tuple[int | None, str],
) -> None:
    seen: list[Frame] = []
    async with opened() as (ws, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(_echo_close, peer, seen)
        await side(ws).aclose(*arguments)
        assert [_said(frame) for frame in seen] == [said]
        info = CloseInfo(1005 if said[0] is None else said[0], said[1], True)
        assert (ws.state, ws.close_info) == ("closed", info)
        assert await ws.wait_closed() == info


async def test_w6_a_close_with_code_and_reason_is_echoed_by_our_server(net: Any) -> None:
    infos: list[CloseInfo | None] = []
    ended = anyio.Event()

    async def handler(ws: WebSocketStream) -> None:
        async for _ in ws:
            pass
        infos.append(ws.close_info)
        ended.set()

    async with net.serve(handler) as server, net.connect(server) as ws:
        await ws.aclose(3456, "pizza")
        await ended.wait()
        assert [ws.close_info, *infos] == [CloseInfo(3456, "pizza", True)] * 2


async def test_w19_w27_aclose_returns_only_after_the_peers_close(
    opened: Callable[..., Opened], side: Callable[[WebSocketStream], Any]
) -> None:
    async def answer_late(peer: RawPeer) -> None:
        assert (await peer.read_frame()).kind == "close"
        await anyio.sleep(1)
        assert ws.state == "closing"
        await peer.close(3000, "at last")
        await peer.aclose()

    async with opened() as (ws, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(answer_late, peer)
        start = anyio.current_time()
        await side(ws).aclose()
        assert 1 <= anyio.current_time() - start < 1.5
        assert ws.close_info == CloseInfo(3000, "at last", True)


async def test_w20_w28_aclose_waits_at_most_for_the_close_timeout(
    opened: Callable[..., Opened], side: Callable[[WebSocketStream], Any]
) -> None:
    async with opened(close_timeout=3) as (ws, peer):
        start = anyio.current_time()
        await side(ws).aclose(1000)
        assert 3 <= anyio.current_time() - start < 3.5
        assert (ws.state, ws.close_info) == ("closed", CloseInfo(1006, "", False))
        with pytest.raises(ConnectionBroken):
            await ws.wait_closed()
        assert [frame.kind for frame in await peer.read_to_end()] == ["close"]


@pytest.mark.parametrize(("arguments", "said"), FAREWELLS)
async def test_w21_w23_abort_of_the_writable_says_what_it_was_given(
    opened: Callable[..., Opened], arguments: tuple[Any, ...], said: tuple[int | None, str]
) -> None:
    seen: list[Frame] = []
    async with opened() as (ws, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(_echo_close, peer, seen)
        assert ws.writable.abort(*arguments) is None
        assert ws.state == "closing"
        with pytest.raises(ClosedLocally):
            await ws.send("late")
        info = await ws.wait_closed()
        assert [_said(frame) for frame in seen] == [said]
        assert info == CloseInfo(1005 if said[0] is None else said[0], said[1], True)


async def test_w21_abort_of_the_writable_drops_what_has_not_left(opened: Callable[..., Opened]) -> None:
    async def send_much() -> None:
        with pytest.raises(ClosedLocally):
            await ws.send(bytes(64 << 20))

    async with opened(close_timeout=1) as (ws, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(send_much)
        while not ws.statistics().tasks_waiting_send:
            await anyio.sleep(0.1)
        ws.writable.abort(3333, "enough")
        received, frame = 0, await peer.read_frame()
        while frame.kind != "close":
            assert not frame.fin, "the message was cut off, and no end of it may be invented"
            received += len(frame.payload)
            frame = await peer.read_frame()
        assert _said(frame) == (3333, "enough")
        assert received < 32 << 20


async def test_w21_abort_of_the_websocket_drops_tcp_at_once(opened: Callable[..., Opened]) -> None:
    async with opened() as (ws, peer):
        start = anyio.current_time()
        assert ws.abort() is None
        assert await ws.wait_closed() == CloseInfo(1006, "", False)
        assert anyio.current_time() - start < 0.5
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await peer.read_frame()


async def _leave_by(net: Any, error: Exception, use: str) -> tuple[Frame, CloseInfo | None]:
    """Raise `error` in the body of a connection; what the peer saw, and how it ended."""
    seen: list[Frame] = []
    ended = anyio.Event()

    async def peer(stream: ByteStream) -> None:
        async with stream:
            peer = await RawPeer.as_server(stream)
            if use == "readable":
                await peer.text("x")
            elif use == "writable":
                assert (await peer.read_frame()).text == "x"
            await _echo_close(peer, seen)
            ended.set()

    async with net.raw_server(peer) as url:
        with pytest.raises(type(error)) as caught:
            async with net.connect(url) as ws:
                if use == "readable":
                    assert await ws.readable.receive() == "x"
                elif use == "writable":
                    await ws.writable.send("x")
                raise error
        assert caught.value is error
        await ended.wait()
    return seen[0], ws.close_info


@pytest.mark.parametrize("use", ["readable", "writable", "nothing"])
async def test_w24_w30_an_error_with_a_code_closes_with_that_and_propagates(net: Any, use: str) -> None:
    error = WebSocketError("ours", code=3333, reason="because")
    frame, info = await _leave_by(net, error, use)
    assert _said(frame) == (3333, "because")
    assert info == CloseInfo(3333, "because", True)


@pytest.mark.parametrize("use", ["readable", "writable", "nothing"])
async def test_w25_w31_the_attributes_of_another_exception_are_ignored(net: Any, use: str) -> None:
    class Lookalike(Exception):
        code = 3333
        reason = "because"

    frame, info = await _leave_by(net, Lookalike(), use)
    assert _said(frame) == (1011, "")
    assert info == CloseInfo(1011, "", True)


@pytest.mark.heavy_after_first
async def test_w64_a_message_that_arrives_after_the_local_close_began_is_dropped(
    opened: Callable[..., Opened], side: Callable[[WebSocketStream], Any]
) -> None:
    async def close() -> None:
        await side(ws).aclose()

    async with opened() as (ws, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(_receive_nothing, ws)
        while not ws.statistics().tasks_waiting_receive:
            await anyio.sleep(0.1)
        tasks.start_soon(close)
        assert (await peer.read_frame()).kind == "close"
        await peer.text("late")
        await peer.binary(bytes(300_000))
        while ws.statistics().bytes_received < 300_000:
            await anyio.sleep(0.1)
        assert ws.statistics().receive_buffered == 0
        await _receive_nothing(ws)
        await peer.close(1000)
        await peer.aclose()
        await ws.wait_closed()
        await _receive_nothing(ws)


async def _receive_nothing(ws: WebSocketStream) -> None:
    with pytest.raises(ClosedLocally):
        await ws.receive()


async def test_w65_closing_a_closed_stream_does_nothing_but_check_its_arguments(
    opened: Callable[..., Opened], side: Callable[[WebSocketStream], Any]
) -> None:
    seen: list[Frame] = []
    async with opened() as (ws, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(_echo_close, peer, seen)
        await ws.aclose(3456, "pizza")
        before, sent = anyio.current_time(), ws.statistics().bytes_sent
        for close in (side(ws).aclose, partial(_abort, ws)):
            await close()
            await close(3000, "again")
            for wrong in ((True,), ("1000",), (1000, b"bytes")):
                with pytest.raises(TypeError):
                    await close(*wrong)
            for wrong in ((999,), (1005,), (1000, "x" * 124)):
                with pytest.raises(ValueError):
                    await close(*wrong)
        assert (ws.close_info, ws.statistics().bytes_sent) == (CloseInfo(3456, "pizza", True), sent)
        assert (anyio.current_time(), len(seen)) == (before, 1)


async def _abort(ws: WebSocketStream, *arguments: Any) -> None:
    ws.writable.abort(*arguments)
