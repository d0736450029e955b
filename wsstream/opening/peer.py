"""Addresses: of the peer at the other end of a socket, and of the client behind proxies."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Forwarded", "IPAddress", "PeerAddress", "ip_address_of", "parse_address"]

IPAddress: TypeAlias = IPv4Address | IPv6Address

PeerAddress: TypeAlias = tuple[Any, ...] | str | None
"""(host, port, …) for a TCP socket, a path for a Unix socket, ``None`` if the address is not known."""


class Forwarded(NamedTuple):
    """What a trusted proxy said of a request. ``None``: nothing."""

    client: str | None
    scheme: str | None
    host: str | None


def parse_address(text: str) -> IPAddress | None:
    """The IP address in a text, IPv4 also where IPv6 carries it; ``None`` if there is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def ip_address_of(peer: PeerAddress) -> IPAddress | None:
    """The IP address of a socket's peer, ``None`` if it has none."""
    return parse_address(str(peer[0]).partition("%")[0]) if isinstance(peer, tuple) and peer else None
