"""What a feed has published: how far its engine and its followers are behind."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from wsstream.driver.signals import Signal, spawn
from wsstream.feeds.engine import Engine
from wsstream.feeds.memory import Appended
from wsstream.feeds.position import Position
from wsstream.log import Log

__all__ = ["Publications"]

log = Log("wsstream.feeds")

_MOST_AHEAD = 10_000  # publications that the engine or the reader does not have yet
_LEAST_SHARED = 1000  # items that an engine keeps which several processes read


class Publications:
    """Appends to one topic of an engine, with and without waiting.

    Args:
        engine, topic: where to.
        keep: how many items followers may come back to.
        alone: no other feed reads the engine.
        delivered: returns the offset of the newest item that the followers were given.

    Attributes:
        lost: publications that the engine refused.
    """

    def __init__(
        self, engine: Engine, topic: str, keep: int, *, alone: bool, delivered: Callable[[], int]
    ) -> None:
        self.lost = 0
        self._engine = engine
        self._topic = topic
        self._keep = keep
        self._alone = alone
        self._delivered = delivered
        self._newest = 0  # offset of an item that was appended here
        self._unconfirmed: deque[Awaitable[Position]] = deque()
        self._confirmed = Signal()
        self._confirming = False
        self._scope: anyio.CancelScope | None = None  # of the last confirming: a feed is made without a loop

    def __len__(self) -> int:
        """How many the engine does not have yet."""
        return len(self._unconfirmed)

    def publish(self, data: str | bytes, key: str | None) -> None:
        """Append an item without waiting for it.

        Raises:
            anyio.WouldBlock: too many are not delivered; this one was not appended.
        """
        if self._undelivered >= _MOST_AHEAD or len(self._unconfirmed) >= _MOST_AHEAD:
            raise anyio.WouldBlock
        appended = self._append(data, key)
        if isinstance(appended, Appended):
            self._newest = max(self._newest, appended.position.offset)
        else:
            self._unconfirmed.append(appended)
            if not self._confirming:
                self._confirming, scope = True, anyio.CancelScope()
                self._scope = scope
                spawn(
                    partial(self._confirm, scope),
                    "wsstream publications",
                    partial(self._confirm_ended, scope),
                )

    async def append(self, data: str | bytes, key: str | None) -> Position:
        """Append an item after those that were published, and return its position.

        Raises:
            OSError: the engine failed.
        """
        appended = self._append(data, key)
        if inspect.iscoroutine(appended):  # it takes effect when it is awaited
            await self.drain()
        return await appended

    async def drain(self) -> None:
        """Wait until the engine has all that was published."""
        while self._unconfirmed:
            await self._confirmed.wait()

    def stop(self) -> None:
        """Wait for the engine no more. What it takes in a coroutine that has not begun is dropped."""
        if self._scope is not None:
            self._scope.cancel()
        for appended in list(self._unconfirmed)[1:]:  # the first one is awaited
            if inspect.iscoroutine(appended):
                appended.close()
        self._unconfirmed.clear()

    @property
    def _undelivered(self) -> int:
        """Items that the engine has and the followers do not, as far as that is known."""
        return max(0, self._newest - self._delivered())

    def _append(self, data: str | bytes, key: str | None) -> Awaitable[Position]:
        # The readers must not lose what they have yet to read.
        keep = max(self._keep, self._undelivered + 1 if self._alone else _LEAST_SHARED)
        return self._engine.append(self._topic, data, key=key, keep=keep)

    async def _confirm(self, scope: anyio.CancelScope) -> None:
        with scope:
            while self._unconfirmed:
                try:
                    await self._unconfirmed[0]
                except Exception as error:
                    if not self.lost:
                        log.error("feed %s: a publication was lost", self._topic, cause=error)
                    self.lost += 1
                self._unconfirmed.popleft()
                self._confirmed.notify()
        self._confirming = False  # now, as the next item may be published before the task has ended

    def _confirm_ended(self, scope: anyio.CancelScope) -> None:
        if scope is self._scope:  # it was cancelled, perhaps before its first step
            self._confirming = False
