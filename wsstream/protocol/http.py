"""Headers, requests and responses of the opening handshake, whatever HTTP version carries them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast, overload, runtime_checkable

from wsstream.protocol.extensions import is_token, parse_token_list

__all__ = ["HeaderItems", "HeaderPairs", "Headers", "PeerAddress", "Request", "Response"]

# RFC 9110 section 5.5: control characters other than a tab are not sent; a field is ISO 8859-1.
_NOT_IN_A_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_ABSOLUTE_FORM = re.compile(r"(?:https?|wss?)://[^/?]*+", re.IGNORECASE)
COMMON_NAMES: Final = (
    "Host",
    "Connection",
    "Upgrade",
    "Origin",
    "User-Agent",
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Authorization",
    "Cache-Control",
    "Cookie",
    "Pragma",
    "Date",
    "Server",
    "Sec-Fetch-Dest",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Site",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "X-Forwarded-For",
)
"""Names of which one copy serves all connections, as they are here and in lower case."""
_KEYS = {name: name.lower() for name in COMMON_NAMES}
_KEYS |= {key: key for key in _KEYS.values()}
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})

_T = TypeVar("_T")
_Default = TypeVar("_Default")
_REQUIRED = object()

PeerAddress: TypeAlias = tuple[Any, ...] | str | None
"""What the transport knows of the peer: (host, port, …) of a TCP socket, the path of a Unix socket."""


@runtime_checkable
class HeaderItems(Protocol):
    """Anything with ``items()`` that gives (name, value): a dict, a :class:`Headers`."""

    def items(self) -> Iterable[tuple[str, str]]:
        """The fields."""
        ...


HeaderPairs: TypeAlias = HeaderItems | Iterable[tuple[str, str]]


class _Attributes(Protocol):
    """As anyio's ``TypedAttributeProvider``."""

    def extra(self, attribute: Any, default: object) -> Any: ...


class Headers:
    """The header fields of a request or a response, immutable; names are case-insensitive.

    Args:
        fields: a mapping, or pairs of name and value, in their order.

    Raises:
        TypeError: a name or a value is not a ``str``.
        ValueError: a name is not a token, or a value has control characters (so also line ends) or
            characters outside ISO 8859-1.
    """

    __slots__ = ("_keys", "_names", "_values")

    # Three tuples side by side and no index: a connection keeps its headers for as long as it is open.
    _keys: tuple[str, ...]  # the names in lower case
    _names: tuple[str, ...]
    _values: tuple[str, ...]

    def __init__(self, fields: HeaderPairs = ()) -> None:
        items = getattr(fields, "items", None)  # asking for the protocol costs 15 µs on Python 3.11
        pairs = cast("Iterable[tuple[str, str]]", fields) if items is None else items()
        self._set([_checked_field(name, value) for name, value in pairs])

    @classmethod
    def well_formed(cls, fields: Iterable[tuple[str, str]]) -> Headers:
        """Headers of fields that have been checked, or that this library wrote: nothing is checked."""
        headers = cls.__new__(cls)
        headers._set(list(fields))
        return headers

    def _set(self, fields: list[tuple[str, str]]) -> None:
        self._names = tuple([name for name, _ in fields])
        self._values = tuple([value for _, value in fields])
        self._keys = tuple([_KEYS.get(name) or name.lower() for name, _ in fields])

    def get_all(self, name: str) -> tuple[str, ...]:
        """The values of all fields called `name`, in their order."""
        key = _KEYS.get(name) or name.lower()
        count = self._keys.count(key)
        if count == 1:  # most
            return (self._values[self._keys.index(key)],)
        return tuple(v for k, v in zip(self._keys, self._values, strict=True) if k == key) if count else ()

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of the field called `name`; of several, all joined by a comma and a space."""
        values = self.get_all(name)
        return ", ".join(values) if values else default

    def __getitem__(self, name: str) -> str:
        if name not in self:
            raise KeyError(name.lower())
        return ", ".join(self.get_all(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._keys

    def __iter__(self) -> Iterator[str]:
        """The distinct names in lower case."""
        return iter(dict.fromkeys(self._keys))

    def __len__(self) -> int:
        return len(set(self._keys))

    def items(self) -> tuple[tuple[str, str], ...]:
        """All fields as (name, value) in their order, names as they were written."""
        return tuple(zip(self._names, self._values, strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._by_key() == other._by_key()

    def _by_key(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for key, value in zip(self._keys, self._values, strict=True):
            index.setdefault(key, []).append(value)
        return index

    __hash__ = None  # type: ignore[assignment]  # as of any container that is compared by value

    def __repr__(self) -> str:
        return f"Headers({list(self.items())!r})"


def _checked_field(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"a header field is two str, not {type(name).__name__} and {type(value).__name__}")
    value = value.strip(" \t")
    if not is_token(name):
        raise ValueError(f"{name[:80]!r} is not the name of a header field (RFC 9110 section 5.1)")
    if _NOT_IN_A_VALUE.search(value):
        raise ValueError(f"the value of {name!r} has characters it must not have (RFC 9110 section 5.5)")
    return name, value


class Request:
    """The request of an opening handshake, or any other that came to a server's port.

    Attributes:
        method: ``"GET"`` in an opening handshake.
        target: the request target, as it is on the wire.
        path: the path of `target`, not percent-decoded.
        query: what follows the first ``?`` of `target`, not percent-decoded; ``""`` without one.
        headers: the header fields.
        http_version: such as ``"1.1"``.
        peer: the address of the peer, ``None`` where it is not known.
    """

    def __init__(
        self,
        target: str,
        headers: Headers,
        *,
        method: str = "GET",
        http_version: str = "1.1",
        peer: PeerAddress = None,
    ) -> None:
        self.method = method
        self.target = target
        # RFC 9112 section 3.2.2: a server accepts the absolute form too.
        absolute = None if target.startswith("/") else _ABSOLUTE_FORM.match(target)
        path, _, self.query = target[absolute.end() if absolute else 0 :].partition("?")
        self.path = path or "/"
        self.headers = headers
        self.http_version = http_version
        self.peer = peer
        self.attributes: _Attributes | None = None  # of the transport, where a server has one

    @overload
    def extra(self, attribute: _T) -> _T: ...

    @overload
    def extra(self, attribute: _T, default: _Default) -> _T | _Default: ...

    def extra(self, attribute: Any, default: object = _REQUIRED) -> object:
        """What a server's transport knows of the connection, as anyio's typed attributes.

        Such as ``request.extra(TLSAttribute.peer_certificate)`` or
        ``request.extra(SocketAttribute.remote_address)``; also before the handshake is answered.

        Raises:
            LookupError: this is not known, and no `default` was given.
        """
        value = default if self.attributes is None else self.attributes.extra(attribute, default)
        if value is _REQUIRED:
            raise LookupError("the transport does not know this attribute")
        return value

    @cached_property
    def state(self) -> SimpleNamespace:
        """What the application sets here in ``process_request``, the handler finds here."""
        return SimpleNamespace()

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies by their names (RFC 6265 section 5.4). Never raises; what is no cookie is left out.

        Of several with one name the first counts; user agents put the most specific path first.
        """
        cookies: dict[str, str] = {}
        for pair in ";".join(self.headers.get_all("cookie")).split(";"):
            name, equals, value = (part.strip(" \t") for part in pair.partition("="))
            if name and equals:
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                cookies.setdefault(name, value[1:-1] if quoted else value)
        return cookies

    @cached_property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols offered, the client's favourite first. Empty if the field is malformed."""
        try:
            return parse_token_list(self.headers.get_all("sec-websocket-protocol"))
        except ValueError:
            return ()

    @property
    def origin(self) -> str | None:
        """The origin of the page that asks (RFC 6454), ``None`` if the client is not a browser."""
        return self.headers.get("origin")

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"


