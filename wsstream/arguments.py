"""Checks of arguments. What is wrong with one is said in one way: "X must be …, got …".

Each `check_...` raises TypeError for a wrong type, with the type that was given, and ValueError for a wrong
value. Neither shows a text that was given: it may be a secret.
"""

from __future__ import annotations

from math import isfinite
from types import UnionType

__all__ = ["check_int", "check_number", "check_type", "is_word"]


def check_type(name: str, value: object, kind: type | UnionType, wanted: str) -> None:
    """`value` is an instance of `kind`, in words `wanted`: "a bool", "a str or None"."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}, got {type(value).__name__}")


def check_int(
    name: str, value: object, least: int, most: int | None = None, *, optional: bool = False
) -> None:
    """`value` is an ``int`` (no ``bool``) from `least` to `most`, or ``None`` if it is `optional`."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int{' or None' if optional else ''}, got {type(value).__name__}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} must {_in_words(least, most, optional)}, got {int(value)}")


def _in_words(least: int, most: int | None, optional: bool) -> str:
    if most is None and least == 0:
        return "not be negative"
    words = f"be at least {least}" if most is None else f"be between {least} and {most}"
    return f"{words} or None" if optional else words


def check_number(
    name: str, value: object, *, optional: bool = False, positive: bool = False, finite: bool = False
) -> None:
    """`value` is a number (no ``bool``) that is not negative, or ``None`` if it is `optional`."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{name} must be a number{' or None' if optional else ''}, got {type(value).__name__}"
        )
    if not (value > 0 if positive else value >= 0):
        raise ValueError(f"{name} must {'be greater than 0' if positive else 'not be negative'}, got {value}")
    if finite and not isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def is_word(text: str) -> bool:
    """Whether `text` is one word of printable ASCII, as a token has to be."""
    return text != "" and text.isascii() and text.isprintable() and " " not in text
