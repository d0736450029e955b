"""Headers, requests and responses of the opening handshake, whatever HTTP version carries them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Protocol, TypeAlias, runtime_checkable

from wsstream.protocol.extensions import is_token, parse_token_list

__all__ = ["HeaderItems", "HeaderPairs", "Headers", "PeerAddress", "Request", "Response"]

# RFC 9110 section 5.5: control characters other than a tab are not sent; a field is ISO 8859-1.
_NOT_IN_A_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_ABSOLUTE_FORM = re.compile(r"(?:https?|wss?)://[^/?]*+", re.IGNORECASE)
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})

PeerAddress: TypeAlias = tuple[Any, ...] | str | None
"""What the transport knows of the peer: (host, port, …) of a TCP socket, the path of a Unix socket."""


@runtime_checkable
class HeaderItems(Protocol):
    """Anything with ``items()`` that gives (name, value): a dict, a :class:`Headers`."""

    def items(self) -> Iterable[tuple[str, str]]:
        """The fields."""
        ...


HeaderPairs: TypeAlias = HeaderItems | Iterable[tuple[str, str]]


class Headers:
    """The header fields of a request or a response, immutable; names are case-insensitive.

    Args:
        fields: a mapping, or pairs of name and value, in their order.

    Raises:
        TypeError: a name or a value is not a ``str``.
        ValueError: a name is not a token, or a value has control characters (so also line ends) or
            characters outside ISO 8859-1.
    """

    __slots__ = ("_index", "_items")

    def __init__(self, fields: HeaderPairs = ()) -> None:
        pairs = fields.items() if isinstance(fields, HeaderItems) else fields
        self._items = tuple(_checked_field(name, value) for name, value in pairs)
        self._index: dict[str, list[str]] = {}
        for name, value in self._items:
            self._index.setdefault(name.lower(), []).append(value)

    def get_all(self, name: str) -> tuple[str, ...]:
        """The values of all fields called `name`, in their order."""
        return tuple(self._index.get(name.lower(), ()))

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of the field called `name`; of several, all joined by a comma and a space."""
        values = self._index.get(name.lower())
        return default if values is None else ", ".join(values)

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._index[name.lower()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._index

    def __iter__(self) -> Iterator[str]:
        """The distinct names in lower case."""
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def items(self) -> tuple[tuple[str, str], ...]:
        """All fields as (name, value) in their order, names as they were written."""
        return self._items

    def __eq__(self, other: object) -> bool:
        return self._index == other._index if isinstance(other, Headers) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of any container that is compared by value

    def __repr__(self) -> str:
        return f"Headers({list(self._items)!r})"


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
        state: for the application: what ``process_request`` sets here, the handler finds here.
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
        absolute = _ABSOLUTE_FORM.match(target)
        path, _, self.query = target[absolute.end() if absolute else 0 :].partition("?")
        self.path = path or "/"
        self.headers = headers
        self.http_version = http_version
        self.peer = peer
        self.state = SimpleNamespace()

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
