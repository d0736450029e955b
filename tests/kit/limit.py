"""A limit for the time of each test, after which the process says where it hangs and ends.

faulthandler watches from C: it sees a loop that lets no other thread run, too, and costs 36 µs a test.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["MARKERS", "open_stderr", "time_limit"]

MARKERS = ["time_limit(seconds): how long the test may take, where that is more than a minute"]

_SECONDS = 60
_stderr = pytest.StashKey[int]()


def open_stderr(config: pytest.Config) -> None:
    """Keep what stderr is now, before pytest begins to capture."""
    config.stash[_stderr] = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)


@contextmanager
def time_limit(test: pytest.Item) -> Iterator[None]:
    """End the process with a traceback of all threads if the block takes longer than `test` may."""
    marker = test.get_closest_marker("time_limit")
    seconds = marker.args[0] if marker else _SECONDS
    faulthandler.dump_traceback_later(seconds, exit=True, file=test.config.stash[_stderr])
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
