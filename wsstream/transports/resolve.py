"""Host names to socket addresses."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple, TypeAlias

import anyio

__all__ = ["Address", "SocketName", "resolve"]

SocketName: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""A TCP address as `socket` takes and returns it: host and port. For an IPv6 address that is only valid on
one link (``fe80::/10``) it also has flow label and scope, the number of the interface."""


class Address(NamedTuple):
    """Where to connect or to bind: an address family, and an address in `socket`'s form."""

    family: int
    sockaddr: SocketName

    @property
    def host(self) -> str:
        """The IP address, with its scope if it has one (RFC 4007 section 11): ``fe80::1%2``."""
        host, scope = self.sockaddr[0], self.scope
        return f"{host}%{scope}" if scope else host

    @property
    def port(self) -> int:
        """The port."""
        return self.sockaddr[1]

    @property
    def scope(self) -> int:
        """The number of the interface on which the address is valid, 0 if it is valid everywhere."""
        return self.sockaddr[3] if len(self.sockaddr) == 4 else 0

    def with_port(self, port: int) -> Address:
        """The same address with another port."""
        host, _, *rest = self.sockaddr
        return self._replace(sockaddr=(host, port, *rest))  # type: ignore[arg-type]  # as long as it was

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"


async def resolve(host: str | None, port: int, *, passive: bool = False) -> list[Address]:
    """Return the addresses of `host` for TCP, in the resolver's order, without duplicates.

    For an IP address no resolver is asked; it may have a scope (``fe80::1%eth0``). If `passive`, a `host` of
    ``None`` stands for all interfaces. Cancelling leaves nothing behind.

    Raises:
        OSError: the name has no address or is not a host name (``socket.gaierror``), or this machine does not
            have the interface of the scope.
    """
    if host is not None and (family := _literal_family(host)):
        return [_address(family, host, port)]
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror as exc:
        raise socket.gaierror(exc.errno, f"cannot resolve {host!r}: {exc.strerror}") from exc
    except UnicodeError as exc:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is not a host name") from exc
    addresses = [_address(family, *sockaddr) for family, _, _, _, sockaddr in found]
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} has no address")
    return list(dict.fromkeys(addresses))


def _literal_family(host: str) -> int:
    """The family of an IP address in text form; 0 for a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return 0
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _address(family: int, host: str, port: int) -> Address:
    """An IP address in text form, perhaps with a scope, in `socket`'s form, which has the scope apart."""
    if "%" not in host:
        return Address(family, (host, port))
    try:
        (found, *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror as exc:
        what = "there is no such interface, or the address is not link-local"
        raise socket.gaierror(exc.errno, f"cannot resolve {host!r}: {what}") from exc
    return Address(family, found[4])  # type: ignore[arg-type]  # of IPv6, four parts
