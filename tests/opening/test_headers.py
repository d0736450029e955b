"""Header fields: how they are found, kept, checked and shown."""

from __future__ import annotations

import pickle
from types import MappingProxyType
from typing import Any

import pytest
from kit.ids import stable_repr

from wsstream.opening.headers import Headers


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
        ValueError, match=r"names of header fields must be tokens .*, that of item 1 is not"
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
