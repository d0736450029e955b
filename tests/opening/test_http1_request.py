"""One request with its response. What the handshakes make of them is tested with these."""

from __future__ import annotations

import h11
import pytest

from wsstream.opening.headers import Headers
from wsstream.opening.http1_heads import MAX_FIELDS, MAX_HEAD_SIZE, MAX_ITEMS
from wsstream.opening.http1_request import MAX_BODY_EXCERPT, RequestResponse


def exchange(method: str = "GET", target: str = "/") -> RequestResponse:
    return RequestResponse(method, target, Headers({"Host": "a"}))


def test_the_request_has_no_body_and_is_sent_once() -> None:
    asked = RequestResponse("GET", "/x?y", Headers([("Host", "a"), ("X-A", "\xe4")]))
    assert asked.data_to_send() == b"GET /x?y HTTP/1.1\r\nHost: a\r\nX-A: \xe4\r\n\r\n"
    assert asked.data_to_send() == b""


def test_a_response_that_ends_http_is_complete_with_its_head() -> None:
    switched = {"Host": "a", "Upgrade": "x", "Connection": "Upgrade"}
    for asked, head in (
        (RequestResponse("GET", "/", Headers(switched)), b"HTTP/1.1 101 x\r\nContent-Length: 9\r\n\r\n"),
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


BEYOND_A_LIMIT = {
    "fields": b"a:\n" * (MAX_FIELDS + 1),
    "elements": b"Set-Cookie: a" + b";" * (MAX_ITEMS + 1) + b"\r\n",
    "larger": b"A: " + b"x" * MAX_HEAD_SIZE + b"\r\n",
}


@pytest.mark.parametrize("status", [b"103", b"101", b"200", b"407", b"503"])
@pytest.mark.parametrize(("limit", "fields"), BEYOND_A_LIMIT.items(), ids=BEYOND_A_LIMIT)
def test_the_limits_of_a_head_hold_for_every_response(status: bytes, limit: str, fields: bytes) -> None:
    for asked in (exchange(), exchange("CONNECT", "a:1")):
        with pytest.raises(h11.RemoteProtocolError, match=limit):
            asked.receive_data(b"HTTP/1.1 " + status + b" x\r\n" + fields + b"\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 s3cr3t\r\n\r\n",
        b"HTTP/1.1 401 x\r\nSet-Cookie : s3cr3t\r\n\r\n",
        b"HTTP/1.1 401 x\r\nSet-Cookie: s3cr3t\0\r\n\r\n",
        b"HTTP/1.1 401 x\r\ns3cr3t\r\n\r\n",
        b"HTTP/1.1 401 x\r\nContent-Length: s3cr3t\r\n\r\n",
    ],
)
def test_no_error_quotes_a_malformed_response(data: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError) as caught:
        exchange().receive_data(data)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
