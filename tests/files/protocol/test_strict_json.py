"""JSON from a hostile peer: bounded in length, depth and numbers, and without ambiguity."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.files.protocol.strict_json import MAX_DEPTH, MAX_NUMBER, MAX_TEXT, dump, load

numbers = st.integers(-MAX_NUMBER, MAX_NUMBER) | st.floats(-(2.0**53), 2.0**53)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = [*value.values()]
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), values, max_size=4))
def test_what_is_dumped_is_loaded_again_unless_it_is_too_deep(value: dict[str, Any]) -> None:
    if depth_of(value) <= MAX_DEPTH:
        assert load(dump(value)) == value
        assert load(json.dumps(value, indent=1)) == value, "escapes and spaces do not matter"
    else:
        with pytest.raises(ValueError, match="nested deeper"):
            load(dump(value))


@given(st.text())
def test_any_text_is_an_object_or_an_error(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(load(text), dict)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"a":1}x', "not JSON"),
        ("{'a':1}", "not JSON"),
        ('{"a":01}', "not JSON"),
        ('{"a":"\n"}', "not JSON"),
        ('\ufeff{"a":1}', "not JSON"),
        ('{"a":"', "not JSON"),
        ("[1]", "not a JSON object"),
        ("1", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"a":1,"a":1}', "name twice"),
        ('{"b":{"a":1,"\\u0061":2}}', "name twice"),
        ('{"a":NaN}', "NaN"),
        ('{"a":Infinity}', "Infinity"),
        ('{"a":-Infinity}', "-Infinity"),
        ('{"a":1e999}', "beyond 2"),
        ('{"a":1e16}', "beyond 2"),
        (f'{{"a":{MAX_NUMBER + 1}}}', "beyond 2"),
        (f'{{"a":-{MAX_NUMBER + 1}}}', "beyond 2"),
        (f'{{"a":{"9" * 10_000}}}', "beyond 2"),
    ],
)
def test_what_is_not_strict_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load(text)


def test_the_largest_numbers_are_taken() -> None:
    assert load(f'{{"a":{MAX_NUMBER},"b":-{MAX_NUMBER},"c":1.5}}') == {
        "a": MAX_NUMBER,
        "b": -MAX_NUMBER,
        "c": 1.5,
    }


def test_depth_counts_brackets_but_not_those_in_strings() -> None:
    inside = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert load(f'{{"a":{inside}}}')
    with pytest.raises(ValueError, match="nested deeper"):
        load(f'{{"a":[{inside}]}}')
    assert load('{"a":"[[[[[[[[[[[[","b\\"[[[[[[[[[[":[[1],[2],[3],[4],[5],[6],[7],[8],[9]]}')
    with pytest.raises(ValueError, match="nested deeper"):
        load("[" * MAX_TEXT)


def test_the_length_is_bounded_in_bytes_of_utf8() -> None:
    room = MAX_TEXT - len('{"a":""}')
    assert load(f'{{"a":"{"x" * room}"}}')
    assert dump({"a": "x" * room})
    for text in ("x" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(ValueError, match="more than 262144 bytes"):
            load(f'{{"a":"{text}"}}')
        with pytest.raises(ValueError, match="at most 262144 bytes"):
            dump({"a": text})


@pytest.mark.heavy_after_first(each=("part",))
@pytest.mark.parametrize("start", ['{"a":"', '{"a":', "{", '"', '\\"'])
@pytest.mark.parametrize("part", ['\\"', '"', "\\", '"\\', "[]", '"a":1,', "0", "0,", "{}", " "])
def test_the_longest_message_takes_no_long_time(start: str, part: str) -> None:
    text = (start + part * MAX_TEXT)[:MAX_TEXT]
    before = time.process_time()
    with pytest.raises(ValueError):
        load(text)
    assert time.process_time() - before < 0.5


def test_a_number_that_json_does_not_have_is_not_dumped() -> None:
    with pytest.raises(ValueError):
        dump({"a": float("nan")})
