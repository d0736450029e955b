"""W41–47, W58, W59: how the peer closes, and what becomes of sends that were not finished."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import anyio
import pytest
from kit.waiting import until

import wsstream
from wsstream import CloseInfo, ConnectionBroken, StreamEnded, WebSocketStream
from wsstream.opening.handshake import accept_key
from wsstream.testing import RawPeer, reset_stream
from wsstream.testing import close as frames_close

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]

Opened = AbstractAsyncContextManager[tuple[WebSocketStream, RawPeer]]


CLOSES = [
    pytest.param((3456, "pizza"), CloseInfo(3456, "pizza", True), id="code-and-reason"),
    pytest.param((1000, "\N{PILE OF POO}" * 30), CloseInfo(1000, "\N{PILE OF POO}" * 30, True), id="utf-8"),
    pytest.param((3000, ""), CloseInfo(3000, "", True), id="code"),
    pytest.param((), CloseInfo(1005, "", True), id="no-body"),
]


@pytest.mark.parametrize(("said", "info"), CLOSES)
async def test_w41_w43_the_peers_code_and_reason_are_reported(
    opened: Callable[..., Opened], said: tuple[Any, ...], info: CloseInfo
) -> None:
    async with opened() as (ws, peer):
        await peer.text("last")
        await peer.close(*said)
        assert [message async for message in ws.readable] == ["last"]
        assert ws.close_info == info
        answer = await peer.read_frame()
        assert (answer.kind, answer.close_code) == ("close", said[0] if said else None)
        await peer.aclose()
        assert await ws.wait_closed() == info
        assert ws.state == "closed"


@pytest.mark.parametrize("loop", ["ws", "readable", "messages"])
async def test_w43_iteration_ends_without_an_error_and_goes_on_ending(
    opened: Callable[..., Opened], loop: str
) -> None:
    def items() -> Any:
        return {"ws": ws, "readable": ws.readable, "messages": ws.readable.messages()}[loop]

    async with opened() as (ws, peer):
        await peer.close(3456, "pizza")
        await peer.aclose()
        for _ in range(2):
            assert [item async for item in items()] == []
        with pytest.raises(StreamEnded) as caught:
            await ws.receive()
        assert caught.value.info == CloseInfo(3456, "pizza", True)
        assert (caught.value.code, caught.value.reason) == (3456, "pizza")


@pytest.mark.parametrize(("said", "info"), CLOSES)
async def test_w44_sending_after_the_peer_closed_raises(
    opened: Callable[..., Opened], said: tuple[Any, ...], info: CloseInfo
) -> None:
    async with opened() as (ws, peer):
        await peer.close(*said)
        await until(lambda: ws.close_info)
        for attempt in (_send_whole, _send_in_chunks, WebSocketStream.ping, _drain):
            with pytest.raises(ConnectionBroken) as caught:
                await attempt(ws)
            assert caught.value.info == info
        assert [frame.kind for frame in [await peer.read_frame()]] == ["close"]
        await peer.aclose()


async def _send_whole(ws: WebSocketStream) -> None:
    await ws.send("late")


async def _send_in_chunks(ws: WebSocketStream) -> None:
    async with ws.writable.message("text") as writer:
        await writer.send("late")


async def _drain(ws: WebSocketStream) -> None:
    await ws.writable.drain()


async def test_w45_a_send_of_20_mb_raises_with_the_peers_code(opened: Callable[..., Opened]) -> None:
    errors: list[ConnectionBroken] = []

    async def send() -> None:
        with pytest.raises(ConnectionBroken) as caught:
            await ws.send(bytes(20_000_000))
        errors.append(caught.value)

    async with opened() as (ws, peer):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await until(lambda: ws.statistics().tasks_waiting_send)
            await peer.close(4321, "enough")
        with pytest.raises(ConnectionBroken) as caught:
            await ws.send("later")
        errors.append(caught.value)
        await peer.aclose()  # with much unread: TCP is reset
        with pytest.raises(ConnectionBroken) as caught:
            await ws.wait_closed()
        errors.append(caught.value)
        assert [(error.code, error.reason) for error in errors] == [(4321, "enough")] * 3
        assert [error.info.clean for error in errors] == [False] * 3


async def test_w45_a_close_that_comes_with_a_reset_is_still_seen(opened: Callable[..., Opened]) -> None:
    async def close() -> None:
        await until(lambda: ws.statistics().tasks_waiting_send)
        await peer.close(4321, "enough")
        await reset_stream(peer.stream)

    async with opened() as (ws, peer):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            with pytest.raises(ConnectionBroken) as caught:
                await ws.send(bytes(20_000_000))
        assert (caught.value.code, caught.value.reason) == (4321, "enough")
        with pytest.raises(ConnectionBroken) as caught:
            await ws.wait_closed()
        assert (caught.value.code, caught.value.reason) == (4321, "enough")


async def test_w45_a_close_is_still_seen_if_sending_fails_before_it_was_read() -> None:
    """The kernel has the peer's Close and its reset when the application's send comes."""
    peers: list[socket.socket] = []

    async def open_peer() -> None:
        await anyio.wait_readable(listener)
        peer, _ = listener.accept()
        await anyio.wait_readable(peer)
        key = peer.recv(65536).partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        fields = (
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(key.decode())}"
        )
        peer.send(f"HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n\r\n".encode())
        peers.append(peer)

    async with AsyncExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_peer)
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
            ws = await stack.enter_async_context(wsstream.connect(url))
        peers[0].send(frames_close(4321, "enough"))
        peers[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peers[0].close()
        await ws.send("x")  # no other task has run since
        with pytest.raises(ConnectionBroken) as caught:
            await ws.send("y")
        assert (caught.value.code, caught.value.reason) == (4321, "enough")


async def test_w46_if_both_close_the_peers_code_and_reason_are_reported(
    opened: Callable[..., Opened],
) -> None:
    async def close() -> None:
        await ws.aclose(3001, "ours")

    async with opened() as (ws, peer):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            await until(lambda: ws.statistics().bytes_sent)
            await peer.close(3002, "theirs")  # before it has seen ours
            frame = await peer.read_frame()
            assert (frame.close_code, frame.close_reason) == (3001, "ours")
            await peer.aclose()
        assert ws.close_info == CloseInfo(3002, "theirs", True)


async def test_w46_closing_after_the_peer_closed_changes_nothing(opened: Callable[..., Opened]) -> None:
    async def close() -> None:
        await ws.aclose(3001, "ours")

    async with opened() as (ws, peer):
        await peer.close(3002, "theirs")
        await until(lambda: ws.close_info)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            frame = await peer.read_frame()
            assert (frame.kind, frame.close_code) == ("close", 3002)
            await peer.aclose()
        assert ws.close_info == CloseInfo(3002, "theirs", True)


@pytest.mark.parametrize("end", [RawPeer.aclose, lambda peer: reset_stream(peer.stream)], ids=["fin", "rst"])
async def test_w47_an_abrupt_end_of_tcp_is_broken_and_1006(
    opened: Callable[..., Opened], end: Callable[[RawPeer], Awaitable[None]]
) -> None:
    async def receive(ws: WebSocketStream) -> None:
        await ws.receive()

    async def iterate(ws: WebSocketStream) -> None:
        async for _ in ws.readable:
            pass

    async with opened() as (ws, peer):
        await peer.text("whole")
        await until(lambda: ws.statistics().receive_buffered)
        await end(peer)
        await until(lambda: ws.close_info)
        assert await ws.receive() == "whole"
        for call in (receive, iterate, _send_whole, WebSocketStream.ping, WebSocketStream.wait_closed):
            with pytest.raises(ConnectionBroken) as caught:
                await call(ws)
            assert caught.value.info == CloseInfo(1006, "", False)
        assert ws.state == "closed"


@pytest.mark.parametrize("count", [1, 20])
async def test_w58_w59_sends_that_are_unfinished_when_the_peer_closes_are_rejected(
    opened: Callable[..., Opened], count: int
) -> None:
    rejected: list[tuple[int | None, str]] = []

    async def send() -> None:
        with pytest.raises(ConnectionBroken) as caught:
            await ws.send(bytes(8 << 20))
        rejected.append((caught.value.code, caught.value.reason))

    async with opened() as (ws, peer):
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(send)
            await until(lambda: ws.statistics().tasks_waiting_send == count)
            assert rejected == []
            await peer.close(4000, "bye")
        assert rejected == [(4000, "bye")] * count
        for _ in range(2):
            with pytest.raises(ConnectionBroken) as caught:
                await ws.send("later")
            assert (caught.value.code, caught.value.reason) == (4000, "bye")
        await peer.aclose()
