"""Table X, row 22: masking keys come from a cryptographic source, in batches (RFC 6455 section 5.3)."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from wsstream.protocol.masking_keys import next_masking_key
from wsstream.testing import memory_pair


def calls_of(function: object, body: Callable[[], object]) -> int:
    """How often `body` calls a function that is written in C."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "c_call" and argument is function

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        body()
    finally:
        sys.setprofile(before)
    return count


def draw(count: int) -> list[bytes]:
    return [next_masking_key() for _ in range(count)]


def test_x22_keys_are_drawn_from_the_systems_source_in_batches() -> None:
    calls = calls_of(os.urandom, lambda: draw(10_000))
    assert 10_000 / 4096 <= calls <= 10_000 / 64


def test_x22_keys_differ_and_every_byte_is_uniform() -> None:
    keys = draw(50_000)
    assert all(type(key) is bytes and len(key) == 4 for key in keys)
    # 0.3 pairs are expected to be equal; 12 have a chance of 10^-15
    assert len(keys) - len(set(keys)) < 12
    for lane in range(4):
        counts = Counter(key[lane] for key in keys)
        mean = len(keys) / 256
        chi_square = sum((counts[byte] - mean) ** 2 / mean for byte in range(256))
        # 255 degrees of freedom: mean 255, standard deviation 22.6
        assert 120 < chi_square < 430
    for bit in range(32):
        ones = sum(int.from_bytes(key) >> bit & 1 for key in keys)
        assert abs(ones - 25_000) < 1000  # 9 standard deviations
    neighbours = Counter((int.from_bytes(a) ^ int.from_bytes(b)).bit_count() for a, b in pairwise(keys))
    average = sum(bits * count for bits, count in neighbours.items()) / (len(keys) - 1)
    assert abs(average - 16) < 0.2


def test_x22_seeding_the_other_sources_has_no_influence() -> None:
    drawn = []
    libc = ctypes.CDLL(None)
    for _ in range(2):
        random.seed(1)
        libc.srand(1)
        libc.srandom(1)
        drawn.append(draw(2000))
    assert len(set(drawn[0]) & set(drawn[1])) < 4


FORK = """
import os
from wsstream.protocol.masking_keys import next_masking_key
next_masking_key()
read, write = os.pipe()
if os.fork():
    os.close(write)
    ours = [next_masking_key() for _ in range(200)]
    with os.fdopen(read, "rb") as pipe:
        theirs = pipe.read()
    os.wait()
    assert len(theirs) == 800, len(theirs)
    print(len({theirs[i : i + 4] for i in range(0, 800, 4)} & set(ours)))
else:
    os.close(read)
    os.write(write, b"".join(next_masking_key() for _ in range(200)))
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_x22_a_forked_process_does_not_share_keys_with_its_parent() -> None:
    result = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=30)
    assert result.stderr == ""
    assert result.stdout == "0\n"


@pytest.mark.anyio
@pytest.mark.parametrize("compression", [None])  # a key is of a frame, whatever its payload
async def test_x22_every_frame_on_the_wire_has_a_key_of_its_own(raw_pair: Any) -> None:
    async with raw_pair("client", memory_pair(1 << 20)) as (ws, peer):
        keys = []
        for i in range(500):
            await ws.send(f"{i}")
            await ws.send(b"%d" % i)
            async with ws.writable.message() as writer:
                await writer.send(b"a")
                await writer.flush()
                await writer.send(b"b")
            for _ in range(4):
                keys.append((await peer.read_frame()).mask)
        assert None not in keys
        assert len(set(keys)) >= len(keys) - 1
