"""Patterns of paths: which paths match, and what the parameters are."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.routing.pattern import Pattern, split_path

MATCHES = [
    ("/", "/", {}),
    ("/chat", "/chat", {}),
    ("/chat", "/chat/", None),
    ("/chat/", "/chat/", {}),
    ("/chat", "/Chat", None),
    ("/chat/{room}", "/chat/a", {"room": "a"}),
    ("/chat/{room}", "/chat/", None),
    ("/chat/{room}", "/chat/a/b", None),
    ("/chat/{room}", "/chat/a%2Fb", {"room": "a/b"}),
    ("/chat/{room}", "/chat/gr%C3%BCn", {"room": "grün"}),
    ("/chat/{room}/x", "/chat/a/x", {"room": "a"}),
    ("/chat/{room}/x", "/chat/a/y", None),
    ("/{a}/{b}", "/1/2", {"a": "1", "b": "2"}),
    ("/n/{id:int}", "/n/007", {"id": 7}),
    ("/n/{id:int}", "/n/-7", None),
    ("/n/{id:int}", "/n/7a", None),
    ("/n/{id:int}", "/n/٣", None),
    ("/n/{id:int}", f"/n/{'9' * 18}", {"id": 10**18 - 1}),
    ("/n/{id:int}", f"/n/{'9' * 19}", None),
    ("/f/{rest:path}", "/f/a/b", {"rest": "a/b"}),
    ("/f/{rest:path}", "/f/", {"rest": ""}),
    ("/f/{rest:path}", "/f", {"rest": ""}),
    ("/f/{rest:path}", "/g", None),
    ("/f/{rest:path}", "/f/a%2F/b/", {"rest": "a//b/"}),
    ("/f/{n:int}/{rest:path}", "/f/x/y", None),
    ("/{rest:path}", "/", {"rest": ""}),
    ("/caf\u00e9", "/caf%c3%a9", {}),
    ("/a b", "/a%20b", {}),
    ("/a%20b", "/a%20b", None),
]


@pytest.mark.parametrize(("pattern", "path", "parameters"), MATCHES)
def test_matches(pattern: str, path: str, parameters: dict[str, object] | None) -> None:
    assert Pattern(pattern).match(split_path(path)) == parameters


@pytest.mark.parametrize("path", ["/%FF", "/a/%C3", "/%ED%A0%80"])
def test_a_path_that_is_not_utf8_raises(path: str) -> None:
    with pytest.raises(ValueError, match="utf-8"):
        split_path(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with a slash"),
        ("chat", "must begin with a slash"),
        ("/v{n}", "must be a whole segment"),
        ("/{n", "must be a whole segment"),
        ("/{}", "must be a whole segment"),
        ("/{1}", "must be a whole segment"),
        ("/{n:float}", "must be a whole segment"),
        ("/{a}/{a}", "two parameters of one name"),
        ("/{a:path}/b", "must be the last segment"),
    ],
)
def test_a_malformed_pattern_raises(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pattern(text)


def test_a_pattern_is_a_str() -> None:
    with pytest.raises(TypeError, match="the path of a route must be a str, got bytes"):
        Pattern(b"/")  # type: ignore[arg-type]  # what a caller without types may pass


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4))
def test_any_segment_comes_back(segments: list[str]) -> None:
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)
    names = [f"p{number}" for number in range(len(segments))]
    pattern = Pattern("/" + "/".join(f"{{{name}}}" for name in names))
    assert pattern.match(split_path(path)) == dict(zip(names, segments, strict=True))
