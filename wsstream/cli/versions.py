"""Versions of Python and of the packages in use."""

from __future__ import annotations

import platform
import zlib
from importlib.metadata import PackageNotFoundError, version

from wsstream.codec.speedups import COMPILED
from wsstream.protocol.deflate import ZLIB
from wsstream.protocol.inflate import LINKED

__all__ = ["versions"]


def versions() -> list[tuple[str, str]]:
    """Return names and versions: of Python, the packages, the compressor, the inflater and the codec."""
    found = [(platform.python_implementation(), platform.python_version())]
    for name in ("anyio", "h11", "python-socks", "trio", "uvloop", "rich", "trustme"):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed"))
    compressor = f"zlib {zlib.ZLIB_RUNTIME_VERSION}" if ZLIB == "zlib" else f"zlib-ng {version('zlib-ng')}"
    codec = "compiled" if COMPILED else "pure Python"
    inflater = compressor if LINKED is None else f"compiled, zlib {LINKED}"
    return [*found, ("compression:", compressor), ("inflating:", inflater), ("codec:", codec)]
