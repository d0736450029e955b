"""The reader: one task for all feeds of a process that share an engine. Only their end cancels it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, Protocol
from weakref import WeakKeyDictionary

import anyio
from anyio.lowlevel import checkpoint

from wsstream.driver.signals import Latch, Signal, spawn
from wsstream.feeds.engine import Engine, Page
from wsstream.feeds.position import Position
from wsstream.log import Log

__all__ = ["Hub", "join", "leave"]

log = Log("wsstream.feeds")

LIMIT: Final = 256
"""Items of one page: so many of each feed are in memory besides the history."""

_WAIT: Final = 0.25  # seconds until a feed that was just opened is read, too
_WAIT_ALONE: Final = 3600.0  # no other feed can come
_PAUSE: Final = 0.5  # seconds after a failure


class Reads(Protocol):
    """A feed, as the reader needs it."""

    @property
    def name(self) -> str:
        """Its topic."""
        ...

    @property
    def position(self) -> Position:
        """After the last item that it was given."""
        ...

    def deliver(self, page: Page) -> Awaitable[None]:
        """Give each follower the items of `page`."""
        ...


class Hub:
    """Reads the topics of some feeds, each of another name, and gives them the pages."""

    def __init__(self, engine: Engine, *, alone: bool) -> None:
        self.feeds: dict[str, Reads] = {}
        self._engine = engine
        self._wait = _WAIT_ALONE if alone else _WAIT
        self._added = Signal()
        self._scope = anyio.CancelScope()
        self._over = Latch()
        self._failing = False
        spawn(self._run, "wsstream feeds", self._over.set)

    async def _run(self) -> None:
        with self._scope:
            while True:
                try:
                    await self._step()
                    self._failing = False
                except Exception as error:
                    if not self._failing:
                        cause = None if isinstance(error, OSError) else error
                        log.error("feeds cannot be read: %s", error, cause=cause)
                    self._failing = True
                    await anyio.sleep(_PAUSE)

    async def _step(self) -> None:
        if not self.feeds:
            await self._added.wait()
        positions = {name: feed.position for name, feed in self.feeds.items()}
        pages = await self._engine.after(positions, limit=LIMIT, wait=self._wait)
        for name, page in pages.items():
            if (feed := self.feeds.get(name)) is not None:
                await feed.deliver(page)
        await checkpoint()

    @property
    def has_ended(self) -> bool:
        """Whether it reads no more."""
        return self._over.is_set()

    def add(self, feed: Reads) -> None:
        """Read another feed, from its position on."""
        self.feeds[feed.name] = feed
        self._added.notify()

    async def stop(self) -> None:
        """Cancel the reader, and wait for its end."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._over.wait()


_hubs: WeakKeyDictionary[Engine, list[Hub]] = WeakKeyDictionary()


def join(engine: Engine, feed: Reads, *, alone: bool) -> Hub:
    """Have a feed read, by a reader of no other feed of this name. `alone`: no other feed will come."""
    hubs = _hubs.setdefault(engine, [])
    # A block of `Feed` may never be left: its reader has ended with the event loop.
    hubs[:] = [hub for hub in hubs if not hub.has_ended]
    hub = next((hub for hub in hubs if feed.name not in hub.feeds), None)
    if hub is None:
        hubs.append(hub := Hub(engine, alone=alone))
    hub.add(feed)
    return hub


async def leave(engine: Engine, feed: Reads, hub: Hub) -> None:
    """Read the feed no more. If cancelled, it is over all the same."""
    del hub.feeds[feed.name]
    if not hub.feeds:
        if hub in (hubs := _hubs[engine]):
            hubs.remove(hub)
        await hub.stop()
