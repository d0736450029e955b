"""Which redirects are followed, and with what."""

from __future__ import annotations

import pytest

from wsstream.errors import HandshakeRejected, InvalidURL
from wsstream.opening.headers import Headers
from wsstream.opening.redirect import MAX_LOCATION, Destination, not_followed, redirected
from wsstream.opening.url import parse_url

FIELDS = Headers(
    [
        ("Authorization", "Bearer t"),
        ("COOKIE", "a=b"),
        ("cookie", "c=d"),
        ("Proxy-Authorization", "Basic x"),
        ("Host", "virtual.example"),
        ("X-A", "1"),
        ("x-a", "2"),
    ]
)
HERE = Destination(parse_url("wss://user:secret@feed.example/v1/a?q=1"), FIELDS, "inner.example")


def answer(status: int, *locations: str) -> HandshakeRejected:
    return HandshakeRejected(status, [("location", location) for location in locations], b"gone")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(status: int) -> None:
    assert redirected(HERE, answer(status, "/v2")).url == parse_url("wss://user:secret@feed.example/v2")


@pytest.mark.parametrize("status", [200, 204, 300, 304, 305, 306, 309, 399, 401, 404, 503])
def test_no_other_status_is_a_redirect(status: int) -> None:
    rejection = answer(status, "/v2")
    with pytest.raises(HandshakeRejected) as caught:
        redirected(HERE, rejection)
    assert caught.value is rejection
    assert caught.value.__cause__ is None


def test_one_redirect_more_than_are_followed_says_so() -> None:
    for status, hint in ((302, "this redirect was not followed, as max_redirects is 7"), (404, "")):
        rejection = answer(status, "/v2")
        not_followed(rejection, 7)
        assert rejection.hint == hint


@pytest.mark.parametrize("locations", [[], ["/a", "/b"], ["/a", "/a"]])
def test_without_exactly_one_location_it_is_no_redirect(locations: list[str]) -> None:
    rejection = answer(302, *locations)
    with pytest.raises(HandshakeRejected) as caught:
        redirected(HERE, rejection)
    assert caught.value is rejection


@pytest.mark.parametrize(
    "location",
    [
        "ws://feed.example/v1",
        "http://feed.example/v1",
        "ftp://feed.example/",
        "javascript:alert(1)",
        "https://",
        "https://[::1/",
        "https://a b.example/",
        "https://feed.example:0/",
        "https:/v2",
        "/%",
        "/" + "x" * MAX_LOCATION,
    ],
)
def test_a_location_that_is_not_followed_leaves_the_answer_and_says_why(location: str) -> None:
    rejection = answer(302, location)
    with pytest.raises(HandshakeRejected) as caught:
        redirected(HERE, rejection)
    assert caught.value is rejection
    assert isinstance(caught.value.__cause__, InvalidURL)


def test_a_location_may_have_8000_characters() -> None:
    location = "/" + "x" * (MAX_LOCATION - 1)
    assert redirected(HERE, answer(302, location)).url.target == location


def test_from_ws_to_ws_and_to_wss_is_followed() -> None:
    here = Destination(parse_url("ws://feed.example/"), Headers())
    assert str(redirected(here, answer(302, "http://feed.example/x")).url) == "ws://feed.example/x"
    assert str(redirected(here, answer(302, "https://feed.example/x")).url) == "wss://feed.example/x"


SAME_ORIGIN = [
    "/v2",
    "",
    "?x",
    "//feed.example/",
    "https://FEED.example:443/x",
    "wss://other:pw@feed.example/",
]
OTHER_ORIGINS = {
    # location: the host is the same
    "wss://feed.example:444/": True,
    "//feed.example:8443": True,
    "wss://www.feed.example/": False,
    "//other.example/": False,
    "wss://user:secret@other.example/": False,
}


@pytest.mark.parametrize("location", SAME_ORIGIN)
def test_within_the_origin_all_goes_along(location: str) -> None:
    there = redirected(HERE, answer(302, location))
    assert there.headers == FIELDS
    assert there.server_hostname == "inner.example"
    assert there.url.userinfo == ("user", "secret")


@pytest.mark.parametrize(("location", "same_host"), OTHER_ORIGINS.items())
def test_to_another_origin_no_credentials_go_along(location: str, same_host: bool) -> None:
    there = redirected(HERE, answer(302, location))
    assert there.headers.items() == (("X-A", "1"), ("x-a", "2"))
    assert there.server_hostname == ("inner.example" if same_host else None)
    assert there.url.userinfo is None


def test_the_scheme_is_part_of_the_origin() -> None:
    here = Destination(parse_url("ws://u:p@feed.example:1/"), FIELDS)
    there = redirected(here, answer(302, "wss://feed.example:1/"))
    assert there.url.userinfo is None
    assert "authorization" not in there.headers


def test_credentials_that_were_left_behind_do_not_come_back() -> None:
    there = redirected(HERE, answer(302, "wss://other.example/"))
    back = redirected(there, answer(302, "wss://feed.example/"))
    assert back.headers.items() == (("X-A", "1"), ("x-a", "2"))
    assert back.url.userinfo is None
    assert back.server_hostname is None
