"""One client of a server: an accepted socket, its task, once it has one, and which limit it counts for."""

from __future__ import annotations

import socket
from enum import Enum, auto

import anyio

from wsstream.opening.peer import PeerAddress
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.base import Transport
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


_PENDING = ClientState.PENDING  # a name of the module is found faster than a member of an enum


class Client:
    """An accepted socket, or a transport that is open already, and its task.

    Attributes:
        source: the socket, until a transport owns it; or the transport itself.
        peer: the client's address; that of its proxy, until it is known.
        is_known: whether that is the client's own, as far as the PROXY protocol says.
        since: when it came.
        deadline: of the opening handshake.
        scope: cancels the task, once that runs.
        upgrade: the opening handshake, while it is in progress.
        ws: the connection, once it is open.
        state: where the client stands.
        place: what the server counts an admitted client under.
        dropped: why the server gave the client up, if not for the deadline.
    """

    __slots__ = (
        "deadline",
        "dropped",
        "is_known",
        "peer",
        "place",
        "scope",
        "since",
        "source",
        "state",
        "upgrade",
        "ws",
    )

    def __init__(
        self, source: socket.socket | Transport, peer: PeerAddress, since: float, deadline: float
    ) -> None:
        self.source = source
        self.peer = peer
        self.since = since
        self.is_known = True
        self.deadline = deadline
        self.scope: anyio.CancelScope | None = None
        self.upgrade: ServerUpgrade | None = None
        self.ws: WebSocketStream | None = None
        self.state = _PENDING
        self.place: str | None = None
        self.dropped: str | None = None

    def drop(self, why: str) -> None:
        """Cancel the task, or have it cancelled at its first step."""
        self.dropped = why
        if self.scope is not None:
            self.scope.cancel()

    def __str__(self) -> str:
        return client_name(self.peer, None if self.upgrade is None else self.upgrade.request)
