"""The opening handshake over HTTP/1.1: Upgrade, through h11.

h11 gets a head when it is complete, and not before it passed the checks of :class:`_Head`. h11 would
join folded lines, and its pattern for a field goes back once for each blank: the time for a field of
blanks and one bad byte grows with the square of its length, to 16 seconds for 64 KiB. No field that
passes the checks makes it go back.

The bounds hold for any peer: 64 KiB for a head, :data:`MAX_INFORMATIONAL` answers before the answer,
1 KiB kept of the body of a rejection. One byte at a time gives the same result as all at once, and
takes time in proportion. The time itself is the business of the caller.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import h11

from wsstream.errors import HandshakeError
from wsstream.protocol.extensions import Extension
from wsstream.protocol.handshake import (
    NONCE_SIZE,
    Offer,
    RequestRefused,
    accepting_headers,
    check_response,
    client_request_headers,
)
from wsstream.protocol.http import HeaderPairs, Headers, PeerAddress, Request, Response
from wsstream.protocol.url import URL

__all__ = [
    "MAX_BODY_EXCERPT",
    "MAX_HEAD_SIZE",
    "MAX_INFORMATIONAL",
    "Accepted",
    "ClientHandshake",
    "ServerHandshake",
]

MAX_HEAD_SIZE = 64 * 1024
"""Bytes of a head, from its first line to the empty line, both included."""
MAX_BODY_EXCERPT = 1024
"""Bytes that are kept of the body of a rejection."""
MAX_INFORMATIONAL = 8
"""Answers of status 1xx other than 101 that a server may send before the answer."""

_BODY_STEP = 512  # bytes of a body that h11 sees at once, which bounds what it may buffer
_END_OF_HEAD = re.compile(rb"\n\r?\n")  # where h11 ends it
# Control characters (RFC 9110 section 5.5), a bare CR (RFC 9112 section 2.2), a folded line (section 5.2).
_FAULT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|\n[ \t]")


class _Head:
    """Collects bytes up to the empty line that ends a head. `plausible` tells what may begin one."""

    def __init__(self, plausible: Callable[[bytes], bool]) -> None:
        self._plausible = plausible
        self._data = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        self._data += data

    def take(self) -> bytes | None:
        """The head once it is complete, ``None`` before; what follows it is kept.

        Raises:
            h11.RemoteProtocolError: it is too large, or malformed in a way that h11 would not refuse.
        """
        # At once: a peer that speaks TLS or SSH may never send an empty line.
        if not self._plausible(bytes(self._data[:5])):
            raise h11.RemoteProtocolError("this is not HTTP/1.1")
        match = _END_OF_HEAD.search(self._data, max(self._searched - 2, 0))
        self._searched = len(self._data)
        size = match.end() if match else len(self._data)
        if size > MAX_HEAD_SIZE:
            raise h11.RemoteProtocolError(f"the head is larger than {MAX_HEAD_SIZE} bytes", 431)
        return self._split(size) if match else None

    def _split(self, size: int) -> bytes:
        head = bytes(self._data[:size])
        del self._data[:size]
        self._searched = 0
        if fault := _FAULT.search(head):
            raise h11.RemoteProtocolError(f"the head has {fault.group()!r} where it must not")
        return head

    def rest(self) -> bytes:
        """What follows the head."""
        return bytes(self._data)


def _may_begin_response(data: bytes) -> bool:
    return b"HTTP/".startswith(data)


def _may_begin_request(data: bytes) -> bool:
    return data[:1] == b"" or b"!" <= data[:1] <= b"~"


def _decoded(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    return Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in fields)


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _what_is_wrong(error: h11.RemoteProtocolError) -> str:
    return str(error)[:120]  # h11 quotes the whole line


@dataclass(frozen=True, slots=True)
class Accepted:
    """The end of a client's opening handshake: the connection is open.

    `trailing` is what followed the handshake in the same data: the first bytes of the first frames.
    """

    response: Response
    subprotocol: str
    extensions: tuple[Extension, ...]
    trailing: bytes


class ClientHandshake:
    """The client's side of one opening handshake over HTTP/1.1.

    Args:
        url: where to.
        key: the nonce of ``Sec-WebSocket-Key``: 16 random bytes.
        subprotocols: what :func:`~wsstream.protocol.handshake.validate_subprotocols` gave.
        extensions: what to offer.
        headers: more header fields for the request.
        origin: the value of ``Origin``.

    Raises:
        TypeError: `headers` or `origin` has something else than ``str``.
        ValueError: the key has another size, or `headers` or `origin` is not fit to be sent.
    """

    request: Request

    def __init__(
        self,
        url: URL,
        *,
        key: bytes,
        subprotocols: Sequence[str] = (),
        extensions: Sequence[Extension] = (),
        headers: HeaderPairs | None = None,
        origin: str | None = None,
    ) -> None:
        if len(key) != NONCE_SIZE:
            raise ValueError(f"the nonce has {NONCE_SIZE} bytes, not {len(key)} (RFC 6455 section 4.1)")
        self._key = base64.b64encode(key).decode()
        self._subprotocols = subprotocols
        self._extensions = extensions
        fields = client_request_headers(url, self._key, subprotocols, extensions, origin, headers)
        self.request = Request(url.target, fields)
        self._head = _Head(_may_begin_response)
        self._informational = 0
        self._response: Response | None = None  # a rejection, once its head is complete
        self._body = bytearray()
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_BODY_EXCERPT)
        request = h11.Request(method=b"GET", target=url.target, headers=_encoded(fields))
        self._to_send = self._connection.send(request) + self._connection.send(h11.EndOfMessage())

    def data_to_send(self) -> bytes:
        """What has to be sent now: the request at the first call, nothing later."""
        data, self._to_send = self._to_send, b""
        return data

    def receive_data(self, data: bytes) -> Accepted | None:
        """Take what has arrived, ``b""`` for the end of the stream; ``None`` means: not yet.

        To be called until it gives something else or raises.

        Raises:
            HandshakeRejected: the status is not 101. Raised when the first KiB of the body is there,
                all of it, or as much as there will be.
            HandshakeError: the answer is not HTTP/1.1, does not open a WebSocket, or is cut off.
        """
        at_end = not data
        if self._response is None:
            if at_end:
                raise HandshakeError("the server closed the connection before it answered")
            self._head.feed(data)
            self._response = self._next_response()
            if self._response is None:
                return None
            data = self._head.rest()
        if self._response.status != 101 and not at_end and not self._body_suffices(data):
            return None
        return self._concluded(self._response, data)

    def _next_response(self) -> Response | None:
        """The first response that is not informational, without its body."""
        try:
            while (head := self._head.take()) is not None:
                self._connection.receive_data(head)
                event = self._connection.next_event()
                assert isinstance(event, h11.InformationalResponse | h11.Response)
                if event.status_code == 101 and event.http_version != b"1.1":
                    raise h11.RemoteProtocolError("protocols are switched in another version")
                if event.status_code == 101 or event.status_code >= 200:
                    return Response.received(event.status_code, _decoded(event.headers.raw_items()))
                self._informational += 1
                if self._informational > MAX_INFORMATIONAL:
                    raise h11.RemoteProtocolError(f"more than {MAX_INFORMATIONAL} informational responses")
        except h11.RemoteProtocolError as exc:
            raise HandshakeError(f"the server's answer is not HTTP/1.1: {_what_is_wrong(exc)}") from exc
        return None

    def _body_suffices(self, data: bytes) -> bool:
        if self._read_body():
            return True
        for start in range(0, len(data), _BODY_STEP):
            self._connection.receive_data(data[start : start + _BODY_STEP])
            if self._read_body():
                return True
        return False

    def _read_body(self) -> bool:
        """Move the body out of h11; true when that is enough of it."""
        while len(self._body) < MAX_BODY_EXCERPT:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError:
                return True  # the status says more than the fault in the body
            if event is h11.NEED_DATA:
                return False
            if not isinstance(event, h11.Data):
                return True
            self._body += event.data
        return True

    def _concluded(self, response: Response, trailing: bytes) -> Accepted:
        response = Response.received(response.status, response.headers, bytes(self._body[:MAX_BODY_EXCERPT]))
        agreement = check_response(
            response, key=self._key, subprotocols=self._subprotocols, extensions=self._extensions
        )
        return Accepted(response, agreement.subprotocol, agreement.extensions, trailing)


class ServerHandshake:
    """The server's side of one opening handshake over HTTP/1.1.

    A request is answered once: by :meth:`accept`, if
    :func:`~wsstream.protocol.handshake.check_request` made an :class:`Offer` of it, or by
    :meth:`reject`.

    Args:
        peer: the address of the peer, for the request.
    """

    def __init__(self, *, peer: PeerAddress = None) -> None:
        self._peer = peer
        self._head = _Head(_may_begin_request)
        self._connection = h11.Connection(h11.SERVER)
        self._method = b""

    @property
    def trailing(self) -> bytes:
        """What followed the request in the same data: a client may not send frames so early, but it can."""
        return self._head.rest()

    def receive_data(self, data: bytes) -> Request | None:
        """Take what has arrived, ``b""`` for the end of the stream; ``None`` means: not yet.

        To be called until it gives a request or raises. The request may be any; its body, if it
        has one, is not read.

        Raises:
            RequestRefused: it is no HTTP request, its head is too large, or it is a CONNECT. To be
                answered.
            HandshakeError: the stream ended before the request did. There is nobody to answer.
        """
        if not data:
            raise HandshakeError("the client closed the connection before the end of its request")
        self._head.feed(data)
        try:
            head = self._head.take()
            return None if head is None else self._parsed(head)
        except h11.RemoteProtocolError as exc:
            reason = f"The request is not well-formed HTTP/1.1: {_what_is_wrong(exc)}\n"
            raise RequestRefused(Response(exc.error_status_hint, body=reason)) from exc

    def _parsed(self, head: bytes) -> Request:
        self._connection.receive_data(head)
        event = self._connection.next_event()
        assert isinstance(event, h11.Request)
        self._method = event.method
        if event.method == b"CONNECT":
            # An answer 2xx to it would open a tunnel (RFC 9110 section 9.3.6).
            raise RequestRefused(
                Response(405, {"Allow": "GET"}, "This is a WebSocket server, not a proxy.\n")
            )
        return Request(
            event.target.decode("ascii"),
            _decoded(event.headers.raw_items()),
            method=event.method.decode("ascii"),
            http_version=event.http_version.decode("ascii"),
            peer=self._peer,
        )

    def accept(
        self,
        offer: Offer,
        *,
        subprotocol: str = "",
        extensions: Sequence[Extension] = (),
        headers: HeaderPairs = (),
    ) -> bytes:
        """The answer 101 as bytes. The connection is open when they are sent.

        Args:
            offer: what `check_request` made of the request that this object gave.
            subprotocol: one of those offered, or ``""`` for none.
            extensions: the extensions accepted, with the parameters to answer.
            headers: more header fields.

        Raises:
            TypeError, ValueError: as :func:`~wsstream.protocol.handshake.accepting_headers`.
        """
        fields = accepting_headers(offer, subprotocol=subprotocol, extensions=extensions, headers=headers)
        return self._connection.send(
            h11.InformationalResponse(status_code=101, headers=_encoded(fields), reason=_reason_phrase(101))
        )

    def reject(self, response: Response) -> bytes:
        """The whole of another answer as bytes, after which the connection has to be closed.

        The answer to a HEAD has no body.
        """
        fields = _encoded(response.headers)
        # RFC 9110 section 7.8: who sends Upgrade names it in Connection.
        fields.append((b"Connection", b"close, upgrade" if "upgrade" in response.headers else b"close"))
        if response.status not in (204, 304):  # RFC 9110 section 8.6
            fields.append((b"Content-Length", b"%d" % len(response.body)))
        data = self._connection.send(
            h11.Response(status_code=response.status, headers=fields, reason=_reason_phrase(response.status))
        )
        if response.body and self._method != b"HEAD":
            data += self._connection.send(h11.Data(data=response.body))
        return data + self._connection.send(h11.EndOfMessage())


def _reason_phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""
