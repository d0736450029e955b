"""Requests and responses of the opening handshake, whatever HTTP version carries them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple, Protocol, TypeVar, overload
from urllib.parse import parse_qsl

from wsstream.arguments import check_int, check_type
from wsstream.display import excerpt, never_raises
from wsstream.opening.grammar import parse_token_list
from wsstream.opening.headers import HeaderPairs, Headers
from wsstream.opening.peer import Forwarded, PeerAddress, ip_address_of

__all__ = ["FRAMING_FIELDS", "Request", "RequestedURL", "Response"]

_ABSOLUTE_FORM = re.compile(r"(?:https?|wss?)://[^/?]*+", re.IGNORECASE)
FRAMING_FIELDS = frozenset({"connection", "content-length", "transfer-encoding"})
"""Fields of a response that wsstream sets itself."""

_T = TypeVar("_T")
_Default = TypeVar("_Default")
_REQUIRED = object()


class _Attributes(Protocol):
    """The method of anyio's ``TypedAttributeProvider`` that is needed here."""

    def extra(self, attribute: Any, default: object) -> Any: ...


class Request:
    """The request of an opening handshake, or any other request to a server.

    Attributes:
        method: ``"GET"`` in an opening handshake.
        target: the request target as sent.
        headers: the header fields.
        http_version: such as ``"1.1"``.
        peer: the address of the peer, or ``None`` if it is not known.
        tls: whether the peer speaks TLS with this server.
        forwarded: what a trusted proxy said, or ``None``.
        path_params: the parameters that a :class:`Router` found in the path, by their names.
    """

    forwarded: Forwarded | None = None
    tls = False
    path_params: Mapping[str, Any] = MappingProxyType({})
    route: object = None  # which a router chose; read by the router and by the server

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
        self.attributes: _Attributes | None = None  # of the transport, on a server

    @overload
    def extra(self, attribute: _T) -> _T: ...

    @overload
    def extra(self, attribute: _T, default: _Default) -> _T | _Default: ...

    def extra(self, attribute: Any, default: object = _REQUIRED) -> object:
        """A typed attribute of anyio's that the server's transport has.

        For example ``request.extra(TLSAttribute.peer_certificate)`` or
        ``request.extra(SocketAttribute.remote_address)``. Works also before the server responds.

        Raises:
            LookupError: the transport does not have it, and no `default` was given.
        """
        value = default if self.attributes is None else self.attributes.extra(attribute, default)
        if value is _REQUIRED:
            raise LookupError("the transport does not know this attribute")
        return value

    @cached_property
    def state(self) -> SimpleNamespace:
        """Attributes that ``process_request`` sets for the handler."""
        return SimpleNamespace()

    # The properties make their values anew at each call: a connection keeps its request for long.

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
        """The part of `target` after the first ``?``, not percent-decoded; ``""`` without one."""
        return self.resource.partition("?")[2]

    @property
    def query_params(self) -> dict[str, str]:
        """The parameters of `query` by their names, decoded as forms are; of several with one name, the last.

        Never raises: bytes that are not UTF-8 become U+FFFD. Parsed anew at each call.
        """
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by their names (RFC 6265 section 5.4). Never raises; malformed ones are left out.

        Of several with one name the first counts: user agents send the one with the most specific path first.
        Parsed anew at each call.
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
        """The subprotocols that the client offers, the preferred first. Empty if the field is malformed."""
        try:
            return parse_token_list(self.headers.get_all("sec-websocket-protocol"))
        except ValueError:
            return ()

    @property
    def client(self) -> str | None:
        """The client's IP address, of the peer or as a trusted proxy says.

        ``None`` if the peer has none, as on a Unix socket.
        """
        if self.forwarded is not None and self.forwarded.client is not None:
            return self.forwarded.client
        address = ip_address_of(self.peer)
        return None if address is None else str(address)

    @property
    def scheme(self) -> str:
        """``"https"`` if the client speaks TLS, with the server or with a trusted proxy that says so; else
        ``"http"``.
        """
        if self.forwarded is not None and self.forwarded.scheme is not None:
            return self.forwarded.scheme
        return "https" if self.tls else "http"

    @property
    def host(self) -> str:
        """The host that the client asked for, with a port if it named one.

        It is the value of ``Host``, or what a trusted proxy says; ``""`` if there is none.
        """
        if self.forwarded is not None and self.forwarded.host is not None:
            return self.forwarded.host
        return self.headers.get("host") or ""

    @property
    def origin(self) -> str | None:
        """The origin of the page that connects (RFC 6454); ``None`` if the client is not a browser."""
        return self.headers.get("origin")

    @never_raises
    def __repr__(self) -> str:
        return f"<Request {excerpt(self.method, 20)} {excerpt(self.path)}>"


class RequestedURL(NamedTuple):
    """The URL that a client requested. ``str()`` makes it, so that no second copy of the target is kept."""

    request: Request

    def __str__(self) -> str:
        scheme = "wss" if self.request.scheme == "https" else "ws"
        return f"{scheme}://{self.request.host}{self.request.resource}"


class Response:
    """An HTTP response: one that ``process_request`` returns, or one that a server sent.

    Args:
        status: 200 to 599.
        headers: without ``Connection``, ``Content-Length`` and ``Transfer-Encoding``, which wsstream sets: it
            sends the body at once and closes the connection.
        body: a ``str`` is sent as UTF-8, by default with ``Content-Type: text/plain; charset=utf-8``.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the status is out of range or must not have a body, or a header field is malformed or
            one that wsstream sets.
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
        if foreign := FRAMING_FIELDS.intersection(self.headers):
            names = ", ".join(sorted(foreign))
            raise ValueError(f"headers of a response must not have {names}: wsstream sets that itself")
        if isinstance(body, str):
            body = body.encode()
            if "content-type" not in self.headers:
                self.headers = Headers([*self.headers.items(), ("Content-Type", "text/plain; charset=utf-8")])
        self.body = body

    @classmethod
    def received(cls, status: int, headers: Headers, body: bytes = b"") -> Response:
        """A response of the peer, not checked: any status, all its fields, perhaps a part of its body."""
        response = cls.__new__(cls)
        response.status, response.headers, response.body = status, headers, body
        return response

    @never_raises
    def __repr__(self) -> str:
        return f"<Response {self.status}>"
