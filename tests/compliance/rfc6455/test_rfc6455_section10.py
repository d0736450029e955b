"""RFC 6455 section 10.4: limits of an implementation; here that of a message that is asked for whole.

A row has the frames that come, the messages that are received, and whether the next one is too big.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from wsstream import CloseInfo, ConnectionBroken, MessageTooBig
from wsstream.testing import binary, continuation, ping, text

pytestmark = pytest.mark.anyio

LIMIT = 10

LIMITS: dict[str, tuple[bytes, list[str | bytes], bool]] = {
    "10.4-message-of-the-limit": (binary(bytes(10)) + text("x" * 10), [bytes(10), "x" * 10], False),
    "10.4-text-is-counted-in-bytes": (text("é" * 5) + text("é" * 5 + "x"), ["é" * 5], True),
    "10.4-message-above-the-limit": (text("a") + binary(bytes(11)), ["a"], True),
    "10.4-fragments-above-the-limit": (
        binary(bytes(6), fin=False) + continuation(bytes(5), fin=False),
        [],
        True,
    ),
    "10.4-fragments-with-ping-above-the-limit": (
        text("xxxxx", fin=False) + ping() + continuation("y" * 6),
        [],
        True,
    ),
    "10.4-frame-of-2-to-the-62-bytes": (binary(bytes(11), declared_length=1 << 62), [], True),
    "10.4-frame-that-is-only-declared": (
        text("a") + binary(bytes(10), declared_length=1 << 62),
        ["a"],
        False,
    ),
}


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in LIMITS.items()])
async def test_a_message_above_the_limit_fails_the_connection(
    row: Any, role: str, opened: Any, to_endpoint: Any
) -> None:
    data, messages, too_big = row
    with anyio.fail_after(10):
        async with opened(role, max_message_size=LIMIT) as (ws, peer):
            await peer.send(to_endpoint(role, data))
            assert [await ws.receive() for _ in messages] == messages
            if not too_big:
                assert ws.state == "open"
                return
            with pytest.raises(MessageTooBig):
                await ws.receive()
            sent = [frame for frame in await peer.read_to_end() if frame.opcode != 10]
            assert [(frame.opcode, frame.close_code) for frame in sent] == [(8, 1009)]
            await peer.aclose()
            with pytest.raises(ConnectionBroken) as caught:
                await ws.wait_closed()
            assert caught.value.info == CloseInfo(1009, sent[0].close_reason, False)
            assert isinstance(caught.value.__cause__, MessageTooBig)
