"""The live followers, in crowds: the next items go by one loop to all those for whom nothing waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from anyio.lowlevel import checkpoint

from wsstream.feeds.follower import Follower
from wsstream.feeds.position import Position
from wsstream.feeds.shared import Batch, Variant

__all__ = ["MOST", "Crowd", "Crowds"]

MOST: Final = 128
"""Followers that are served before other tasks run: about a millisecond."""


class Crowd:
    """Up to `MOST` live followers whose connections take the same frames.

    Those for whom nothing waits are *level*: they are all after the item `last`, and their numbers are kept
    here for all of them. So the loop that serves them touches one object for each. That matters: with many
    followers none of their memory is in a cache, and to fetch it takes longer than to run the loop.

    Attributes:
        variant: of the frames.
        last: the offset of the item that the level ones were given last.
        given: how many items the level ones were given, since the crowd is there.
    """

    __slots__ = ("_apart", "_level", "given", "last", "variant")

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.last = self.given = 0
        self._level: dict[Follower, Callable[[bytes], bool | None]] = {}
        self._apart: dict[Follower, None] = {}

    def __len__(self) -> int:
        return len(self._level) + len(self._apart)

    def add(self, follower: Follower) -> None:
        """One more follower is live."""
        self._apart[follower] = None

    def remove(self, follower: Follower) -> None:
        """Give this one no more."""
        if follower in self._level:
            self._part(follower)
        del self._apart[follower]

    def push(self, batch: Batch) -> None:
        """Give each follower the next items, or have them wait for it. Raises nothing."""
        pieces = batch.pieces(self.variant)
        if len(pieces) == 1 and batch.first == self.last + 1:
            self._send(pieces[0], batch)
        else:
            self.part()
        for follower in list(self._apart):
            follower.push(batch)
        self.last = batch.last
        for follower in [each for each in self._apart if each.is_level_at(self.last)]:
            del self._apart[follower]
            self._level[follower] = follower.send_frames
            follower.enter(self)

    def _send(self, frames: bytes, batch: Batch) -> None:
        """Send the level ones `frames`. Those that cannot take them at once are apart from now on."""
        refused: list[Follower] = []
        full: list[Follower] = []
        for follower, send in self._level.items():
            if (left := send(frames)) is not True:
                (refused if left is None else full).append(follower)
        for follower in refused:  # as they were
            self._part(follower)
        self.last = batch.last
        self.given += len(batch.items)
        for follower in full:
            self._part(follower)
            follower.check_mark()

    def part(self) -> None:
        """From now on, no follower is level."""
        for follower in list(self._level):
            self._part(follower)

    def _part(self, follower: Follower) -> None:
        del self._level[follower]
        self._apart[follower] = None
        follower.leave(self)


class Crowds:
    """All live followers of a feed."""

    def __init__(self) -> None:
        self._crowds: list[Crowd] = []
        self._of: dict[Follower, Crowd] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[Follower]:
        return iter(self._of)

    def add(self, follower: Follower) -> None:
        """One more follower is live."""
        crowd = next(
            (each for each in self._crowds if each.variant is follower.variant and len(each) < MOST), None
        )
        if crowd is None:
            crowd = Crowd(follower.variant)
            self._crowds.append(crowd)
        self._of[follower] = crowd
        crowd.add(follower)

    def discard(self, follower: Follower) -> None:
        """This one is live no more, if it was."""
        if (crowd := self._of.pop(follower, None)) is not None:
            crowd.remove(follower)
            if not crowd:
                self._crowds.remove(crowd)

    def restart(self, position: Position, *, recovered: bool) -> None:
        """The numbering of the feed has changed, see :meth:`Follower.restart`."""
        for crowd in self._crowds:
            crowd.part()
        for follower in list(self._of):
            follower.restart(position, recovered=recovered)

    async def push(self, batch: Batch) -> None:
        """Give each follower the next items. Followers that come meanwhile have them from the history."""
        served = 0
        for crowd in list(self._crowds):
            crowd.push(batch)
            served += len(crowd)
            if served >= MOST:
                served = 0
                await checkpoint()
