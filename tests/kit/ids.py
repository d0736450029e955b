"""Names of parameters."""

from __future__ import annotations

import re

import pytest

__all__ = ["check", "stable_repr"]

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def stable_repr(value: object) -> str:
    """The repr of a parameter without addresses in memory, which no two processes share."""
    return _ADDRESS.sub("", repr(value))


def check(items: list[pytest.Item]) -> None:
    """Refuse names that no two processes share: ``pytest -n`` could not hand out such tests."""
    for item in items:
        if _ADDRESS.search(item.nodeid):
            raise pytest.UsageError(
                f"the name of {item.nodeid} holds an address in memory; use ids=stable_repr"
            )
