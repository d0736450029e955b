"""WebSocket URLs (RFC 6455 section 3), and what other URLs have in common with them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from string import punctuation
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin

from wsstream.errors import InvalidURL
from wsstream.protocol.showing import excerpt, never_raises, quoted, without_query

__all__ = ["URL", "Authority", "bracketed", "parse_authority", "parse_host", "parse_url", "split_url"]

# White space, control characters and lone surrogates: nothing that could end a header line.
_FORBIDDEN = re.compile(r"[\s\x00-\x20\x7f-\x9f\ud800-\udfff]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# RFC 3986 appendix B, without the fragment.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*+)://([^/?]*+)([^?]*+)(\?.*+)?+", re.DOTALL)
_AUTHORITY = re.compile(r"(?:([^@]*+)@)?(\[[^\[\]@]*\]|[^:@\[\]]*+)(?::([0-9]*+))?")
# RFC 3986 section 3.2.1, and everything that is not ASCII as RFC 3987 has it.
_USERINFO = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:%\x80-\U0010ffff]*+")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SECURE = {"ws": False, "http": False, "wss": True, "https": True}
# What RFC 3986 lets stand in a path and a query; square brackets are left as they were sent.
_SAFE = "%/:@!$&'()*+,;=-._~[]"
_MAX_HOST = 253  # characters of a DNS name (RFC 1035 section 2.3.4)


@dataclass(frozen=True, slots=True)
class URL:
    """A WebSocket URL in its parts. ``str()`` is the normalised URL, without the userinfo.

    Attributes:
        secure: whether the connection goes over TLS.
        host: as DNS and TLS want it: in lower case, A-labels for an internationalised name, an IPv6
            address without brackets. A trailing dot is kept.
        port: 1 to 65535.
        target: path and query as the request line has them, at least ``"/"``.
        userinfo: user and password, percent-decoded, or ``None``.
    """

    secure: bool
    host: str
    port: int
    target: str
    userinfo: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def scheme(self) -> str:
        """``"wss"`` or ``"ws"``."""
        return "wss" if self.secure else "ws"

    @property
    def host_header(self) -> str:
        """The value of the ``Host`` field: a default port is left out, IPv6 stands in brackets."""
        host = bracketed(self.host)
        return host if self.port == _default_port(self.secure) else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what two URLs of one server have in common."""
        return self.scheme, self.host, self.port

    def resolve(self, reference: str) -> URL:
        """What a ``Location`` field stands for that came in answer to this URL (RFC 9110 section 10.2.2).

        `reference` is absolute or relative. A user name and a password in it do not count: those of
        this URL are kept within its origin, and there are none outside. A fragment is left out.

        Raises:
            InvalidURL: it stands for no WebSocket URL.
        """
        # Some servers send UTF-8 as it is; a field is read as ISO 8859-1.
        reference = quote(reference.partition("#")[0].encode("latin-1"), safe=punctuation)
        url = parse_url(_joined(str(self), reference))
        return replace(url, userinfo=self.userinfo if url.origin == self.origin else None)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_header}{self.target}"

    @never_raises
    def __repr__(self) -> str:
        return f"<URL {without_query(self)}>"


def parse_url(url: str) -> URL:
    """Take a WebSocket URL, or an IRI, into its parts. ``http`` and ``https`` are read as ``ws`` and ``wss``.

    Raises:
        TypeError: `url` is not a ``str``.
        InvalidURL: it has no scheme or another one, no host, a fragment (RFC 6455 section 3), white
            space or control characters, or a part that is malformed.
    """
    parts = split_url(url)
    if parts is None:
        raise InvalidURL("the URL does not begin with ws:// or wss://")
    scheme, authority, path, query = parts
    secure = _SECURE.get(scheme)
    if secure is None:
        raise InvalidURL(f"the URL has the scheme {scheme[:20]!r}, not ws or wss")
    userinfo, host, port = parse_authority(authority)
    return URL(
        secure=secure,
        host=host,
        port=port or _default_port(secure),
        target=quote(path or "/", safe=_SAFE) + quote(query, safe=_SAFE + "?"),
        userinfo=userinfo,
    )


def split_url(url: str) -> tuple[str, str, str, str] | None:
    """Scheme in lower case, authority, path and query; ``None`` if it does not begin with ``scheme://``.

    Raises:
        TypeError: `url` is not a ``str``.
        InvalidURL: it has a fragment, white space, control characters or a stray percent sign.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, not {type(url).__name__}")
    if _FORBIDDEN.search(url):
        raise InvalidURL("the URL has white space or control characters")
    # RFC 6455 section 3: "Fragment identifiers are meaningless in the context of WebSocket URIs
    # and MUST NOT be used on these URIs."
    if "#" in url:
        raise InvalidURL("the URL has a fragment (RFC 6455 section 3)")
    if _BAD_PERCENT.search(url):
        raise InvalidURL("the URL has a percent sign that no two hexadecimal digits follow")
    match = _URL.fullmatch(url)
    if match is None:
        return None
    scheme, authority, path, query = match.groups()
    return scheme.lower(), authority, path, query or ""


def _joined(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference)
    except ValueError:  # which quotes user and password
        pass
    raise InvalidURL("the URL has a malformed host or port")


def bracketed(host: str) -> str:
    """`host` as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _default_port(secure: bool) -> int:
    return 443 if secure else 80


class Authority(NamedTuple):
    """The part of a URL that says where: user and password, host, port; see :class:`URL`."""

    userinfo: tuple[str, str] | None
    host: str
    port: int | None

    def __repr__(self) -> str:
        return f"<Authority {excerpt(self.host)} {self.port}>"


def parse_authority(authority: str) -> Authority:
    """Take the authority of a URL into its parts.

    Raises:
        InvalidURL: there is no host, or a part is malformed.
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
        raise InvalidURL(f"port {port[:20]} is not in 1..65535")
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
    """The host of a URL as :class:`URL` has it.

    Raises:
        InvalidURL: it is neither a host name, nor an IPv4 address, nor an IPv6 address in brackets.
    """
    if host.startswith("["):
        return _parse_ipv6(host[1:-1])
    host = _percent_decoded(host).lower()
    if not host:
        raise InvalidURL("the URL has no host")
    if len(host) > _MAX_HOST + 1:  # the last dot is no part of the limit
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
        raise InvalidURL("the URL has an IPv6 address with a zone, which is no part of a URL")
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
    import idna  # here, as its tables take a while to load and few hosts need them

    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except UnicodeError:  # idna.IDNAError is one; it quotes the whole host
        pass
    raise InvalidURL(f"{_shown(host)} is not an internationalised domain name")


def _shown(host: str) -> str:
    # A percent-encoded @ is no end of a user name and a password, but somebody may have taken it for one.
    return quoted(host.rpartition("@")[2])


def _percent_decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:  # has what may be a password
        pass
    raise InvalidURL("the URL has a percent-encoded part that is not UTF-8")
