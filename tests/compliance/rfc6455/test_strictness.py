"""What goes beyond the letter of RFC 6455: the order of things around a violation, and the bounds.

`ILLEGAL_FRAMES` go to an application that echoes, over a socket, in one piece after a complete message.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest

from wsstream import CloseInfo, ConnectionBroken, InvalidUTF8, ProtocolViolation, WebSocketStream
from wsstream.testing import (
    ILLEGAL_FRAMES,
    FrameCase,
    binary,
    close,
    continuation,
    frame,
    text,
)

pytestmark = pytest.mark.anyio

LIMIT = 30  # seconds
ROLES = pytest.mark.parametrize("role", ["client", "server"])
MIB = 1 << 20


async def echo(ws: WebSocketStream, seen: list[str | bytes]) -> BaseException | None:
    """Echo until the end; give what that is."""
    try:
        async for message in ws:
            seen.append(message)
            await ws.send(message)
    except ConnectionBroken as error:
        return error
    return None


async def collect(ws: WebSocketStream, seen: list[str | bytes], ends: list[BaseException | None]) -> None:
    ends.append(await echo(ws, seen))


def payload_of(message: Any) -> tuple[int, bytes]:
    return (1, message.encode()) if isinstance(message, str) else (2, message)


@pytest.mark.slow
@ROLES
@pytest.mark.parametrize("case", ILLEGAL_FRAMES, ids=str)
async def test_what_was_complete_is_delivered_and_echoed_before_the_connection_fails(
    case: FrameCase, role: Any, opened: Any, to_endpoint: Any
) -> None:
    seen: list[str | bytes] = []
    ends: list[BaseException | None] = []
    with anyio.fail_after(LIMIT):
        async with opened(role) as (ws, peer), anyio.create_task_group() as tasks:
            tasks.start_soon(collect, ws, seen, ends)
            await peer.send(to_endpoint(role, text("complete")) + case.data(role))
            *sent, last = await peer.read_to_end()
            await peer.aclose()
    messages = ["complete", *[event.value for event in case.events if event.kind in ("text", "binary")]]
    pings = [event.value for event in case.events if event.kind == "ping"]
    assert seen == messages
    assert [(f.opcode, f.payload) for f in sent if f.opcode < 8] == [payload_of(m) for m in messages]
    assert [f.payload for f in sent if f.opcode == 10] == pings
    assert (last.opcode, last.close_code) == (8, case.code)
    (end,) = ends
    assert isinstance(end, ConnectionBroken)
    assert end.info == CloseInfo(last.close_code, last.close_reason, False)
    assert type(end.__cause__) is (InvalidUTF8 if case.code == 1007 else ProtocolViolation)


VIOLATIONS = {
    "reserved bit": (frame(1, rsv2=True)[:1], 1002),
    "bad byte in a partial frame": (text(b"\xff", declared_length=1000), 1007),
    "text inside a message": (text("a", fin=False) + text()[:1], 1002),
}


@pytest.mark.heavy_after_first
@ROLES
@pytest.mark.parametrize("violation", VIOLATIONS.values(), ids=VIOLATIONS)
async def test_a_violation_fails_the_connection_though_nobody_reads(
    violation: tuple[bytes, int], role: Any, opened: Any, to_endpoint: Any
) -> None:
    data, code = violation
    with anyio.fail_after(LIMIT):
        async with opened(role) as (ws, peer):
            start = anyio.current_time()
            await peer.send(to_endpoint(role, text("unread") + data))
            assert (await peer.read_frame()).close_code == code
            assert anyio.current_time() - start < 1
            assert await ws.receive() == "unread"
            with pytest.raises(ConnectionBroken):
                await ws.receive()


@pytest.mark.heavy_after_first
@ROLES
@pytest.mark.parametrize(("last", "code"), [(frame(3), 1002), (close(1000), 1000)], ids=["failed", "closed"])
async def test_after_the_end_little_is_read_from_a_peer_that_goes_on_sending(
    last: bytes, code: int, role: Any, opened: Any, to_endpoint: Any
) -> None:
    """What has arrived is read, so that Close is not lost by a reset; a peer that floods is dropped."""
    blob = to_endpoint(role, binary(bytes(MIB)))
    with anyio.fail_after(LIMIT):
        async with opened(role, close_timeout=5) as (ws, peer):
            start = anyio.current_time()
            with pytest.raises(anyio.BrokenResourceError):
                await peer.send(to_endpoint(role, last))
                for _ in range(64):
                    await peer.send(blob)
            with suppress(ConnectionBroken):
                await ws.wait_closed()
            assert ws.close_info is not None
            assert ws.close_info.code == code
            assert anyio.current_time() - start < 4, "not by close_timeout"
            assert ws.statistics().bytes_received < 4 * MIB


@ROLES
async def test_a_pong_after_our_unfinished_frame_waits_and_holds_nothing_up(role: Any, opened: Any) -> None:
    """It cannot leave before the frame is complete (section 5.4), nor can Close; so TCP is closed at once."""
    with anyio.fail_after(5):  # less than close_timeout
        async with opened(role) as (ws, peer):
            with pytest.raises(ConnectionBroken):
                async with ws.writable.message(size=100) as message:
                    await message.send(b"part")
                    await message.flush()
                    await peer.ping(b"p")
                    await anyio.wait_all_tasks_blocked()
                    assert ws.statistics().send_buffered == 0, "the Pong waits for us, not we for it"
                    await peer.close(1000)
                    with pytest.raises(anyio.IncompleteRead):
                        await peer.read_frame()
                    await message.send(bytes(96))
            with pytest.raises(ConnectionBroken) as caught:
                await ws.wait_closed()
            assert caught.value.info == CloseInfo(1000, "", False)


@ROLES
async def test_a_pong_after_our_unfinished_frame_leaves_when_that_is_complete(role: Any, opened: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with opened(role) as (ws, peer):
            async with ws.writable.message(size=8) as message:
                await message.send(b"part")
                await message.flush()
                await peer.ping(b"p")
                await anyio.wait_all_tasks_blocked()
                await message.send(b"rest")
            assert [(await peer.read_frame()).payload for _ in range(2)] == [b"partrest", b"p"]


FRAGMENTS = 1 << 16


@pytest.mark.slow
@ROLES
async def test_a_message_of_65536_fragments(role: Any, opened: Any, to_endpoint: Any) -> None:
    data = to_endpoint(
        role, binary(b"x", fin=False) + continuation(b"y", fin=False) * (FRAGMENTS - 2) + continuation(b"z")
    )
    with anyio.fail_after(LIMIT):
        async with opened(role) as (ws, peer), anyio.create_task_group() as tasks:
            tasks.start_soon(peer.send, data)
            assert await ws.receive() == b"x" + b"y" * (FRAGMENTS - 2) + b"z"
            tasks.start_soon(peer.send, to_endpoint(role, text() * FRAGMENTS + text("end")))
            for _ in range(FRAGMENTS):
                assert await ws.receive() == ""
            assert await ws.receive() == "end"
            assert ws.state == "open"


@pytest.mark.slow
@ROLES
@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("fragment", [64 * 1024, 16 * MIB], ids=["in fragments", "in one frame"])
async def test_a_message_of_16_mib_within_limits(
    fragment: int, kind: str, role: Any, opened: Any, to_endpoint: Any
) -> None:
    message: Any = "*" * (16 * MIB) if kind == "text" else bytes(16 * MIB)
    payload = payload_of(message)[1]
    data = [
        frame(
            0 if start else payload_of(message)[0],
            payload[start : start + fragment],
            fin=start + fragment == 16 * MIB,
            mask=b"\0\0\0\0" if role == "server" else None,
        )
        for start in range(0, 16 * MIB, fragment)
    ]
    async with opened(role, max_message_size=16 * MIB) as (ws, peer), anyio.create_task_group() as tasks:
        with anyio.fail_after(LIMIT):
            tasks.start_soon(peer.send, b"".join(data))
            received = await ws.receive()
            assert received == message
            tasks.start_soon(ws.send, received)
            size, fin = 0, False
            while not fin:
                found = await peer.read_frame()
                size, fin = size + len(found.payload), found.fin
            assert size == 16 * MIB


@pytest.mark.slow
async def test_a_message_above_the_default_limit_is_1009(opened: Any, to_endpoint: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with opened("server") as (ws, peer), anyio.create_task_group() as tasks:
            tasks.start_soon(peer.send, to_endpoint("server", binary(bytes(MIB)) + binary(bytes(MIB + 1))))
            assert await ws.receive() == bytes(MIB)
            with pytest.raises(Exception, match="more than 1048576 bytes"):
                await ws.receive()
            assert (await peer.read_frame()).close_code == 1009
            tasks.cancel_scope.cancel()
