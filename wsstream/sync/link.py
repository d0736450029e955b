"""One connection as threads use it: what all its parts share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

from wsstream.close_codes import CloseCode
from wsstream.display import never_raises
from wsstream.streams.close_on_exit import leave
from wsstream.streams.condition import state_of
from wsstream.streams.websocket import WebSocketStream, driver_of, ending_of
from wsstream.sync.background import Background
from wsstream.sync.incoming import Incoming
from wsstream.sync.outgoing import Outgoing

__all__ = ["Link"]

T = TypeVar("T")


class Link:
    """The asynchronous connection, the event loop it belongs to, and what waits between that and the threads.

    Made in the event loop. If it is forgotten while the connection is open, TCP is dropped, with a
    ResourceWarning.

    Args:
        background, ws: as below.
        closed_elsewhere: somebody in the event loop closes the connection in any case.

    Attributes:
        background: the event loop.
        ws: the connection. Only the event loop's thread calls its methods.
        ending: its end, for looks at it from any thread.
        incoming, outgoing: messages on their way to the threads, and from them.
    """

    def __init__(
        self, background: Background, ws: WebSocketStream, *, closed_elsewhere: bool = False
    ) -> None:
        driver = driver_of(ws)
        self._closed_elsewhere = closed_elsewhere
        self.background = background
        self.ws = ws
        self.ending = ending_of(ws)
        self.incoming = Incoming(background, driver.receiver, self.ending)
        self.outgoing = Outgoing(background, driver.sender, self.ending)
        self.ending.before_close = self.outgoing.hand_over_all
        background.guests.add(self)

    @never_raises
    def __repr__(self) -> str:
        return f"<Link of connection {self.ending.id}, {state_of(self.ending)}>"

    def __del__(self) -> None:
        ending = getattr(self, "ending", None)  # None: __init__ failed
        if ending is None or self._closed_elsewhere or self.background.forked:
            return
        if ending.info is not None or ending.left:
            return
        self.background.post_if_alive(ending.abort)
        warnings.warn(f"connection {ending.id} was not closed", ResourceWarning, stacklevel=1, source=self)

    def call(self, function: Callable[[], Coroutine[Any, Any, T]], timeout: float | None = None) -> T:
        """Run a coroutine of the connection in the event loop, and wait for its result."""
        return self.background.call(function, timeout)

    # -- the end -------------------------------------------------------------------------------

    def close(self, code: int | None, reason: str) -> None:
        """Close, and wait for the end. In a forked process nothing happens: it is the parent's connection."""
        if not self.background.forked:
            self.background.call(lambda: self._close(code, reason))

    def begin_close(self, code: int | None, reason: str) -> None:
        """The same without waiting."""
        if not self.background.forked:
            self.background.post_if_alive(lambda: self._begin_close(code, reason))

    def abort(self, code: int | None = None, reason: str = "", *, with_close: bool = False) -> None:
        """Drop what has not left: TCP at once or, `with_close`, after a Close frame. Never waits."""
        if not self.background.forked:
            self.background.post_if_alive(lambda: self._abort(code, reason, with_close))

    def leave(self, error: BaseException | None) -> None:
        """End the connection of a block that was left by `error`, and wait for the end."""
        if not self.background.forked:
            self.background.call(lambda: self._leave(error))

    # -- in the event loop ---------------------------------------------------------------------

    async def hand_over(self) -> None:
        """All that was accepted from threads leaves before Close, which follows; what was received is
        dropped.

        It waits only for a message that has the turn, as long as for the closing handshake. If cancelled, TCP
        is dropped.
        """
        if self.outgoing.must_wait:
            self.outgoing.closing = True
            self.incoming.discard()  # a peer that waits for us to read would not read itself
            try:
                with anyio.move_on_after(self.ending.timer.close_timeout):
                    await self.outgoing.wait_empty()
            except BaseException:
                self.ending.abort()
                raise
        self.outgoing.hand_over_all()  # also where the connection has ended: nothing stays behind
        self.incoming.drop()

    def _begin_close(self, code: int | None, reason: str) -> None:
        if self.outgoing.must_wait:
            self.background.spawn(lambda: self._close(code, reason))
        else:
            self.incoming.drop()
            self.ws.begin_close(code, reason)

    def _abort(self, code: int | None, reason: str, with_close: bool) -> None:
        self.incoming.drop()
        if with_close:
            self.ws.writable.abort(code, reason)
        else:
            self.ws.abort()

    async def _close(self, code: int | None, reason: str) -> None:
        await self.hand_over()
        await self.ws.aclose(code, reason)

    async def _leave(self, error: BaseException | None) -> None:
        await self.hand_over()
        await leave(self.ending, error)

    async def end_with_program(self) -> None:
        """Close with 1001, as the program ends."""
        await self.hand_over()
        self.ending.close(CloseCode.GOING_AWAY, "", hurried=True)
        await self.ending.wait_finished()
