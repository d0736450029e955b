"""The client's side of the opening handshake: its request, and which responses it takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.handshake import ACCEPT, ANSWER, KEY, REQUEST, SOME_FIELDS, Fields, changed

from wsstream.errors import HandshakeError, HandshakeRejected
from wsstream.opening.extensions import Extension
from wsstream.opening.handshake import accept_key
from wsstream.opening.handshake_client import Agreement, check_response, client_request_headers
from wsstream.opening.headers import Headers
from wsstream.opening.http import Response
from wsstream.opening.url import parse_url


def test_a_request_has_what_the_rfc_asks_for_and_no_more() -> None:
    headers = client_request_headers(parse_url("ws://server.example.com/chat"), KEY)
    assert headers.items() == tuple(REQUEST)


def test_a_request_has_what_the_application_adds() -> None:
    headers = client_request_headers(
        parse_url("wss://h:444/"),
        KEY,
        ("chat", "superchat"),
        (Extension("x", (("a", "1"),)), Extension("y")),
        "https://page",
        [("Cookie", "a=b"), ("X", "1"), ("X", "2")],
    )
    assert headers["host"] == "h:444"
    assert headers["sec-websocket-protocol"] == "chat, superchat"
    assert headers["sec-websocket-extensions"] == "x; a=1, y"
    assert headers["origin"] == "https://page"
    assert headers["cookie"] == "a=b"
    assert headers.get_all("x") == ("1", "2")


def test_a_host_of_the_application_replaces_the_one_of_the_url() -> None:
    headers = client_request_headers(parse_url("ws://1.2.3.4"), KEY, headers={"HOST": "virtual"})
    assert headers.get_all("host") == ("virtual",)


@pytest.mark.parametrize(
    ("url", "extra", "expected"),
    [
        ("ws://h", {}, ()),
        ("ws://h", {"Authorization": "Bearer x"}, ("Bearer x",)),
        ("ws://user:pass@h", {}, ("Basic dXNlcjpwYXNz",)),
        ("ws://user@h", {}, ("Basic dXNlcjo=",)),
        ("ws://%C3%BC:%3A@h", {}, ("Basic w7w6Og==",)),
        ("ws://user:pass@h", {"authorization": "Bearer x"}, ("Bearer x",)),
    ],
)
def test_the_userinfo_becomes_basic_credentials_unless_given(
    url: str, extra: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert client_request_headers(parse_url(url), KEY, headers=extra).get_all("authorization") == expected


@pytest.mark.parametrize(
    "extra",
    [
        {"Connection": "close"},
        {"upgrade": "h2c"},
        {"Sec-WebSocket-Key": KEY},
        {"SEC-WEBSOCKET-PROTOCOL": "a"},
        {"Sec-WebSocket-Anything": "a"},
        {"Content-Length": "5"},
        {"Transfer-Encoding": "chunked"},
        {"X": "a\r\nY: b"},
        {"X\r\nY": "a"},
        {"Origin": "https://other"},
        [("Host", "a"), ("host", "b")],
    ],
)
def test_a_header_that_breaks_the_handshake_is_a_value_error(extra: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        client_request_headers(parse_url("ws://h"), KEY, (), (), "https://page", extra)


def test_an_origin_with_a_line_end_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        client_request_headers(parse_url("ws://h"), KEY, origin="https://page\r\nX: y")


def test_an_origin_among_the_headers_is_as_good() -> None:
    headers = client_request_headers(parse_url("ws://h"), KEY, headers={"Origin": "https://page"})
    assert headers.get_all("origin") == ("https://page",)


GOOD_ANSWERS: list[tuple[Fields, Agreement]] = [
    (ANSWER, Agreement("", ())),
    (changed(ANSWER, "Upgrade", "WebSocket"), Agreement("", ())),
    (changed(ANSWER, "Connection", "keep-alive, UPGRADE"), Agreement("", ())),
    (changed(ANSWER, "Connection", "keep-alive", "upgrade"), Agreement("", ())),
    ([*ANSWER, ("Set-Cookie", "a=b"), ("Server", "x")], Agreement("", ())),
    ([*ANSWER, ("Sec-WebSocket-Extensions", "x; a=2")], Agreement("", (Extension("x", (("a", "2"),)),))),
    (
        [*ANSWER, ("Sec-WebSocket-Extensions", "y"), ("Sec-WebSocket-Extensions", "x")],
        Agreement("", (Extension("y"), Extension("x"))),
    ),
]

BAD_ANSWERS: list[Fields] = [
    changed(ANSWER, "Upgrade"),
    changed(ANSWER, "Upgrade", "h2c"),
    changed(ANSWER, "Upgrade", "websocket, h2c"),
    changed(ANSWER, "Upgrade", "websocket", "websocket"),
    changed(ANSWER, "Upgrade", "websocket/13"),
    changed(ANSWER, "Connection"),
    changed(ANSWER, "Connection", "keep-alive"),
    changed(ANSWER, "Connection", "close, upgraded"),
    changed(ANSWER, "Sec-WebSocket-Accept"),
    changed(ANSWER, "Sec-WebSocket-Accept", ""),
    changed(ANSWER, "Sec-WebSocket-Accept", ACCEPT.lower()),
    changed(ANSWER, "Sec-WebSocket-Accept", ACCEPT + "="),
    changed(ANSWER, "Sec-WebSocket-Accept", "\xff" * 28),
    changed(ANSWER, "Sec-WebSocket-Accept", ACCEPT, ACCEPT),
    changed(ANSWER, "Sec-WebSocket-Accept", accept_key("AAAAAAAAAAAAAAAAAAAAAA==")),
    [*ANSWER, ("Sec-WebSocket-Protocol", "chat")],
    [*ANSWER, ("Sec-WebSocket-Protocol", "")],
    [*ANSWER, ("Sec-WebSocket-Extensions", "permessage-deflate")],
    [*ANSWER, ("Sec-WebSocket-Extensions", "x, permessage-deflate")],
    [*ANSWER, ("Sec-WebSocket-Extensions", "x;")],
    [*ANSWER, ("Sec-WebSocket-Extensions", "")],
]

OFFERED = (Extension("x", (("a", None),)), Extension("y"))


@pytest.mark.parametrize(("fields", "agreement"), GOOD_ANSWERS)
def test_a_good_answer_opens_the_connection(fields: Fields, agreement: Agreement) -> None:
    response = Response.received(101, Headers(fields))
    assert check_response(response, key=KEY, extensions=OFFERED) == agreement


@pytest.mark.parametrize("fields", BAD_ANSWERS)
def test_a_bad_answer_fails_the_handshake(fields: Fields) -> None:
    with pytest.raises(HandshakeError) as caught:
        check_response(Response.received(101, Headers(fields)), key=KEY, extensions=OFFERED)
    assert type(caught.value) is HandshakeError
    assert caught.value.code is None


@pytest.mark.parametrize(
    ("chosen", "ok"),
    [
        (["chat"], True),
        (["superchat"], True),
        ([], False),
        (["Chat"], False),
        (["foreign"], False),
        ([""], False),
        (["chat", "superchat"], False),
        (["chat", "chat"], False),
        (["chat, superchat"], False),
    ],
)
def test_exactly_one_of_the_offered_subprotocols_must_be_chosen(chosen: list[str], ok: bool) -> None:
    fields = [*ANSWER, *(("Sec-WebSocket-Protocol", value) for value in chosen)]
    response = Response.received(101, Headers(fields))
    if ok:
        assert check_response(response, key=KEY, subprotocols=("chat", "superchat")).subprotocol == chosen[0]
    else:
        with pytest.raises(HandshakeError, match="subprotocol"):
            check_response(response, key=KEY, subprotocols=("chat", "superchat"))


@pytest.mark.parametrize("status", [200, 301, 401, 404, 426, 503, 999])
def test_another_status_rejects_even_with_all_the_right_headers(status: int) -> None:
    response = Response.received(status, Headers([*ANSWER, ("X-Y", "Z")]), b"why")
    with pytest.raises(HandshakeRejected) as caught:
        check_response(response, key=KEY)
    assert (caught.value.status, caught.value.body) == (status, b"why")
    assert caught.value.headers[-1] == ("x-y", "Z")


@given(st.sampled_from([ANSWER, []]), SOME_FIELDS, st.integers(100, 999))
def test_no_answer_raises_anything_but_a_handshake_error(base: Fields, extra: Fields, status: int) -> None:
    for code in (status, 101):
        rejected = False
        try:
            check_response(Response.received(code, Headers([*base, *extra])), key=KEY, subprotocols=("a",))
        except HandshakeError as exc:
            rejected = isinstance(exc, HandshakeRejected)
        assert rejected == (code != 101)
