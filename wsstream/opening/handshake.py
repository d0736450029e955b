"""The rules of the opening handshake (RFC 6455 section 4), whatever HTTP version carries it.

A server takes three steps, so that an application may answer any request in between: it parses the
request, lets ``process_request`` see it, and only then checks that it opens a WebSocket.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from wsstream.arguments import check_type
from wsstream.display import quoted
from wsstream.errors import HandshakeError, HandshakeRejected
from wsstream.opening.extensions import Extension, format_extensions, parse_extensions
from wsstream.opening.grammar import is_token, parse_token_list
from wsstream.opening.http import HeaderPairs, Headers, Request, Response
from wsstream.opening.url import URL

__all__ = [
    "NONCE_SIZE",
    "Agreement",
    "Offer",
    "RequestRejected",
    "accept_key",
    "accepting_headers",
    "basic_credentials",
    "check_extra",
    "check_request",
    "check_response",
    "client_request_headers",
    "select_subprotocol",
    "validate_origins",
    "validate_subprotocols",
]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
NONCE_SIZE = 16
"""Bytes of the nonce that `Sec-WebSocket-Key` carries in base64 (RFC 6455 section 4.1)."""
# RFC 3986 section 3.2.2 with an optional port; who is meant is no business of the handshake.
_HOST = re.compile(r"(?:\[[0-9A-Za-z:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::[0-9]*)?")
# What browsers send (RFC 6454 section 6.2): a scheme and a host with an optional port, without a path.
_ORIGIN = re.compile(r"null|[A-Za-z][A-Za-z0-9+\-.]*://[!-.0->@-~]*")
_RESERVED = frozenset({"connection", "upgrade", "content-length", "transfer-encoding"})


class RequestRejected(HandshakeError):
    """A request does not open a WebSocket.

    Args:
        response: what to answer.
        message: the reason. Not made of the body of `response`, which may be the application's.
    """

    def __init__(self, response: Response, message: str) -> None:
        super().__init__(message)
        self.response = response


class Offer(NamedTuple):
    """What a checked request asks for."""

    key: str
    """The value of ``Sec-WebSocket-Key``."""
    subprotocols: tuple[str, ...]
    """In the client's order of preference."""
    extensions: tuple[Extension, ...]
    """In the client's order of preference."""

    def __repr__(self) -> str:  # a subprotocol may be a secret
        return f"<Offer of {len(self.subprotocols)} subprotocols, {format_extensions(self.extensions)!r}>"


class Agreement(NamedTuple):
    """What client and server agreed on."""

    subprotocol: str
    """``""`` for none."""
    extensions: tuple[Extension, ...]

    def __repr__(self) -> str:
        return f"<Agreement on {format_extensions(self.extensions)!r}>"


def accept_key(key: str) -> str:
    """The ``Sec-WebSocket-Accept`` that answers a ``Sec-WebSocket-Key`` (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def validate_subprotocols(subprotocols: Iterable[str]) -> tuple[str, ...]:
    """Check the subprotocols that an application offers or supports.

    Raises:
        TypeError: `subprotocols` is itself a ``str``, or an element is none.
        ValueError: an element is not a token, or is there twice (RFC 6455 section 4.1).
    """
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols must be a sequence of str, got a str")
    names = tuple(subprotocols)
    for number, name in enumerate(names, 1):
        check_type("a subprotocol", name, str, "a str")
        if not is_token(name):  # nor shown, as some pass their credentials as a subprotocol
            raise ValueError(f"subprotocol {number} must be a token (RFC 6455 section 4.1)")
    if len(set(names)) != len(names):
        raise ValueError("duplicate subprotocol (RFC 6455 section 4.1)")
    return names


def validate_origins(origins: Iterable[str | None] | None) -> frozenset[str | None] | None:
    """Check the origins that a server admits, for :func:`check_request`. ``None`` admits all.

    ``None`` among them admits requests without ``Origin``: clients that are not browsers.

    Raises:
        TypeError: `origins` is itself a ``str``, or an element is neither ``str`` nor ``None``.
        ValueError: an element can be the origin of no request.
    """
    if origins is None:
        return None
    if isinstance(origins, str):
        raise TypeError("origins must be a sequence of str or None, got a str")
    admitted = tuple(origins)
    for origin in admitted:
        check_type("an origin", origin, str | None, "a str or None")
        if origin is not None and not _ORIGIN.fullmatch(origin):
            raise ValueError(f'an origin must be like "https://a.example" or "null", got {origin[:80]!r}')
    # RFC 6454 section 4: scheme and host are in lower case.
    return frozenset(origin and origin.lower() for origin in admitted)


def select_subprotocol(offered: Collection[str], supported: Iterable[str]) -> str:
    """The first of `supported`, in the server's order of preference, that was offered; else ``""``."""
    return next((name for name in supported if name in offered), "")


