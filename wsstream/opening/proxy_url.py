"""Which proxy a connection goes through: the URLs of proxies, and the variables of the environment.

There is no standard for the variables. They are read as curl and Go have in common, and as RFC 6455 section
4.1 adds for WebSockets.
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

# By `URL.secure`. RFC 6455 section 4.1: a client of WebSockets prefers the proxy for HTTPS to the one for
# HTTP, as it is more likely to let CONNECT pass. HTTP_PROXY in capitals is not read: in a CGI program it
# holds the header field "Proxy" of the request.
_GENERAL = ("all_proxy", "ALL_PROXY")
_VARIABLES = {
    True: ("https_proxy", "HTTPS_PROXY", *_GENERAL),
    False: ("https_proxy", "HTTPS_PROXY", "http_proxy", *_GENERAL),
}
_HOST_AND_PORT = re.compile(r"(\[.*\]|[^:\[\]]*):([0-9]+)")

_Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Proxy:
    """The address and the protocol of a proxy. ``str()`` is its URL, without the userinfo.

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
    """Parse the URL of a proxy. By default the port is 80, 443 or, for SOCKS, 1080.

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
        raise InvalidURL("the URL of a proxy must not have a path or a query")
    userinfo, host, port = parse_authority(authority)
    proxy = Proxy(scheme, host, port or _DEFAULT_PORTS[scheme], userinfo)
    if proxy.is_socks and userinfo and not all(part.isascii() and 0 < len(part) < 256 for part in userinfo):
        raise InvalidURL(
            "user name and password for SOCKS5 must be 1 to 255 ASCII characters each (RFC 1929)"
        )
    return proxy


def environment_proxy(url: URL, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that the variables of `environment` name for `url`, or ``None``.

    The first of these counts that is set and not empty: ``https_proxy``, ``HTTPS_PROXY``, for ``ws`` also
    ``http_proxy``, then ``all_proxy``, ``ALL_PROXY``. For ``no_proxy`` or ``NO_PROXY`` see
    :func:`is_exempt`. A value without a scheme is an HTTP proxy.

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
    """Whether `no_proxy` lists the host of `url`, so that it is reached without a proxy.

    Commas or blanks separate the elements. An element is ``*`` for all hosts, a domain for itself and all
    names below it (a leading dot or ``*.`` makes no difference), an IP address, or a network
    (``10.0.0.0/8``). If a colon and a port follow, only that port is exempt. Names are not resolved: a
    network is compared only with hosts that are addresses. Malformed elements are ignored.
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
