"""`follow`: the items of a feed, over one connection after another."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Self, Unpack
from urllib.parse import quote

import anyio

from wsstream.arguments import check_type
from wsstream.client.attempts import ConnectOptions, Source, Target
from wsstream.client.reconnect import reconnect
from wsstream.close_codes import CloseCode
from wsstream.display import never_raises
from wsstream.errors import ConnectionClosed, ProtocolViolation
from wsstream.feeds.position import Position
from wsstream.feeds.protocol import SUBPROTOCOL, read_announcement, read_item
from wsstream.opening.retry import Backoff, Pauses
from wsstream.streams.websocket import WebSocketStream

__all__ = ["Item", "follow"]


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a feed, or a gap between two.

    Attributes:
        data: the message; ``None`` for a gap.
        position: where the feed is after it. Kept over a restart of the program, `follow` goes on from it.
        recovered: false: items before `position` are lost, and this is the gap: reload the state that they
            led to. True for each item with data.
    """

    data: str | bytes | None
    position: Position
    recovered: bool = True


def follow(
    url: str | Source,
    *,
    since: Position | None = None,
    delays: Iterable[float] = Backoff(),
    retry: Callable[[Exception], bool | None] | None = None,
    healthy_after: float = 60,
    pauses: Pauses = MappingProxyType({}),
    **options: Unpack[ConnectOptions],
) -> Follow:
    """``async for item in follow(url)``: the items of a feed, each once and in order.

    A connection that is lost is replaced, as :func:`~wsstream.reconnect` does it, and the feed goes on after
    the last item that the loop got. Where the server cannot go on there, or dropped items because this side
    was slow, the loop gets an :class:`Item` without data that is not `recovered`.

    A loop that is left keeps its connection open until it is closed, so where it may be left early::

        async with follow(url) as items:
            async for item in items: ...

    If a call for the next item is cancelled, it may be repeated, and no item is lost.

    Args:
        url: as for ``reconnect``. The position is added to its query, as the parameter ``since``.
        since: begin after this item; ``None``: with what is published from now on.
        delays, retry, healthy_after, pauses, options: as for ``reconnect``. ``subprotocols`` cannot be given.

    Raises:
        TypeError, ValueError, InvalidURL: an argument is wrong; at once.
        OSError, HandshakeError, ConnectionClosed: from the loop, as ``reconnect``.
        ProtocolViolation: from the loop: the server breaks the rules of ``wsstream.feed.v1``.
        anyio.BusyResourceError: two tasks ask for the next item.
    """
    check_type("since", since, Position | None, "a Position or None")
    if "subprotocols" in options:
        raise TypeError(f"follow takes no subprotocols: it asks for {SUBPROTOCOL}")
    options["subprotocols"] = [SUBPROTOCOL]
    return Follow(url, since, delays, retry, healthy_after, pauses, options)


class Follow:
    """The items of a feed, for ``async for``. Made by ``follow``.

    Attributes:
        position: after the last item that was returned; ``None`` before a server has told one.
    """

    def __init__(
        self,
        url: str | Source,
        since: Position | None,
        delays: Iterable[float],
        retry: Callable[[Exception], bool | None] | None,
        healthy_after: float,
        pauses: Pauses,
        options: ConnectOptions,
    ) -> None:
        self.position = since
        self._url = url
        self._connections = reconnect(
            self._target if callable(url) else _checked(url, self._target),
            delays=delays, retry=retry, healthy_after=healthy_after, pauses=pauses,
            **options,
        )  # fmt: skip
        self._ws: WebSocketStream | None = None
        self._announced = False  # on this connection
        self._held: Item | None = None  # follows the gap that was returned
        self._guard = anyio.ResourceGuard("following")
        self._closed = False

    @never_raises
    def __repr__(self) -> str:
        return f"<follow: at {self.position}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, and end the loop. If cancelled, TCP is dropped."""
        self._closed = True
        if self._ws is not None:
            await self._ws.aclose(CloseCode.NORMAL)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        with self._guard:
            while not self._closed:
                if (held := self._held) is not None:
                    self._held = None
                    return self._returned(held)
                if self._ws is None:
                    self._ws, self._announced = await anext(self._connections), False
                try:
                    message = await self._ws.receive()
                except ConnectionClosed:
                    self._ws = None  # `reconnect` judges how it ended
                    continue
                if (item := self._read(message)) is not None:
                    return self._returned(item)
            raise StopAsyncIteration

    def _returned(self, item: Item) -> Item:
        self.position = item.position
        return item

    async def _target(self) -> Target:
        given = self._url() if callable(self._url) else self._url
        if inspect.isawaitable(given):
            given = await given
        target = given if isinstance(given, Target) else Target(given)
        if self.position is None:
            return target
        mark = "&" if "?" in target.url else "?"
        return Target(f"{target.url}{mark}since={quote(str(self.position))}", **target.options)

    # -- what a server sends ---------------------------------------------------------------------

    def _read(self, message: str | bytes) -> Item | None:
        try:
            if isinstance(message, str):
                return self._read_announcement(message)
            return self._read_item(message)
        except ValueError as error:
            assert self._ws is not None
            violation = ProtocolViolation(f"the server of the feed broke a rule: {error}")
            self._ws.begin_close(CloseCode.PROTOCOL_ERROR, "not wsstream.feed.v1")
            raise violation from error

    def _read_announcement(self, text: str) -> Item | None:
        position, recovered = read_announcement(text)
        self._announced = True
        if recovered and self.position is not None and self.position.offset != position.offset:
            raise ValueError("it goes on at another offset")
        if not recovered:
            return Item(None, position, recovered=False)
        self.position = position
        return None

    def _read_item(self, message: bytes) -> Item:
        if not self._announced or self.position is None:
            raise ValueError("its first message says no position")
        offset, data = read_item(message)
        epoch, before = self.position.epoch, self.position.offset
        if offset <= before:
            raise ValueError(f"item {offset} follows item {before}")
        item = Item(data, Position(epoch, offset))
        if offset == before + 1:
            return item
        self._held = item
        return Item(None, Position(epoch, offset - 1), recovered=False)


def _checked(url: str, target: Source) -> Source:
    """The function that returns the URLs of attempts, when `url` was found to be right."""
    Target(url)
    return target
