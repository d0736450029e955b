"""Reading the messages of HTTP/1.1 with h11: heads, and one request with its response.

The requests that open nearly all WebSockets are read without h11, by :func:`read_opening`, in a tenth
of the time; it knows no more than well-formed GETs, and whatever else comes is h11's to judge.

h11 gets a head when it is complete, and not before it passed the checks of :class:`Head`. h11 would
join folded lines, and its pattern for a field goes back once for each blank: the time for a field of
blanks and one bad byte grows with the square of its length, to 16 seconds for 64 KiB. No field that
passes the checks makes it go back.

The bounds hold for any peer: 64 KiB for a head, :data:`MAX_INFORMATIONAL` answers before the answer,
1 KiB kept of the body of an answer. One byte at a time gives the same result as all at once, and
takes time in proportion. The time itself is the business of the caller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import h11

from wsstream.protocol.http import COMMON_NAMES, Headers, Response

__all__ = [
    "MAX_BODY_EXCERPT",
    "MAX_HEAD_SIZE",
    "MAX_INFORMATIONAL",
    "Exchange",
    "Head",
    "decoded",
    "encoded",
    "may_begin_request",
    "read_opening",
    "what_is_wrong",
]

MAX_HEAD_SIZE = 64 * 1024
"""Bytes of a head, from its first line to the empty line, both included."""
MAX_BODY_EXCERPT = 1024
"""Bytes that are kept of the body of a response."""
MAX_INFORMATIONAL = 8
"""Answers of status 1xx other than 101 that a server may send before the answer."""

_BODY_STEP = 512  # bytes of a body that h11 sees at once, which bounds what it may buffer
_END_OF_HEAD = re.compile(rb"\n\r?\n")  # where h11 ends it
_NAMES = {name: name for name in (*COMMON_NAMES, *map(str.lower, COMMON_NAMES))}
# What h11 takes too (RFC 9112 sections 3 and 5), as far as an opening handshake has it. One line each;
# a blank behind a value is stripped afterwards, so that no pattern goes back.
_OPENING = re.compile(r"GET ([!-~]++) HTTP/1\.1\r\n")
_FIELD = re.compile(r"^([!#$%&'*+\-.^_`|~0-9A-Za-z]++):([\t -~\x80-\xff]*+)\r\n", re.MULTILINE)
_FOR_H11 = frozenset({"content-length", "transfer-encoding"})  # fields whose values it checks
# Control characters (RFC 9110 section 5.5), a bare CR (RFC 9112 section 2.2), a folded line (section 5.2).
_FAULT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|\n[ \t]")


class Head:
    """Collects bytes up to the empty line that ends a head. `plausible` tells what may begin one."""

    def __init__(self, plausible: Callable[[bytes], bool]) -> None:
        self._plausible = plausible
        self._data = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
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


def may_begin_request(data: bytes) -> bool:
    """Whether the first bytes of a request may be `data`."""
    return data[:1] == b"" or b"!" <= data[:1] <= b"~"


def read_opening(head: bytes) -> tuple[str, Headers] | None:
    """Target and header fields, if `head` is a well-formed GET of HTTP/1.1 without a word on a body.

    ``None`` means: h11 has to judge. What is not ``None``, it would give just so.
    """
    text = head.decode("latin-1")
    opening = _OPENING.match(text)
    fields: list[tuple[str, str]] = _FIELD.findall(text)
    if opening is None or len(fields) != text.count("\n") - 2 or not text.endswith("\r\n\r\n"):
        return None
    headers = Headers.well_formed([(_NAMES.get(name, name), value.strip(" \t")) for name, value in fields])
    if len(headers.get_all("host")) != 1 or not _FOR_H11.isdisjoint(headers):
        return None
    return opening[1], headers


def _may_begin_response(data: bytes) -> bool:
    return b"HTTP/".startswith(data)


class Exchange:
    """One request without a body, and the response to it.

    A response that ends HTTP on the connection (101 to an Upgrade, 2xx to a CONNECT) is complete with
    its head, and what follows is not HTTP. Any other comes with the first KiB of its body, or with
    what is there of it when the caller says that there is no more: a body may never end.

    Args:
        method: such as ``"GET"``.
        target: the request target, as it is on the wire.
        headers: the header fields, ``Host`` among them.
    """

    def __init__(self, method: str, target: str, headers: Headers) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_BODY_EXCERPT)
        request = h11.Request(method=method, target=target, headers=encoded(headers))
        self._to_send = self._connection.send(request) + self._connection.send(h11.EndOfMessage())
        self._head = Head(_may_begin_response)
        self._first = b""  # byte that came
        self._informational = 0
        self._response: Response | None = None  # once its head is complete
        self._body = bytearray()

    def data_to_send(self) -> bytes:
        """What has to be sent now: the request at the first call, nothing later."""
        data, self._to_send = self._to_send, b""
        return data

    @property
    def answered(self) -> bool:
        """Whether the response is there and no more than a part of its body is missing."""
        return self._response is not None

    @property
    def may_be_tls(self) -> bool:
        """Whether the peer may speak TLS: it sent an alert (RFC 8446 section 5.1), or nothing at all."""
        return self._first in (b"", b"\x15")

    def receive_data(self, data: bytes) -> Response | None:
        """Take what has arrived, ``b""`` for the end of the stream; ``None`` means: not yet.

        To be called until it gives a response or raises; the end may be told as soon as it is
        `answered`, though the stream goes on.

        Raises:
            EOFError: the stream ended before the head did.
            h11.RemoteProtocolError: this is not HTTP/1.1, or beyond the bounds.
        """
        at_end = not data
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
        """What came with the head of the response and is behind it."""
        return self._head.rest()

    def _next_response(self) -> Response | None:
        """The first response that is not informational, without its body."""
        while (head := self._head.take()) is not None:
            self._connection.receive_data(head)
            event = self._connection.next_event()
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


def decoded(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Header fields as h11 gives them, of a head that passed the checks of :class:`Head`."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
    return Headers.well_formed([(_NAMES.get(name, name), value) for name, value in pairs])


def encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Header fields as h11 takes them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def what_is_wrong(error: h11.RemoteProtocolError) -> str:
    """The message of `error`, cut: h11 quotes the whole line."""
    return str(error)[:120]
