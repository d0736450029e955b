"""What an application may decide on a request, before the handshake is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from wsstream.arguments import check_type
from wsstream.opening.handshake import check_extra, validate_subprotocols
from wsstream.opening.headers import HeaderPairs, Headers
from wsstream.opening.http import Request, Response

__all__ = ["Accept", "Decision", "ProcessRequest"]


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
        check_type("subprotocol", subprotocol, str | None, "a str or None")
        if subprotocol:
            validate_subprotocols([subprotocol])
        for name, value in (("headers", checked), ("subprotocol", subprotocol), ("state", state)):
            object.__setattr__(self, name, value)


Decision: TypeAlias = Response | Accept | None
"""A response to send instead of 101, a part in the response 101, or nothing to add to it."""

ProcessRequest: TypeAlias = Callable[[Request], Decision | Awaitable[Decision]]
"""The application's function that sees each request first."""
