"""Requests and responses."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.opening.headers import Headers
from wsstream.opening.http import Request, RequestedURL, Response
from wsstream.opening.peer import Forwarded


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a%20b?c=%20&d?e", "/a%20b", "c=%20&d?e"),
        ("/?", "/", ""),
        ("http://h:80/a?b", "/a", "b"),
        ("HTTPS://h?b", "/", "b"),
        ("ws://h", "/", ""),
        ("*", "*", ""),
        ("h:443", "h:443", ""),
        ("/http://h/x", "/http://h/x", ""),
    ],
)
def test_a_target_is_split_at_the_question_mark(target: str, path: str, query: str) -> None:
    request = Request(target, Headers())
    assert (request.target, request.path, request.query) == (target, path, query)


def test_a_request_carries_what_the_application_puts_into_its_state() -> None:
    request = Request("/", Headers({"Origin": "https://x"}), peer=("::1", 5, 0, 0))
    request.state.user = "someone"
    assert request.state.user == "someone"
    assert request.peer == ("::1", 5, 0, 0)
    assert request.origin == "https://x"
    assert (request.method, request.http_version) == ("GET", "1.1")
    other = Request("/", Headers())
    assert (other.origin, other.peer, vars(other.state)) == (None, None, {})


def test_the_repr_of_a_request_shows_the_path_and_no_query() -> None:
    assert repr(Request("/feed?token=s3cr3t", Headers())) == "<Request GET /feed>"
    assert repr(Request("http://a/feed?token=s3cr3t", Headers(), method="HEAD")) == "<Request HEAD /feed>"
    assert repr(Request("/\x1b\r\n", Headers(), method="\n")) == r"<Request \n /\x1b\r\n>"
    assert len(repr(Request("/" + "x" * 70_000, Headers(), method="y" * 70_000))) < 150


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("/a?b", "wss://h:1/a?b"),
        ("/", "wss://h:1/"),
        ("http://other/a?b", "wss://h:1/a?b"),
        ("http://other", "wss://h:1"),
    ],
)
def test_the_url_that_was_asked_for_has_the_host_of_the_field(target: str, url: str) -> None:
    asked_for = Request(target, Headers({"Host": "h:1"}))
    asked_for.tls = True
    assert str(RequestedURL(asked_for)) == url


PEER = ("192.0.2.1", 5)


@pytest.mark.parametrize(
    ("peer", "tls", "forwarded", "seen"),
    [
        (PEER, False, None, ("192.0.2.1", "http", "h:1")),
        (PEER, True, None, ("192.0.2.1", "https", "h:1")),
        ("/run/a.sock", False, None, (None, "http", "h:1")),
        (None, False, None, (None, "http", "h:1")),
        (PEER, False, Forwarded(None, None, None), ("192.0.2.1", "http", "h:1")),
        (PEER, True, Forwarded("203.0.113.9", "http", "a.example"), ("203.0.113.9", "http", "a.example")),
    ],
)
def test_who_asks_and_for_what(peer: Any, tls: bool, forwarded: Forwarded | None, seen: Any) -> None:
    request = Request("/", Headers({"Host": "h:1"}), peer=peer)
    request.tls, request.forwarded = tls, forwarded
    assert (request.client, request.scheme, request.host) == seen


def test_a_request_without_a_host() -> None:
    assert Request("/", Headers()).host == ""


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        ("/", {}),
        ("/?", {}),
        ("/?a=1&b=x%20y+z", {"a": "1", "b": "x y z"}),
        ("/?a=1&a=2", {"a": "2"}),
        ("/?a&b=", {"a": "", "b": ""}),
        ("/?a=%ff", {"a": "\ufffd"}),
        ("http://other/x?a=1", {"a": "1"}),
    ],
)
def test_the_parameters_of_a_query(target: str, parameters: dict[str, str]) -> None:
    assert Request(target, Headers()).query_params == parameters


@pytest.mark.parametrize(
    ("fields", "cookies"),
    [
        ([], {}),
        (["a=1"], {"a": "1"}),
        (["a=1; b=2;c=3 ; d = 4"], {"a": "1", "b": "2", "c": "3", "d": "4"}),
        (["a=1", "b=2"], {"a": "1", "b": "2"}),
        (["a=specific; a=general"], {"a": "specific"}),
        (['a="quoted"; b="; c="x'], {"a": "quoted", "b": '"', "c": '"x'}),
        (["a=b=c=="], {"a": "b=c=="}),
        (["a="], {"a": ""}),
        (["nonsense; =x; ;;; a=1; [x]=\xff"], {"a": "1", "[x]": "\xff"}),
    ],
)
def test_cookies_are_read_and_bad_ones_left_out(fields: list[str], cookies: dict[str, str]) -> None:
    assert Request("/", Headers([("Cookie", value) for value in fields])).cookies == cookies


@given(st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"])))
def test_no_cookie_field_raises(value: str) -> None:
    cookies = Request("/", Headers({"Cookie": value})).cookies
    assert all(cookies)


def test_the_subprotocols_offered_are_none_when_the_field_is_malformed() -> None:
    fields = [("Sec-WebSocket-Protocol", "a, b"), ("Sec-WebSocket-Protocol", "c")]
    assert Request("/", Headers(fields)).subprotocols == ("a", "b", "c")
    assert Request("/", Headers({"Sec-WebSocket-Protocol": "a b"})).subprotocols == ()
    assert Request("/", Headers()).subprotocols == ()


def test_a_str_body_is_utf_8_and_says_so() -> None:
    response = Response(HTTPStatus.OK, {"X": "y"}, "grüß")
    assert type(response.status) is int
    assert response.body == "grüß".encode()
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert repr(response) == "<Response 200>"


def test_a_content_type_of_the_application_is_kept() -> None:
    response = Response(200, {"content-type": "text/html"}, "<p>")
    assert response.headers.items() == (("content-type", "text/html"),)
    assert "content-type" not in Response(200, body=b"x").headers


@pytest.mark.parametrize("status", [100, 101, 199, 600, -1, 0])
def test_a_status_out_of_range_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=f"the status must be between 200 and 599, got {status}"):
        Response(status)


@pytest.mark.parametrize("status", ["200", 200.0, None, True])
def test_a_status_that_is_no_int_is_a_type_error(status: object) -> None:
    with pytest.raises(TypeError, match="the status must be an int, got"):
        Response(status)  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [None, bytearray(b"x"), 5, ["x"]])
def test_a_body_that_is_neither_bytes_nor_str_is_a_type_error(body: object) -> None:
    with pytest.raises(TypeError, match="the body must be bytes or str, got"):
        Response(200, (), body)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_a_body_takes_none(status: int) -> None:
    assert Response(status).body == b""
    with pytest.raises(ValueError, match=f"a {status} response must not have a body"):
        Response(status, (), "x")


@pytest.mark.parametrize("name", ["Connection", "content-length", "Transfer-Encoding"])
def test_framing_is_not_the_applications(name: str) -> None:
    with pytest.raises(ValueError, match=f"must not have {name.lower()}: wsstream sets that itself"):
        Response(200, {name: "0"})


def test_a_header_with_a_line_end_is_refused() -> None:
    with pytest.raises(ValueError):
        Response(302, {"Location": "/\r\nSet-Cookie: a=b"})


def test_a_received_response_is_not_checked() -> None:
    headers = Headers({"Connection": "Upgrade", "Content-Length": "5"})
    response = Response.received(101, headers, b"cut")
    assert (response.status, response.headers, response.body) == (101, headers, b"cut")


def test_the_attributes_of_a_transport_are_asked_for_where_there_is_one() -> None:
    class Attributes:
        def extra(self, attribute: Any, default: object) -> object:
            return {"peer": "here"}.get(attribute, default)

    request = Request("/", Headers())
    with pytest.raises(LookupError, match="the transport does not know this attribute"):
        request.extra("peer")
    assert request.extra("peer", None) is None
    request.attributes = Attributes()
    assert request.extra("peer") == "here"
    assert request.extra("other", 5) == 5
    with pytest.raises(LookupError):
        request.extra("other")
