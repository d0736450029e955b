"""Heads, and one request with its response. What the handshakes make of them is tested with these."""

from __future__ import annotations

from pathlib import Path

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsstream.protocol.http import Headers
from wsstream.protocol.http1_messages import (
    MAX_BODY_EXCERPT,
    MAX_HEAD_SIZE,
    Exchange,
    Head,
    decoded,
    encoded,
    may_begin_request,
    read_opening,
    what_is_wrong,
)

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus" / "handshake"
OPENING = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nX-A: \xe4 \x85\xa0\t\r\nx-a:\r\n\r\n"
LINES = st.sampled_from(
    [
        *OPENING.splitlines(keepends=True),
        *(b"GET * HTTP/1.0\r\n", b"HEAD / HTTP/1.1\r\n", b"GET http://a HTTP/1.1\n", b"Host:\r\n"),
        *(b"A : b\r\n", b": b\r\n", b"A\r\n", b"A:b\n", b"A: \xff b\x80\r\n", b"\t\r\n", b"A:\t:\r\n"),
        *(b"Content-Length: 0\r\n", b"Content-Length: 1,1\r\n", b"content-length: x\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"TRANSFER-ENCODING: gzip\r\n"),
        *(b"A: \x00\r\n", b"A: b\rc\r\n", b"A: \x0b\r\n"),
    ]
)


def exchange(method: str = "GET", target: str = "/") -> Exchange:
    return Exchange(method, target, Headers({"Host": "a"}))


def test_the_request_has_no_body_and_is_sent_once() -> None:
    asked = Exchange("GET", "/x?y", Headers([("Host", "a"), ("X-A", "\xe4")]))
    assert asked.data_to_send() == b"GET /x?y HTTP/1.1\r\nHost: a\r\nX-A: \xe4\r\n\r\n"
    assert asked.data_to_send() == b""


def test_a_head_waits_for_its_empty_line_and_keeps_what_follows() -> None:
    head = Head(may_begin_request)
    for piece in (b"GET / HTTP/1.1\r\n", b"A: b\r\n", b"\r"):
        head.feed(piece)
        assert head.take() is None
    head.feed(b"\nGET /2 HTTP/1.1\r\n\r\nrest")
    assert head.take() == b"GET / HTTP/1.1\r\nA: b\r\n\r\n"
    assert head.take() == b"GET /2 HTTP/1.1\r\n\r\n"
    assert head.rest() == b"rest"


def test_a_head_is_as_large_as_its_bound_and_no_larger() -> None:
    line = b"GET / HTTP/1.1\r\nA: "
    fits = line + b"x" * (MAX_HEAD_SIZE - len(line) - 4) + b"\r\n\r\n"
    head = Head(may_begin_request)
    head.feed(fits + b"trailing" * 100)
    assert head.take() == fits
    head = Head(may_begin_request)
    head.feed(line + b"x" * (MAX_HEAD_SIZE + 1 - len(line)))
    with pytest.raises(h11.RemoteProtocolError, match="larger") as caught:
        head.take()
    assert caught.value.error_status_hint == 431


@pytest.mark.parametrize("fault", [b"\x00", b"\r", b"\x7f", b"\n "])
def test_a_head_with_what_h11_would_let_pass_is_refused(fault: bytes) -> None:
    head = Head(may_begin_request)
    head.feed(b"GET / HTTP/1.1\r\nA: b" + fault + b"c\r\n\r\n")
    with pytest.raises(h11.RemoteProtocolError, match="must not"):
        head.take()


def test_what_may_begin_a_request_is_a_token() -> None:
    assert [data for data in (b"", b"G", b"~", b"!") if not may_begin_request(data)] == []
    assert [data for data in (b"\x16", b" ", b"\r", b"\x80", b"\x7f") if may_begin_request(data)] == []


def read_by_h11(head: bytes) -> tuple[bytes, str, str, Headers] | None:
    """Version, method, target and fields."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(event, h11.Request)
    fields = decoded(event.headers.raw_items())
    return event.http_version, event.method.decode(), event.target.decode(), fields


def check_against_h11(data: bytes) -> None:
    head = Head(may_begin_request)
    head.feed(data)
    try:
        whole = head.take()
    except h11.RemoteProtocolError:
        assert read_opening(data[: len(data) - len(head.rest())]) is None
        return
    if whole is None or (opening := read_opening(whole)) is None:
        return
    target, fields = opening
    judged = read_by_h11(whole)
    assert judged is not None
    assert judged[:3] == (b"1.1", "GET", target)
    assert judged[3].items() == fields.items()


def test_what_opens_a_websocket_is_read_without_h11_and_just_so() -> None:
    opening = read_opening(OPENING)
    assert opening is not None
    assert opening[0] == "/chat"
    assert opening[1].items() == (
        ("Host", "a"),
        ("Upgrade", "websocket"),
        ("X-A", "\xe4 \x85\xa0"),
        ("x-a", ""),
    )
    check_against_h11(OPENING)


@given(st.lists(LINES, max_size=6).map(b"".join), st.booleans())
def test_no_lines_are_read_otherwise_than_by_h11(lines: bytes, opened: bool) -> None:
    check_against_h11((OPENING[:29] if opened else b"") + lines + b"\r\n")


@given(st.integers(0, len(OPENING)), st.integers(0, 3), st.binary(max_size=3))
@example(len(OPENING) - 4, 4, b"\n\n")
def test_no_changed_bytes_are_read_otherwise_than_by_h11(at: int, dropped: int, put: bytes) -> None:
    check_against_h11(OPENING[:at] + put + OPENING[at + dropped :])


def test_nothing_the_fuzzer_found_is_read_otherwise_than_by_h11() -> None:
    for path in CORPUS.iterdir():
        check_against_h11(path.read_bytes()[5:])  # see `handshake` of the fuzzer's targets


def test_a_response_that_ends_http_is_complete_with_its_head() -> None:
    switched = {"Host": "a", "Upgrade": "x", "Connection": "Upgrade"}
    for asked, head in (
        (Exchange("GET", "/", Headers(switched)), b"HTTP/1.1 101 x\r\nContent-Length: 9\r\n\r\n"),
        (exchange("CONNECT", "a:1"), b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n"),
    ):
        response = asked.receive_data(head + b"not HTTP")
        assert response is not None
        assert (response.status, response.headers["content-length"], response.body) == (
            int(head[9:12]),
            "9",
            b"",
        )
        assert asked.rest() == b"not HTTP"


def test_any_other_response_comes_with_an_excerpt_of_its_body() -> None:
    for asked in (exchange(), exchange("CONNECT", "a:1")):
        assert asked.receive_data(b"HTTP/1.1 404 x\r\nContent-Length: 9\r\n\r\nnot") is None
        response = asked.receive_data(b" found and more")
        assert response is not None
        assert (response.status, response.body) == (404, b"not found")
    asked = exchange()
    response = asked.receive_data(b"HTTP/1.1 200 x\r\n\r\n" + b"x" * (10 * MAX_BODY_EXCERPT))
    assert response is not None
    assert response.body == b"x" * MAX_BODY_EXCERPT


def test_the_end_of_the_stream_ends_a_body_and_no_head() -> None:
    asked = exchange()
    assert asked.receive_data(b"HTTP/1.1 404 x\r\n\r\nsorry") is None
    response = asked.receive_data(b"")
    assert response is not None
    assert response.body == b"sorry"
    asked = exchange()
    assert asked.receive_data(b"HTTP/1.1 404") is None
    with pytest.raises(EOFError):
        asked.receive_data(b"")


@pytest.mark.parametrize(
    "data", [b"SSH", b"HTTP/1.1 x\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n", b"HTTP/1.1 200 x\r\n: y\r\n\r\n"]
)
def test_what_is_no_response_is_an_error_of_the_peer(data: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        exchange().receive_data(data)


def test_header_fields_go_to_h11_and_back() -> None:
    headers = Headers([("X-A", "\xe4"), ("x-a", "b")])
    assert encoded(headers) == [(b"X-A", b"\xe4"), (b"x-a", b"b")]
    assert decoded(encoded(headers)) == headers


def test_little_is_quoted_of_what_is_wrong() -> None:
    assert len(what_is_wrong(h11.RemoteProtocolError("x" * 70_000))) == 120
