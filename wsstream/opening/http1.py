"""The opening handshake over HTTP/1.1, by Upgrade. h11 parses all that is not the usual request.

The bounds of :mod:`wsstream.opening.http1_heads` and :mod:`wsstream.opening.http1_request` hold for
any peer.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus

import h11

from wsstream.errors import HandshakeError
from wsstream.opening.extensions import Extension
from wsstream.opening.handshake import NONCE_SIZE
from wsstream.opening.handshake_client import check_response, client_request_headers
from wsstream.opening.handshake_server import Offer, RequestRejected, accepting_headers
from wsstream.opening.headers import HeaderPairs, Headers
from wsstream.opening.http import Request, Response
from wsstream.opening.http1_heads import HeadBuffer, decoded, not_a_request, read_by_h11, read_opening
from wsstream.opening.http1_request import RequestResponse
from wsstream.opening.peer import PeerAddress
from wsstream.opening.url import URL

__all__ = ["ClientHandshake", "ServerHandshake", "Upgraded"]


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The result of a client's opening handshake that succeeded.

    `trailing` holds the bytes that came after the response in the same data: the start of the first frames.
    """

    response: Response
    subprotocol: str = field(repr=False)
    extensions: tuple[Extension, ...]
    trailing: bytes = field(repr=False)


class ClientHandshake:
    """The client's side of one opening handshake over HTTP/1.1.

    Args:
        url: the server.
        key: the nonce of ``Sec-WebSocket-Key``: 16 random bytes.
        subprotocols: as :func:`~wsstream.opening.handshake.validate_subprotocols` returned them.
        extensions: those to offer.
        headers: more header fields for the request.
        origin: the value of ``Origin``.

    Raises:
        TypeError: `origin`, or a name or a value of `headers`, is not a ``str``.
        ValueError: the key has another size, or `headers` or `origin` is malformed.
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
            raise ValueError(f"the nonce must have {NONCE_SIZE} bytes, got {len(key)} (RFC 6455 section 4.1)")
        self._key = base64.b64encode(key).decode()
        self._subprotocols = subprotocols
        self._extensions = extensions
        fields = client_request_headers(url, self._key, subprotocols, extensions, origin, headers)
        self.request = Request(url.target, fields)
        self._url = url
        self._request_response = RequestResponse("GET", url.target, fields)

    def data_to_send(self) -> bytes:
        """The request at the first call, nothing later."""
        return self._request_response.data_to_send()

    @property
    def head_received(self) -> bool:
        """Whether the server rejected the handshake, and at most a part of its response's body is missing."""
        return self._request_response.head_received

    def receive_data(self, data: bytes) -> Upgraded | None:
        """Parse received data, ``b""`` at the end of the stream; ``None`` means that more is needed.

        Call this until it returns a result or raises. Once `head_received` is true, ``b""`` may be given
        though the stream goes on.

        Raises:
            HandshakeRejected: the status is not 101. Raised when the body, or the first KiB of it, is
                complete, or the stream has ended.
            HandshakeError: the response is not HTTP/1.1, does not open a WebSocket, or is cut off.
        """
        try:
            response = self._request_response.receive_data(data)
        except EOFError as exc:
            raise self._failure("the server closed the connection before it answered") from exc
        except h11.RemoteProtocolError as exc:
            raise self._failure(f"the server's answer cannot be read: {exc}") from exc
        if response is None:
            return None
        agreement = check_response(
            response, key=self._key, subprotocols=self._subprotocols, extensions=self._extensions
        )
        return Upgraded(response, agreement.subprotocol, agreement.extensions, self._request_response.rest())

    def broken(self, cause: Exception) -> HandshakeError:
        """The error for a connection that broke before the server responded. The message names `cause`."""
        return self._failure(f"the connection broke before the server answered: {cause}")

    def _failure(self, message: str) -> HandshakeError:
        error = HandshakeError(message)
        if self._url.scheme == "ws" and self._request_response.may_be_tls:
            error.hint = "if the port speaks TLS, use wss://"
        return error


