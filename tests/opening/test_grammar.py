"""Tokens and lists of tokens."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.opening.grammar import is_token, parse_token_list

TCHARS = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters


@given(st.text(max_size=3) | st.text(TCHARS))
def test_a_token_is_one_or_more_token_characters(text: str) -> None:
    assert is_token(text) == (text != "" and all(c in TCHARS for c in text))


@pytest.mark.parametrize(
    ("values", "tokens"),
    [
        ([], ()),
        (["chat"], ("chat",)),
        (["chat, superchat"], ("chat", "superchat")),
        (["chat", "superchat,x"], ("chat", "superchat", "x")),
        ([",chat ,,\t x,", ""], ("chat", "x")),
    ],
)
def test_lists_of_tokens_are_parsed(values: list[str], tokens: tuple[str, ...]) -> None:
    assert parse_token_list(values) == tokens


@pytest.mark.parametrize(
    "values", [[""], [" , "], ["a b"], ["a;b"], ['"a"'], ["a\x0b"], ["\xa0a"], ["a", "é"]]
)
def test_malformed_lists_of_tokens_are_rejected(values: list[str]) -> None:
    with pytest.raises(ValueError):
        parse_token_list(values)


@given(st.lists(st.text() | st.text(st.sampled_from('ab;,="\\ \t\n€')), max_size=4))
def test_no_list_raises_anything_but_a_short_value_error(values: list[str]) -> None:
    error = None
    try:
        parse_token_list(values)
    except ValueError as exc:
        error = exc
    assert error is None or (type(error) is ValueError and len(str(error)) < 500)
