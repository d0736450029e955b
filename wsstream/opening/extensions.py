"""The ``Sec-WebSocket-Extensions`` header field (RFC 6455 section 9.1): parsing and formatting.

It is a list as in :mod:`~wsstream.opening.grammar`, but its elements have parameters. All quantifiers are
possessive, so no input causes backtracking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wsstream.display import quoted
from wsstream.opening.grammar import TCHAR, TOKEN, is_token

__all__ = ["Extension", "format_extensions", "parse_extensions"]

# The value of a quoted string must be a token once it is unquoted.
_PARAMETER = re.compile(
    rf'[ \t]*+;[ \t]*+({TCHAR}++)(?:[ \t]*+=[ \t]*+(?:({TCHAR}++)|"((?:\\?+{TCHAR})++)"))?+'
)
_EMPTY_ELEMENTS = re.compile(r"[ \t,]*+")
_END_OF_ELEMENT = re.compile(r"[ \t]*+(?:,|\Z)")


class Extension(NamedTuple):
    """An extension as it is offered or accepted: its name and its parameters in their order.

    A parameter is a pair of its name and its value, or ``None`` if it has no value.
    """

    name: str
    params: tuple[tuple[str, str | None], ...] = ()


def parse_extensions(values: Iterable[str]) -> tuple[Extension, ...]:
    """Parse the values of ``Sec-WebSocket-Extensions`` fields.

    Args:
        values: the values of the fields. No field at all is the empty list.

    Raises:
        ValueError: they do not follow the grammar, or there are fields but no extension.
    """
    values = tuple(values)
    extensions: list[Extension] = []
    for value in values:
        _parse_value(value, extensions)
    if values and not extensions:
        raise ValueError("the list is empty")
    return tuple(extensions)


def format_extensions(extensions: Sequence[Extension]) -> str:
    """The value of a ``Sec-WebSocket-Extensions`` field; ``""`` for none.

    Raises:
        ValueError: a name or a value of a parameter is not a token.
    """
    return ", ".join("; ".join([_checked(name), *map(_format_param, params)]) for name, params in extensions)


def _parse_value(value: str, extensions: list[Extension]) -> None:
    position = _skip_empty(value, 0)
    while position < len(value):
        extension, position = _parse_extension(value, position)
        end = _END_OF_ELEMENT.match(value, position)
        if end is None:
            raise ValueError(f"unexpected {quoted(value[position:], 40)}")
        extensions.append(extension)
        position = _skip_empty(value, end.end())


def _skip_empty(value: str, position: int) -> int:
    match = _EMPTY_ELEMENTS.match(value, position)
    assert match is not None  # it matches the empty string
    return match.end()


def _parse_extension(value: str, position: int) -> tuple[Extension, int]:
    name = TOKEN.match(value, position)
    if name is None:
        raise ValueError(f"{quoted(value[position:], 40)} does not begin with a token")
    params: list[tuple[str, str | None]] = []
    position = name.end()
    while match := _PARAMETER.match(value, position):
        param, token, string = match.groups()
        params.append((param, token if string is None else string.replace("\\", "")))
        position = match.end()
    return Extension(name.group(), tuple(params)), position


def _format_param(param: tuple[str, str | None]) -> str:
    name, value = param
    return _checked(name) if value is None else f"{_checked(name)}={_checked(value)}"


def _checked(token: str) -> str:
    if not is_token(token):
        raise ValueError(f"{quoted(token, 40)} is not a token")
    return token
