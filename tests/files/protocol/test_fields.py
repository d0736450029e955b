"""The kinds of fields: each takes what it should, and says in words what it does not take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from wsstream.files.protocol import fields as kinds

GOOD: list[tuple[kinds.Check, list[Any]]] = [
    (kinds.integer(-1, 5), [-1, 0, 5]),
    (kinds.NUMBER, [0, 2**53]),
    (kinds.boolean, [True, False]),
    (kinds.text(1, 4), ["a", "éé", "😀", "\0"]),
    (kinds.NAME, ["", "a" * 1024, "é" * 512]),
    (kinds.WORD, ["a", "sha256-tree", "a" * 32]),
    (kinds.TOKEN, ["a", "A_b-9", "x" * 64]),
    (kinds.DIGEST, ["0123456789abcdef" * 4]),
    (kinds.one_of("a", "b"), ["a", "b"]),
    (kinds.or_null(kinds.boolean), [None, True]),
    (kinds.RETRY, ["never", "now", "later"]),
]
BAD: list[tuple[kinds.Check, list[Any], str]] = [
    (kinds.integer(-1, 5), [-2, 6, True, 1.0, "1", None, [1]], "must be an integer from -1 to 5"),
    (kinds.boolean, [0, 1, None, "true"], "must be true or false"),
    (kinds.text(1, 4), ["", "ééé", "aaaaa", "\ud800", 5, None, ["a"]], "must be a string of 1 to 4 bytes"),
    (kinds.WORD, ["", "A", "1a", "a" * 33, "a\n", "a b", 1, None], "must be a word"),
    (kinds.TOKEN, ["", "a/b", "..", "x" * 65, "a\n", "é", None], "must be a token"),
    (kinds.DIGEST, ["0" * 63, "A" * 64, "0" * 65, "g" * 64, "0" * 64 + "\n", 0], "must be a digest"),
    (kinds.one_of("a", "b"), ["c", "", None, ["a"]], "must be one of a, b"),
    (
        kinds.listing(kinds.WORD, 1, 2),
        [[], ["a", "b", "c"], ["a", "a"], "a", {"a": 1}, None],
        "must be an array",
    ),
    (kinds.listing(kinds.WORD, 1, 2), [[1]], "must be a word"),
]


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in GOOD for value in values])
def test_a_value_within_the_bounds_is_taken_as_it_is(check: kinds.Check, value: Any) -> None:
    assert check(value) is value


@pytest.mark.parametrize(
    ("check", "value", "words"), [(check, value, words) for check, values, words in BAD for value in values]
)
def test_another_value_is_refused_in_words(check: kinds.Check, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        check(value)


def test_an_array_becomes_a_tuple() -> None:
    check = kinds.listing(kinds.WORD, 0, 2)
    assert check(["a", "b"]) == ("a", "b")
    assert check(("a",)) == ("a",)


@dataclass(frozen=True, slots=True)
class Inner(kinds.Checked):
    size: int = field(metadata=kinds.of(kinds.NUMBER))


@dataclass(frozen=True, slots=True)
class Outer(kinds.Checked):
    start: int = field(metadata=kinds.of(kinds.NUMBER, "from"))
    inner: Inner | None = field(default=None, metadata=kinds.of(kinds.nested(Inner)))
    flag: bool = field(default=False, metadata=kinds.of(kinds.boolean))
    many: tuple[Inner, ...] = field(default=(), metadata=kinds.of(kinds.listing(kinds.nested(Inner), 0, 2)))

    def _misfit(self) -> str:
        return "`from` must not be 13" if self.start == 13 else ""


cls: Any
for cls in (Inner, Outer):
    cls.FIELDS = kinds.fields_of(cls)


def test_an_object_is_made_of_json_and_becomes_json() -> None:
    json = {"from": 1, "inner": {"size": 2}, "flag": True, "many": [{"size": 3}, {"size": 4}]}
    value = kinds.from_json(Outer, json)
    assert value == Outer(1, Inner(2), True, (Inner(3), Inner(4)))
    assert kinds.to_json(value) == json


def test_what_is_not_there_or_null_has_its_default_and_is_not_written() -> None:
    for json in ({"from": 1}, {"from": 1, "inner": None, "flag": None, "many": None}):
        value = kinds.from_json(Outer, json)
        assert value == Outer(1)
        assert kinds.to_json(value) == {"from": 1}


def test_fields_that_are_not_known_are_ignored() -> None:
    assert kinds.from_json(Outer, {"from": 1, "start": 5, "x": {}}) == Outer(1)


@pytest.mark.parametrize(
    ("json", "words"),
    [
        ({}, "outer.from is missing"),
        ({"from": None}, "outer.from must be an integer"),
        ({"from": 1, "inner": 5}, "outer.inner must be an object"),
        ({"from": 1, "inner": {}}, "outer.inner inner.size is missing"),
        ({"from": 1, "many": [{"size": -1}]}, "outer.many inner.size must be"),
        ({"from": 13}, "outer: `from` must not be 13"),
    ],
)
def test_an_error_says_where(json: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kinds.from_json(Outer, json)


def test_an_object_of_this_end_is_checked_too() -> None:
    with pytest.raises(ValueError, match=r"outer\.from must be an integer"):
        Outer(-1)
