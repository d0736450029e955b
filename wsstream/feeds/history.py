"""From the history to the live items: a follower reads pages at its own pace, past the live queue."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from wsstream.feeds.engine import Engine, Page
from wsstream.feeds.follower import Follower
from wsstream.feeds.position import Position
from wsstream.feeds.protocol import item_head
from wsstream.streams.websocket import WebSocketStream

__all__ = ["catch_up", "read", "start"]

_PAUSE = 0.01  # seconds
PAGE = 64  # items that one follower who catches up holds in memory


async def read(engine: Engine, topic: str, since: Position) -> Page:
    """The next page of a topic; an empty one if nothing is new."""
    pages = await engine.after({topic: since}, limit=PAGE, wait=0)
    return pages.get(topic) or Page((), since)


def start(page: Page, since: Position | None) -> Position:
    """Where a follower begins who asked for what comes after `since`; `page` is the first one."""
    if since is None or not page.recovered:
        return page.position
    return Position(page.position.epoch, since.offset)


async def catch_up(
    ws: WebSocketStream,
    follower: Follower,
    engine: Engine,
    topic: str,
    head: Callable[[], Position],
    *,
    heads: bool,
    page: Page | None = None,
) -> None:
    """Send the follower the history, until it has all that the live items will not bring.

    Args:
        head: returns the position after the last live item.
        page: the first page, if it was read already.

    Raises:
        ConnectionBroken, ClosedLocally: the connection has ended.
    """
    while True:
        if page is None:
            page = await read(engine, topic, follower.position)
        if not page.recovered or page.position.epoch != follower.position.epoch:
            follower.restart(page.position, recovered=page.recovered)
        for offset, data in page.entries:
            if heads:
                payload = data.encode() if isinstance(data, str) else data
                await ws.send(item_head(offset, text=isinstance(data, str)) + payload)
            else:
                await ws.send(data)
            follower.took(offset)
        newest = head()
        if newest.epoch == follower.position.epoch and newest.offset <= follower.position.offset:
            return
        if not page.entries:  # the live items come from another read, which is late, or early
            await anyio.sleep(_PAUSE)
        page = None
