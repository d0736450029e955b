"""What the tests of the streams share: a peer that a test plays itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest
from kit.endpoints import against_peer

import wsstream
from wsstream.testing import RawPeer


@pytest.fixture
def raw_server() -> Callable[..., AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, RawPeer]]]:
    """``async with raw_server(**options) as (ws, peer)``: a client of ours, and an idle server."""
    return partial(against_peer, "client")
