"""Closing many connections over a time, so that their clients do not all come back at once."""

from __future__ import annotations

import random
from collections.abc import Iterable

import anyio

from wsstream.streams.websocket import WebSocketStream, ending_of

__all__ = ["close_one_by_one"]


async def close_one_by_one(connections: Iterable[WebSocketStream], code: int, spread: float) -> None:
    """Begin to close each of `connections` with `code`, in random order, over `spread` seconds.

    The time is cut into as many parts as there are connections, and one is closed at a random moment of each
    part: so they are spread evenly, and servers that are drained together do not fall into step.
    """
    order = list(connections)
    random.shuffle(order)
    start, part = anyio.current_time(), spread / max(len(order), 1)
    for index, ws in enumerate(order):
        await anyio.sleep_until(start + (index + random.random()) * part)  # noqa: S311 - spreads load, guards nothing
        if (ending := ending_of(ws)).is_open:
            ending.close(code, "")
