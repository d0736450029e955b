"""Masking keys: fresh, and never those of another process."""

from __future__ import annotations

import os
import sys

import pytest

from wsstream.protocol.masking_keys import next_masking_key


def test_masking_keys_are_fresh() -> None:
    keys = [next_masking_key() for _ in range(2000)]
    assert {len(key) for key in keys} == {4}
    assert len(set(keys)) > 1990, "2000 of 2**32: a collision is rare, many are a defect"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_keys_of_its_own() -> None:
    next_masking_key()  # so that some of a batch are left, which both processes would use
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, b"".join(next_masking_key() for _ in range(50)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    theirs = os.read(reading, 1000)
    os.close(reading)
    assert len(theirs) == 200
    ours = [next_masking_key() for _ in range(50)]
    assert not set(ours) & {theirs[i : i + 4] for i in range(0, 200, 4)}
