"""The client's side of the opening handshake (RFC 6455 section 4.1): its request, and what it checks."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from typing import NamedTuple

from wsstream.display import quoted
from wsstream.errors import HandshakeError, HandshakeRejected
from wsstream.opening.extensions import Extension, format_extensions, parse_extensions
from wsstream.opening.handshake import accept_key, basic_credentials, check_extra, has_upgrade_option
from wsstream.opening.headers import HeaderPairs, Headers
from wsstream.opening.http import Response
from wsstream.opening.url import URL

__all__ = ["Agreement", "check_response", "client_request_headers"]


class Agreement(NamedTuple):
    """The subprotocol and the extensions that client and server agreed on."""

    subprotocol: str
    """``""`` for none."""
    extensions: tuple[Extension, ...]

    def __repr__(self) -> str:
        return f"<Agreement on {format_extensions(self.extensions)!r}>"


def client_request_headers(
    url: URL,
    key: str,
    subprotocols: Sequence[str] = (),
    extensions: Sequence[Extension] = (),
    origin: str | None = None,
    headers: HeaderPairs | None = None,
) -> Headers:
    """The header fields of the request.

    Args:
        url: where the request goes; its userinfo becomes ``Authorization: Basic`` unless `headers`
            has an ``Authorization`` of its own.
        key: 16 random bytes in base64.
        subprotocols: checked by :func:`validate_subprotocols`.
        extensions: those to offer, the preferred first.
        origin: the value of ``Origin``, if any.
        headers: more fields. They may replace ``Host``, nothing else.

    Raises:
        TypeError: `origin`, or a name or a value of `headers`, is not a ``str``.
        ValueError: `headers` or `origin` is malformed, or a field is one the handshake sets itself.
    """
    extra = Headers(() if headers is None else headers)
    check_extra(extra)
    if len(extra.get_all("host")) > 1 or (origin is not None and "origin" in extra):
        raise ValueError("Host or Origin was given twice")
    # Section 4.1, the request, 4 to 11. There is one field of each, and those that are not Host or Origin
    # cannot be replaced. Host comes first (RFC 9110 section 7.2).
    given = [field for field in extra.items() if field[0].lower() == "host"]
    fields = [*(given or [("Host", url.host_header)]), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
    fields += [("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", "13")]
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if extensions:
        fields.append(("Sec-WebSocket-Extensions", format_extensions(extensions)))
    if origin is not None:
        fields += Headers([("Origin", origin)]).items()
    if url.userinfo is not None and "authorization" not in extra:
        fields.append(("Authorization", basic_credentials(*url.userinfo)))
    return Headers.well_formed([*fields, *(field for field in extra.items() if field not in given)])


def check_response(
    response: Response,
    *,
    key: str,
    subprotocols: Collection[str] = (),
    extensions: Collection[Extension] = (),
) -> Agreement:
    """Check a server's response to a request that had `key`, `subprotocols` and `extensions`.

    Raises:
        HandshakeRejected: the status is not 101.
        HandshakeError: the status is 101, but the response does not open a WebSocket, it chooses something
            that was not offered, or none of the subprotocols that were.
    """
    # Section 4.1, the response, 1: any other status than 101 is handled as HTTP has it.
    if response.status != 101:
        fields = [(name.lower(), value) for name, value in response.headers.items()]
        raise HandshakeRejected(response.status, fields, response.body)
    headers = response.headers
    # 2: a response without Upgrade, or with another value than "websocket" in any case, fails the connection.
    if [value.lower() for value in headers.get_all("upgrade")] != ["websocket"]:
        raise HandshakeError('the server\'s answer must have exactly one "Upgrade: websocket"')
    # 3: so does one whose Connection has no token "Upgrade", in any case.
    if not has_upgrade_option(headers.get_all("connection")):
        raise HandshakeError('the server\'s answer must have "Connection: Upgrade"')
    # 4: and one whose Sec-WebSocket-Accept is not made of the key, blanks around it ignored.
    accept = headers.get_all("sec-websocket-accept")
    if len(accept) != 1 or not hmac.compare_digest(accept[0].encode("latin-1"), accept_key(key).encode()):
        raise HandshakeError(
            "the server's answer must have exactly one Sec-WebSocket-Accept, made of the key that was sent"
        )
    return Agreement(_agreed_subprotocol(headers, subprotocols), _agreed_extensions(headers, extensions))


def _agreed_subprotocol(headers: Headers, offered: Collection[str]) -> str:
    # Section 4.1, the response, 6: a subprotocol that was not offered fails the connection. So does none, if
    # some were offered: the two sides would not speak the same language.
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
    # Section 4.1, the response, 5: an extension that was not offered fails the connection. Section 9.1: so
    # does a field that does not follow the grammar.
    try:
        chosen = parse_extensions(headers.get_all("sec-websocket-extensions"))
    except ValueError as exc:
        raise HandshakeError(f"the server's Sec-WebSocket-Extensions is malformed: {exc}") from exc
    names = {extension.name for extension in offered}
    for extension in chosen:
        if extension.name not in names:
            raise HandshakeError(f"the server chose the extension {quoted(extension.name)}, not offered")
    return chosen
