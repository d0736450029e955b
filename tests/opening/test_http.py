"""Headers, requests and responses."""

from __future__ import annotations

import pickle
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.ids import stable_repr

from wsstream.opening.http import Headers, Request, RequestedURL, Response

# --- Headers ---


def test_names_are_case_insensitive_and_fields_are_kept_as_written() -> None:
    headers = Headers([("Host", "a"), ("X-Two", "1"), ("x-two", "2")])
    assert headers["HOST"] == headers.get("host") == "a"
    assert "hOsT" in headers
    assert headers.get_all("X-TWO") == ("1", "2")
    assert headers["x-Two"] == headers.get("X-Two") == "1, 2"
    assert headers.items() == (("Host", "a"), ("X-Two", "1"), ("x-two", "2"))
    assert list(headers) == ["host", "x-two"]
    assert len(headers) == 2


def test_a_missing_field_is_told_in_the_ways_of_a_mapping() -> None:
    headers = Headers()
    assert headers.get("x") is None
    assert headers.get("x", "default") == "default"
    assert headers.get_all("x") == ()
    assert "x" not in headers
    assert 5 not in headers
    with pytest.raises(KeyError):
        headers["x"]


@pytest.mark.parametrize(
    "fields",
    [
        {"A": "1", "B": "2"},
        MappingProxyType({"A": "1", "B": "2"}),
        [("A", "1"), ("B", "2")],
        iter([("A", "1"), ("B", "2")]),
        Headers({"A": "1", "B": "2"}),
    ],
)
def test_headers_are_made_of_mappings_pairs_and_headers(fields: object) -> None:
    assert Headers(fields).items() == (("A", "1"), ("B", "2"))  # type: ignore[arg-type]


def test_well_formed_fields_are_taken_as_they_are() -> None:
    fields = [("Host", "a"), ("x-TWO", "1"), ("X-Two", "2")]
    headers = Headers.well_formed(iter(fields))
    assert headers == Headers(fields)
    assert headers.items() == tuple(fields)


def test_equality_looks_at_the_order_of_one_name_only() -> None:
    assert Headers([("A", "1"), ("b", "2")]) == Headers([("B", "2"), ("a", "1")])
    assert Headers([("a", "1"), ("a", "2")]) != Headers([("a", "2"), ("a", "1")])
    assert Headers() != ()
    with pytest.raises(TypeError):
        hash(Headers())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_headers_are_pickled_with_their_fields(protocol: int) -> None:
    headers = Headers([("Set-Cookie", "a"), ("Server", "test"), ("set-cookie", "b")])
    assert pickle.loads(pickle.dumps(headers, protocol)).items() == headers.items()


def test_blanks_around_a_value_are_no_part_of_it() -> None:
    assert Headers({"A": " \tx y\t "})["a"] == "x y"


def test_the_repr_shows_the_names_and_no_value() -> None:
    assert (
        repr(Headers([("Host", "a"), ("Cookie", "s3cr3t"), ("host", "b")])) == "<Headers Host, Cookie, host>"
    )
    assert repr(Headers()) == "<Headers>"
    assert len(repr(Headers([(f"X-{i}", "") for i in range(1000)]))) < 230


def test_a_name_is_found_at_the_start_of_a_line_only() -> None:
    headers = Headers([("X", "host: a"), ("X-Host", "b"), ("Hosts", "c"), ("Y", "x: y:z")])
    for name in (
        "host",
        "",
        ":",
        "y: x",
        "x:host",
        "y:x",
        "\r\nX",
        "x\r\nHosts",
        "X: host: a\r\nX-Host",
        "Ho.t",
    ):
        assert name not in headers
        assert headers.get_all(name) == ()
    assert headers.get_all("y") == ("x: y:z",)


def test_a_name_is_compared_in_ascii() -> None:
    headers = Headers({"key": "1", "x-i": "2"})
    assert "KEY" in headers
    assert "\u212aey" not in headers, "a kelvin sign is no k"
    assert "X-\u0130" not in headers


def test_lines_are_those_of_the_wire() -> None:
    headers = Headers([("A", " 1 "), ("b", "\xe4"), ("C", "")])
    assert headers.to_lines() == b"A: 1\r\nb: \xe4\r\nC: \r\n"
    read = Headers.of_lines(b"\nA:1\r\nb:\t \xe4 \t\r\nC:\r\n")
    assert read == headers
    assert read.items() == headers.items() == (("A", "1"), ("b", "\xe4"), ("C", ""))
    assert [read[name] for name in read] == ["1", "\xe4", ""]
    assert Headers().to_lines() == b""


@pytest.mark.parametrize("name", ["", " ", "A B", "A:", "A\r\n", "Ä", "A\0", '"A"', "Authorization: s3cr3t"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"names of header fields must be tokens .*, item 1 has none"
    ) as caught:
        Headers({"A": "x", name: "x"})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\x0b", "\x1f", "\x7f", "€", "\ud800"])
def test_a_value_with_a_line_end_or_another_foreign_character_is_refused(bad: str) -> None:
    for value in (bad, f"a{bad}b", f"a{bad}Injected: 1"):
        with pytest.raises(ValueError, match="the value of 'A' must have no control characters") as caught:
            Headers({"A": value})
        assert "Injected" not in str(caught.value)


@pytest.mark.parametrize("field", [(b"A", "x"), ("A", b"x"), ("A", 5), ("A", None)])
def test_a_field_that_is_no_str_is_a_type_error(field: object) -> None:
    with pytest.raises(TypeError, match="header names and values must be str, got"):
        Headers([field])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "fields", ["X: s3cr3t", "ab", ["X: s3cr3t"], [("X", "y", "s3cr3t")], [("s3cr3t",)], [5], [None], [b"ab"]]
)
def test_what_is_neither_a_mapping_nor_pairs_is_a_type_error(fields: object) -> None:
    with pytest.raises(TypeError, match="header fields must be a mapping or pairs") as caught:
        Headers(fields)  # type: ignore[arg-type]
    assert "s3cr3t" not in str(caught.value)


# --- Request ---


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
    asked_for = RequestedURL("wss", Request(target, Headers({"Host": "h:1"})))
    assert str(asked_for) == url


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


# --- Response ---


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


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ("X: secret", "got str"),
        (b"X: secret", "got bytes"),
        (5, "got int"),
        (["X: secret"], "item 0 is a str"),
        (["ab"], "item 0 is a str"),
        ([("X", "y"), 5], "item 1 is a int"),
        (iter([("X", "y", "secret")]), "item 0 has length 3"),
        ([("secret",)], "item 0 has length 1"),
    ],
    ids=stable_repr,
)
def test_what_is_neither_a_mapping_nor_pairs_is_refused_without_its_values(
    fields: Any, complaint: str
) -> None:
    with pytest.raises(
        TypeError, match=r"must be a mapping or pairs of \(name, value\), " + complaint
    ) as caught:
        Headers(fields)
    assert "secret" not in str(caught.value)
    assert Headers(iter([["X", "y"]])).items() == (("X", "y"),)


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
