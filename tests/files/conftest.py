"""What the tests of transfers share: a server of files, and a file to send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import wsstream
from wsstream.files import SUBPROTOCOL, serve_files

Serving = Callable[..., AbstractAsyncContextManager[wsstream.Server]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The server's folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def serving(folder: Path) -> Serving:
    """``async with serving(**options) as server``: it serves `folder`, and everything is allowed."""

    @asynccontextmanager
    async def start(**options: Any) -> AsyncIterator[wsstream.Server]:
        handler = serve_files(folder, **{"allow": ("get", "list", "put"), **options})
        with anyio.fail_after(60):
            async with wsstream.serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
                yield server

    return start
