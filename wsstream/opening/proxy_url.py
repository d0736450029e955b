"""Which proxy a connection goes through: the URLs of proxies, and the variables of the environment.

The variables have no standard. What is read here is what curl and Go have in common, with what RFC
6455 section 4.1 adds for WebSockets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from wsstream.errors import InvalidURL
from wsstream.opening.authority import bracketed, parse_authority, parse_host
from wsstream.opening.url import URL, split_url

__all__ = ["Proxy", "environment_proxy", "is_exempt", "parse_proxy_url"]

_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

# By `URL.secure`. RFC 6455 section 4.1: for WebSockets the proxy for HTTPS is preferred to the one
# for HTTP, as it is known to let CONNECT pass. HTTP_PROXY in capitals is not read: in a CGI program
# it is the request's header field "Proxy".
_GENERAL = ("all_proxy", "ALL_PROXY")
_VARIABLES = {
    True: ("https_proxy", "HTTPS_PROXY", *_GENERAL),
    False: ("https_proxy", "HTTPS_PROXY", "http_proxy", *_GENERAL),
}
_HOST_AND_PORT = re.compile(r"(\[.*\]|[^:\[\]]*):([0-9]+)")

_Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is and what it speaks. ``str()`` is its URL, without the userinfo.

    Attributes:
        scheme: ``"http"``, ``"https"``, ``"socks5"`` or ``"socks5h"``.
        host: as in :class:`~wsstream.opening.url.URL`.
        port: 1 to 65535.
        userinfo: user and password, percent-decoded, or ``None``.
    """

    scheme: str
    host: str
    port: int
    userinfo: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS5 (RFC 1928), not HTTP."""
        return self.scheme.startswith("socks")

    def __str__(self) -> str:
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


def parse_proxy_url(url: str) -> Proxy:
    """Take the URL of a proxy into its parts. By default the port is 80, 443 or, for SOCKS, 1080.

    Raises:
        TypeError: `url` is not a ``str``.
        InvalidURL: it has another scheme, no host, a path or a query, a part that is malformed, or
            for SOCKS a user name or a password that is not 1 to 255 characters of ASCII (RFC 1929).
    """
    parts = split_url(url)
    if parts is None:
        raise InvalidURL("the URL does not begin with http://, https://, socks5:// or socks5h://")
    scheme, authority, path, query = parts
    if scheme not in _DEFAULT_PORTS:
        raise InvalidURL(f"the URL has the scheme {scheme[:20]!r}, not http, https, socks5 or socks5h")
    if path not in ("", "/") or query:
        raise InvalidURL("the URL of a proxy has neither a path nor a query")
    userinfo, host, port = parse_authority(authority)
    proxy = Proxy(scheme, host, port or _DEFAULT_PORTS[scheme], userinfo)
    if proxy.is_socks and userinfo and not all(part.isascii() and 0 < len(part) < 256 for part in userinfo):
        raise InvalidURL("SOCKS5 takes a user name and a password of 1 to 255 ASCII characters (RFC 1929)")
    return proxy


def environment_proxy(url: URL, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that the variables of `environment` name for `url`; ``None``: none.

    In this order: ``https_proxy``, for ``ws`` also ``http_proxy``, ``all_proxy``. The first two and
    ``no_proxy`` (see :func:`is_exempt`) may be in capitals; if both are set, those in lower case count.
    An empty variable counts as one that is not set. A value without a scheme is an HTTP proxy.

    Raises:
        InvalidURL: the value of the variable that counts is not the URL of a proxy.
    """
    name = next((name for name in _VARIABLES[url.secure] if environment.get(name)), None)
    if name is None or is_exempt(url, environment.get("no_proxy") or environment.get("NO_PROXY") or ""):
        return None
    value = environment[name].strip()
    try:
        return parse_proxy_url(value if "://" in value else f"http://{value}")
    except InvalidURL as exc:
        raise InvalidURL(f"{name}: {exc}") from None


def is_exempt(url: URL, no_proxy: str) -> bool:
    """Whether the host of `url` is among those that `no_proxy` lists: they are reached without a proxy.

    The list is separated by commas or blanks. An element is ``*`` for all, a domain for itself and
    all below it (a leading dot or ``*.`` makes no difference), an IP address or a network
    (``10.0.0.0/8``); behind a colon may stand a port, then only that is meant. Names are not
    resolved: a network is compared with hosts that are addresses. What is malformed is passed over.
    """
    host = url.host.removesuffix(".")
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    return any(_matches(element, host, address, url.port) for element in re.split(r"[\s,]+", no_proxy))


def _matches(element: str, host: str, address: _Address | None, port: int) -> bool:
    if element == "*":
        return True
    if match := _HOST_AND_PORT.fullmatch(element):
        element, only_port = match.groups()
        if only_port.lstrip("0") != str(port):
            return False
    return _in_domain(host, element) if address is None else _in_network(address, element)


def _in_network(address: _Address, network: str) -> bool:
    try:
        return address in ip_network(network.removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        return False


def _in_domain(host: str, domain: str) -> bool:
    try:
        domain = parse_host(domain.removeprefix("*").removeprefix(".").removesuffix("."))
    except InvalidURL:
        return False
    return host == domain or host.endswith(f".{domain}")
