"""Reading the heads of HTTP/1.1: the first line and the header fields of a request or a response.

Two patterns read the heads that open nearly all WebSockets, in a tenth of the time that h11 takes:
:func:`read_opening` the request, :func:`read_switch` the response. They match well-formed GETs and responses
101 only; h11 parses all other heads.

h11 gets a head when it is complete and has passed the checks of :class:`HeadBuffer`. h11 would join folded
lines, and its field regex backtracks once per blank: the time for a field of blanks and one bad byte grows
with the square of its length, to 16 seconds for 64 KiB. It does not backtrack for fields that pass the
checks.

The limits hold for any peer and are counted before anything is parsed: with a limit of bytes alone, 64 KiB of
tiny fields would cost 40 ms and a megabyte. One byte at a time gives the same result as all at once, and
takes time in proportion.

No message quotes more of a head than the name of a field: any other part may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import h11

from wsstream.display import excerpt
from wsstream.opening.headers import Headers

__all__ = [
    "MAX_FIELDS",
    "MAX_HEAD_SIZE",
    "MAX_ITEMS",
    "HeadBuffer",
    "decoded",
    "encoded",
    "not_a_request",
    "read_by_h11",
    "read_opening",
    "read_switch",
]

MAX_HEAD_SIZE = 64 * 1024
"""Bytes of a head, from its first line to the empty line, inclusive."""
MAX_FIELDS = 100
"""Header fields of a head."""
MAX_ITEMS = 1000
"""Commas and semicolons in the header fields of a head, which separate elements, parameters and cookies."""

_BEGINNING = 24  # bytes that tell HTTP from other protocols; the longest signature is the preface of HTTP/2
_END_OF_HEAD = re.compile(rb"\n\r?\n")  # where h11 ends it
# Up to a control character (RFC 9110 section 5.5), a bare CR (RFC 9112 section 2.2) or a folded line
# (section 5.2). The inner quantifier is possessive, and there are no more lines than fields.
_TEXT = re.compile(rb"(?:[\t -~\x80-\xff]++|\r?\n(?![ \t]))*")
# A subset of the heads that h11 takes (RFC 9112 sections 3 and 5).
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELDS = rb"(?:%b:[\t -~\x80-\xff]*+\r\n){0,%d}+\r\n" % (_TOKEN, MAX_FIELDS)
_OPENING = re.compile(rb"GET ([!-~]++) HTTP/1\.1\r\n%b" % _FIELDS)
_SWITCH = re.compile(rb"(HTTP/1\.1 101(?: [\t -~\x80-\xff]*+)?+\r)\n%b" % _FIELDS)
_AFTER_TARGET = len(b" HTTP/1.1\r")
_HOST = re.compile(rb"\n(?i:host):")
_BODY = re.compile(rb"\n(?i:content-length|transfer-encoding):")  # h11 checks their values
_FIELD = re.compile(rb"(%b)([ \t]*+):" % _TOKEN)

_PROXY_PROTOCOL = (
    "this looks like the PROXY protocol, which this server reads with proxy_protocol=True only; "
    "otherwise the proxy in front of it must send HTTP alone"
)
_FOREIGN = {  # how other protocols begin, and the reason to give
    b"\x16\x03": "this looks like TLS, which this port does not speak: a URL for it begins with ws://",
    b"PROXY TCP4 ": _PROXY_PROTOCOL,
    b"PROXY TCP6 ": _PROXY_PROTOCOL,
    b"PROXY UNKNOWN": _PROXY_PROTOCOL,
    b"\r\n\r\n\0\r\nQUIT\n": _PROXY_PROTOCOL,  # its version 2
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": "this looks like HTTP/2, but a WebSocket is opened by HTTP/1.1 here",
    b"SSH-": "this looks like SSH, not HTTP",
}
_SIGNATURES = tuple(_FOREIGN)
_OF_H11 = {  # how a message of h11 begins, and the one to use instead: some of them quote the peer
    "illegal request line": "its first line is not a method, a target and a version of HTTP",
    "illegal status line": "its first line is not a version of HTTP, a status and a phrase",
    "Missing mandatory Host": "it has no Host field",
    "Found multiple Host": "it has several Host fields",
    "bad Content-Length": "its Content-Length is not a number",
    "conflicting Content-Length": "it has several values of Content-Length",
    "multiple Transfer-Encoding": "it has several Transfer-Encoding fields",
    "Only Transfer-Encoding": "its Transfer-Encoding is not chunked",
}


class HeadBuffer:
    """Collects bytes up to the empty line that ends a head.

    Args:
        what_it_is: returns the reason to reject the first bytes, up to 24, if no head begins like that;
            ``None`` if one does, ``""`` if that is not certain yet.
    """

    def __init__(self, what_it_is: Callable[[bytes], str | None]) -> None:
        self._what_it_is = what_it_is
        self._data = bytearray()
        self._searched = 0
        self._lines = 0  # in what was searched

    def feed(self, data: bytes) -> None:
        """Add received data."""
        self._data += data

    def take(self) -> bytes | None:
        """The head once it is complete, else ``None``; the bytes after it are kept.

        Raises:
            h11.RemoteProtocolError: it is beyond a limit, or malformed in a way that h11 would accept.
        """
        # At once: a peer that speaks TLS or SSH may never send an empty line.
        if (foreign := self._what_it_is(bytes(self._data[:_BEGINNING]))) is not None:
            if foreign:
                raise h11.RemoteProtocolError(foreign)
            return None
        match = _END_OF_HEAD.search(self._data, max(self._searched - 2, 0))
        size = match.end() if match else len(self._data)
        self._check_limits(size)
        return self._split(size) if match else None

    def _check_limits(self, size: int) -> None:
        # Only in the first 64 KiB, or the limit that is met first could depend on how the data was cut.
        self._lines += self._data.count(b"\n", self._searched, min(size, MAX_HEAD_SIZE))
        self._searched = size
        if self._lines > MAX_FIELDS + 2:
            raise h11.RemoteProtocolError(f"it has more than {MAX_FIELDS} header fields", 431)
        if size > MAX_HEAD_SIZE:
            raise h11.RemoteProtocolError(f"its head is larger than {MAX_HEAD_SIZE} bytes", 431)

    def _split(self, size: int) -> bytes:
        head = bytes(self._data[:size])
        del self._data[:size]
        self._searched = self._lines = 0
        fields = head.index(b"\n")
        if head.count(b",", fields) + head.count(b";", fields) > MAX_ITEMS:
            raise h11.RemoteProtocolError(f"its header fields have more than {MAX_ITEMS} elements", 431)
        if (fault := _character_fault(head)) is not None:
            raise h11.RemoteProtocolError(fault)
        return head

    def rest(self) -> bytes:
        """The bytes after the head."""
        return bytes(self._data)


def not_a_request(beginning: bytes) -> str | None:
    """Why no request begins with these bytes; ``None`` if one does. See :class:`HeadBuffer`."""
    if beginning.startswith(_SIGNATURES):
        return next(name for signature, name in _FOREIGN.items() if beginning.startswith(signature))
    if len(beginning) < _BEGINNING and any(signature.startswith(beginning) for signature in _SIGNATURES):
        return ""
    return None if b"!" <= beginning[:1] <= b"~" else "this is not HTTP/1.1"


class OpeningHead(NamedTuple):
    """What :func:`read_opening` read."""

    target: str
    headers: Headers
    size: int
    """Bytes of the head."""


def read_opening(data: bytes) -> OpeningHead | None:
    """The head at the start of `data`: a well-formed GET of HTTP/1.1 with no header field about a body.

    Target and header fields are the same that h11 would return. ``None`` for any other head, for one that is
    beyond a limit and for one that is not complete: :class:`HeadBuffer` must collect it, and h11 parse it.
    """
    opening = _OPENING.match(data)
    if opening is None:
        return None
    lines = _plain_lines(data, opening.end(1) + _AFTER_TARGET, opening.end())
    if lines is None or len(_HOST.findall(lines)) != 1:
        return None
    return OpeningHead(opening[1].decode("ascii"), Headers.of_lines(lines), opening.end())


def read_switch(data: bytes) -> tuple[Headers, int] | None:
    """The fields of the response 101 at the start of `data`, and the size of its head.

    They are the same that h11 would return. ``None`` as from :func:`read_opening`.
    """
    head = _SWITCH.match(data)
    if head is None:
        return None
    lines = _plain_lines(data, head.end(1), head.end())
    return None if lines is None else (Headers.of_lines(lines), head.end())


def _plain_lines(data: bytes, start: int, size: int) -> bytes | None:
    """The lines of the fields, from the line end before them at `start`, in a head of `size` bytes.

    ``None``: the head is beyond a limit, or a field is about a body.
    """
    lines = data[start : size - 2]
    if size > MAX_HEAD_SIZE or _BODY.search(lines):
        return None
    # A short head cannot have too many.
    return None if size > MAX_ITEMS and lines.count(b",") + lines.count(b";") > MAX_ITEMS else lines


def read_by_h11(connection: h11.Connection, head: bytes) -> object:
    """The event that h11 makes of `head`.

    Raises:
        h11.RemoteProtocolError: it is malformed. The message quotes no more than the name of a field.
    """
    connection.receive_data(head)
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as exc:
        text, status = _what_is_wrong(head, str(exc)), exc.error_status_hint
        exc.__traceback__ = None  # its frames hold the error and the head: a reference cycle
    # Not in the clause: h11's own error, which quotes a whole line, would be the context.
    raise h11.RemoteProtocolError(text, status)


def decoded(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers of fields that h11 returned for a head that passed the checks of :class:`HeadBuffer`."""
    return Headers.of_lines(b"\n" + b"".join([b"%b: %b\r\n" % field for field in fields]))


def encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Header fields as h11 takes them."""
    fields = [line.partition(b":") for line in headers.to_lines().split(b"\r\n")[:-1]]
    return [(name, value.strip(b" \t")) for name, _, value in fields]


def _character_fault(head: bytes) -> str | None:
    """The fault of the first character that is not allowed in its place; ``None`` if all are."""
    match = _TEXT.match(head)
    assert match is not None  # it matches the empty string
    at = match.end()
    if at == len(head):
        return None
    if head[at] not in b"\r\n":
        return f"{_line_at(head, at)} has a control character (0x{head[at]:02x})"
    if head[at:].startswith((b"\n", b"\r\n")):
        return f"{_line_at(head, at)} goes on in the next one"
    return f"{_line_at(head, at)} has a CR without a LF"


def _line_at(head: bytes, at: int) -> str:
    start = head.rfind(b"\n", 0, at) + 1
    name = _FIELD.match(head, start) if start else None
    number = head.count(b"\n", 0, start) + 1
    return f"line {number}" if name is None else f"line {number} ({_shown(name[1])})"


def _what_is_wrong(head: bytes, text: str) -> str:
    """`text` is the message of h11."""
    if text.startswith("illegal header line"):
        return _malformed_line(head)
    return next((ours for theirs, ours in _OF_H11.items() if text.startswith(theirs)), "it is malformed")


def _malformed_line(head: bytes) -> str:
    faults = (_fault_of(number, line) for number, line in enumerate(head.split(b"\n")[1:-2], 2))
    return next(filter(None, faults), "a header field is malformed")


def _fault_of(number: int, line: bytes) -> str:
    field = _FIELD.match(line)
    if field is None:
        return f"line {number} is not a name, a colon and a value"
    return f"line {number} ({_shown(field[1])}) has a blank before its colon" if field[2] else ""


def _shown(name: bytes) -> str:
    return excerpt(name.decode("ascii"), 40)