class Response:
    """An HTTP response: what ``process_request`` returns, or what a server answered.

    Args:
        status: 200 to 599.
        headers: without ``Connection``, ``Content-Length`` and ``Transfer-Encoding``, which follow
            from the rest: the body is sent whole, and the connection is closed afterwards.
        body: a ``str`` is sent as UTF-8, by default with ``Content-Type: text/plain; charset=utf-8``.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the status is out of range or has no body, or a header field is malformed or not
            the application's.
    """

    status: int
    headers: Headers
    body: bytes

    def __init__(self, status: int, headers: HeaderPairs = (), body: bytes | str = b"") -> None:
        if isinstance(status, bool) or not isinstance(status, int):
            raise TypeError(f"a status is an int, not {type(status).__name__}")
        if not 200 <= status <= 599:
            raise ValueError(f"status {int(status)} is not in 200..599")
        if not isinstance(body, bytes | str):
            raise TypeError(f"a body is bytes or str, not {type(body).__name__}")
        if body and status in (204, 205, 304):
            raise ValueError(f"a response of status {int(status)} has no body (RFC 9110 section 15)")
        self.status = int(status)
        self.headers = Headers(headers)
        if foreign := _FRAMING.intersection(self.headers):
            raise ValueError(f"{', '.join(sorted(foreign))}: set by wsstream itself")
        if isinstance(body, str):
            body = body.encode()
            if "content-type" not in self.headers:
                self.headers = Headers([*self.headers.items(), ("Content-Type", "text/plain; charset=utf-8")])
        self.body = body

    @classmethod
    def received(cls, status: int, headers: Headers, body: bytes = b"") -> Response:
        """A response of the peer, as it is: of any status, with all its fields, the body perhaps cut."""
        response = cls.__new__(cls)
        response.status, response.headers, response.body = status, headers, body
        return response

    def __repr__(self) -> str:
        return f"<Response {self.status}>"
