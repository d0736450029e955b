"""The state of a connection as its users see it."""

from __future__ import annotations

from enum import StrEnum

from wsstream.driver.ending import Ending

__all__ = ["ConnectionState", "described", "state_of"]


class ConnectionState(StrEnum):
    """The state of a connection, as ``str``."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


def state_of(ending: Ending) -> ConnectionState:
    """Whether messages can be sent, the end has begun or is over."""
    if ending.is_done:
        return ConnectionState.CLOSED
    return ConnectionState.OPEN if ending.is_open else ConnectionState.CLOSING


def described(part: object, ending: Ending) -> str:
    """The repr of a part of a connection: one line that tells which connection, and its state."""
    return f"<{type(part).__name__} of connection {ending.id}, {state_of(ending)}>"
