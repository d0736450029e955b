"""How much a run of the suite tries: little where somebody waits for it, all of it in CI.

A plain run leaves out what is ``heavy`` and what is ``slow``. CI sets ``CI=true``: then nothing is heavy, and
property tests try their full number of examples. On the other Pythons, event loops and versions of the
dependencies it sets ``EFFORT=plain``, too, and what is heavy is left out again. What is ``slow`` runs there
once, by ``pytest -m slow``. ``pytest -m "slow or not slow"`` runs everything.
"""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings

__all__ = ["MARKERS", "examples", "load_profile", "mark_slow", "spare_collections"]

MARKERS = [
    "slow: takes long; runs with -m slow, or with everything else with -m 'slow or not slow'",
    "heavy: as slow, but in CI part of the full run",
    "heavy_after_first(each=()): heavy, but for the first value of each parameter that is not in `each`",
    "quick_with_compression: of the acceptance tables: not slow with compression",
    "slow_over_tls: of the acceptance tables: slow with TLS",
]

_FULL = os.environ.get("CI") == "true" and os.environ.get("EFFORT") != "plain"


def examples(count: int) -> int:
    """How many examples a property test tries of the `count` that it tries in CI."""
    return count if _FULL else max(10, count // 8)


def load_profile() -> None:
    """For property tests that name no number of examples. No deadline: a busy machine is not slow."""
    settings.register_profile("wsstream", deadline=None, max_examples=examples(100))
    settings.load_profile("wsstream")


def mark_slow(test: pytest.Item) -> None:
    """Make `test` slow if this run of it is heavy."""
    if not _FULL and (test.get_closest_marker("heavy") or _is_after_first(test)):
        test.add_marker(pytest.mark.slow)


def _is_after_first(test: pytest.Item) -> bool:
    marker = test.get_closest_marker("heavy_after_first")
    if marker is None or not hasattr(test, "callspec"):
        return False
    each = marker.kwargs.get("each", ())
    return any(index for name, index in test.callspec.indices.items() if name not in each)


def spare_collections() -> None:
    """Have the garbage collector pass over the tests themselves: 20,000 of them cost it 0.3 s each time."""
    gc.collect()
    gc.freeze()
