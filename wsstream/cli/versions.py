"""What the command line runs on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["versions"]


def versions() -> list[tuple[str, str]]:
    """Names and versions: of Python, and of the packages that matter, as far as they are installed."""
    found = [(platform.python_implementation(), platform.python_version())]
    for name in ("anyio", "h11", "trio", "uvloop", "rich", "trustme"):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed"))
    return found
