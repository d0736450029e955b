"""One JSON object from a text that a hostile peer may have sent."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any, Final

__all__ = ["MAX_DEPTH", "MAX_NUMBER", "MAX_TEXT", "dump", "load"]

MAX_TEXT: Final = 256 * 1024
"""Bytes of UTF-8 in one text message."""

MAX_DEPTH: Final = 8
"""Objects and arrays inside one another."""

MAX_NUMBER: Final = 2**53
"""The largest number, with either sign: JavaScript has no larger integers that are exact."""

_MAX_DIGITS: Final = 17  # of an integer, with its sign

# A string that does not end takes all that follows, so each character is looked at once.
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def load(text: str) -> dict[str, Any]:
    """The JSON object that `text` is (RFC 8259).

    Raises:
        ValueError: `text` is longer than `MAX_TEXT` or no JSON object, is nested deeper than `MAX_DEPTH`, has
            a name twice in one object, or has a number beyond `MAX_NUMBER`, NaN or Infinity.
    """
    if len(text) > MAX_TEXT or len(text.encode(errors="replace")) > MAX_TEXT:
        raise ValueError(f"a message has more than {MAX_TEXT} bytes")
    _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError:
        raise ValueError("a message is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("a message is not a JSON object")
    return value


def dump(value: dict[str, Any]) -> str:
    """`value` as JSON on one line, without spaces.

    Raises:
        ValueError: it is longer than `MAX_TEXT`.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(text.encode()) > MAX_TEXT:
        raise ValueError(f"a message must have at most {MAX_TEXT} bytes, got {len(text.encode())}")
    return text


def _check_depth(text: str) -> None:
    """Before the text is parsed: the parser calls itself for each level."""
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        if (first := found[0][0]) in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"a message is nested deeper than {MAX_DEPTH} levels")
        elif first in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a message has a name twice in one object")
    return value


def _integer(digits: str) -> int:
    # int() is slow for very many digits, and refuses more than 4300.
    if len(digits) > _MAX_DIGITS or abs(value := int(digits)) > MAX_NUMBER:
        raise ValueError("a message has a number beyond 2**53")
    return value


def _fraction(digits: str) -> float:
    value = float(digits)
    if not isfinite(value) or abs(value) > MAX_NUMBER:
        raise ValueError("a message has a number beyond 2**53")
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"a message has {name}, which is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_no_number
)
