"""Sizes and times as people write and read them. Units of sizes are powers of 1024."""

from __future__ import annotations

import re

__all__ = ["format_size", "mebibytes", "parse_size", "parse_time"]

_UNITS = "KMGT"
_SIZE = re.compile(r"([0-9]{1,19})([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|)", re.ASCII)
_LARGEST = (1 << 63) - 1  # bytes; no message is larger (RFC 6455 section 5.2)


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``"4096"``, ``"64k"``, ``"1M"``, ``"2G"`` or ``"2GiB"``.

    Raises:
        ValueError: `text` is not a size, or larger than a message can be.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 4096, 64k, 1M or 2G")
    number, unit = match.groups()
    size = int(number) << (10 * (_UNITS.index(unit.upper()) + 1) if unit else 0)
    if size > _LARGEST:
        raise ValueError(f"{text!r} is larger than a message can be")
    return size


def parse_time(text: str) -> float:
    """Return the seconds of a time such as ``"250ms"``, ``"10"``, ``"1.5s"``, ``"5m"``, ``"2h"`` or ``"1d"``.

    Raises:
        ValueError: `text` is not a time.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time; write 250ms, 10s, 5m or 2h")
    number, unit = match.groups()
    return float(number) * _SECONDS[unit]


def format_size(size: int) -> str:
    """Return `size` as text, to one decimal place: ``"17 B"``, ``"1.5 MiB"``."""
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, len(_UNITS))
    return f"{size / (1 << 10 * power):.1f} {_UNITS[power - 1]}iB"


def mebibytes(size: float) -> float:
    """Return `size` bytes in MiB, to one decimal place."""
    return round(size / (1 << 20), 1)
