"""ASGI's words: the types of its messages, and the scope of a WebSocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import unquote

from wsstream.opening.http import Request

__all__ = [
    "Application",
    "ClientDisconnected",
    "Fields",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "text_of",
    "websocket_scope",
]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Fields: TypeAlias = Iterable[tuple[bytes, bytes]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[Any]]


class ClientDisconnected(OSError):
    """An application sent something to a client that had left, as ASGI's ``send`` raises it."""


def websocket_scope(request: Request, *, scheme: str, root_path: str = "", **more: Any) -> Scope:
    """The scope of a WebSocket for `request`, as the ASGI specification describes it.

    Args:
        request: the opening handshake's.
        scheme: ``"ws"`` or ``"wss"``.
        root_path: the path at which the application is mounted.
        more: `client`, `server`, `state` and other keys that `request` does not tell.
    """
    scope: dict[str, Any] = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": request.http_version,
        "scheme": scheme,
        "path": root_path + unquote(request.path),
        "raw_path": root_path.encode() + request.path.encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "root_path": root_path,
        "headers": _pairs(request.headers),
        "client": None,
        "server": None,
        "subprotocols": list(request.subprotocols),
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
    scope.update(more)
    return scope


def _pairs(headers: Mapping[str, str] | Any) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def text_of(fields: Fields | None) -> list[tuple[str, str]]:
    """Header fields as the rest of the library has them."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields or ()]
