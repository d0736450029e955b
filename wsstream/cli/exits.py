"""Exit statuses, and the exception that carries one."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["EPILOG", "MEANINGS", "CommandFailed", "Exit"]


class Exit(IntEnum):
    """The exit statuses of the command line. ``SIGNAL`` is added to the number of a signal."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    NO_CONNECTION = 3
    TLS = 4
    REFUSED = 5
    LOST = 6
    CLOSED = 7
    TIMEOUT = 8
    MISMATCH = 9
    POLICY = 10
    LOCAL_IO = 11
    INTERRUPTED = 12
    SIGNAL = 128


MEANINGS = {
    Exit.OK: "done; the connection was closed with 1000, 1001 or without a code",
    Exit.INTERNAL: "an internal error, with its traceback",
    Exit.USAGE: "wrong usage, or a package that an option needs is not installed",
    Exit.NO_CONNECTION: "could not connect, or cannot listen",
    Exit.TLS: "TLS failed",
    Exit.REFUSED: "the opening handshake was refused; status and body are on stderr",
    Exit.LOST: "the connection was lost without a Close frame",
    Exit.CLOSED: "the peer closed with an error code, or before a message was complete",
    Exit.TIMEOUT: "--timeout ran out",
    Exit.MISMATCH: "the digests or the lengths differ",
    Exit.POLICY: "refused by a rule: denied, exists, too large, no space",
    Exit.LOCAL_IO: "local input or output failed",
    Exit.INTERRUPTED: "interrupted; the same command resumes",
}
"""What each status below 128 means; 128 + n means: ended by signal n."""

EPILOG = """\
exit status:
  0 done    2 usage    3 could not connect    4 TLS    5 handshake refused
  6 connection lost    7 closed with an error code    8 --timeout ran out
  9 digest mismatch    10 refused by a rule    11 local input or output
  12 interrupted, resumable    128+n ended by signal n"""


class CommandFailed(Exception):
    """Ends a command with `status`; ``str()`` of it is the message for the user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message
