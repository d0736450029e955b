"""Digests: those of the standard, and the tree of RFC 9162 in one pass, in pieces of any size."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.effort import examples

from wsstream.files.protocol.digests import LEAF, Sha256Tree, available, new_digest


def merkle(entries: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, word for word."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\1" + merkle(entries[:k]) + merkle(entries[k:])).digest()


def leaves(data: bytes) -> list[bytes]:
    return [data[start : start + LEAF] for start in range(0, len(data), LEAF)]


def pattern(size: int) -> bytes:
    return random.Random(7).randbytes(size)


SIZES = [0, 1, LEAF - 1, LEAF, LEAF + 1, *(count * LEAF for count in range(2, 10)), 7 * LEAF + 5]


@pytest.mark.parametrize("size", SIZES)
def test_the_tree_is_that_of_the_rfc(size: int) -> None:
    data = pattern(size)
    tree = Sha256Tree()
    tree.update(data)
    assert tree.hexdigest() == merkle(leaves(data)).hex()
    assert tree.hexdigest() == tree.hexdigest()


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@settings(max_examples=examples(80))
@given(st.sampled_from(SIZES), st.lists(st.integers(0, 3 * LEAF), max_size=6))
def test_it_does_not_matter_how_the_bytes_come(size: int, sizes: list[int]) -> None:
    data = pattern(size)
    tree, so_far = Sha256Tree(), b""
    for piece in cut(data, sizes):
        twin = tree.copy()
        tree.update(bytearray(piece) if len(piece) % 2 else memoryview(piece))
        assert twin.hexdigest() == merkle(leaves(so_far)).hex(), "a copy has its own bytes"
        so_far += piece
        assert tree.hexdigest() == merkle(leaves(so_far)).hex()
        twin.update(piece)
        assert twin.hexdigest() == tree.hexdigest()


def test_the_examples_of_the_specification() -> None:
    assert new_digest("sha256-tree").hexdigest() == hashlib.sha256(b"").hexdigest()
    tree = new_digest("sha256-tree")
    tree.update(b"abc")
    assert tree.hexdigest() == hashlib.sha256(b"\0abc").hexdigest()


def test_the_tree_holds_one_digest_a_level_and_no_data() -> None:
    tree = Sha256Tree()
    tree.update(bytes(9 * LEAF + 5))
    assert len(tree._roots) == 2  # of 8 leaves and of 1


def test_the_others_are_those_of_their_packages() -> None:
    expected = {"sha256": hashlib.sha256(b"abc").hexdigest(), "blake3": blake3.blake3(b"abc").hexdigest()}
    for name, value in expected.items():
        digest = new_digest(name)
        digest.update(b"ab")
        digest.update(memoryview(b"c"))
        assert digest.copy().hexdigest() == digest.hexdigest() == value


def test_blake3_comes_first_where_it_is_installed() -> None:
    assert available() == ("blake3", "sha256", "sha256-tree")
    assert all(len(new_digest(name).hexdigest()) == 64 for name in available())


@pytest.fixture
def without_blake3() -> Iterator[None]:
    module = sys.modules["blake3"]
    sys.modules["blake3"] = None  # type: ignore[assignment]
    yield
    sys.modules["blake3"] = module


@pytest.mark.usefixtures("without_blake3")
def test_without_its_package_there_is_no_blake3() -> None:
    assert available() == ("sha256", "sha256-tree")
    with pytest.raises(ValueError, match="digest must be one of sha256, sha256-tree, got 'blake3'"):
        new_digest("blake3")


def test_there_are_no_others() -> None:
    with pytest.raises(ValueError, match="digest must be one of blake3, sha256, sha256-tree, got 'md5'"):
        new_digest("md5")
