"""Whose message is sent next."""

from __future__ import annotations

import anyio

from wsstream.codec.batch import CLOSED_FOR_TURN, FrameBatch

__all__ = ["Turn"]


class Turn:
    """The right to send: one message at a time, first in, first out. Who completes a message passes it on.

    Args:
        batch: closed while the turn is taken, so that no message overtakes.

    Attributes:
        taken: some message has the turn.
    """

    __slots__ = ("_batch", "_waiting", "taken")

    def __init__(self, batch: FrameBatch) -> None:
        self.taken = False
        self._batch = batch
        self._waiting: list[anyio.Event] | None = None  # made when the first task waits

    @property
    def tasks_waiting(self) -> int:
        """How many tasks wait."""
        return len(self._waiting or ())

    async def acquire(self) -> None:
        """Wait for the turn. If cancelled, the turn is not taken."""
        if not self.taken:
            self.take()
            return
        event = anyio.Event()
        waiting = self._waiting = self._waiting or []
        waiting.append(event)
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.release()
            else:
                waiting.remove(event)
            raise

    def take(self) -> None:
        """Take the turn, which nobody has."""
        self.taken = True
        self._batch.closed_for |= CLOSED_FOR_TURN

    def release(self) -> None:
        """Pass the turn on."""
        if self._waiting:
            self._waiting.pop(0).set()
        else:
            self.taken = False
            self._batch.closed_for &= ~CLOSED_FOR_TURN

    def wake_all(self) -> None:
        """Wake every task that waits: the connection has ended, which each will see."""
        for event in self._waiting or ():
            event.set()
        self._waiting = None
