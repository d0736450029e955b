"""One client of a server: an accepted socket, its task, and which limit it counts for."""

from __future__ import annotations

import socket
from enum import Enum, auto

import anyio

from wsstream.opening.http import PeerAddress
from wsstream.streams.websocket import WebSocketStream
from wsstream.upgrade.client_name import client_name
from wsstream.upgrade.server import ServerUpgrade

__all__ = ["Client", "ClientState"]


class ClientState(Enum):
    """Which limit a client counts for, and whether it may still open a connection."""

    PENDING = auto()
    """Its request is not complete; counts for `max_handshakes`."""
    ADMITTED = auto()
    """Its request is complete or its connection open; counts for `max_connections`."""
    REJECTED = auto()
    """It has yet to read the response; counts for `max_handshakes` again."""


class Client:
    """An accepted socket and its task.

    Attributes:
        sock: the socket, until a transport owns it.
        peer: the client's address.
        scope: cancels the task; its deadline is that of the opening handshake.
        upgrade: the opening handshake, while it is in progress.
        ws: the connection, once it is open.
        state: where the client stands.
        dropped: why the task was cancelled, if not by the deadline.
    """

    __slots__ = ("dropped", "peer", "scope", "sock", "state", "upgrade", "ws")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.peer = _peer_address(sock)
        self.scope = anyio.CancelScope(deadline=deadline)
        self.upgrade: ServerUpgrade | None = None
        self.ws: WebSocketStream | None = None
        self.state = ClientState.PENDING
        self.dropped: str | None = None

    def drop(self, why: str) -> None:
        """Cancel the task."""
        self.dropped = why
        self.scope.cancel()

    def __str__(self) -> str:
        return client_name(self.peer, None if self.upgrade is None else self.upgrade.request)


def _peer_address(sock: socket.socket) -> PeerAddress:
    try:
        return sock.getpeername()  # type: ignore[no-any-return]
    except OSError:  # the client is gone already
        return None
