"""What the fields of a message may hold, and objects that consist of such fields.

A check takes what JSON has for the value, or what the check returned before. It returns
the value, or raises ValueError in words that follow the field's name: "must be ...".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Final, NamedTuple, NoReturn

from wsstream.files.errors import MAX_REASON, RETRIES
from wsstream.files.protocol.strict_json import MAX_NUMBER

__all__ = [
    "CURSOR",
    "DIGEST",
    "ETAG",
    "ID",
    "MAX_NUMBER",
    "MTIME",
    "NAME",
    "NUMBER",
    "NUMBER_OR_NULL",
    "REASON",
    "RETRY",
    "TOKEN",
    "WORD",
    "Check",
    "Checked",
    "boolean",
    "fields_of",
    "from_json",
    "integer",
    "listing",
    "matching",
    "nested",
    "of",
    "one_of",
    "or_null",
    "text",
    "to_json",
]

Check = Callable[[Any], Any]


def _refuse(words: str) -> NoReturn:
    raise ValueError(f"must be {words}")


def integer(least: int, most: int) -> Check:
    """An integer in this range; neither a boolean nor a number with a fraction or an exponent."""
    words = f"an integer from {least} to {most}"

    def check(value: Any) -> int:
        return value if type(value) is int and least <= value <= most else _refuse(words)

    return check


def boolean(value: Any) -> bool:
    """True or false."""
    return value if type(value) is bool else _refuse("true or false")


def text(least: int, most: int) -> Check:
    """A string with this many bytes of UTF-8, without lone surrogates."""
    words = f"a string of {least} to {most} bytes of UTF-8"

    def check(value: Any) -> str:
        if type(value) is not str or len(value) > most:
            _refuse(words)
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            _refuse(words)
        return value if least <= size <= most else _refuse(words)

    return check


def matching(pattern: str, words: str) -> Check:
    """A string that matches `pattern` from its start to its end."""
    matches = re.compile(pattern).fullmatch

    def check(value: Any) -> str:
        return value if type(value) is str and matches(value) else _refuse(words)

    return check


def one_of(*values: str) -> Check:
    """One of these strings."""

    def check(value: Any) -> str:
        return value if type(value) is str and value in values else _refuse(f"one of {', '.join(values)}")

    return check


def or_null(inner: Check) -> Check:
    """What `inner` takes, or null."""

    def check(value: Any) -> Any:
        return None if value is None else inner(value)

    return check


def listing(item: Check, least: int, most: int) -> Check:
    """An array of so many different items; a tuple in Python."""
    words = f"an array of {least} to {most} different items"

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            _refuse(words)
        items = tuple(map(item, value))
        return items if len(set(items)) == len(items) else _refuse(words)

    return check


NUMBER: Final = integer(0, MAX_NUMBER)
NUMBER_OR_NULL: Final = or_null(NUMBER)
ID: Final = integer(1, MAX_NUMBER)
MTIME: Final = or_null(integer(-MAX_NUMBER, MAX_NUMBER))
WORD: Final = matching(r"[a-z][a-z0-9-]{0,31}", "a word of at most 32 characters: a-z, 0-9, -")
TOKEN: Final = matching(r"[A-Za-z0-9_-]{1,64}", "a token of at most 64 characters: A-Z, a-z, 0-9, _, -")
DIGEST: Final = matching(r"[0-9a-f]{64}", "a digest of 64 hexadecimal digits")
NAME: Final = text(0, 1024)
ETAG: Final = text(1, 128)
CURSOR: Final = text(1, 2048)
REASON: Final = text(0, MAX_REASON)
RETRY: Final = one_of(*RETRIES)


class _Field(NamedTuple):
    name: str
    key: str  # the name on the wire
    check: Check
    default: Any  # MISSING: the field is required


def fields_of(cls: type[Any]) -> tuple[_Field, ...]:
    """The fields of a dataclass, for its `FIELDS`."""
    return tuple(
        _Field(each.name, each.metadata.get("key", each.name), each.metadata["check"], each.default)
        for each in fields(cls)
    )


class Checked:
    """Checks its fields when it is made.

    Raises:
        ValueError: a field is out of its bounds, or does not go with another one.
    """

    __slots__ = ()
    FIELDS: ClassVar[tuple[_Field, ...]] = ()

    def __post_init__(self) -> None:
        for name, key, check, default in type(self).FIELDS:
            value = getattr(self, name)
            if value is None and default is not MISSING:
                object.__setattr__(self, name, default)
                continue
            try:
                object.__setattr__(self, name, check(value))
            except ValueError as error:
                raise ValueError(f"{self._title()}.{key} {error}") from None
        if words := self._misfit():
            raise ValueError(f"{self._title()}: {words}")

    @classmethod
    def _title(cls) -> str:
        return cls.__name__.lower()

    def _misfit(self) -> str:
        """What is wrong with the fields together, or ``""``."""
        return ""


def from_json(cls: type[Any], value: Mapping[str, Any]) -> Any:
    """An object of `cls` with the fields of `value`; those that it does not know are ignored.

    Raises:
        ValueError: one is missing, or out of its bounds.
    """
    known = {}
    for name, key, _, default in cls.FIELDS:
        if key in value:
            known[name] = value[key]
        elif default is MISSING:
            raise ValueError(f"{cls.__name__.lower()}.{key} is missing")
    return cls(**known)


def to_json(value: Checked) -> dict[str, Any]:
    """The fields of `value` for JSON; those that have their default are left out."""
    result = {}
    for name, key, _, default in value.FIELDS:
        if (item := getattr(value, name)) != default:
            result[key] = _plain(item)
    return result


def _plain(item: Any) -> Any:
    if isinstance(item, tuple):
        return [*map(_plain, item)]
    return to_json(item) if isinstance(item, Checked) else item


def nested(cls: type[Any]) -> Check:
    """An object of `cls`."""

    def check(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise ValueError("must be an object")
        return from_json(cls, value)

    return check


def of(check: Check, key: str | None = None) -> dict[str, Any]:
    """The metadata of a field: its check, and its name on the wire if that is another one."""
    return {"check": check} if key is None else {"check": check, "key": key}
