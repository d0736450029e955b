"""A client in a log line of the server."""

from __future__ import annotations

from http import HTTPMethod

from wsstream.opening.http import Request
from wsstream.opening.peer import PeerAddress

__all__ = ["address_text", "client_name", "shown_method"]

_METHODS = frozenset(HTTPMethod)


def address_text(peer: PeerAddress, request: Request | None = None) -> str | None:
    """The client's address: with its port, or as a trusted proxy says; ``None`` if it is not known."""
    if request is not None and request.forwarded is not None and request.forwarded.client is not None:
        return request.forwarded.client
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = str(peer[0]), peer[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return peer if isinstance(peer, str) and peer else None


def shown_method(request: Request) -> str:
    """The method of `request`; ``"?"`` if HTTP has none of that name, as it may be a secret, too."""
    return request.method if request.method in _METHODS else "?"


def client_name(peer: PeerAddress, request: Request | None = None) -> str:
    """The client's address and what it requests, without the query, which may hold secrets."""
    name = address_text(peer, request) or "a client"
    return name if request is None else f"{name} {shown_method(request)} {request.path}"
