"""How a transfer fails: the names that both ends know, with what each asks of the one who tries again."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from wsstream.display import quoted
from wsstream.errors import WebSocketError

__all__ = ["ERRORS", "MAX_REASON", "RETRIES", "ErrorKind", "Retry", "TransferError", "cut_reason"]

Retry = Literal["never", "now", "later"]
RETRIES: Final[tuple[Retry, ...]] = ("never", "now", "later")

MAX_REASON: Final = 123
"""Bytes of UTF-8 in a reason, so that each fits into a Close frame (RFC 6455 section 5.5)."""


class ErrorKind(NamedTuple):
    """What an error's name stands for: whether to try again, and the close code if it ends the connection."""

    retry: Retry
    close_code: int
    meaning: str


ERRORS: Final = {
    "protocol": ErrorKind("never", 4002, "the peer broke a rule of the protocol"),
    "unsupported": ErrorKind(
        "never", 4501, "the peer does not have what is needed: version, request, digest"
    ),
    "unauthorized": ErrorKind("never", 4401, "the client has not shown who it is"),
    "denied": ErrorKind("never", 4403, "the client may not do this"),
    "invalid-name": ErrorKind("never", 4400, "the name of a file is not allowed"),
    "not-found": ErrorKind("never", 4404, "there is no such file"),
    "exists": ErrorKind("never", 4412, "there is such a file, and it must not be replaced"),
    "too-large": ErrorKind("never", 4413, "the file is larger than the receiver takes"),
    "quota": ErrorKind("never", 4506, "the client has used up its share of the storage"),
    "no-space": ErrorKind("later", 4507, "the storage is full"),
    "busy": ErrorKind("later", 4503, "too much is going on at present"),
    "changed": ErrorKind("now", 4420, "the file changed while it was sent"),
    "short": ErrorKind("now", 4421, "the file ended before its offered size"),
    "digest-mismatch": ErrorKind("now", 4422, "what arrived is not what was sent"),
    "io": ErrorKind("later", 4510, "reading or writing the file failed"),
    "timeout": ErrorKind("now", 4408, "the peer did not answer in time"),
    "superseded": ErrorKind("never", 4409, "a newer connection has taken this transfer over"),
    "cancelled": ErrorKind("never", 4499, "a person or a program stopped the transfer"),
    "shutdown": ErrorKind("later", 4012, "the peer is about to end"),
    "internal": ErrorKind("later", 4500, "a fault in the program"),
}
"""Every name, in the order of the specification."""


def cut_reason(reason: str) -> str:
    """`reason` with at most `MAX_REASON` bytes of UTF-8; lone surrogates become question marks."""
    return reason.encode(errors="replace")[:MAX_REASON].decode(errors="ignore")


class TransferError(WebSocketError):
    """A transfer failed, or a connection that carries transfers.

    Raised inside the body of ``connect`` or a server's handler, it closes the connection with the code of
    its kind, as every :class:`~wsstream.WebSocketError` with a code does.

    Attributes:
        error: the name, one of the twenty of ``wsstream.file.v1``, such as ``"no-space"``.
        reason: more about it, at most 123 bytes of UTF-8. It may be the peer's text.
        retry: ``"never"``: the same attempt would fail again. ``"now"``: try again at once. ``"later"``: try
            again after a pause.
        code: the close code of the name, from 4000 to 4999.

    Args:
        error: one of the names.
        reason: longer ones are cut in `reason`; ``str()`` of the exception has all of it.
        retry: by default what `ERRORS` says.

    Raises:
        ValueError: `error` is not one of the names.
    """

    error: str = "internal"
    retry: Retry = "later"

    def __init__(self, error: str, reason: str = "", *, retry: Retry | None = None) -> None:
        if error not in ERRORS:
            raise ValueError(f"error must be one of {', '.join(ERRORS)}, got {quoted(error)}")
        kind = ERRORS[error]
        message = f"{error}: {reason}" if reason else f"{error}: {kind.meaning}"
        super().__init__(message, code=kind.close_code, reason=cut_reason(reason))
        self.error = error
        self.retry = kind.retry if retry is None else retry

    @classmethod
    def from_peer(cls, error: str, reason: str, retry: Retry | None = None) -> TransferError:
        """The error that a peer reported. A name that is unknown here is ``internal``."""
        if error in ERRORS:
            return cls(error, reason, retry=retry)
        return cls("internal", f"{error}: {reason}", retry=retry)
