"""What depends on the version of anyio."""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["NEEDS_SNIFFIO", "TELLS_CAUSES", "TRIO_TAKES_OPTIONS"]

_ANYIO = tuple(map(int, version("anyio").split(".")[:2]))

NEEDS_SNIFFIO = _ANYIO < (4, 12)
TELLS_CAUSES = _ANYIO >= (4, 14)
"""Whether a stream that breaks says why on asyncio."""
TRIO_TAKES_OPTIONS = _ANYIO >= (4, 14)
"""Whether ``anyio.run`` passes options to Trio."""
