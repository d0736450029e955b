"""TransferError: a file was not sent, not received or not stored, with the name of the reason."""

from __future__ import annotations

from wsstream.errors import WebSocketError

__all__ = ["TransferError"]


class TransferError(WebSocketError):
    """A transfer failed. `error` is one of the names that the protocol has, ``"no-space"`` for example.

    Args:
        error: the name.
        reason: one line for a person.
        retry: ``"never"``, ``"now"`` or ``"later"``; ``None`` if nothing is known.
    """

    def __init__(self, error: str, reason: str = "", *, retry: str | None = None) -> None:
        super().__init__(f"{error}: {reason}" if reason else error)
        self.error = error
        self.reason = reason
        self.retry = retry
