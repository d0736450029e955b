"""How texts and objects are shown."""

from __future__ import annotations

import pytest

from wsstream.display import excerpt, never_raises, quoted, without_query


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("/feed", "/feed"),
        ("grüße", "grüße"),
        ("it's", "it's"),
        ("a\r\nb", r"a\r\nb"),
        ("\x1b[2J\x9b", r"\x1b[2J\x9b"),
        ("a\u2028b\u202ec", r"a\u2028b\u202ec"),
        ("x" * 10, "x" * 10),
        ("x" * 11, "x" * 10 + "..."),
    ],
)
def test_an_excerpt_is_cut_and_moves_no_cursor(text: str, shown: str) -> None:
    assert excerpt(text, 10) == shown
    assert quoted(text, 10) in (f"'{shown}'", f'"{shown}"')


def test_a_repr_that_raises_shows_the_type() -> None:
    class HalfMade:
        name: str

        @never_raises
        def __repr__(self) -> str:
            return f"<{self.name}>"

    half_made = HalfMade()
    assert repr(half_made) == "<HalfMade>"
    half_made.name = "made"
    assert repr(half_made) == "<made>"
    assert HalfMade.__repr__.__name__ == "__repr__"


def test_of_a_url_the_query_is_not_shown() -> None:
    assert without_query("ws://a/b?token=s3cr3t") == "ws://a/b"
    assert without_query("ws://a/" + "b" * 300, 20) == "ws://a/" + "b" * 13 + "..."
