"""WebSocket URLs (RFC 6455 section 3), and what other URLs have in common with them.

Unix sockets have no place in the RFC. Theirs is the form of npm's ``ws``:
``ws+unix:/path/to/socket:/path/of/the/request?query``, here percent-decoded.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from string import punctuation
from urllib.parse import quote, unquote_to_bytes, urljoin

from wsstream.display import excerpt, never_raises
from wsstream.errors import InvalidURL
from wsstream.opening.authority import bracketed, parse_authority

__all__ = ["URL", "parse_url", "split_url", "unix_url"]

# White space, control characters and lone surrogates: nothing that could end a header line.
_FORBIDDEN = re.compile(r"[\s\x00-\x20\x7f-\x9f\ud800-\udfff]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# RFC 3986 appendix B, without the fragment.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*+)://([^/?]*+)([^?]*+)(\?.*+)?+", re.DOTALL)
_UNIX_URL = re.compile(r"(ws|wss)\+unix:(.*+)", re.DOTALL | re.IGNORECASE)
_SECURE = {"ws": False, "http": False, "wss": True, "https": True}
# What RFC 3986 lets stand in a path and a query; square brackets are left as they were sent.
_SAFE = "%/:@!$&'()*+,;=-._~[]"
_SAFE_IN_SOCKET = "/@!$&'()*+,;="  # a colon ends the path of a socket


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
        socket: the address of a Unix socket, as the module `socket` takes it, or ``None``. Then the
            host is ``localhost``.
    """

    secure: bool
    host: str
    port: int
    target: str
    userinfo: tuple[str, str] | None = field(default=None, repr=False)
    socket: str | None = None

    @property
    def scheme(self) -> str:
        """``"wss"`` or ``"ws"``, of a Unix socket ``"wss+unix"`` or ``"ws+unix"``."""
        scheme = "wss" if self.secure else "ws"
        return scheme if self.socket is None else f"{scheme}+unix"

    @property
    def host_header(self) -> str:
        """The value of the ``Host`` field: a default port is left out, IPv6 stands in brackets."""
        host = bracketed(self.host)
        return host if self.port == _default_port(self.secure) else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host (or Unix socket) and port: what two URLs of one server have in common."""
        return self.scheme, self.socket or self.host, self.port

    @property
    def shown(self) -> str:
        """For errors and logs: without userinfo and query, which may hold secrets, and cut."""
        return excerpt(str(replace(self, target=self.target.partition("?")[0])), 200)

    def resolve(self, reference: str) -> URL:
        """What a ``Location`` field stands for that came in answer to this URL (RFC 9110 section 10.2.2).

        `reference` is absolute or relative. A user name and a password in it do not count: those of
        this URL are kept within its origin, and there are none outside. A fragment is left out.

        Raises:
            InvalidURL: it stands for no WebSocket URL, or for a Unix socket, which no server is to choose.
        """
        # Some servers send UTF-8 as it is; a field is read as ISO 8859-1.
        reference = quote(reference.partition("#")[0].encode("latin-1"), safe=punctuation)
        url = parse_url(_joined(str(self), reference))
        if url.socket is not None:
            raise InvalidURL("the redirect leads to a Unix socket")
        return replace(url, userinfo=self.userinfo if url.origin == self.origin else None)

    def __str__(self) -> str:
        if self.socket is None:
            return f"{self.scheme}://{self.host_header}{self.target}"
        path = quote(os.fsencode(self.socket), safe=_SAFE_IN_SOCKET)
        if path.startswith("//"):  # would be read as a host (RFC 3986 section 3.3)
            path = f"//{path}"
        return f"{self.scheme}:{path}" if self.target == "/" else f"{self.scheme}:{path}:{self.target}"

    @never_raises
    def __repr__(self) -> str:
        return f"<URL {self.shown}>"


def parse_url(url: str) -> URL:
    """Take a WebSocket URL, or an IRI, into its parts. ``http`` and ``https`` are read as ``ws`` and ``wss``.

    Raises:
        TypeError: `url` is not a ``str``.
        InvalidURL: it has no scheme or another one, no host, a fragment (RFC 6455 section 3), white
            space or control characters, or a part that is malformed.
    """
    parts = split_url(url)
    if match := _UNIX_URL.fullmatch(url):
        return _parse_unix_url(match[1].lower() == "wss", match[2])
    if parts is None:
        raise InvalidURL("the URL does not begin with ws://, wss:// or ws+unix:")
    scheme, authority, path, query = parts
    secure = _SECURE.get(scheme)
    if secure is None:
        raise InvalidURL(f"the URL has the scheme {scheme[:20]!r}, not ws or wss")
    userinfo, host, port = parse_authority(authority)
    return URL(
        secure=secure,
        host=host,
        port=port or _default_port(secure),
        target=_target(path, query),
        userinfo=userinfo,
    )


def _target(path: str, query: str) -> str:
    return quote(path or "/", safe=_SAFE) + quote(query, safe=_SAFE + "?")


def _parse_unix_url(secure: bool, rest: str) -> URL:
    if rest.startswith("//"):
        if not rest.startswith("///"):
            raise InvalidURL("the URL of a Unix socket has no host: write ws+unix:/path/to/socket")
        rest = rest[2:]
    socket, _, target = rest.partition(":")
    path, mark, query = target.partition("?")
    if "?" in socket or (path and path[0] != "/"):
        raise InvalidURL(
            "the URL of a Unix socket is ws+unix:/path/to/socket:/path/of/the/request?query; "
            "in the socket's path a colon is written %3A and a question mark %3F"
        )
    return _unix_url(os.fsdecode(_parse_socket(socket)), secure, _target(path, mark + query))


def _parse_socket(path: str) -> bytes:
    name = unquote_to_bytes(path)
    # Linux has names in no file system, which begin with a NUL; in a path it would end the path.
    if not name or (b"\0" in name and name[0]):
        raise InvalidURL("the URL of a Unix socket has no path of a socket, or one with a NUL in it")
    return name


def _unix_url(socket: str, secure: bool, target: str = "/") -> URL:
    return URL(secure, "localhost", _default_port(secure), target, socket=socket)


def unix_url(address: str | bytes, *, secure: bool) -> str:
    """The URL of the Unix socket at `address`, which is what the module `socket` gives and takes."""
    return str(_unix_url(os.fsdecode(address), secure))


def split_url(url: str) -> tuple[str, str, str, str] | None:
    """Scheme in lower case, authority, path and query; ``None`` if it does not begin with ``scheme://``.

    Raises:
        TypeError: `url` is not a ``str``.
        InvalidURL: it has a fragment, white space, control characters or a stray percent sign.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL must be a str, not {type(url).__name__}")
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


def _default_port(secure: bool) -> int:
    return 443 if secure else 80
