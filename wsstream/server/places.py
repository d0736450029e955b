"""How many connections a server may have: in all, and for each client."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from math import inf
from typing import TypeAlias

from wsstream.opening.handshake_server import RequestRejected
from wsstream.opening.http import Request, Response
from wsstream.opening.peer import parse_address

__all__ = ["Limits", "Places", "client_network"]


class Limits:
    """The most clients of each kind; ``None`` for no limit.

    Args:
        handshakes: those that have yet to send their request, and rejected ones that read the response.
        connections: those whose request is complete or whose connection is open.
        per_client: as `connections`, but of one client, as `client_network` tells them apart.
    """

    __slots__ = ("connections", "handshakes", "per_client")

    def __init__(self, handshakes: int | None, connections: int | None, per_client: int | None) -> None:
        self.handshakes = inf if handshakes is None else handshakes
        self.connections = inf if connections is None else connections
        self.per_client = per_client


Place: TypeAlias = str | None
"""What a client is counted under; ``None``: under nothing but the sum."""


def client_network(request: Request) -> Place:
    """The client that a request comes from: an IPv4 address, or the /64 of an IPv6 address.

    Behind trusted proxies it is that of the client, as they say. One customer of a provider has a /64 at
    least, so its addresses count as one client. ``None`` where no address is known, as on a Unix socket.
    """
    address = None if request.client is None else parse_address(request.client)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return None if address is None else str(address)


class Places:
    """Gives places to clients whose requests are complete.

    Args:
        limits: how many there are.
        client_of: tells clients apart.

    Attributes:
        taken: how many places are taken.
        draining: no place is given any more to those who ask for a WebSocket.
    """

    def __init__(self, limits: Limits, client_of: Callable[[Request], Place] = client_network) -> None:
        self._limits = limits
        self._client_of = client_of
        self.taken = 0
        self._by_client: dict[str, int] = {}
        self.draining = False

    def take(self, request: Request) -> Place:
        """Give a place to the client of `request`; it is to be given back by `free`.

        Raises:
            RequestRejected: there is none.
        """
        if self.draining and "upgrade" in request.headers:
            raise _rejected(503, "The server is about to stop.")
        if self.taken >= self._limits.connections:
            raise _rejected(503, "The server has as many connections as it takes.")
        client = None if self._limits.per_client is None else self._client_of(request)
        if client is not None:
            count = self._by_client.get(client, 0)
            if self._limits.per_client is not None and count >= self._limits.per_client:
                raise _rejected(429, "This client has as many connections as it may have.")
            self._by_client[client] = count + 1
        self.taken += 1
        return client

    def free(self, place: Place) -> None:
        """A place that `take` gave is free."""
        self.taken -= 1
        if place is not None:
            if self._by_client[place] == 1:
                del self._by_client[place]
            else:
                self._by_client[place] -= 1


def _rejected(status: int, reason: str) -> RequestRejected:
    return RequestRejected(Response(status, [("Retry-After", "1")], f"{reason}\n"), reason)
