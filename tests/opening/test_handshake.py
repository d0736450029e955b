"""The rules of the opening handshake, without any HTTP version."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.errors import HandshakeError, HandshakeRejected
from wsstream.opening.extensions import Extension
from wsstream.opening.handshake import (
    Agreement,
    Offer,
    RequestRejected,
    accept_key,
    accepting_headers,
    check_request,
    check_response,
    client_request_headers,
    select_subprotocol,
    validate_origins,
    validate_subprotocols,
)
from wsstream.opening.http import Headers, Request, Response
from wsstream.opening.url import parse_url

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
Fields = Sequence[tuple[str, str]]

REQUEST: Fields = [
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
]
ANSWER: Fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", ACCEPT)]


def changed(fields: Fields, name: str, *values: str) -> list[tuple[str, str]]:
    """`fields` with other values of one field."""
    return [field for field in fields if field[0] != name] + [(name, value) for value in values]


# --- Keys, subprotocols, origins ---


def test_the_key_of_the_rfc_is_accepted_as_in_the_rfc() -> None:
    assert accept_key(KEY) == ACCEPT


@pytest.mark.parametrize("value", [[], (), ["chat"], ["b", "a"], iter(["x", "y"]), {"a": 1}])
def test_subprotocols_are_a_tuple_of_tokens(value: object) -> None:
    names = validate_subprotocols(value)  # type: ignore[arg-type]
    assert isinstance(names, tuple)
    assert validate_subprotocols(names) == names


@pytest.mark.parametrize("value", ["hi", "", None, 5, [b"a"], ["a", None], [5]])
def test_subprotocols_of_the_wrong_type_are_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        validate_subprotocols(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [["a", "a"], [""], ["a b"], ["a,b"], ["ä"], ["a\r\n"], ["a;"]])
def test_subprotocols_that_are_no_tokens_or_twice_are_a_value_error(value: list[str]) -> None:
    with pytest.raises(ValueError, match=r"RFC 6455 section 4\.1"):
        validate_subprotocols(value)


@pytest.mark.parametrize(
    ("offered", "supported", "chosen"),
    [
        (("a", "b"), ("b", "a"), "b"),
        (("a", "b"), ("x", "a"), "a"),
        (("a",), ("A",), ""),
        ((), ("a",), ""),
        (("a",), (), ""),
    ],
)
def test_the_server_prefers_its_own_order(
    offered: tuple[str, ...], supported: tuple[str, ...], chosen: str
) -> None:
    assert select_subprotocol(offered, supported) == chosen


def test_origins_are_compared_in_lower_case() -> None:
    assert validate_origins(None) is None
    assert validate_origins(["HTTPS://Example.com", None]) == frozenset({"https://example.com", None})
    assert validate_origins([]) == frozenset()


@pytest.mark.parametrize("value", ["https://example.com", [b"x"], [5], 5])
def test_origins_of_the_wrong_type_are_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        validate_origins(value)  # type: ignore[arg-type]


# --- The client's request ---


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


# --- The server's answer, at the client ---


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


# --- The client's request, at the server ---


def check(fields: Fields, **options: object) -> Offer:
    return check_request(Request("/chat", Headers(fields)), **options)  # type: ignore[arg-type]


def refusal(request: Request, **options: object) -> Response:
    with pytest.raises(RequestRejected) as caught:
        check_request(request, **options)  # type: ignore[arg-type]
    response = caught.value.response
    # Every refusal says in words what was wrong.
    assert len(response.body) > 20
    assert response.body.decode().strip() == str(caught.value)
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    return response


GOOD_REQUESTS: list[tuple[Fields, Offer]] = [
    (REQUEST, Offer(KEY, (), ())),
    (changed(REQUEST, "Upgrade", "WebSocket"), Offer(KEY, (), ())),
    (changed(REQUEST, "Upgrade", "h2c, websocket"), Offer(KEY, (), ())),
    (changed(REQUEST, "Connection", "keep-alive, Upgrade"), Offer(KEY, (), ())),  # Firefox
    (changed(REQUEST, "Connection", "keep-alive", ",upgrade ,"), Offer(KEY, (), ())),
    (changed(REQUEST, "Host", "[::1]:8080"), Offer(KEY, (), ())),
    (changed(REQUEST, "Host", "h_1.example:"), Offer(KEY, (), ())),
    ([*REQUEST, ("Content-Length", "0")], Offer(KEY, (), ())),
    ([*REQUEST, ("Origin", "https://page")], Offer(KEY, (), ())),
    ([*REQUEST, ("Sec-WebSocket-Protocol", "b, a")], Offer(KEY, ("b", "a"), ())),
    (
        [*REQUEST, ("Sec-WebSocket-Protocol", "b"), ("Sec-WebSocket-Protocol", "a")],
        Offer(KEY, ("b", "a"), ()),
    ),
    ([*REQUEST, ("Sec-WebSocket-Extensions", "x; a, y")], Offer(KEY, (), OFFERED)),
]


@pytest.mark.parametrize(("fields", "offer"), GOOD_REQUESTS)
def test_a_good_request_is_an_offer(fields: Fields, offer: Offer) -> None:
    assert check(fields) == offer


BAD_REQUESTS: list[tuple[int, Fields]] = [
    (400, changed(REQUEST, "Host")),
    (400, changed(REQUEST, "Host", "")),
    (400, changed(REQUEST, "Host", "a", "a")),
    (400, changed(REQUEST, "Host", "a b")),
    (400, changed(REQUEST, "Host", "a/b")),
    (400, changed(REQUEST, "Host", "u@a")),
    (400, changed(REQUEST, "Host", "a:b")),
    (400, [*REQUEST, ("Content-Length", "5")]),
    (400, [*REQUEST, ("Transfer-Encoding", "chunked")]),
    (426, changed(REQUEST, "Upgrade")),
    (426, changed(REQUEST, "Upgrade", "h2c")),
    (426, changed(REQUEST, "Upgrade", "websocket/13")),
    (426, changed(REQUEST, "Connection")),
    (426, changed(REQUEST, "Connection", "keep-alive")),
    (426, changed(REQUEST, "Connection", "keep-alive Upgrade")),
    (426, changed(REQUEST, "Sec-WebSocket-Version")),
    (426, changed(REQUEST, "Sec-WebSocket-Version", "12")),
    (426, changed(REQUEST, "Sec-WebSocket-Version", "013")),
    (426, changed(REQUEST, "Sec-WebSocket-Version", "13, 8")),
    (426, changed(REQUEST, "Sec-WebSocket-Version", "13", "13")),
    (400, changed(REQUEST, "Sec-WebSocket-Key")),
    (400, changed(REQUEST, "Sec-WebSocket-Key", "")),
    (400, changed(REQUEST, "Sec-WebSocket-Key", KEY, KEY)),
    (400, changed(REQUEST, "Sec-WebSocket-Key", KEY[:-1])),
    (400, changed(REQUEST, "Sec-WebSocket-Key", KEY[:8] + " " + KEY[8:])),
    (400, changed(REQUEST, "Sec-WebSocket-Key", KEY.replace("d", "-"))),
    (400, changed(REQUEST, "Sec-WebSocket-Key", "\xe4" * 24)),
    (400, changed(REQUEST, "Sec-WebSocket-Key", base64.b64encode(bytes(15)).decode())),
    (400, changed(REQUEST, "Sec-WebSocket-Key", base64.b64encode(bytes(17)).decode())),
    (400, [*REQUEST, ("Sec-WebSocket-Protocol", "a b")]),
    (400, [*REQUEST, ("Sec-WebSocket-Protocol", "a, a")]),
    (400, [*REQUEST, ("Sec-WebSocket-Protocol", "")]),
    (400, [*REQUEST, ("Sec-WebSocket-Protocol", ", ,")]),
    (400, [*REQUEST, ("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "a")]),
    (400, [*REQUEST, ("Sec-WebSocket-Extensions", "x;")]),
    (400, [*REQUEST, ("Sec-WebSocket-Extensions", "")]),
    (400, [*REQUEST, ("Origin", "https://a"), ("Origin", "https://b")]),
]


@pytest.mark.parametrize(("status", "fields"), BAD_REQUESTS)
def test_a_bad_request_is_refused_with_a_reason(status: int, fields: Fields) -> None:
    assert refusal(Request("/chat", Headers(fields))).status == status


def test_a_request_without_upgrade_learns_what_to_upgrade_to() -> None:
    response = refusal(Request("/", Headers({"Host": "h"})))
    assert (response.status, response.headers["upgrade"]) == (426, "websocket")


def test_a_request_of_another_version_learns_which_one_is_spoken() -> None:
    response = refusal(Request("/", Headers(changed(REQUEST, "Sec-WebSocket-Version", "8"))))
    assert (response.status, response.headers["sec-websocket-version"]) == (426, "13")


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "get"])
def test_another_method_is_not_allowed(method: str) -> None:
    response = refusal(Request("/", Headers(REQUEST), method=method))
    assert (response.status, response.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("version", "ok"), [("1.1", True), ("1.2", True), ("1.0", False), ("0.9", False), ("2.0", False)]
)
def test_http_1_1_is_the_least(version: str, ok: bool) -> None:
    request = Request("/", Headers(REQUEST), http_version=version)
    if ok:
        assert check_request(request).key == KEY
    else:
        assert refusal(request).status == 505


@pytest.mark.parametrize(
    ("target", "ok"),
    [
        ("/", True),
        ("/a?b", True),
        ("http://h/a", True),
        ("*", False),
        ("h:1", False),
        ("/a#b", False),
        ("a", False),
    ],
)
def test_the_target_is_a_path(target: str, ok: bool) -> None:
    request = Request(target, Headers(REQUEST))
    if ok:
        assert check_request(request).key == KEY
    else:
        assert refusal(request).status == 400


@pytest.mark.parametrize(
    ("origins", "origin", "ok"),
    [
        (None, None, True),
        (None, "https://any", True),
        (["https://a", "https://b"], "https://b", True),
        (["https://a"], "HTTPS://A", True),
        (["https://a"], "https://a:444", False),
        (["https://a"], "https://a.evil", False),
        (["https://a"], "null", False),
        (["https://a"], "", False),
        (["https://a"], None, False),
        (["https://a", None], None, True),
        ([None], "https://a", False),
        ([None], "null", False),
        (["null"], "null", True),
        ([], "https://a", False),
        ([], None, False),
    ],
)
def test_only_the_origins_of_the_list_are_admitted(
    origins: list[str | None] | None, origin: str | None, ok: bool
) -> None:
    admitted = validate_origins(origins)
    request = Request("/", Headers(REQUEST if origin is None else [*REQUEST, ("Origin", origin)]))
    if ok:
        assert check_request(request, origins=admitted).key == KEY
    else:
        assert refusal(request, origins=admitted).status == 403


def test_the_reason_of_a_refusal_quotes_little_of_the_request() -> None:
    for name in ("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"):
        response = refusal(Request("/", Headers([*REQUEST, (name, "é" * 60_000)])))
        assert len(response.body) < 500


# --- The server's answer ---


def test_the_answer_of_the_server_opens_the_connection() -> None:
    offer = Offer(KEY, ("a", "b"), (Extension("x", (("a", None),)),))
    extensions = (Extension("x", (("a", "1"),)),)
    headers = accepting_headers(offer, subprotocol="b", extensions=extensions, headers={"Set-Cookie": "c=d"})
    response = Response.received(101, headers)
    agreement = check_response(
        response, key=KEY, subprotocols=offer.subprotocols, extensions=offer.extensions
    )
    assert agreement == Agreement("b", extensions)
    assert headers["set-cookie"] == "c=d"
    assert accepting_headers(offer).items() == tuple(ANSWER)


def test_a_subprotocol_that_was_not_offered_is_not_chosen() -> None:
    with pytest.raises(ValueError, match="must be one of those that the client offered"):
        accepting_headers(Offer(KEY, ("a",), ()), subprotocol="b")


@pytest.mark.parametrize(
    "extra", [{"Connection": "x"}, {"Sec-WebSocket-Accept": "x"}, {"X": "a\r\nb"}, {"Upgrade": "x"}]
)
def test_an_answer_with_a_header_of_the_handshake_is_a_value_error(extra: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        accepting_headers(Offer(KEY, (), ()), headers=extra)


# --- Anything at all ---

VALUES = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=30) | st.sampled_from(
    [value for _, value in [*REQUEST, *ANSWER]]
)
NAMES = st.sampled_from(
    [name for name, _ in [*REQUEST, *ANSWER]]
    + ["Origin", "Content-Length", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"]
)
SOME_FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)


@given(
    st.sampled_from([REQUEST, []]), SOME_FIELDS, st.sets(st.sampled_from([n for n, _ in REQUEST]), max_size=2)
)
def test_no_request_raises_anything_but_a_refusal(base: Fields, extra: Fields, dropped: set[str]) -> None:
    request = Request("/", Headers([*(field for field in base if field[0] not in dropped), *extra]))
    try:
        offer = check_request(request, origins=validate_origins(["https://a", None]))
    except RequestRejected as exc:
        status = exc.response.status
    else:
        status = 101
        assert len(base64.b64decode(offer.key)) == 16
    assert status == 101 or 400 <= status <= 599


@given(st.sampled_from([ANSWER, []]), SOME_FIELDS, st.integers(100, 999))
def test_no_answer_raises_anything_but_a_handshake_error(base: Fields, extra: Fields, status: int) -> None:
    for code in (status, 101):
        rejected = False
        try:
            check_response(Response.received(code, Headers([*base, *extra])), key=KEY, subprotocols=("a",))
        except HandshakeError as exc:
            rejected = isinstance(exc, HandshakeRejected)
        assert rejected == (code != 101)


@pytest.mark.parametrize("origin", ["a\r\nb", "https://a.example/path", "a.example", ""])
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r'an origin must be like "https://a\.example" or "null", got '):
        validate_origins([origin])


def test_reprs_show_no_subprotocol_which_may_be_a_token() -> None:
    extension = Extension("permessage-deflate", ())
    assert repr(Offer(KEY, ("s3cr3t",), (extension,))) == "<Offer of 1 subprotocols, 'permessage-deflate'>"
    assert repr(Agreement("s3cr3t", (extension,))) == "<Agreement on 'permessage-deflate'>"
