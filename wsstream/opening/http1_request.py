"""One request over HTTP/1.1 and its response. h11 parses all that is not the usual response 101.

The limits of :mod:`wsstream.opening.http1_heads` hold for each head. A server may send
:data:`MAX_INFORMATIONAL` informational responses first, and 1 KiB of the body is kept. Timeouts are the
caller's job.
"""

from __future__ import annotations

from functools import cached_property

import h11

from wsstream.opening.headers import Headers
from wsstream.opening.http import Response
from wsstream.opening.http1_heads import HeadBuffer, decoded, encoded, read_by_h11, read_switch

__all__ = ["MAX_BODY_EXCERPT", "MAX_INFORMATIONAL", "RequestResponse"]

MAX_BODY_EXCERPT = 1024
"""Bytes of the body of a response that are kept."""
MAX_INFORMATIONAL = 8
"""Responses of status 1xx other than 101 that a server may send before the response."""

_BODY_STEP = 512  # bytes of a body that h11 gets at once, which bounds its buffer


def _not_a_response(beginning: bytes) -> str | None:
    return None if b"HTTP/".startswith(beginning[:5]) else "this is not HTTP/1.1"


class RequestResponse:
    """One request without a body, and the response to it.

    A response that ends HTTP on the connection (101 to an Upgrade, 2xx to a CONNECT) is complete with its
    head; the bytes after it are not HTTP. Any other is returned with the first KiB of its body, or with the
    part that arrived before the caller says that no more will come: a body may never end.

    Args:
        method: such as ``"GET"``.
        target: the request target as sent.
        headers: the header fields, ``Host`` among them.
    """

    def __init__(self, method: str, target: str, headers: Headers) -> None:
        self._request = (method, target, headers)
        self._to_send = f"{method} {target} HTTP/1.1\r\n".encode("ascii") + headers.to_lines() + b"\r\n"
        self._may_switch = method == "GET" and "upgrade" in headers
        self._head = HeadBuffer(_not_a_response)
        self._first = b""  # the first byte received
        self._informational = 0
        self._response: Response | None = None  # once its head is complete
        self._body = bytearray()

    @cached_property
    def _connection(self) -> h11.Connection:
        """The parser, which has to know the request."""
        method, target, headers = self._request
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_BODY_EXCERPT)
        connection.send(h11.Request(method=method, target=target, headers=encoded(headers)))
        connection.send(h11.EndOfMessage())
        return connection

    def data_to_send(self) -> bytes:
        """The request at the first call, nothing later."""
        data, self._to_send = self._to_send, b""
        return data

    @property
    def head_received(self) -> bool:
        """Whether at most a part of the response's body is missing."""
        return self._response is not None

    @property
    def may_be_tls(self) -> bool:
        """Whether the peer may speak TLS: it sent an alert (RFC 8446 section 5.1), or nothing at all."""
        return self._first in (b"", b"\x15")

    def receive_data(self, data: bytes) -> Response | None:
        """Parse received data, ``b""`` at the end of the stream; ``None`` means that more is needed.

        Call this until it returns a response or raises. Once `head_received` is true, ``b""`` may be given
        though the stream goes on.

        Raises:
            EOFError: the stream ended before the head did.
            h11.RemoteProtocolError: this is not HTTP/1.1, or beyond the bounds.
        """
        at_end = not data
        if self._may_switch and not self._first and (switch := read_switch(data)) is not None:
            headers, size = switch
            self._head.feed(data[size:])
            return Response.received(101, headers)
        self._first = self._first or data[:1]
        if self._response is None:
            if at_end:
                raise EOFError
            self._head.feed(data)
            self._response = self._next_response()
            if self._response is None:
                return None
            data = self._head.rest()
        switched = self._connection.their_state is h11.SWITCHED_PROTOCOL
        if not switched and not at_end and not self._body_suffices(data):
            return None
        body = bytes(self._body[:MAX_BODY_EXCERPT])
        return Response.received(self._response.status, self._response.headers, body)

    def rest(self) -> bytes:
        """The bytes that came after the head of the response."""
        return self._head.rest()

    def _next_response(self) -> Response | None:
        """The first response that is not informational, without its body."""
        while (head := self._head.take()) is not None:
            event = read_by_h11(self._connection, head)
            assert isinstance(event, h11.InformationalResponse | h11.Response)
            if not event.http_version.startswith(b"1."):
                raise h11.RemoteProtocolError("it has another version")
            if event.status_code == 101 and event.http_version != b"1.1":
                raise h11.RemoteProtocolError("protocols are switched in another version")
            if event.status_code == 101 or event.status_code >= 200:
                return Response.received(event.status_code, decoded(event.headers.raw_items()))
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise h11.RemoteProtocolError(f"more than {MAX_INFORMATIONAL} informational responses")
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
        """Take the body from h11; return whether the excerpt is complete."""
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
