"""Host names to socket addresses."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple

import anyio

__all__ = ["Address", "resolve"]


class Address(NamedTuple):
    """Where to connect or to bind: an address family and what `socket` takes as address for it."""

    family: int
    sockaddr: tuple[str, int]

    def __str__(self) -> str:
        host, port = self.sockaddr
        return f"{host} port {port}"


async def resolve(host: str | None, port: int, *, passive: bool = False) -> list[Address]:
    """The stream addresses of `host`, in the resolver's order, each once.

    An IP address is its own answer, without a resolver. If `passive`, a `host` of ``None`` stands
    for all interfaces. Cancelling leaves nothing behind.

    Raises:
        OSError: the name has no address (``socket.gaierror``), or is none.
    """
    if host is not None and (family := _literal_family(host)):
        return [Address(family, (host, port))]
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror as exc:
        raise socket.gaierror(exc.errno, f"cannot resolve {host!r}: {exc.strerror}") from exc
    except UnicodeError as exc:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is not a host name") from exc
    addresses = [Address(family, sockaddr) for family, _, _, _, sockaddr in found]
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
