"""The header field of extensions: what is parsed, what is rejected, and at what cost."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.opening.extensions import Extension, format_extensions, parse_extensions

TCHARS = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters

EXTENSIONS = [
    ([], ()),
    (["foo"], (Extension("foo"),)),
    (["foo, bar"], (Extension("foo"), Extension("bar"))),
    (["foo", "bar"], (Extension("foo"), Extension("bar"))),
    (["foo", ""], (Extension("foo"),)),
    ([" , foo,\t,bar , "], (Extension("foo"), Extension("bar"))),
    (["foo;a"], (Extension("foo", (("a", None),)),)),
    (["foo ; a ; b = c"], (Extension("foo", (("a", None), ("b", "c"))),)),
    (['foo; a="b"'], (Extension("foo", (("a", "b"),)),)),
    (['foo; a="b\\c\\d"'], (Extension("foo", (("a", "bcd"),)),)),
    (["foo; a=1; a=2"], (Extension("foo", (("a", "1"), ("a", "2"))),)),
    (["foo,foo"], (Extension("foo"), Extension("foo"))),
    (
        ["permessage-deflate; client_max_window_bits, permessage-deflate;server_max_window_bits=10"],
        (
            Extension("permessage-deflate", (("client_max_window_bits", None),)),
            Extension("permessage-deflate", (("server_max_window_bits", "10"),)),
        ),
    ),
]

MALFORMED_EXTENSIONS = [
    [""],
    [" "],
    [",,"],
    ["", ""],
    [";"],
    [";a"],
    ["foo;"],
    ["foo; "],
    ["foo;;a"],
    ["foo; a="],
    ["foo; =a"],
    ["foo; a=,bar"],
    ["foo; a=b c"],
    ["foo bar"],
    ["foo=bar"],
    ["foo; a==b"],
    ['foo; a=""'],
    ['foo; a="b'],
    ['foo; a=b"'],
    ['foo; a="b c"'],
    ['foo; a="b,c"'],
    ['foo; a="b\\"c"'],
    ['foo; a="b\\"'],
    ['foo; a="b"c'],
    ['"foo"'],
    ["foo", "b r"],
    ["föö"],
    ["foo\x00"],
    ["foo\n"],
    ["foo\x0b, bar"],
    ["foo/1"],
]


@pytest.mark.parametrize(("values", "extensions"), EXTENSIONS)
def test_extensions_are_parsed(values: list[str], extensions: tuple[Extension, ...]) -> None:
    assert parse_extensions(values) == extensions
    assert parse_extensions(iter(values)) == extensions


@pytest.mark.parametrize("values", MALFORMED_EXTENSIONS)
def test_malformed_extensions_are_refused(values: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        parse_extensions(values)
    assert type(caught.value) is ValueError


def test_extensions_are_formatted_the_canonical_way() -> None:
    extensions = (Extension("x", (("a", None), ("b", "1"))), Extension("y"))
    assert format_extensions(extensions) == "x; a; b=1, y"
    assert format_extensions(()) == ""


@pytest.mark.parametrize(
    "extension",
    [
        Extension(""),
        Extension("a b"),
        Extension("a", (("", None),)),
        Extension("a", (("b", ""),)),
        Extension("a", (("b", "x\r\n"),)),
    ],
)
def test_what_is_no_token_is_not_formatted(extension: Extension) -> None:
    with pytest.raises(ValueError, match="is not a token"):
        format_extensions([extension])


TOKENS = st.text(TCHARS, min_size=1, max_size=8)
PARAMS = st.lists(st.tuples(TOKENS, st.none() | TOKENS), max_size=4).map(tuple)
EXTENSION_LISTS = st.lists(st.builds(Extension, TOKENS, PARAMS), max_size=4).map(tuple)
BLANKS = st.text(" \t", max_size=2)


@given(EXTENSION_LISTS)
def test_what_is_formatted_is_parsed_to_the_same(extensions: tuple[Extension, ...]) -> None:
    text = format_extensions(extensions)
    assert parse_extensions([text] if text else []) == extensions


@given(EXTENSION_LISTS.filter(bool), st.data())
def test_blanks_quotes_and_the_borders_of_fields_mean_nothing(
    extensions: tuple[Extension, ...], data: st.DataObject
) -> None:
    def blanks() -> str:
        return data.draw(BLANKS)

    def value(text: str) -> str:
        escaped = "".join(data.draw(st.sampled_from(["", "\\"])) + c for c in text)
        return data.draw(st.sampled_from([text, f'"{escaped}"']))

    values = [""]
    for name, params in extensions:
        parts = [name]
        parts += [f"{k}{blanks()}={blanks()}{value(v)}" if v is not None else k for k, v in params]
        element = "".join(f";{blanks()}{part}{blanks()}" for part in parts)[1:]
        if data.draw(st.booleans()):
            values.append(element)
        else:
            values[-1] += f",{blanks()}{element}"
    assert parse_extensions(values) == extensions


@given(st.lists(st.text() | st.text(st.sampled_from('ab;,="\\ \t\n€')), max_size=4))
def test_no_input_raises_anything_else_than_value_error(values: list[str]) -> None:
    error = None
    try:
        parse_extensions(values)
    except ValueError as exc:
        error = exc
    assert error is None or (type(error) is ValueError and len(str(error)) < 500)


HOSTILE = [
    lambda n: "a" * n,
    lambda n: "a" * n + '"',
    lambda n: "," * n,
    lambda n: " " * n + '"',
    lambda n: "a" + " " * n + '"',
    lambda n: "a" + "; b" * n + "=",
    lambda n: "a; b" + " " * n + "=" + " " * n + '"',
    lambda n: 'a; b="' + "c" * n,
    lambda n: 'a; b="' + "\\c" * n,
    lambda n: 'a; b="' + "\\" * n,
    lambda n: "a;" + " " * n,
    lambda n: "a;b ," * n + "=",
]


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_time_for_hostile_input_grows_with_its_length_and_no_faster(hostile: object) -> None:
    assert callable(hostile)

    def cost(size: int) -> float:
        text = hostile(size)
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            try:
                parse_extensions([text])
            except ValueError:
                pass
            best = min(best, time.process_time() - start)
        return best

    # Sixteen times the input; quadratic time would be 256 times the time, and seconds.
    assert cost(64_000) < 64 * cost(4_000) + 0.01
