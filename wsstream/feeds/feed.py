"""A feed: what is published goes to all followers, and no slow one delays another."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import anyio

from wsstream.arguments import check_int, check_type
from wsstream.close_codes import CloseCode
from wsstream.display import never_raises
from wsstream.driver.signals import Signal
from wsstream.errors import ConnectionClosed
from wsstream.feeds import history, hub
from wsstream.feeds.crowd import Crowds
from wsstream.feeds.engine import Engine, Page
from wsstream.feeds.follower import Followed, Follower
from wsstream.feeds.memory import MemoryEngine
from wsstream.feeds.policies import Evict, Policy, check_policy
from wsstream.feeds.position import Position
from wsstream.feeds.protocol import SUBPROTOCOL, announcement
from wsstream.feeds.publications import Publications
from wsstream.feeds.shared import batches
from wsstream.streams.block import AsyncBlock
from wsstream.streams.websocket import WebSocketStream, is_client

__all__ = ["Feed", "FeedStatistics"]

_EVICT = Evict()
_LAST_CONFIRMATIONS = 5.0  # seconds for these when the feed ends


@dataclass(frozen=True, slots=True)
class FeedStatistics:
    """A look at a feed of this process.

    Attributes:
        followers: how many there are now.
        dropped: items that were dropped because a follower was slow, once for each follower.
        evicted: followers that were closed because they were slow.
        unconfirmed: publications that the engine does not have yet.
        lost: publications that the engine refused.
    """

    followers: int
    dropped: int
    evicted: int
    unconfirmed: int
    lost: int


class Feed(AsyncBlock["Feed"]):
    """``async with Feed(name) as feed``: publish messages to any number of followers.

    Leaving the block waits for up to 5 s until the engine has what was published, and closes the followers
    with 1001.

    Args:
        name: the topic in the engine. Feeds of one name on one engine are one feed, in all processes.
        keep: how many of the newest items are kept, for followers that come back; in an engine that is given,
            1,000 at least.
        engine: what keeps them; ``None``: a :class:`MemoryEngine` of its own.

    Attributes:
        name: as given.
        position: after the newest item that followers of this process were given.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    use = "Feed(name) as feed"
    position: Position

    def __init__(self, name: str, keep: int = 10_000, engine: Engine | None = None) -> None:
        check_type("name", name, str, "a str")
        if not name:
            raise ValueError("name must not be empty")
        check_int("keep", keep, 1)
        self.name = name
        self._alone = engine is None
        self._engine: Engine = MemoryEngine() if engine is None else engine
        self._hub: hub.Hub | None = None
        self._live = Crowds()
        self._followers: dict[Follower, WebSocketStream] = {}
        self._room = Signal()
        self._publications = Publications(
            self._engine, name, keep, alone=self._alone, delivered=lambda: self.position.offset
        )
        self._dropped = self._evicted = 0

    @never_raises
    def __repr__(self) -> str:
        return f"<Feed {self.name!r} with {len(self._followers)} followers>"

    async def __aenter__(self) -> Feed:
        self.enter_once()
        pages = await self._engine.after({self.name: None}, limit=1, wait=0)
        self.position = pages[self.name].position
        self._hub = hub.join(self._engine, self, alone=self._alone)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        reader, self._hub = self._opened(), None
        try:
            with anyio.move_on_after(_LAST_CONFIRMATIONS):
                await self._publications.drain()
        finally:
            self._publications.stop()
            for follower, ws in list(self._followers.items()):
                ws.begin_close(CloseCode.GOING_AWAY)
                follower.moved.notify()
            await hub.leave(self._engine, self, reader)

    def _opened(self) -> hub.Hub:
        if self._hub is None:
            raise RuntimeError(f'this feed is not open: use "async with {self.use}"')
        return self._hub

    def statistics(self) -> FeedStatistics:
        """How many followers there are, and what was dropped."""
        return FeedStatistics(
            followers=len(self._followers),
            dropped=self._dropped + sum(each.backlog.dropped for each in self._followers),
            evicted=self._evicted + sum(each.evicted for each in self._followers),
            unconfirmed=len(self._publications),
            lost=self._publications.lost,
        )

    # -- publishing ------------------------------------------------------------------------------

    def publish(self, message: str | bytes, key: str | None = None) -> None:
        """Publish a message. Never waits, neither for a follower nor for the engine.

        Args:
            message: ``str`` as text, or bytes.
            key: names the message: while the feed keeps one with this key, another is not published.

        Raises:
            TypeError, UnicodeEncodeError: `message` or `key` is wrong.
            RuntimeError: the feed is not open.
            anyio.WouldBlock: the engine or the event loop is 10,000 publications behind; this one was not
                published.
        """
        self._opened()
        self._publications.publish(_checked(message, key), key)

    async def append(self, message: str | bytes, key: str | None = None) -> Position:
        """Publish a message, and return its position once the engine has it.

        Waits for followers with the policy :class:`Wait`. If it is cancelled or fails, the message may have
        been published: with a `key` it may be repeated, and is there once.

        Raises:
            TypeError, UnicodeEncodeError, RuntimeError: as for `publish`.
            OSError: the engine failed.
        """
        self._opened()
        data = _checked(message, key)
        while any(follower.is_waited_for for follower in self._followers):
            await self._room.wait()
        self._opened()
        return await self._publications.append(data, key)

    # -- followers -------------------------------------------------------------------------------

    async def follow(
        self,
        ws: WebSocketStream,
        *,
        since: Position | None = None,
        slow: Policy = _EVICT,
        high_water: int = 1 << 20,
        framing: Literal["v1", "plain"] | None = None,
        receives: bool = False,
    ) -> Followed:
        """Send a client the feed, until the connection or the feed ends; then return how it went.

        First comes what the feed keeps after `since`, in pages and as fast as the client reads; then what is
        published. If items after `since` are lost, the client is told, and gets what is published from now
        on. If cancelled, nothing more is sent, and the connection stays open.

        Args:
            ws: a connection that a server accepted.
            since: what the client has already, mostly ``Position.parse(ws.request)``; ``None``: it wants
                what is published from now on.
            slow: what to do when `high_water` bytes are unsent: :class:`Evict`, :class:`DropOldest`,
                :class:`Latest` or :class:`Wait`.
            high_water: bytes, of frames that wait in the feed or in the connection.
            framing: ``"v1"``: ``wsstream.feed.v1``, with positions; ``"plain"``: the messages alone, for
                clients that do not know it; ``None``: as the subprotocol says that was agreed on.
            receives: whether another task receives. By default, what the client sends is dropped.

        Raises:
            TypeError, ValueError: an argument is wrong.
            RuntimeError: the feed is not open.
        """
        self._opened()
        _check_follow(ws, since, slow, high_water, framing)
        heads = framing == "v1" if framing is not None else ws.subprotocol == SUBPROTOCOL
        if not receives:
            ws.readable.discard()
        page = Page((), self.position)
        if since is not None:
            page = await history.read(self._engine, self.name, since)
        start = history.start(page, since)
        follower = Follower(
            ws, self.name, heads=heads, slow=slow, high_water=high_water,
            position=start, has_room=self._room.notify,
        )  # fmt: skip
        self._followers[follower] = ws
        try:
            if heads:
                await ws.send(announcement(start, recovered=page.recovered))
            await self._serve(ws, follower, Page(page.entries, page.position), heads=heads)
        except ConnectionClosed:
            pass  # the end of a client is none of a server's
        finally:
            self._leave(follower)
        return follower.result()

    async def _serve(
        self, ws: WebSocketStream, follower: Follower, page: Page | None, *, heads: bool
    ) -> None:
        while follower.is_open and not follower.evicted:
            if self._hub is None:
                return
            await history.catch_up(
                ws, follower, self._engine, self.name, lambda: self.position, heads=heads, page=page
            )
            page = None
            follower.caught_up()
            self._live.add(follower)  # no other task has run since the head was read
            while not follower.needs_its_task:
                await follower.moved.wait()
            self._live.discard(follower)

    def _leave(self, follower: Follower) -> None:
        self._live.discard(follower)
        del self._followers[follower]
        follower.detach()
        self._dropped += follower.backlog.dropped
        self._evicted += follower.evicted

    async def deliver(self, page: Page) -> None:
        """Give each live follower the items of `page`: what the reader calls."""
        restarted = not page.recovered or page.position.epoch != self.position.epoch
        self.position = page.position
        if restarted:
            self._live.restart(page.position, recovered=page.recovered)
        for batch in batches(page.entries):
            await self._live.push(batch)


def _checked(message: str | bytes, key: str | None) -> str | bytes:
    """What is kept of a message.

    Raises:
        TypeError, UnicodeEncodeError: it is none.
    """
    check_type("key", key, str | None, "a str or None")
    if isinstance(message, str):
        message.encode()  # a lone surrogate raises here, and not in the reader
        return message
    if not isinstance(message, bytes | bytearray | memoryview):
        raise TypeError(f"message must be a str or bytes-like, got {type(message).__name__}")
    return bytes(message)


def _check_follow(
    ws: WebSocketStream, since: object, slow: object, high_water: object, framing: object
) -> None:
    check_type("ws", ws, WebSocketStream, "a WebSocketStream")
    if is_client(ws):
        raise ValueError("ws must be a connection that a server accepted")
    check_type("since", since, Position | None, "a Position or None")
    check_policy(slow)
    check_int("high_water", high_water, 1)
    if framing not in ("v1", "plain", None):
        raise ValueError("framing must be 'v1', 'plain' or None")