class ServerHandshake:
    """The server's side of one opening handshake over HTTP/1.1.

    A request gets one response: by :meth:`accept`, if
    :func:`~wsstream.opening.handshake_server.check_request` returned an :class:`Offer` for it, or else by
    :meth:`reject`.

    Args:
        peer: the address of the peer, for the request.

    Attributes:
        response: the one that `accept` made.
    """

    response: Response

    def __init__(self, *, peer: PeerAddress = None) -> None:
        self._peer = peer
        self._head: HeadBuffer | None = None  # unless the head was read in one step
        self._trailing = b""
        self._method = b"GET"

    @property
    def trailing(self) -> bytes:
        """The bytes after the request in the same data. A client must wait for the response, but may not."""
        return self._trailing if self._head is None else self._head.rest()

    def receive_data(self, data: bytes) -> Request | None:
        """Parse received data, ``b""`` at the end of the stream; ``None`` means that more is needed.

        Call this until it returns a request or raises. Any request is returned; a body is not read.

        Raises:
            RequestRejected: it is not an HTTP request, its head is beyond a limit, or it is a CONNECT. The
                response is to be sent.
            HandshakeError: the stream ended before the request did, so that no response can be sent.
        """
        if not data:
            raise HandshakeError("the client closed the connection before the end of its request")
        if self._head is None:
            if (opening := read_opening(data)) is not None:
                self._trailing = data[opening.size :]
                return Request(opening.target, opening.headers, peer=self._peer)
            self._head = HeadBuffer(not_a_request)
        self._head.feed(data)
        del data
        try:
            return self._next_request(self._head)
        except h11.RemoteProtocolError as exc:
            # Hold nothing of the head while the client reads the response, not even in the frames of a
            # traceback.
            self._head = HeadBuffer(not_a_request)
            reason = f"The request cannot be read: {exc}."
            response = Response(exc.error_status_hint, body=f"{reason}\n")
            raise RequestRejected(response, reason) from exc.with_traceback(None)

    def _next_request(self, buffer: HeadBuffer) -> Request | None:
        head = buffer.take()
        return None if head is None else self._parsed(head)

    def _parsed(self, head: bytes) -> Request:
        if (opening := read_opening(head)) is not None:
            return Request(opening.target, opening.headers, peer=self._peer)
        event = read_by_h11(h11.Connection(h11.SERVER), head)
        assert isinstance(event, h11.Request)
        self._method = event.method
        if event.method == b"CONNECT":
            # A response 2xx to it would open a tunnel (RFC 9110 section 9.3.6).
            reason = "This is a WebSocket server, not a proxy."
            raise RequestRejected(Response(405, {"Allow": "GET"}, f"{reason}\n"), reason)
        return Request(
            event.target.decode("ascii"),
            decoded(event.headers.raw_items()),
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
        """The response 101 as bytes. The connection is open when they are sent.

        Args:
            offer: as `check_request` returned it for the request of this object.
            subprotocol: one of those offered, or ``""`` for none.
            extensions: the accepted extensions, with the parameters of the response.
            headers: more header fields.

        Raises:
            TypeError, ValueError: as :func:`~wsstream.opening.handshake_server.accepting_headers`.
        """
        fields = accepting_headers(offer, subprotocol=subprotocol, extensions=extensions, headers=headers)
        self.response = Response.received(101, fields)
        return _head_of_response(101, fields)

    def reject(self, response: Response) -> bytes:
        """Any other response as bytes; no body if the request was a HEAD. Close the connection after it."""
        # RFC 9110 section 7.8: a sender of Upgrade names it in Connection.
        framing = [("Connection", "close, upgrade" if "upgrade" in response.headers else "close")]
        if response.status not in (204, 304):  # RFC 9110 section 8.6
            framing.append(("Content-Length", str(len(response.body))))
        head = _head_of_response(response.status, response.headers, Headers.well_formed(framing))
        return head if self._method == b"HEAD" else head + response.body


def _head_of_response(status: int, *fields: Headers) -> bytes:
    lines = b"".join([some.to_lines() for some in fields])
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, _reason_phrase(status), lines)


@cache
def _reason_phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
