"""Closing handshakes with other implementations; conftest.py says what has to be installed."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from kit.interop import Link, numbered, pattern

from wsstream import ClosedLocally, CloseInfo, ConnectionBroken, MessageTooBig, StreamEnded

pytestmark = pytest.mark.anyio


REASON = "žluťoučký 🐎" * 6  # 108 bytes
CLOSES = [(1000, ""), (3456, REASON), (4999, "x" * 123), (None, "")]
each_close = pytest.mark.parametrize(("code", "reason"), CLOSES, ids=["1000", "3456", "4999", "none"])


@pytest.mark.heavy_after_first
@each_close
async def test_the_peer_sees_the_code_and_reason_of_aclose(
    link: Link, peer: Any, code: int | None, reason: str
) -> None:
    seen = 1005 if code is None else code
    async with link() as (ws, remote):
        await ws.aclose(code, reason)
        assert await remote.do("closed") == {"code": seen, "reason": reason}
        assert ws.close_info is not None
        assert ws.close_info.code == peer.answer_to(seen)
        with pytest.raises(ClosedLocally):
            await ws.receive()


@pytest.mark.heavy_after_first(each=("peer",))
@each_close
async def test_wsstream_sees_the_code_and_reason_of_the_peer(
    link: Link, peer: Any, code: int | None, reason: str
) -> None:
    seen = 1005 if code is None else code
    async with link() as (ws, remote):
        answer = await remote.do("close", code=code, reason=reason)
        with pytest.raises(StreamEnded) as ended:
            await ws.receive()
        assert ended.value.info == CloseInfo(seen, reason, True)
        assert await ws.wait_closed() == ws.close_info == CloseInfo(seen, reason, True)
        assert answer["code"] == seen
        assert answer["reason"] == reason or not peer.shows_reason_of_answer
        with pytest.raises(ConnectionBroken):
            await ws.send("too late")


async def test_what_the_peer_sent_before_its_close_is_delivered(link: Link) -> None:
    async with link() as (ws, remote):
        await remote.do("send_numbered", count=50, size=1000)
        await remote.do("close", code=3456, reason="that is all")
        received = [message async for message in ws]
        assert received == [numbered(index, 1000) for index in range(50)]
        assert ws.close_info == CloseInfo(3456, "that is all", True)


@pytest.mark.heavy_after_first
async def test_what_was_sent_before_aclose_reaches_the_peer(link: Link) -> None:
    size = 12 << 20  # bytes; more than the kernel takes at once
    async with link() as (ws, remote):
        await ws.send("first")
        async with anyio.create_task_group() as group:
            group.start_soon(ws.send, pattern(1, size))
            while not ws.statistics().send_buffered:
                await checkpoint()
            await ws.aclose(1001, "leaving")
        await remote.expect("first")
        await remote.expect(pattern(1, size))
        assert await remote.do("closed") == {"code": 1001, "reason": "leaving"}


async def test_the_peer_sees_1009_for_a_message_that_is_too_big(link: Link) -> None:
    async with link(max_message_size=1000, clean=False) as (ws, remote):
        await remote.do("send", pattern_of=[0, 1001])
        with pytest.raises(MessageTooBig):
            await ws.receive()
        assert (await remote.do("closed"))["code"] == 1009
