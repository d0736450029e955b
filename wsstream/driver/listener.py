"""What the end of a connection asks for: the driver does it."""

from __future__ import annotations

from typing import Protocol

from wsstream.codec.events import Close

__all__ = ["Listener"]


class Listener(Protocol):
    """Who does what has to be done at each step of the end. No method may raise."""

    def on_close(self, close: Close, *, urgent: bool) -> None:
        """Send `close` after all accepted messages or, if `urgent`, in place of those that have not left."""

    def on_leave(self) -> None:
        """This side has left: drop what arrives, wake every task."""

    def on_end(self, *, discard: bool) -> None:
        """How the connection ends is certain: wake every task. If `discard`, drop what has arrived."""

    def on_drop(self) -> None:
        """Close the transport, stop everything, and wake the tasks that wait for what is lost now."""

    def wake_at(self, deadline: float) -> None:
        """Call `Ending.tick` at `deadline`, in the clock's seconds, or before."""
