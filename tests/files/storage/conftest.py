"""A root for the tests of the storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wsstream.files.storage.safe_root import SafeRoot


@pytest.fixture
def root(tmp_path: Path) -> Iterator[SafeRoot]:
    """A root in an empty folder: ``tmp_path / "root"``."""
    (tmp_path / "root").mkdir()
    with SafeRoot(tmp_path / "root") as root:
        yield root


@pytest.fixture
def folder(tmp_path: Path, root: SafeRoot) -> Path:
    """The folder of `root`."""
    return tmp_path / "root"
