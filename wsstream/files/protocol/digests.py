"""The digests of files, made while the bytes pass. All are 32 bytes, shown as 64 hexadecimal digits.

``sha256-tree`` is for programs that cannot hash a stream, such as web pages: the Merkle tree of RFC 9162
section 2.1.1 with SHA-256, whose entries are the segments of 256 KiB of the file. It needs no more than one
of them at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["LEAF", "Digest", "Sha256Tree", "available", "new_digest"]

LEAF: Final = 256 << 10
"""Bytes of the file in one leaf of ``sha256-tree``; the last leaf may have less."""

_LEAF_PREFIX: Final = b"\0"
_NODE_PREFIX: Final = b"\1"


class Digest(Protocol):
    """A digest of the bytes so far. Those of :mod:`hashlib` are of this kind."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes, at the end."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far, as lower-case hexadecimal digits. More may be added afterwards."""
        ...

    def copy(self) -> Digest:
        """Another one with the same bytes."""
        ...


class Sha256Tree:
    """``sha256-tree``. Holds one digest for each level of the tree, and no data."""

    __slots__ = ("_complete", "_leaf", "_missing", "_roots")

    def __init__(self) -> None:
        self._complete = 0  # leaves
        self._roots: list[
            bytes
        ] = []  # of complete subtrees, one for each bit of `_complete`, the largest first
        self._leaf = hashlib.sha256(_LEAF_PREFIX)
        self._missing = LEAF  # bytes of the current leaf

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes, at the end."""
        view = memoryview(data).cast("B")
        while view:
            part = view[: self._missing]
            self._leaf.update(part)
            self._missing -= len(part)
            view = view[len(part) :]
            if not self._missing:
                self._add_leaf()

    def _add_leaf(self) -> None:
        self._roots.append(self._leaf.digest())
        self._complete += 1
        count = self._complete
        while count % 2 == 0:
            self._roots.append(_node(self._roots.pop(-2), self._roots.pop()))
            count //= 2
        self._leaf = hashlib.sha256(_LEAF_PREFIX)
        self._missing = LEAF

    def hexdigest(self) -> str:
        """The root of the tree over all bytes so far."""
        roots = self._roots.copy()
        if self._missing < LEAF:
            roots.append(self._leaf.digest())
        if not roots:
            return hashlib.sha256().hexdigest()
        root = roots.pop()
        while roots:
            root = _node(roots.pop(), root)
        return root.hex()

    def copy(self) -> Sha256Tree:
        """Another one with the same bytes."""
        other = Sha256Tree()
        other._complete, other._roots = self._complete, self._roots.copy()
        other._leaf, other._missing = self._leaf.copy(), self._missing
        return other


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE_PREFIX + left + right).digest()


def _blake3() -> Callable[[], Any] | None:
    try:
        from blake3 import blake3
    except ImportError:
        return None
    return blake3


def available() -> tuple[str, ...]:
    """The digests that can be made here, the preferred first; blake3 if its package is installed."""
    return ("sha256", "sha256-tree") if _blake3() is None else ("blake3", "sha256", "sha256-tree")


def new_digest(name: str) -> Digest:
    """A digest of no bytes yet.

    Raises:
        ValueError: there is no such digest here.
    """
    if name == "sha256":
        return hashlib.sha256()
    if name == "sha256-tree":
        return Sha256Tree()
    if name == "blake3" and (make := _blake3()) is not None:
        digest: Digest = make()
        return digest
    raise ValueError(f"digest must be one of {', '.join(available())}, got {name!r}")
