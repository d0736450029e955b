"""What the tests with other implementations share; tests/interop/conftest.py opens the connections."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from wsstream import WebSocketStream

__all__ = ["PEERS", "Link", "numbered", "pattern"]

Link = Callable[..., AbstractAsyncContextManager[tuple[WebSocketStream, Any]]]
PEERS = ("websockets", "wsproto", "aiohttp", "picows", "ws")


def pattern(seed: int, size: int) -> bytes:
    """Bytes that tell their position, as the peers make them."""
    unit = bytes((seed + i) % 251 for i in range(251))
    return (unit * (size // 251 + 1))[:size]


def numbered(index: int, size: int) -> str | bytes:
    """A message of a row, texts and binaries in turn, as the peers make them."""
    text = f"{index}:".ljust(size, ".")
    return text.encode() if index % 2 else text
