"""Which twin of the codec's leaf functions is used."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from wsstream.codec import masking, scan, speedups

REPORT = "from wsstream.codec import speedups; print(speedups.COMPILED, speedups.scan_messages.__module__)"


def chosen(before: str = "", **environment: str) -> str:
    """What a fresh interpreter chooses."""
    variables = {name: value for name, value in os.environ.items() if name != "WSSTREAM_PURE"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", before + REPORT],  # -P: what is installed, not the checkout
        env=variables | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


PURE = "False wsstream.codec.scan"


def test_the_pure_one_is_used_when_it_is_asked_for() -> None:
    assert chosen(WSSTREAM_PURE="1") == PURE


def test_the_pure_one_is_used_when_the_other_was_not_built() -> None:
    assert chosen("import sys; sys.modules['wsstream.codec._speedups'] = None; ") == PURE


def test_an_empty_variable_asks_for_nothing() -> None:
    assert chosen(WSSTREAM_PURE="") == chosen()


@pytest.mark.skipif(
    not os.environ.get("CI") or bool(os.environ.get("WSSTREAM_PURE")),
    reason="where there is no compiler it need not be there",
)
def test_the_compiled_one_is_built_in_ci() -> None:
    assert chosen() == "True wsstream.codec._speedups"


def test_what_is_chosen_is_used() -> None:
    if speedups.COMPILED:
        assert speedups.scan_messages is not scan.scan
        assert speedups.apply_mask is not masking.apply_mask
    else:
        assert (speedups.scan_messages, speedups.apply_mask) == (scan.scan, masking.apply_mask)
