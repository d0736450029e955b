"""From an argument of the command line to a value, as argparse takes it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from wsstream.cli.units import parse_size, parse_time

__all__ = ["Address", "address", "close_after", "count", "duration", "limit", "size"]

TYPE_CHECKING = False  # as type checkers read it; importing typing would cost --help 10 ms
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

Address = tuple[str, int]
"""Host and port."""

_LOOPBACK = "127.0.0.1"


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
def count(text: str) -> int:
    """A number of things, at least 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"{text!r} is not a number above 0")
    return int(text)


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
