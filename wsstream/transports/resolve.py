"""Host names to socket addresses."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple, TypeAlias

import anyio

__all__ = ["Address", "SocketName", "resolve"]

SocketName: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""What `socket` takes and gives as the address of TCP: host and port, and for an IPv6 address that is only
valid on one link (``fe80::/10``) flow label and scope, the number of the interface."""


class Address(NamedTuple):
    """Where to connect or to bind: an address family and what `socket` takes as address for it."""

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
    """The stream addresses of `host`, in the resolver's order, each once.

    An IP address is its own answer, without a resolver; it may have a scope (``fe80::1%eth0``). If
    `passive`, a `host` of ``None`` stands for all interfaces. Cancelling leaves nothing behind.

    Raises:
        OSError: the name has no address (``socket.gaierror``), or is none, or the scope is no
            interface of this machine.
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
    """An IP address in text form, perhaps with a scope, as `socket` takes it: the scope apart from it."""
    if "%" not in host:
        return Address(family, (host, port))
    try:
        (found, *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror as exc:
        what = "there is no such interface, or the address is not link-local"
        raise socket.gaierror(exc.errno, f"cannot resolve {host!r}: {what}") from exc
    return Address(family, found[4])  # type: ignore[arg-type]  # of IPv6, four parts
