"""What a session tells its program: messages of the peer as they are, and ends."""

from __future__ import annotations

from dataclasses import dataclass

from wsstream.files.errors import TransferError
from wsstream.files.protocol.messages import Message

__all__ = ["Event", "Failed", "Stopped"]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The active request is over without success, by the peer or by a check of this end.

    `keep`: a part of the file is worth keeping.
    """

    id: int
    error: TransferError
    keep: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The connection is over, and with it the active request."""

    error: TransferError


Event = Message | Stopped | Failed
