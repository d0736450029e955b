"""Handlers and clients that do the obvious."""

from __future__ import annotations

from typing import Any

import pytest

from wsstream import WebSocketStream, connect

__all__ = ["check_echo", "echo", "fail_to_connect", "stay_open"]


async def echo(ws: WebSocketStream) -> None:
    """A handler that sends every message back."""
    async for message in ws:
        await ws.send(message)


async def stay_open(ws: WebSocketStream) -> None:
    """A handler that reads nothing and waits for the end."""
    await ws.wait_closed()


async def check_echo(ws: WebSocketStream) -> None:
    """Check that the other end echoes."""
    await ws.send("there and back")
    assert await ws.receive() == "there and back"


async def fail_to_connect(url: str = "ws://testserver/", **options: Any) -> None:
    """Try to connect; the test wants the error."""
    async with connect(url, **options):
        pytest.fail("connected")
