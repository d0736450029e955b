"""Waiting until something is true."""

from __future__ import annotations

from collections.abc import Callable

import anyio

__all__ = ["until"]


async def until(condition: Callable[[], object], *, pause: float = 0.1) -> None:
    """Look every `pause` seconds, which take no time in virtual time; the test's timeout is the limit."""
    while not condition():
        await anyio.sleep(pause)
