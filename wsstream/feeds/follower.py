"""One follower of a feed on a server: what it has, what waits for it, and what happens when it is slow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from wsstream.close_codes import CloseCode
from wsstream.codec.encoder import first_byte
from wsstream.codec.frames import Opcode
from wsstream.codec.speedups import make_frame
from wsstream.driver.signals import Signal
from wsstream.errors import CloseInfo
from wsstream.feeds.backlog import Backlog
from wsstream.feeds.policies import DropOldest, Evict, Latest, Policy, Wait
from wsstream.feeds.position import Position
from wsstream.feeds.protocol import announcement
from wsstream.feeds.shared import Batch, SharedItem, variant_of
from wsstream.log import Log
from wsstream.streams.websocket import WebSocketStream, driver_of

__all__ = ["Followed", "Follower"]

log = Log("wsstream.feeds")

_TEXT: Final = first_byte(Opcode.TEXT)


@dataclass(frozen=True, slots=True)
class Followed:
    """How a follower's connection went, when it has ended.

    Attributes:
        items: how many were handed over to the connection.
        dropped: how many were dropped because the follower was slow.
        evicted: whether it was closed because it was slow.
        position: after the last item that was handed over or dropped.
        close_info: how the connection ended; ``None`` while it is still closing.
    """

    items: int
    dropped: int
    evicted: bool
    position: Position
    close_info: CloseInfo | None


class Level(Protocol):
    """Followers for whom nothing waits, as one of them needs them."""

    given: int
    last: int


class Follower:
    """Hands over shared frames to one connection, as far as there is room, and keeps the rest.

    Nothing here waits: the feed calls `push`, and the connection calls `_refill` when it has room.

    Args:
        ws: a server's connection.
        name: the feed's, for the log.
        heads: the connection speaks ``wsstream.feed.v1``.
        slow, high_water: as for :meth:`Feed.follow`.
        position: where it is.
        has_room: called when a follower that others wait for has room, or has ended.

    Attributes:
        variant: of the frames that the connection takes.
        send_frames: sends such frames, if nothing waits, see :meth:`FrameBatch.send_frames`.
        backlog: the items that wait, in bytes and in number.
        behind: it has to catch up from the history, as `Wait` drops nothing.
        evicted: it was closed because it was slow.
        moved: notified when it has to catch up, or the end has come.
    """

    __slots__ = (
        "_crowd",
        "_epoch",
        "_filling",
        "_handed_over",
        "_has_room",
        "_heads",
        "_high_water",
        "_last",
        "_level",
        "_name",
        "_news",
        "_pump",
        "_room",
        "_sender",
        "_slow",
        "_told",
        "_ws",
        "backlog",
        "behind",
        "evicted",
        "moved",
        "send_frames",
        "variant",
    )

    def __init__(
        self,
        ws: WebSocketStream,
        name: str,
        *,
        heads: bool,
        slow: Policy,
        high_water: int,
        position: Position,
        has_room: Callable[[], object],
    ) -> None:
        self._ws = ws
        self._name = name
        self._sender = sender = driver_of(ws).sender
        self._heads = heads
        self.variant = variant_of(heads=heads, deflate=sender.connection.agreed_deflate)
        sender.connection.keep_no_context()
        self.send_frames = sender.batch.send_frames
        self._slow = slow
        self._high_water = high_water
        self._room = min(high_water, sender.high_water)
        self._has_room = has_room
        self._epoch, self._last = position.epoch, position.offset
        self._crowd: Level | None = None  # which keeps the numbers of this one meanwhile
        self._news: bytes | None = None  # the frame of an announcement that could not leave yet
        self._filling = False
        self._level = True  # nothing waits here
        self._told = False  # the log has its line
        self.backlog = Backlog(self.variant)
        self.behind = False
        self.evicted = False
        self.moved = Signal()
        self._handed_over = 0
        self._pump = sender.pump
        self._pump.followers += (self._refill,)

    def detach(self) -> None:
        """Hear no more of the connection."""
        self._pump.followers = tuple(each for each in self._pump.followers if each != self._refill)
        self._has_room()

    @property
    def position(self) -> Position:
        """After the last item that was handed over, is waiting, or was dropped."""
        return Position(self._epoch, self._last if self._crowd is None else self._crowd.last)

    @property
    def is_open(self) -> bool:
        """Whether items can be sent to it."""
        return self._sender.is_open

    @property
    def needs_its_task(self) -> bool:
        """Whether it has to catch up, as it is `behind` and has all that waited for it, or has ended."""
        return not self.is_open or (self.behind and not self.backlog)

    @property
    def unsent(self) -> int:
        """Bytes that wait here, and those that the connection holds."""
        return self.backlog.size + self._pump.unsent

    @property
    def is_waited_for(self) -> bool:
        """Whether ``append`` has to wait for it."""
        if not isinstance(self._slow, Wait) or not self.is_open:
            return False
        return self.behind or self.unsent >= self._high_water

    def result(self) -> Followed:
        """How it went."""
        return Followed(
            self._handed_over, self.backlog.dropped, self.evicted, self.position, self._ws.close_info
        )

    # -- items of the feed -----------------------------------------------------------------------

    def push(self, batch: Batch) -> None:
        """Take the next items; those that it has already are left out. Raises nothing.

        A `key` of the application that raises closes the connection with 1011.
        """
        if (
            self._level
            and batch.first == self._last + 1
            and self._pump.unsent < self._room
            and self._sender.hand_over(batch.pieces(self.variant))
        ):
            self._last = batch.last
            self._handed_over += len(batch.items)
            self.check_mark()
            return
        try:
            for item in batch.items:
                if item.offset > self._last and not self.behind and not self.evicted:
                    self._keep(item)
        except Exception as error:
            log.error("connection %s: a follower of the feed %s failed", self._ws.id, self._name, cause=error)
            self._ws.writable.abort(CloseCode.INTERNAL_ERROR)

    def _keep(self, item: SharedItem) -> None:
        self._last = item.offset
        self.backlog.add(item)
        self._level = False
        self._refill()
        self.check_mark()

    def check_mark(self) -> None:
        """Do what the policy says, if the mark is reached."""
        if self.unsent >= self._high_water:
            self._relieve()

    def took(self, offset: int) -> None:
        """An item of the history was handed over by other means."""
        self._last = offset
        self._handed_over += 1

    # -- while nothing waits, a crowd keeps the numbers ------------------------------------------

    def is_level_at(self, offset: int) -> bool:
        """Whether it has all up to this item, nothing waits, and `send_frames` sends, unlike over TLS."""
        if not self._level or self._last != offset or not self.is_open:
            return False
        return self._sender.batch.send is not None and not self._pump.unsent

    def enter(self, crowd: Level) -> None:
        """From now on, `crowd` counts for it; it is where the crowd is."""
        self._crowd = crowd
        self._handed_over -= crowd.given

    def leave(self, crowd: Level) -> None:
        """From now on, it counts by itself."""
        self._crowd = None
        self._handed_over += crowd.given
        self._last = crowd.last

    # -- to the connection -----------------------------------------------------------------------

    def restart(self, position: Position, *, recovered: bool) -> None:
        """The numbering of the feed has changed. Not `recovered`: what comes next follows `position`."""
        if not recovered:
            self.backlog.clear()
            self._last = position.offset
        self._epoch = position.epoch
        if self._heads:
            next_offset = self.backlog.first.offset if self.backlog else self._last + 1
            text = announcement(Position(self._epoch, next_offset - 1), recovered=recovered)
            self._news = make_frame(_TEXT, text.encode(), None)
            self._level = False
            self._refill()

    def _refill(self) -> None:
        """Hand over what waits, as far as there is room."""
        if self._filling:  # handing over may call this again
            return
        self._filling = True
        try:
            if self._news is not None and self._sender.hand_over((self._news,)):
                self._news = None
            while self.backlog and self._news is None and self._sender.can_hand_over:
                if (room := self._room - self._pump.unsent) <= 0:
                    break
                count = len(self.backlog)
                self._sender.hand_over(self.backlog.take(room))
                self._handed_over += count - len(self.backlog)
        finally:
            self._filling = False
            self._level = not self.backlog and self._news is None
        if self.needs_its_task:
            self.moved.notify()
        if isinstance(self._slow, Wait) and not self.is_waited_for:
            self._has_room()

    # -- a slow follower -------------------------------------------------------------------------

    def _relieve(self) -> None:
        """The mark is reached."""
        limit = self._high_water - 1 - self._pump.unsent
        match self._slow:
            case DropOldest():
                self.backlog.drop_oldest(limit)
            case Latest(key):
                self.backlog.keep_newest(key, limit)
            case Evict(code, reason):
                self._evict(code, reason)
            case Wait():
                self.behind = True
                self.moved.notify()
        if self.backlog.dropped and not self._told:
            self._tell("items are dropped")

    def _evict(self, code: int, reason: str) -> None:
        if self.is_open:
            self.evicted = True
            self._tell(f"closed with {code}")
            self.backlog.clear()
            self._ws.writable.abort(code, reason)
            self.moved.notify()

    def _tell(self, what: str) -> None:
        self._told = True
        log.warning(
            "connection %s: too slow for the feed %s, %s unsent: %s",
            self._ws.id, self._name, f"{self._high_water} bytes", what,
        )  # fmt: skip

    def caught_up(self) -> None:
        """It has all that the history had for it."""
        self.behind = False
        self._has_room()
