"""Opening handshakes with other implementations; conftest.py says what has to be installed."""

from __future__ import annotations

import pytest
from kit.interop import Link

pytestmark = pytest.mark.anyio


async def test_without_subprotocols_and_extensions_none_are_agreed_on(link: Link) -> None:
    async with link() as (ws, _):  # websockets and ws offer and accept permessage-deflate by default
        assert ws.subprotocol == ""
        assert ws.extensions == ""
        assert ws.request.path == "/chat"


async def test_the_common_subprotocol_is_agreed_on(link: Link) -> None:
    theirs = {"subprotocols": ["v9.chat", "v2.chat"]}
    async with link(subprotocols=["v3.chat", "v2.chat"], theirs=theirs) as (ws, _):  # link compares both ends
        assert ws.subprotocol == "v2.chat"
