"""How much a run of the suite tries: little where somebody waits for it, all of it in CI.

A plain run leaves out what is ``slow``. CI runs it too (``pytest -m slow``), and sets ``CI=true``, with which
property tests try their full number of examples.
"""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings

__all__ = ["MARKERS", "examples", "load_profile", "mark_slow", "spare_collections"]

MARKERS = [
    "slow: takes long; run it with -m slow, or everything with -m 'slow or not slow'",
    "slow_after_first(each=()): slow, but for the first value of each parameter; those in `each` stay quick",
    "quick_with_compression: of the acceptance tables: with compression, too, in a plain run",
]

_FULL = os.environ.get("CI") == "true"


def examples(count: int) -> int:
    """How many examples a property test tries of the `count` that it tries in CI."""
    return count if _FULL else max(10, count // 8)


def load_profile() -> None:
    """For property tests that name no number of examples. No deadline: a busy machine is not slow."""
    settings.register_profile("wsstream", deadline=None, max_examples=examples(100))
    settings.load_profile("wsstream")


def mark_slow(test: pytest.Item) -> None:
    """Turn ``slow_after_first`` into ``slow`` where it applies to this run of `test`."""
    marker = test.get_closest_marker("slow_after_first")
    if marker is None:
        return
    each = marker.kwargs.get("each", ())
    indices = test.callspec.indices if hasattr(test, "callspec") else {}
    if any(index for name, index in indices.items() if name not in each):
        test.add_marker(pytest.mark.slow)


def spare_collections() -> None:
    """Have the garbage collector pass over the tests themselves: 20,000 of them cost it 0.3 s each time."""
    gc.collect()
    gc.freeze()
