"""The server's side of the opening handshake: which requests it takes, and its response."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.handshake import ANSWER, KEY, REQUEST, SOME_FIELDS, Fields, changed

from wsstream.opening.extensions import Extension
from wsstream.opening.handshake_client import Agreement, check_response
from wsstream.opening.handshake_server import (
    Offer,
    RequestRejected,
    accepting_headers,
    check_request,
    select_subprotocol,
)
from wsstream.opening.headers import Headers
from wsstream.opening.http import Request, Response
from wsstream.opening.origins import Origins


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


OFFERED = (Extension("x", (("a", None),)), Extension("y"))
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
        (["https://a"], "http://a", False),
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
    admitted = None if origins is None else Origins(origins)
    request = Request("/", Headers(REQUEST if origin is None else [*REQUEST, ("Origin", origin)]))
    if ok:
        assert check_request(request, origins=admitted).key == KEY
    else:
        assert refusal(request, origins=admitted).status == 403


def test_the_reason_of_a_refusal_quotes_little_of_the_request() -> None:
    for name in ("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"):
        response = refusal(Request("/", Headers([*REQUEST, (name, "é" * 60_000)])))
        assert len(response.body) < 500


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


@given(
    st.sampled_from([REQUEST, []]), SOME_FIELDS, st.sets(st.sampled_from([n for n, _ in REQUEST]), max_size=2)
)
def test_no_request_raises_anything_but_a_refusal(base: Fields, extra: Fields, dropped: set[str]) -> None:
    request = Request("/", Headers([*(field for field in base if field[0] not in dropped), *extra]))
    try:
        offer = check_request(request, origins=Origins(["https://a", None]))
    except RequestRejected as exc:
        status = exc.response.status
    else:
        status = 101
        assert len(base64.b64decode(offer.key)) == 16
    assert status == 101 or 400 <= status <= 599


def test_reprs_show_no_subprotocol_which_may_be_a_token() -> None:
    extension = Extension("permessage-deflate", ())
    assert repr(Offer(KEY, ("s3cr3t",), (extension,))) == "<Offer of 1 subprotocols, 'permessage-deflate'>"
    assert repr(Agreement("s3cr3t", (extension,))) == "<Agreement on 'permessage-deflate'>"
