"""What the tests of transfers share: a server of files, and a file to send."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import wsstream
from wsstream.files import serve_files
from wsstream.files.storage.partial import Partial

Serving = Callable[..., AbstractAsyncContextManager[wsstream.Server]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The server's folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file to send: it has the CONTENT of the test's module."""
    path = tmp_path / "file.bin"
    path.write_bytes(request.module.CONTENT)
    return path


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write takes longer than the time between two reports of progress."""
    write = Partial.write

    def write_slowly(self: Partial, chunks: Any) -> None:
        time.sleep(0.06)
        write(self, chunks)

    monkeypatch.setattr(Partial, "write", write_slowly)


@pytest.fixture
def serving(folder: Path) -> Serving:
    """``async with serving(**options) as server``: it serves `folder`, and everything is allowed."""

    @asynccontextmanager
    async def start(**options: Any) -> AsyncIterator[wsstream.Server]:
        handler = serve_files(folder, **{"allow": ("get", "list", "put"), **options})
        with anyio.fail_after(60):
            async with wsstream.serve(handler, "127.0.0.1") as server:
                yield server

    return start
