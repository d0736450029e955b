"""From an argument of the command line to a value, as argparse takes it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from wsstream.cli.units import parse_size, parse_time

__all__ = [
    "Address",
    "address",
    "close_after",
    "count",
    "digest",
    "duration",
    "limit",
    "number",
    "operations",
    "rate",
    "size",
]

TYPE_CHECKING = False  # as type checkers read it; importing typing would cost --help 10 ms
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

Address = tuple[str, int]
"""Host and port."""

_LOOPBACK = "127.0.0.1"
_OPERATIONS = ("get", "list", "put", "overwrite", "delete")
_LEAST_RATE = 1024  # bytes a second; see wsstream.files.rate, which must not be imported here
_DIGEST = 64  # hexadecimal digits


def _checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    def check(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return check


size = _checked(parse_size)
"""Bytes: ``64k``."""


@_checked
def duration(text: str) -> float | None:
    """Seconds: ``250ms``, ``10``, ``5m``; ``None`` for ``none``, which means no limit."""
    return None if text == "none" else parse_time(text)


@_checked
def limit(text: str) -> int | None:
    """Bytes; ``None`` for ``none``, which means no limit."""
    return None if text == "none" else parse_size(text)


@_checked
def rate(text: str) -> int | None:
    """Bytes a second, at least 1,024; ``None`` for ``none``, which means no limit."""
    value = limit(text)
    if value is not None and value < _LEAST_RATE:
        raise ValueError(f"{text!r} is less than 1k a second")
    return value


@_checked
def count(text: str) -> int:
    """A number of things, at least 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"{text!r} is not a number above 0")
    return int(text)


@_checked
def number(text: str) -> int:
    """A number of things, which may be 0."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a number")
    return int(text)


@_checked
def operations(text: str) -> tuple[str, ...]:
    """What clients may do with files, such as ``get,list``; each name once, in the order of the help."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in _OPERATIONS]:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(_OPERATIONS)}")
    if "overwrite" in names and "put" not in names:
        raise ValueError("overwrite needs put")
    return tuple(name for name in _OPERATIONS if name in names)


@_checked
def digest(text: str) -> str:
    """A digest of 64 hexadecimal digits, in lower case."""
    text = text.lower()
    if len(text) != _DIGEST or text.strip("0123456789abcdef"):
        raise ValueError(f"{text!r} is not a digest: it must have {_DIGEST} hexadecimal digits")
    return text


@_checked
def close_after(text: str) -> tuple[int, int]:
    """A number of messages and a close code, ``N`` or ``N:CODE``; the code is 1000 if none is given."""
    number, _, code = text.partition(":")
    if not (number.isascii() and number.isdigit() and (not code or (code.isascii() and code.isdigit()))):
        raise ValueError(f"{text!r} is not N or N:CODE")
    return int(number), int(code or 1000)


@_checked
def address(text: str) -> Address:
    """Host and port: ``8080`` and ``:8080`` on loopback, ``HOST:8080``, ``[::1]:8080``, ``*:8080``."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is not HOST:PORT; write an IPv6 address in brackets")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT or PORT")
    return ("" if host == "*" else host or _LOOPBACK), int(port)
