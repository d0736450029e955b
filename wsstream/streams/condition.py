"""The state of a connection as its users see it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsstream.driver.driver import Driver

__all__ = ["ConnectionState", "described", "state_of"]


class ConnectionState(StrEnum):
    """The state of a connection, as ``str``."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


def state_of(driver: Driver) -> ConnectionState:
    """Whether messages can be sent, the end has begun or is over."""
    if driver.finished.is_set():
        return ConnectionState.CLOSED
    return ConnectionState.OPEN if driver.is_open else ConnectionState.CLOSING


def described(part: object, driver: Driver) -> str:
    """The repr of a part of a connection: one line that tells which connection, and its state."""
    return f"<{type(part).__name__} of connection {driver.id}, {state_of(driver)}>"
