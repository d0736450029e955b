"""Exit statuses, and the exception that carries one."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CommandFailed", "Exit"]


class Exit(IntEnum):
    """The exit statuses of the command line; 1 is an internal error with its traceback."""

    OK = 0
    USAGE = 2
    NO_CONNECTION = 3
    TLS = 4
    REFUSED = 5  # the opening handshake
    LOST = 6  # without a Close frame
    CLOSED = 7  # by the peer, too early or with an error code
    MISMATCH = 9  # of digest or length
    LOCAL_IO = 11
    SIGNAL = 128  # plus the number of the signal


class CommandFailed(Exception):
    """Ends a command with `status`; ``str()`` of it is the message for the user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message
