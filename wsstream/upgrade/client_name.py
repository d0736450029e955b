"""A client in a log line of the server."""

from __future__ import annotations

from http import HTTPMethod

from wsstream.opening.http import Request
from wsstream.opening.peer import PeerAddress

__all__ = ["client_name"]

_METHODS = frozenset(HTTPMethod)


def client_name(peer: PeerAddress, request: Request | None = None) -> str:
    """The client's address and what it requests, without the query, which may hold secrets."""
    name = "a client"
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = str(peer[0]), peer[1]
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    elif isinstance(peer, str) and peer:
        name = peer
    if request is None:
        return name
    method = request.method if request.method in _METHODS else "?"  # any other may be a secret, too
    return f"{name} {method} {request.path}"
