"""The header fields of a request or a response, as they are kept and as they are checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, cast, overload, runtime_checkable

from wsstream.display import excerpt, never_raises, quoted
from wsstream.opening.grammar import is_token

__all__ = ["HeaderItems", "HeaderPairs", "Headers", "values_by_name"]

# RFC 9110 section 5.5: control characters other than a tab are not sent; a field is ISO 8859-1.
_NOT_IN_A_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")


@runtime_checkable
class HeaderItems(Protocol):
    """Anything with ``items()`` that returns pairs of name and value: a dict, a :class:`Headers`."""

    def items(self) -> Iterable[tuple[str, str]]:
        """The fields."""
        ...


HeaderPairs: TypeAlias = HeaderItems | Iterable[tuple[str, str]]


class Headers:
    """The header fields of a request or a response, immutable; names are case-insensitive.

    Args:
        fields: a mapping, or pairs of name and value, in their order.

    Raises:
        TypeError: `fields` is neither, or a name or a value is not a ``str``.
        ValueError: a name is not a token, or a value has control characters (so also line ends) or
            characters outside ISO 8859-1.
    """

    __slots__ = ("_lines",)

    # A connection keeps its headers as long as it is open. So they are kept as on the wire, in one object:
    # objects for names and values would take many times the memory. A line end precedes each line, so that a
    # name is found by the bytes around it.
    _lines: bytes

    def __init__(self, fields: HeaderPairs = ()) -> None:
        if isinstance(fields, Headers):
            self._lines = fields._lines
            return
        items = getattr(fields, "items", None)  # asking for the protocol costs 15 µs on Python 3.11
        pairs = cast("Iterable[tuple[str, str]]", fields) if items is None else items()
        self._lines = _lines([_checked_field(*pair) for pair in _checked_pairs(pairs)])

    @classmethod
    def well_formed(cls, fields: Iterable[tuple[str, str]]) -> Headers:
        """Headers of fields that this library checked or wrote. Nothing is checked."""
        return cls.of_lines(_lines(fields))

    @classmethod
    def of_lines(cls, lines: bytes) -> Headers:
        """Headers of well-formed lines, each with its CRLF, and with a line end before the first."""
        headers = cls.__new__(cls)
        headers._lines = lines
        return headers

    def to_lines(self) -> bytes:
        """The fields as they are sent: one line for each, with its CRLF."""
        return self._lines[1:]

    def __reduce__(self) -> tuple[Any, ...]:
        return Headers.well_formed, (self.items(),)

    def get_all(self, name: str) -> tuple[str, ...]:
        """The values of all fields with this name, in their order."""
        values = _field_called(name).findall(self._lines)
        return tuple([value.decode("latin-1").strip(" \t") for value in values])

    @overload
    def get(self, name: str, default: None = None) -> str | None: ...

    @overload
    def get(self, name: str, default: str) -> str: ...

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of the field with this name, or the values of several, joined by a comma and a space."""
        values = self.get_all(name)
        return ", ".join(values) if values else default

    def __getitem__(self, name: str) -> str:
        if name not in self:
            raise KeyError(name.lower())
        return ", ".join(self.get_all(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _field_called(name).search(self._lines) is not None

    def __iter__(self) -> Iterator[str]:
        """The distinct names in lower case."""
        return iter(self._by_key())

    def __len__(self) -> int:
        return len(self._by_key())

    def __bool__(self) -> bool:
        return len(self._lines) > 1

    def items(self) -> tuple[tuple[str, str], ...]:
        """All fields as (name, value), in their order, with the names as they were written."""
        lines = self.to_lines().decode("latin-1").split("\r\n")[:-1]
        return tuple([(name, value.strip(" \t")) for name, _, value in [x.partition(":") for x in lines]])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._by_key() == other._by_key()

    def _by_key(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        if self:
            for line in self._lines[1:-2].decode("latin-1").split("\r\n"):
                name, _, value = line.partition(":")
                name, value = name.lower(), value.strip(" \t")
                if name in index:
                    index[name].append(value)
                else:
                    index[name] = [value]
        return index

    __hash__ = None  # type: ignore[assignment]  # containers that compare by value have none

    @never_raises
    def __repr__(self) -> str:
        # No value is shown, as any of them may be a secret; `items` has them.
        names = ", ".join([name for name, _ in self.items()])
        return f"<Headers {excerpt(names, 200)}>" if names else "<Headers>"


def values_by_name(headers: Headers) -> dict[str, list[str]]:
    """The values of all fields by their names in lower case: for those who ask for many names."""
    return headers._by_key()


@lru_cache(128)
def _field_called(name: str) -> re.Pattern[bytes]:
    """A pattern for the lines of the fields with this name, which captures their values."""
    if ":" in name:
        return re.compile(b"(?!)")  # no name has a colon, but the start of a line could look like one
    return re.compile(b"\n(?i:%b):([^\r]*+)" % re.escape(name.encode("ascii", "replace")))


def _lines(fields: Iterable[tuple[str, str]]) -> bytes:
    return "".join(["\n", *[f"{name}: {value}\r\n" for name, value in fields]]).encode("latin-1")


def _checked_pairs(pairs: object) -> list[tuple[int, object, object]]:
    """The fields with their numbers. No message quotes a field: any part of it may be a secret."""
    must = "header fields must be a mapping or pairs of (name, value)"
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise TypeError(f"{must}, got {type(pairs).__name__}")
    checked = list(pairs)
    for index, pair in enumerate(checked):
        if not isinstance(pair, tuple | list):
            raise TypeError(f"{must}, item {index} is a {type(pair).__name__}")
        if len(pair) != 2:
            raise TypeError(f"{must}, item {index} has length {len(pair)}")
    return [(index, name, value) for index, (name, value) in enumerate(checked)]


def _checked_field(index: int, name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        kinds = f"{type(name).__name__} and {type(value).__name__}"
        raise TypeError(f"header names and values must be str, got {kinds}")
    value = value.strip(" \t")
    if not is_token(name):
        raise ValueError(
            f"names of header fields must be tokens (RFC 9110 section 5.1), that of item {index} is not"
        )
    if _NOT_IN_A_VALUE.search(value):
        raise ValueError(
            f"the value of {quoted(name, 40)} must have no control characters and none outside ISO 8859-1 "
            "(RFC 9110 section 5.5)"
        )
    return name, value
