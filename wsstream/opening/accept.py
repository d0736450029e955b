"""`Accept`: how an application lets a request in and takes part in the response 101."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wsstream.opening.handshake import check_extra, validate_subprotocols
from wsstream.opening.http import HeaderPairs, Headers

__all__ = ["Accept"]


@dataclass(frozen=True, slots=True, init=False)
class Accept:
    """What ``process_request`` returns to let a request in and to take part in the response 101.

    Args:
        headers: more header fields of the response, such as ``Set-Cookie``, as a mapping or as pairs.
        subprotocol: one of those that the client offered, or ``""`` for none; ``None``: the first of the
            server's `subprotocols` that the client offered.
        state: what the handler finds as ``ws.request.state``; ``None`` leaves that as it is.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: `subprotocol` is not a token, or a header field is malformed or one that the handshake
            sets itself.
    """

    headers: Headers
    subprotocol: str | None = field(repr=False)  # this and the state may be secrets
    state: Any = field(repr=False)

    def __init__(
        self, *, headers: HeaderPairs = (), subprotocol: str | None = None, state: Any = None
    ) -> None:
        checked = Headers(headers)
        check_extra(checked)
        if subprotocol:
            validate_subprotocols([subprotocol])
        elif subprotocol not in (None, ""):
            raise TypeError(f"subprotocol must be a str or None, got {type(subprotocol).__name__}")
        for name, value in (("headers", checked), ("subprotocol", subprotocol), ("state", state)):
            object.__setattr__(self, name, value)
