"""Receiving and sending over any transport."""

from __future__ import annotations

import sys
from typing import Any, cast

import pytest

from wsstream.transports.base import Transport, receive_some

pytestmark = pytest.mark.anyio


class Silent:
    """A transport whose peer says nothing at first, and then a byte."""

    def __init__(self) -> None:
        self.buffer: Any = None
        self.references = 0

    def recv_into(self, view: memoryview) -> int | None:
        if self.buffer is None:
            self.buffer = view.obj
            return None
        view[:1] = b"x"
        return 1

    async def wait_readable(self) -> None:
        self.references = sys.getrefcount(self.buffer)


async def test_who_waits_for_a_silent_peer_holds_no_buffer() -> None:
    transport = Silent()
    assert await receive_some(cast(Transport, transport), 16_384) == b"x"
    assert transport.references == 2, "one here, and one that is being counted"