# --- The client's side (RFC 6455 section 4.1) ---


def client_request_headers(
    url: URL,
    key: str,
    subprotocols: Sequence[str] = (),
    extensions: Sequence[Extension] = (),
    origin: str | None = None,
    headers: HeaderPairs | None = None,
) -> Headers:
    """The header fields of an opening handshake.

    Args:
        url: where the request goes; its userinfo becomes ``Authorization: Basic`` unless `headers`
            has an ``Authorization`` of its own.
        key: 16 random bytes in base64.
        subprotocols: checked by :func:`validate_subprotocols`.
        extensions: what is offered, the favourite first.
        origin: the value of ``Origin``, if any.
        headers: more fields. They may replace ``Host``, nothing else.

    Raises:
        TypeError: `headers` or `origin` has something else than ``str``.
        ValueError: `headers` or `origin` is malformed, or a field is one the handshake sets itself.
    """
    extra = Headers(() if headers is None else headers)
    check_extra(extra)
    if len(extra.get_all("host")) > 1 or (origin is not None and "origin" in extra):
        raise ValueError("Host or Origin was given twice")
    fields = [] if "host" in extra else [("Host", url.host_header)]
    fields += [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    fields += [("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", "13")]
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if extensions:
        fields.append(("Sec-WebSocket-Extensions", format_extensions(extensions)))
    if origin is not None:
        fields += Headers([("Origin", origin)]).items()
    if url.userinfo is not None and "authorization" not in extra:
        fields.append(("Authorization", basic_credentials(*url.userinfo)))
    return Headers.well_formed([*fields, *extra.items()])


def check_extra(extra: Headers) -> None:
    """Check header fields that an application adds to its side of the handshake.

    Raises:
        ValueError: a field is one that the handshake sets itself.
    """
    for name in extra:
        if name in _RESERVED or name.startswith("sec-websocket-"):
            raise ValueError(f"headers must not have {quoted(name)}: the opening handshake sets it itself")


def basic_credentials(user: str, password: str) -> str:
    """The value of ``Authorization`` or ``Proxy-Authorization`` for the Basic scheme."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()  # RFC 7617


def check_response(
    response: Response,
    *,
    key: str,
    subprotocols: Collection[str] = (),
    extensions: Collection[Extension] = (),
) -> Agreement:
    """Check a server's answer; `key`, `subprotocols` and `extensions` are what was sent.

    Raises:
        HandshakeRejected: the status is not 101.
        HandshakeError: the status is 101, but the answer does not open a WebSocket, or it chooses
            what was not offered, or none of the subprotocols that were.
    """
    if response.status != 101:
        fields = [(name.lower(), value) for name, value in response.headers.items()]
        raise HandshakeRejected(response.status, fields, response.body)
    headers = response.headers
    # RFC 6455 section 4.1, what the client must validate, 2 to 6.
    if [value.lower() for value in headers.get_all("upgrade")] != ["websocket"]:
        raise HandshakeError('the server\'s answer must have exactly one "Upgrade: websocket"')
    if not _has_upgrade_option(headers):
        raise HandshakeError('the server\'s answer must have "Connection: Upgrade"')
    accept = headers.get_all("sec-websocket-accept")
    if len(accept) != 1 or not hmac.compare_digest(accept[0].encode("latin-1"), accept_key(key).encode()):
        raise HandshakeError(
            "the server's answer must have exactly one Sec-WebSocket-Accept, made of the key that was sent"
        )
    return Agreement(_agreed_subprotocol(headers, subprotocols), _agreed_extensions(headers, extensions))


def _agreed_subprotocol(headers: Headers, offered: Collection[str]) -> str:
    chosen = headers.get_all("sec-websocket-protocol")
    if len(chosen) > 1:
        raise HandshakeError("the server chose several subprotocols")
    if not chosen:
        if offered:
            raise HandshakeError("the server chose none of the subprotocols that were offered")
        return ""
    if chosen[0] not in offered:
        raise HandshakeError("the server chose a subprotocol that was not offered")
    return chosen[0]


def _agreed_extensions(headers: Headers, offered: Collection[Extension]) -> tuple[Extension, ...]:
    try:
        chosen = parse_extensions(headers.get_all("sec-websocket-extensions"))
    except ValueError as exc:
        raise HandshakeError(f"the server's Sec-WebSocket-Extensions is malformed: {exc}") from exc
    names = {extension.name for extension in offered}
    for extension in chosen:
        if extension.name not in names:
            raise HandshakeError(f"the server chose the extension {quoted(extension.name)}, not offered")
    return chosen


def _has_upgrade_option(headers: Headers) -> bool:
    return "upgrade" in _list_items(headers, "connection")


def _list_items(headers: Headers, name: str) -> set[str]:
    """The elements of a list whose elements compare without regard to case, tokens or not."""
    return {item.strip(" \t").lower() for value in headers.get_all(name) for item in value.split(",")}


# --- The server's side (RFC 6455 section 4.2) ---


def check_request(request: Request, *, origins: Collection[str | None] | None = None) -> Offer:
    """Check that a request opens a WebSocket.

    Args:
        request: as it was parsed.
        origins: what :func:`validate_origins` gave; ``None`` admits all.

    Raises:
        RequestRejected: with the response to send, whose body says what was wrong.
    """
    _check_http(request)
    headers = request.headers
    if "websocket" not in _list_items(headers, "upgrade") or not _has_upgrade_option(headers):
        raise _refusal(
            426,
            "This is a WebSocket endpoint: the request needs Upgrade: websocket and Connection: Upgrade. "
            "A proxy in between may have removed them.",
            ("Upgrade", "websocket"),
        )
    if headers.get_all("sec-websocket-version") != ("13",):
        raise _refusal(
            426,
            "The request needs exactly one Sec-WebSocket-Version, and it must be 13.",
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
        )
    key = _checked_key(headers)
    _check_origin(headers, origins)
    return Offer(key, _offered_subprotocols(headers), _offered_extensions(headers))


def accepting_headers(
    offer: Offer,
    *,
    subprotocol: str = "",
    extensions: Sequence[Extension] = (),
    headers: HeaderPairs = (),
) -> Headers:
    """The header fields of the answer 101 (RFC 6455 section 4.2.2).

    Raises:
        TypeError: `headers` has something else than ``str``.
        ValueError: `subprotocol` was not offered, `headers` is malformed, or a field is one the
            handshake sets itself.
    """
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    fields.append(("Sec-WebSocket-Accept", accept_key(offer.key)))
    if subprotocol:
        if subprotocol not in offer.subprotocols:
            raise ValueError("the subprotocol must be one of those that the client offered")
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    if extensions:
        fields.append(("Sec-WebSocket-Extensions", format_extensions(extensions)))
    if headers != ():
        extra = Headers(headers)
        check_extra(extra)
        fields += extra.items()
    return Headers.well_formed(fields)


def _refusal(status: int, text: str, *fields: tuple[str, str]) -> RequestRejected:
    return RequestRejected(Response(status, fields, f"{text}\n"), text)


def _check_http(request: Request) -> None:
    # RFC 9110 section 2.5: a higher minor version is read as the highest that is known.
    if not request.http_version.startswith("1.") or request.http_version == "1.0":
        raise _refusal(
            505, "A WebSocket is opened with HTTP/1.1 here. A proxy in between may have to be told to use it."
        )
    if request.method != "GET":
        raise _refusal(405, "A WebSocket is opened with GET.", ("Allow", "GET"))
    if not request.path.startswith("/") or "#" in request.target:
        raise _refusal(400, "The request target is malformed.")
    host = request.headers.get_all("host")
    if len(host) != 1 or not _HOST.fullmatch(host[0]):
        raise _refusal(400, "The request needs exactly one well-formed Host.")
    length = request.headers.get("content-length")
    if "transfer-encoding" in request.headers or (length or "").strip("0"):
        raise _refusal(400, "A request that opens a WebSocket has no body.")


def _checked_key(headers: Headers) -> str:
    keys = headers.get_all("sec-websocket-key")
    if len(keys) != 1:
        raise _refusal(400, "The request needs exactly one Sec-WebSocket-Key.")
    try:
        nonce = base64.b64decode(keys[0].encode("latin-1"), validate=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != NONCE_SIZE:
        raise _refusal(400, "Sec-WebSocket-Key is not 16 bytes in base64.")
    return keys[0]


def _check_origin(headers: Headers, origins: Collection[str | None] | None) -> None:
    given = headers.get_all("origin")
    if len(given) > 1:
        raise _refusal(400, "The request has several Origin fields.")
    if origins is not None and (given[0].lower() if given else None) not in origins:
        raise _refusal(403, "WebSockets from this origin are not accepted here.")


def _offered_subprotocols(headers: Headers) -> tuple[str, ...]:
    try:
        return validate_subprotocols(parse_token_list(headers.get_all("sec-websocket-protocol")))
    except ValueError as exc:
        raise _refusal(400, f"Sec-WebSocket-Protocol is malformed: {exc}.") from exc


def _offered_extensions(headers: Headers) -> tuple[Extension, ...]:
    try:
        return parse_extensions(headers.get_all("sec-websocket-extensions"))
    except ValueError as exc:
        raise _refusal(400, f"Sec-WebSocket-Extensions is malformed: {exc}.") from exc
