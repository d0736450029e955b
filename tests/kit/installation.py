"""Which copy of wsstream and which codec are tested.

In a checkout after ``pip install .``, ``pytest`` tests the installed copy, with the compiled codec, and
``python -m pytest`` the checkout, where nothing was compiled: all would be green, and say less.
"""

from __future__ import annotations

import json
import os
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

import wsstream
from wsstream.codec import speedups

__all__ = ["check", "header"]


def header() -> str:
    """What is tested, in one line."""
    codec = "compiled codec" if speedups.COMPILED else "pure codec"
    asked = " (WSSTREAM_PURE is set)" if os.environ.get("WSSTREAM_PURE") else ""
    return f"wsstream {wsstream.__version__} from {_imported()}, {codec}{asked}"


def check() -> None:
    """Refuse to test another copy than the installed one, or its pure codec where a compiled one was built.

    ``PYTHONPATH`` may name another copy, and ``WSSTREAM_PURE`` asks for the pure codec.
    """
    named = [Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if _imported() in named:
        return
    try:
        installed = _folder_of(distribution("wsstream"))
    except PackageNotFoundError:
        raise pytest.UsageError("wsstream is not installed; try: pip install -e '.[test]'") from None
    if _imported() != installed:
        raise pytest.UsageError(
            f"wsstream is imported from {_imported()}, but installed in {installed}. To test the installed "
            "copy, run pytest, not python -m pytest; to test the checkout, run: pip install -e '.[test]'"
        )
    if not speedups.COMPILED and not os.environ.get("WSSTREAM_PURE") and _has_compiled_codec(installed):
        raise pytest.UsageError(
            f"the compiled codec in {installed} was built but cannot be imported; run pip install "
            "-e '.[test]' again, or set WSSTREAM_PURE=1 to test the pure codec"
        )


def _imported() -> Path:
    """The folder that holds the package that was imported."""
    return Path(wsstream.__file__).resolve().parents[1]


def _folder_of(installed: Distribution) -> Path:
    """The folder that holds the package that was installed."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return Path(url2pathname(urlsplit(origin["url"]).path)).resolve()
    return Path(str(installed.locate_file(""))).resolve()


def _has_compiled_codec(folder: Path) -> bool:
    return any((folder / f"wsstream/codec/_speedups{suffix}").exists() for suffix in EXTENSION_SUFFIXES)
