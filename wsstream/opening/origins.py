"""Which web pages may connect (RFC 6455 section 10.2), and under which names a server is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from wsstream.arguments import check_type
from wsstream.opening.grammar import is_host

__all__ = ["Hosts", "Origins", "OriginsArgument"]

OriginsArgument: TypeAlias = str | Iterable[str | None] | None
"""``"same"``, elements of which any admits a request, or ``None`` for all requests."""

SAME = "same"
# What browsers send (RFC 6454 section 6.2): a scheme and a host with an optional port, without a path. In a
# pattern, "*." at the beginning of the host stands for one label or more.
_ORIGIN = re.compile(r"null|[A-Za-z][A-Za-z0-9+\-.]*://[!-.0->@-~]*")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class _Authority(NamedTuple):
    host: str
    port: str


class Origins:
    """The pages that may connect.

    Args:
        origins: of these the request must match one: an origin like ``"https://a.example"``;
            ``"https://*.a.example"`` for all below a name; ``"same"``, that of the host asked for; ``None``
            for requests without ``Origin``, which browsers do not send. ``"same"`` alone is short for
            ``["same", None]``.

    Raises:
        TypeError: `origins` is another str, or an element is neither ``str`` nor ``None``.
        ValueError: an element is not a possible origin.
    """

    __slots__ = ("_exact", "_patterns", "_same")

    def __init__(self, origins: str | Iterable[str | None]) -> None:
        if origins == SAME:
            origins = (SAME, None)
        if isinstance(origins, str):
            raise TypeError('origins must be "same", a sequence of str or None, or None, got another str')
        self._exact: set[str | None] = set()
        self._patterns: list[tuple[str, str]] = []  # what the origin begins and ends with
        self._same = False
        for origin in origins:
            check_type("an origin", origin, str | None, "a str or None")
            self._add(origin)

    @classmethod
    def of(cls, origins: OriginsArgument) -> Origins | None:
        """The pages of an argument; ``None``: all. Raises what the class does."""
        return None if origins is None else cls(origins)

    def _add(self, origin: str | None) -> None:
        if origin is None:
            self._exact.add(None)
        elif origin == SAME:
            self._same = True
        elif not _ORIGIN.fullmatch(origin) or "*" in origin.replace("://*.", "://", 1):
            raise ValueError(
                'an origin must be like "https://a.example", "https://*.a.example", "null" or "same", '
                f"got {origin[:80]!r}"
            )
        elif "://*." in origin:
            # RFC 6454 section 4: scheme and host are in lower case.
            scheme, _, rest = origin.lower().partition("*")
            self._patterns.append((scheme, rest))
        else:
            self._exact.add(origin.lower())

    def admit(self, origin: str | None, host: str) -> bool:
        """Whether a page of `origin` may connect to `host`, which it asks for with or without a port."""
        if origin is None:
            return None in self._exact
        origin = origin.lower()
        if origin in self._exact or (self._same and _is_same(origin, host.lower())):
            return True
        return any(
            origin.startswith(start) and origin.endswith(end) and len(origin) > len(start) + len(end)
            for start, end in self._patterns
        )


def _is_same(origin: str, host: str) -> bool:
    """Whether a page of `origin` asked for its own host.

    The schemes are not compared: a server behind a proxy need not know whether its clients speak TLS. A port
    left out of ``Host`` is the default of the page's scheme, as a page that names none asks for that one.
    """
    scheme, _, page = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    return default is not None and _authority(page, default) == _authority(host, default)


def _authority(text: str, default_port: str) -> _Authority:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:  # no port: perhaps an IPv6 address
        host, port = text, ""
    return _Authority(host, port or default_port)


class Hosts:
    """The names under which a server may be asked for: others may be a page's trick (DNS rebinding).

    Args:
        hosts: names or addresses such as ``"files.example"``, ``"*.files.example"``, ``"[::1]"``, each with a
            port if only that one will do.

    Raises:
        TypeError: `hosts` is itself a str, or an element is not a str.
        ValueError: an element is not a host, or there is none.
    """

    __slots__ = ("_exact", "_suffixes")

    def __init__(self, hosts: Iterable[str]) -> None:
        if isinstance(hosts, str):
            raise TypeError("hosts must be a sequence of str, got a str")
        self._exact: set[str] = set()
        self._suffixes: list[str] = []
        for host in hosts:
            check_type("a host", host, str, "a str")
            name = host.lower().removeprefix("*.")
            if not is_host(name) or "*" in name:
                raise ValueError(
                    f'a host must be like "a.example", "*.a.example" or "[::1]", got {host[:80]!r}'
                )
            if host.startswith("*."):
                self._suffixes.append("." + name)
            else:
                self._exact.add(name)
        if not (self._exact or self._suffixes):
            raise ValueError("hosts must not be empty")

    def admit(self, host: str) -> bool:
        """Whether the server may be asked for under `host`, the value of a ``Host`` field."""
        host = host.lower()
        name, port = _authority(host, "")
        return any(
            given in self._exact or given.endswith(tuple(self._suffixes))
            for given in ((name, host) if port else (name,))
        )
