"""What the tests with other implementations share; tests/interop/conftest.py opens the connections."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from wsstream import WebSocketStream

__all__ = ["HEAVY", "PEERS", "Link", "numbered", "pattern"]

Link = Callable[..., AbstractAsyncContextManager[tuple[WebSocketStream, Any]]]
PEERS = ("websockets", "wsproto", "aiohttp", "picows", "ws")
# One library in the plain run, the others in the slow one.
HEAVY = pytest.mark.parametrize(
    "peer", [PEERS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in PEERS[1:])], indirect=True
)


def pattern(seed: int, size: int) -> bytes:
    """Bytes that tell their position, as the peers make them."""
    unit = bytes((seed + i) % 251 for i in range(251))
    return (unit * (size // 251 + 1))[:size]


def numbered(index: int, size: int) -> str | bytes:
    """A message of a row, texts and binaries in turn, as the peers make them."""
    text = f"{index}:".ljust(size, ".")
    return text.encode() if index % 2 else text
