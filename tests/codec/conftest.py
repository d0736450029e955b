"""Tests of hot paths take one of these and run on both versions, in Python and compiled."""

from __future__ import annotations

from typing import Any

import pytest
from kit.codec import VERSIONS, Version


@pytest.fixture(scope="session", params=VERSIONS, ids=str)
def version(request: pytest.FixtureRequest) -> Version:
    return request.param


@pytest.fixture(scope="session")
def apply_mask(version: Version) -> Any:
    return version.apply_mask


@pytest.fixture(scope="session")
def mask_in_place(version: Version) -> Any:
    return version.mask_in_place


@pytest.fixture(scope="session")
def make_frame(version: Version) -> Any:
    return version.make_frame


@pytest.fixture(scope="session")
def scan(version: Version) -> Any:
    return version.scan


@pytest.fixture(scope="session")
def UnreadQueue(version: Version) -> Any:
    return version.UnreadQueue
