"""What the peer does wrong is punished at once, but not before what it did right has been answered."""

from __future__ import annotations

import zlib
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from kit.endpoints import against_peer

import wsstream
from wsstream import Deflate, FlowControl
from wsstream.testing import RawPeer, binary, frame, memory_pair, text

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

RESERVED = frame(1, b"bad", rsv2=True)
NOT_UTF8 = text(b"bad \xff")
BAD = pytest.mark.parametrize(("bad", "code"), [(RESERVED, 1002), (NOT_UTF8, 1007)], ids=["1002", "1007"])


async def seconds_until_close(peer: RawPeer, code: int) -> float:
    start = anyio.current_time()
    assert (await peer.read_frame()).close_code == code
    return anyio.current_time() - start


@BAD
async def test_the_echo_of_messages_before_a_violation_leaves_before_close(
    raw_server: Any, bad: bytes, code: int
) -> None:
    async with raw_server() as (ws, peer):
        await peer.send(text("one") + text("two") + bad)
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            await wsstream.pipe(ws, ws)
        assert caught.value.info.code == ws.close_info.code == code
        assert [(await peer.read_frame()).payload for _ in range(2)] == [b"one", b"two"]
        assert await seconds_until_close(peer, code) == 0


def compressed(payload: bytes) -> bytes:
    context = zlib.compressobj(wbits=-15)
    return (context.compress(payload) + context.flush(zlib.Z_SYNC_FLUSH))[:-4]


def compressing(role: str) -> AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, RawPeer]]:
    """Our endpoint in that role and a raw peer, over a narrow line and with permessage-deflate."""
    headers = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    return against_peer(role, memory_pair(4096), headers=headers, compression=Deflate())


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("echo", ["whole", "pipe"])
@pytest.mark.parametrize(
    ("bad", "code"), [(b"\x07", 1002), (compressed(b"\xff"), 1007)], ids=["no deflate", "no UTF-8"]
)
async def test_the_echo_leaves_before_close_also_if_the_violation_is_found_in_inflating(
    role: str, echo: str, bad: bytes, code: int
) -> None:
    body = Random(1).randbytes(100_000)  # more than the line and the mark take at once
    outcome: list[Any] = []

    async def echo_all(ws: wsstream.WebSocketStream) -> None:
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            if echo == "pipe":
                await wsstream.pipe(ws, ws)
            async for message in ws:
                await ws.send(message)
        outcome.append(caught.value.info.code)

    async with compressing(role) as (ws, peer):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(echo_all, ws)
            message = binary(compressed(body), rsv1=True, mask=peer.mask)
            tasks.start_soon(peer.send, message + text(bad, rsv1=True, mask=peer.mask))
            frames = []
            while (received := await peer.read_frame()).kind != "close":
                frames.append(received)
            assert received.close_code == code
        assert zlib.decompressobj(-15).decompress(b"".join(each.payload for each in frames)) == body
        assert frames[-1].fin
        assert outcome == [code]
        await peer.aclose()


@BAD
async def test_a_task_that_waits_for_data_is_told_at_once(raw_server: Any, bad: bytes, code: int) -> None:
    async with raw_server() as (ws, peer), anyio.create_task_group() as tasks:

        async def receive() -> None:
            with pytest.raises(wsstream.ConnectionBroken):
                await ws.receive()

        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        await peer.send(bad)
        assert await seconds_until_close(peer, code) == 0


@BAD
@pytest.mark.parametrize("front", [b"", text("unread")], ids=["nothing", "a-message"])
async def test_an_application_that_does_not_read_has_a_tenth_of_a_second(
    raw_server: Any, bad: bytes, code: int, front: bytes
) -> None:
    async with raw_server() as (ws, peer):
        await peer.send(front + bad)
        assert await seconds_until_close(peer, code) == pytest.approx(0.1)
        if front:
            assert await ws.receive() == "unread"
        with pytest.raises(wsstream.ConnectionBroken):
            await ws.receive()


async def test_one_that_only_sends_is_told_at_once(raw_server: Any) -> None:
    async with raw_server() as (ws, peer):
        ws.readable.discard()
        await peer.send(RESERVED)
        assert await seconds_until_close(peer, 1002) == 0
        with pytest.raises(wsstream.ConnectionBroken):
            await ws.send("no more")


async def test_an_answer_that_the_peer_does_not_take_delays_close_no_longer(raw_server: Any) -> None:
    """Close goes ahead of what the transport has not taken, and the peer's bytes are not read meanwhile."""
    async with raw_server(flow=FlowControl(send_high_water=1 << 24)) as (ws, peer):
        await ws.send(bytes(1 << 22))  # more than the pair holds
        await peer.send(text("one") + RESERVED)
        assert await ws.receive() == "one"
        start = anyio.current_time()
        with pytest.raises(wsstream.ConnectionBroken):
            await ws.receive()
        assert anyio.current_time() - start == pytest.approx(0.1)
        before = ws.statistics().bytes_received
        await anyio.wait_all_tasks_blocked()
        assert ws.statistics().bytes_received == before


@pytest.mark.parametrize("leave", ["aclose", "abort", "abort-sending", "too-big", "eof"])
async def test_whatever_ends_the_connection_meanwhile_the_violation_is_its_end(
    raw_server: Any, leave: str
) -> None:
    async with raw_server(max_message_size=3) as (ws, peer):
        await peer.send(text("four") + RESERVED)
        while not ws.statistics().receive_buffered:
            await checkpoint()
        assert ws.close_info is None
        match leave:
            case "aclose":
                await peer.stream.aclose()
                await ws.aclose(1000)
            case "abort":
                ws.abort()
            case "abort-sending":
                ws.writable.abort(1000)
            case "too-big":
                with pytest.raises(wsstream.MessageTooBig):
                    await ws.receive()
            case "eof":
                await peer.stream.aclose()
                with pytest.raises(wsstream.ConnectionBroken):
                    await ws.wait_closed()
        assert ws.close_info is not None
        assert ws.close_info.code == 1002


async def test_a_violation_while_closing_ends_the_closing(raw_server: Any) -> None:
    async with raw_server() as (ws, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(ws.aclose, 1000)
        assert (await peer.read_frame()).close_code == 1000
        await peer.send(RESERVED)
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            await ws.wait_closed()
        assert isinstance(caught.value.__cause__, wsstream.ProtocolViolation)
        assert await peer.read_to_end() == []
