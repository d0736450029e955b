"""Fixtures for the whole suite: every asynchronous test runs on asyncio and on trio."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("wsstream", deadline=None)  # a loaded machine is not a slow test
settings.load_profile("wsstream")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
