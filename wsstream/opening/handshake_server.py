"""The server's side of the opening handshake (RFC 6455 section 4.2): what it checks, and its response.

A server takes three steps, so that an application may answer any request in between: it parses the request,
lets ``process_request`` see it, and only then checks that it opens a WebSocket.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from wsstream.errors import HandshakeError
from wsstream.opening.extensions import Extension, format_extensions, parse_extensions
from wsstream.opening.grammar import is_host, parse_token_list
from wsstream.opening.handshake import (
    accept_key,
    check_extra,
    has_item,
    has_upgrade_option,
    validate_subprotocols,
)
from wsstream.opening.headers import HeaderPairs, Headers, values_by_name
from wsstream.opening.http import Request, Response
from wsstream.opening.origins import Origins

__all__ = [
    "Offer",
    "RequestRejected",
    "accepting_headers",
    "check_request",
    "rejection",
    "select_subprotocol",
]

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # base64 (RFC 4648 section 4) of 16 bytes
# The fields that are in each response 101, in the form that `Headers` keeps.
_ACCEPTING = b"\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n"


_Values: TypeAlias = Mapping[str, Sequence[str]]  # of the header fields, by their names in lower case
_NONE: Sequence[str] = ()


class RequestRejected(HandshakeError):
    """A request does not open a WebSocket.

    Args:
        response: the response to send.
        message: the reason. Not taken from the body of `response`, which may be the application's.
    """

    def __init__(self, response: Response, message: str) -> None:
        super().__init__(message)
        self.response = response


class Offer(NamedTuple):
    """What a client offers in a request that was checked."""

    key: str
    """The value of ``Sec-WebSocket-Key``."""
    subprotocols: tuple[str, ...]
    """In the client's order of preference."""
    extensions: tuple[Extension, ...]
    """In the client's order of preference."""

    def __repr__(self) -> str:  # a subprotocol may be a secret
        return f"<Offer of {len(self.subprotocols)} subprotocols, {format_extensions(self.extensions)!r}>"


def select_subprotocol(offered: Collection[str], supported: Iterable[str]) -> str:
    """The first of `supported`, in the server's order of preference, that was offered; else ``""``."""
    return next((name for name in supported if name in offered), "") if offered else ""


def check_request(request: Request, *, origins: Origins | None = None) -> Offer:
    """Check that a request opens a WebSocket.

    Args:
        request: as it was parsed.
        origins: the pages that may connect; ``None`` for all.

    Raises:
        RequestRejected: it does not; with the response to send, whose body says why.
    """
    # Section 4.2.1: a server must stop processing a request that does not match this description, and return
    # a response with an appropriate HTTP error.
    values = values_by_name(request.headers)
    _check_http(request, values)
    # Section 4.2.1, 3 and 4: Upgrade has "websocket", Connection the token "Upgrade", both in any case.
    upgrade, connection = values.get("upgrade", _NONE), values.get("connection", _NONE)
    if not has_item(upgrade, "websocket") or not has_upgrade_option(connection):
        raise rejection(
            426,
            "This is a WebSocket endpoint: the request needs Upgrade: websocket and Connection: Upgrade. "
            "A proxy in between may have removed them.",
            ("Upgrade", "websocket"),
        )
    # Section 4.4: a server that does not speak the version answers with those that it speaks.
    if values.get("sec-websocket-version") != ["13"]:
        raise rejection(
            426,
            "The request needs exactly one Sec-WebSocket-Version, and it must be 13.",
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
        )
    key = _checked_key(values)
    _check_origin(request, values, origins)
    return Offer(key, _offered_subprotocols(values), _offered_extensions(values))


def accepting_headers(
    offer: Offer,
    *,
    subprotocol: str = "",
    extensions: Sequence[Extension] = (),
    headers: HeaderPairs = (),
) -> Headers:
    """The header fields of the response 101.

    Raises:
        TypeError: a name or a value of `headers` is not a ``str``.
        ValueError: `subprotocol` was not offered, `headers` is malformed, or a field is one the
            handshake sets itself.
    """
    # Section 4.2.2, 5.
    lines = _ACCEPTING % accept_key(offer.key).encode()
    fields: list[tuple[str, str]] = []
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
    return Headers.of_lines(lines + Headers.well_formed(fields).to_lines() if fields else lines)


def rejection(status: int, text: str, *fields: tuple[str, str]) -> RequestRejected:
    """The exception for a request that gets an answer of `status`, whose body says `text`."""
    return RequestRejected(Response(status, fields, f"{text}\n"), text)


def _check_http(request: Request, values: _Values) -> None:
    # Section 4.2.1, 1: a GET of HTTP/1.1 or higher, with a resource name. RFC 9110 section 2.5: a higher
    # minor version is read as the highest one known.
    if not request.http_version.startswith("1.") or request.http_version == "1.0":
        raise rejection(
            505,
            "A WebSocket is opened with HTTP/1.1 here. A proxy in between may need to be configured for it.",
        )
    if request.method != "GET":
        raise rejection(405, "A WebSocket is opened with GET.", ("Allow", "GET"))
    if "#" in request.target or not (request.target.startswith("/") or request.path.startswith("/")):
        raise rejection(400, "The request target is malformed.")
    # Section 4.2.1, 2.
    host = values.get("host", _NONE)
    if len(host) != 1 or not is_host(host[0]):
        raise rejection(400, "The request needs exactly one well-formed Host.")
    # Not in RFC 6455: bytes of a body would be read as frames.
    if "transfer-encoding" in values or ", ".join(values.get("content-length", _NONE)).strip("0"):
        raise rejection(400, "A request that opens a WebSocket must not have a body.")


def _checked_key(values: _Values) -> str:
    # Section 4.2.1, 5: base64 that decodes to 16 bytes.
    keys = values.get("sec-websocket-key", _NONE)
    if len(keys) != 1:
        raise rejection(400, "The request needs exactly one Sec-WebSocket-Key.")
    if not _KEY.fullmatch(keys[0]):
        raise rejection(400, "Sec-WebSocket-Key must be 16 bytes in base64.")
    return keys[0]


def _check_origin(request: Request, values: _Values, origins: Origins | None) -> None:
    # Section 4.2.2, 4: a server that does not accept the origin answers with an error such as 403.
    given = values.get("origin", _NONE)
    if len(given) > 1:
        raise rejection(400, "The request has several Origin fields.")
    origin = given[0] if given else None
    if origins is not None and not origins.admit(origin, request.host):
        raise rejection(403, "WebSockets from this origin are not accepted here.")


def _offered_subprotocols(values: _Values) -> tuple[str, ...]:
    # Section 4.2.1, 8.
    if (offered := values.get("sec-websocket-protocol")) is None:
        return ()
    try:
        return validate_subprotocols(parse_token_list(offered))
    except ValueError as exc:
        raise rejection(400, f"Sec-WebSocket-Protocol is malformed: {exc}.") from exc


def _offered_extensions(values: _Values) -> tuple[Extension, ...]:
    # Section 4.2.1, 9.
    if (offered := values.get("sec-websocket-extensions")) is None:
        return ()
    try:
        return parse_extensions(offered)
    except ValueError as exc:
        raise rejection(400, f"Sec-WebSocket-Extensions is malformed: {exc}.") from exc
