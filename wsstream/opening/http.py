"""Headers, requests and responses of the opening handshake, whatever HTTP version carries them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, cast, overload, runtime_checkable

from wsstream.arguments import check_int, check_type
from wsstream.display import excerpt, never_raises, quoted
from wsstream.opening.grammar import is_token, parse_token_list

__all__ = ["HeaderItems", "HeaderPairs", "Headers", "PeerAddress", "Request", "RequestedURL", "Response"]

# RFC 9110 section 5.5: control characters other than a tab are not sent; a field is ISO 8859-1.
_NOT_IN_A_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_ABSOLUTE_FORM = re.compile(r"(?:https?|wss?)://[^/?]*+", re.IGNORECASE)
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
        TypeError: `fields` is neither, or a name or a value is not a ``str``.
        ValueError: a name is not a token, or a value has control characters (so also line ends) or
            characters outside ISO 8859-1.
    """

    __slots__ = ("_lines",)

    # A connection keeps its headers for as long as it is open. So they are kept as they are on the wire, in
    # one piece: objects for names and values would take many times as much. A line end stands before each
    # line, so that a name is found by what is around it.
    _lines: bytes

    def __init__(self, fields: HeaderPairs = ()) -> None:
        if isinstance(fields, Headers):
            self._lines = fields._lines
            return
        items = getattr(fields, "items", None)  # asking for the protocol costs 15 µs on Python 3.11
        pairs = cast("Iterable[tuple[str, str]]", fields) if items is None else items()
        self._lines = _lines([_checked_field(*pair) for pair in _checked_pairs(pairs)])

    @classmethod
    def well_formed(cls, fields: Iterable[tuple[str, str]]) -> Headers:
        """Headers of fields that have been checked, or that this library wrote: nothing is checked."""
        return cls.of_lines(_lines(fields))

    @classmethod
    def of_lines(cls, lines: bytes) -> Headers:
        """Headers of well-formed lines, each with its CRLF, and a line end before the first."""
        headers = cls.__new__(cls)
        headers._lines = lines
        return headers

    def to_lines(self) -> bytes:
        """The fields as they are sent: a line for each, with its CRLF."""
        return self._lines[1:]

    def __reduce__(self) -> tuple[Any, ...]:
        return Headers.well_formed, (self.items(),)

    def get_all(self, name: str) -> tuple[str, ...]:
        """The values of all fields called `name`, in their order."""
        values = _field_called(name).findall(self._lines)
        return tuple([value.decode("latin-1").strip(" \t") for value in values])

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of the field called `name`; of several, all joined by a comma and a space."""
        values = self.get_all(name)
        return ", ".join(values) if values else default

    def __getitem__(self, name: str) -> str:
        if name not in self:
            raise KeyError(name.lower())
        return ", ".join(self.get_all(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _field_called(name).search(self._lines) is not None

    def __iter__(self) -> Iterator[str]:
        """The distinct names in lower case."""
        return iter(self._by_key())

    def __len__(self) -> int:
        return len(self._by_key())

    def items(self) -> tuple[tuple[str, str], ...]:
        """All fields as (name, value) in their order, names as they were written."""
        lines = self.to_lines().decode("latin-1").split("\r\n")[:-1]
        return tuple([(name, value.strip(" \t")) for name, _, value in [x.partition(":") for x in lines]])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._by_key() == other._by_key()

    def _by_key(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for name, value in self.items():
            index.setdefault(name.lower(), []).append(value)
        return index

    __hash__ = None  # type: ignore[assignment]  # as of any container that is compared by value

    @never_raises
    def __repr__(self) -> str:
        # No value is shown, as any of them may be a secret; `items` has them.
        names = ", ".join([name for name, _ in self.items()])
        return f"<Headers {excerpt(names, 200)}>" if names else "<Headers>"


@lru_cache(128)
def _field_called(name: str) -> re.Pattern[bytes]:
    """Finds the lines of the fields called `name`, and their values."""
    if ":" in name:
        return re.compile(b"(?!)")  # there is no such name, but what looks like it: the start of a value
    return re.compile(b"\n(?i:%b):([^\r]*+)" % re.escape(name.encode("ascii", "replace")))


def _lines(fields: Iterable[tuple[str, str]]) -> bytes:
    return "".join(["\n", *[f"{name}: {value}\r\n" for name, value in fields]]).encode("latin-1")


def _checked_pairs(pairs: object) -> list[tuple[int, object, object]]:
    """The fields with their numbers. No message quotes them: a secret may be at any place."""
    must = "header fields must be a mapping or pairs of (name, value)"
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise TypeError(f"{must}, got {type(pairs).__name__}")
    checked = list(pairs)
    for index, pair in enumerate(checked):
        if not isinstance(pair, tuple | list):
            raise TypeError(f"{must}, item {index} is a {type(pair).__name__}")
        if len(pair) != 2:
            raise TypeError(f"{must}, item {index} has length {len(pair)}")
    return [(index, name, value) for index, (name, value) in enumerate(checked)]


def _checked_field(index: int, name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        kinds = f"{type(name).__name__} and {type(value).__name__}"
        raise TypeError(f"header names and values must be str, got {kinds}")
    value = value.strip(" \t")
    if not is_token(name):
        raise ValueError(
            f"names of header fields must be tokens (RFC 9110 section 5.1), item {index} has none"
        )
    if _NOT_IN_A_VALUE.search(value):
        raise ValueError(
            f"the value of {quoted(name, 40)} must have no control characters and none outside ISO 8859-1 "
            "(RFC 9110 section 5.5)"
        )
    return name, value


class Request:
    """The request of an opening handshake, or any other that came to a server's port.

    Attributes:
        method: ``"GET"`` in an opening handshake.
        target: the request target, as it is on the wire.
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

    # What follows is made anew at each call: a connection keeps its request, and these are copies.

    @property
    def resource(self) -> str:
        """`target` from the path on: its path and query, with the ``?``."""
        # RFC 9112 section 3.2.2: a server accepts the absolute form too.
        absolute = None if self.target.startswith("/") else _ABSOLUTE_FORM.match(self.target)
        return self.target[absolute.end() :] if absolute else self.target

    @property
    def path(self) -> str:
        """The path of `target`, not percent-decoded."""
        return self.resource.partition("?")[0] or "/"

    @property
    def query(self) -> str:
        """What follows the first ``?`` of `target`, not percent-decoded; ``""`` without one."""
        return self.resource.partition("?")[2]

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by their names (RFC 6265 section 5.4). Never raises; what is no cookie is left out.

        Of several with one name the first counts; user agents put the most specific path first. They are
        read from the header fields at each call.
        """
        cookies: dict[str, str] = {}
        for pair in ";".join(self.headers.get_all("cookie")).split(";"):
            name, equals, value = (part.strip(" \t") for part in pair.partition("="))
            if name and equals:
                in_quotes = len(value) > 1 and value[0] == value[-1] == '"'
                cookies.setdefault(name, value[1:-1] if in_quotes else value)
        return cookies

    @property
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

    @never_raises
    def __repr__(self) -> str:
        return f"<Request {excerpt(self.method, 20)} {excerpt(self.path)}>"


class RequestedURL(NamedTuple):
    """The URL that a server was asked for; ``str()`` makes it: it would be one more copy of the target."""

    scheme: str
    request: Request

    def __str__(self) -> str:
        return f"{self.scheme}://{self.request.headers['host']}{self.request.resource}"


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
        check_int("the status", status, 200, 599)
        check_type("the body", body, bytes | str, "bytes or str")
        if body and status in (204, 205, 304):
            raise ValueError(f"a {int(status)} response must not have a body (RFC 9110 section 15)")
        self.status = int(status)
        self.headers = Headers(headers)
        if foreign := _FRAMING.intersection(self.headers):
            names = ", ".join(sorted(foreign))
            raise ValueError(f"headers of a response must not have {names}: wsstream sets that itself")
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

    @never_raises
    def __repr__(self) -> str:
        return f"<Response {self.status}>"
