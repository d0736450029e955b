"""WebSocket URLs (RFC 6455 section 3), and the syntax that other URLs share with them.

The RFC has no URLs for Unix sockets. Here they have the form of npm's ``ws``,
``ws+unix:/path/to/socket:/path/of/the/request?query``, but the path of the socket is percent-decoded.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from string import punctuation
from urllib.parse import quote, unquote_to_bytes, urljoin

from wsstream.arguments import check_type
from wsstream.display import excerpt, never_raises
from wsstream.errors import InvalidURL
from wsstream.opening.authority import bracketed, parse_authority

__all__ = ["URL", "parse_url", "split_url", "unix_url"]

# White space, control characters and lone surrogates. Some of them would end a header line.
_FORBIDDEN = re.compile(r"[\s\x00-\x20\x7f-\x9f\ud800-\udfff]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# RFC 3986 appendix B, without the fragment.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*+)://([^/?]*+)([^?]*+)(\?.*+)?+", re.DOTALL)
_UNIX_URL = re.compile(r"(ws|wss)\+unix:(.*+)", re.DOTALL | re.IGNORECASE)
_SECURE = {"ws": False, "http": False, "wss": True, "https": True}
# RFC 3986 allows these in a path and a query; square brackets are kept, though it does not.
_SAFE = "%/:@!$&'()*+,;=-._~[]"
_SAFE_IN_SOCKET = "/@!$&'()*+,;="  # a colon ends the path of a socket


@dataclass(frozen=True, slots=True)
class URL:
    """A parsed WebSocket URL. ``str()`` is the normalised URL, without the userinfo.

    Attributes:
        secure: whether the connection goes over TLS.
        host: as DNS and TLS need it: in lower case, an internationalised name as A-labels, an IPv6 address
            without brackets. A trailing dot is kept.
        port: 1 to 65535.
        target: path and query as in the request line; at least ``"/"``.
        userinfo: user and password, percent-decoded, or ``None``.
        socket: the address of a Unix socket for the module `socket`, or ``None``. With one, `host` is
            ``localhost``.
    """

    secure: bool
    host: str
    port: int
    target: str
    userinfo: tuple[str, str] | None = field(default=None, repr=False)
    socket: str | None = None

    @property
    def scheme(self) -> str:
        """``"wss"`` or ``"ws"``; for a Unix socket, ``"wss+unix"`` or ``"ws+unix"``."""
        scheme = "wss" if self.secure else "ws"
        return scheme if self.socket is None else f"{scheme}+unix"

    @property
    def host_header(self) -> str:
        """The value of the ``Host`` field, without a default port, and with brackets around IPv6."""
        host = bracketed(self.host)
        return host if self.port == _default_port(self.secure) else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host (or Unix socket) and port. URLs of one server have the same."""
        return self.scheme, self.socket or self.host, self.port

    @property
    def shown(self) -> str:
        """The URL for errors and logs: without userinfo and query, which may hold secrets, and shortened."""
        return excerpt(str(replace(self, target=self.target.partition("?")[0])), 200)

    def resolve(self, reference: str) -> URL:
        """The URL in a ``Location`` field of the response to this URL (RFC 9110 section 10.2.2).

        `reference` is absolute or relative. A user name and a password in it are ignored: this URL's are
        kept within its origin, and another origin gets none. A fragment is dropped.

        Raises:
            InvalidURL: it is not a WebSocket URL, or it is that of a Unix socket, which a server must not
                choose.
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
    """Parse a WebSocket URL, or an IRI. ``http`` and ``https`` are read as ``ws`` and ``wss``.

    Raises:
        TypeError: `url` is not a ``str``.
        InvalidURL: it has another scheme or none, no host, a fragment (RFC 6455 section 3), white space or
            control characters, or a malformed part.
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
            raise InvalidURL("the URL of a Unix socket must not have a host; write ws+unix:/path/to/socket")
        rest = rest[2:]
    socket, _, target = rest.partition(":")
    path, mark, query = target.partition("?")
    if "?" in socket or (path and path[0] != "/"):
        raise InvalidURL(
            "the URL of a Unix socket must be like ws+unix:/path/to/socket:/path/of/the/request?query; "
            "in the socket's path, write %3A for a colon and %3F for a question mark"
        )
    return _unix_url(os.fsdecode(_parse_socket(socket)), secure, _target(path, mark + query))


def _parse_socket(path: str) -> bytes:
    name = unquote_to_bytes(path)
    # Linux has names outside of file systems, which begin with a NUL. In a path, a NUL would end the path.
    if not name or (b"\0" in name and name[0]):
        raise InvalidURL("the URL of a Unix socket must have a path of a socket, without a NUL in it")
    return name


def _unix_url(socket: str, secure: bool, target: str = "/") -> URL:
    return URL(secure, "localhost", _default_port(secure), target, socket=socket)


def unix_url(address: str | bytes, *, secure: bool) -> str:
    """The URL of the Unix socket at `address`, as the module `socket` writes addresses."""
    return str(_unix_url(os.fsdecode(address), secure))


def split_url(url: str) -> tuple[str, str, str, str] | None:
    """Scheme in lower case, authority, path and query of a URL; ``None`` if it has no ``scheme://``.

    Raises:
        TypeError: `url` is not a ``str``.
        InvalidURL: it has a fragment, white space, control characters or a stray percent sign.
    """
    check_type("a URL", url, str, "a str")
    if _FORBIDDEN.search(url):
        raise InvalidURL("the URL has white space or control characters")
    # RFC 6455 section 3: fragments have no meaning in WebSocket URLs, and must not be used.
    if "#" in url:
        raise InvalidURL("the URL has a fragment (RFC 6455 section 3)")
    if _BAD_PERCENT.search(url):
        raise InvalidURL("the URL has a percent sign without two hexadecimal digits after it")
    match = _URL.fullmatch(url)
    if match is None:
        return None
    scheme, authority, path, query = match.groups()
    return scheme.lower(), authority, path, query or ""


def _joined(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference)
    except ValueError:  # its message quotes user and password
        pass
    raise InvalidURL("the URL has a malformed host or port")


def _default_port(secure: bool) -> int:
    return 443 if secure else 80
