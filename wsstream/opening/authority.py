"""The authority of a URL (RFC 3986 section 3.2): user and password, host, port."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple
from urllib.parse import unquote

from wsstream.display import excerpt, quoted
from wsstream.errors import InvalidURL

__all__ = ["Authority", "bracketed", "parse_authority", "parse_host"]

_AUTHORITY = re.compile(r"(?:([^@]*+)@)?(\[[^\[\]@]*\]|[^:@\[\]]*+)(?::([0-9]*+))?")
# RFC 3986 section 3.2.1, and everything that is not ASCII as RFC 3987 has it.
_USERINFO = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:%\x80-\U0010ffff]*+")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_HOST = 253  # characters of a DNS name (RFC 1035 section 2.3.4)


class Authority(NamedTuple):
    """User and password, host, and port of a URL; see :class:`~wsstream.opening.url.URL`."""

    userinfo: tuple[str, str] | None
    host: str
    port: int | None

    def __repr__(self) -> str:
        return f"<Authority {excerpt(self.host)} {self.port}>"


def parse_authority(authority: str) -> Authority:
    """Parse the authority of a URL.

    Raises:
        InvalidURL: the host is missing, or a part is malformed.
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        # The authority is not quoted: it may hold a password.
        raise InvalidURL("the URL has a malformed host or port")
    userinfo, host, port = match.groups()
    return Authority(
        userinfo=_parse_userinfo(userinfo) if userinfo else None,
        host=parse_host(host),
        port=_parse_port(port),
    )


def _parse_port(port: str | None) -> int | None:
    if not port:
        return None  # RFC 3986 section 3.2.3: an empty port is the default port
    if len(port) > 5 or not 1 <= int(port) <= 65535:
        raise InvalidURL(f"the port of a URL must be between 1 and 65535, got {port[:20]}")
    return int(port)


def _parse_userinfo(userinfo: str) -> tuple[str, str]:
    if not _USERINFO.fullmatch(userinfo):
        raise InvalidURL("the URL has a malformed user name or password")
    user, _, password = userinfo.partition(":")
    user, password = _percent_decoded(user), _percent_decoded(password)
    # RFC 7617 section 2: neither has control characters, and the user name has no colon.
    if ":" in user or re.search(r"[\x00-\x1f\x7f]", user + password):
        raise InvalidURL("the URL has a user name or a password that cannot be sent (RFC 7617 section 2)")
    return user, password


def parse_host(host: str) -> str:
    """Parse the host of a URL, and return it as in :class:`~wsstream.opening.url.URL`.

    Raises:
        InvalidURL: it is neither a host name, nor an IPv4 address, nor an IPv6 address in brackets.
    """
    if host.startswith("["):
        return _parse_ipv6(host[1:-1])
    host = _percent_decoded(host).lower()
    if not host:
        raise InvalidURL("the URL has no host")
    if len(host) > _MAX_HOST + 1:  # a trailing dot does not count
        raise InvalidURL("the URL has a host of more than 253 characters")
    name = host if host.isascii() else _a_labels(host)
    labels = name.removesuffix(".").split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        return _parse_ipv4(name)
    if len(name.removesuffix(".")) > _MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidURL(f"{_shown(host)} is not a host name")
    return name


def _parse_ipv6(host: str) -> str:
    if "%" in host:
        raise InvalidURL(
            "the URL has an IPv6 address with a zone, which a URL cannot have: use a host name that "
            "resolves to it, or give connect() the open stream as transport"
        )
    try:
        return IPv6Address(host).compressed
    except AddressValueError:
        raise InvalidURL(f"{_shown(host)} is not an IPv6 address") from None


def _parse_ipv4(host: str) -> str:
    # A resolver may read "127.1" or "0x7f.0.0.1" as an address where others see a name.
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        raise InvalidURL(f"{_shown(host)} is neither an IPv4 address nor a host name") from None


def _a_labels(host: str) -> str:
    import idna  # here, as its tables load slowly and few hosts need them

    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except UnicodeError:  # or idna.IDNAError, its subclass, which quotes all of the host
        pass
    raise InvalidURL(f"{_shown(host)} is not an internationalised domain name")


def _shown(host: str) -> str:
    # A user may have written a percent-encoded @ after a user name and a password; it does not end them.
    return quoted(host.rpartition("@")[2])


def _percent_decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:  # its message may quote a password
        pass
    raise InvalidURL("the URL has a percent-encoded part that is not UTF-8")


def bracketed(host: str) -> str:
    """`host` as it is written before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
