"""The two versions of the codec's hot paths: in Python, and compiled if that was built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from wsstream.codec import batch, framing, masking, read_step, scan, speedups, unread

__all__ = ["VERSIONS", "Version", "needs_compiled"]


class Version(NamedTuple):
    """What `wsstream.codec.speedups` chooses from."""

    name: str
    apply_mask: Callable[..., Any]
    mask_in_place: Callable[..., Any]
    make_frame: Callable[..., Any]
    scan: Callable[..., Any]
    FrameBatch: Any
    MessageIterator: Any
    ReadStep: Any
    UnreadQueue: Any

    def __str__(self) -> str:
        return self.name


VERSIONS = [
    Version(
        "python",
        masking.apply_mask,
        masking.mask_in_place,
        framing.make_frame,
        scan.scan,
        batch.FrameBatch,
        unread.MessageIterator,
        read_step.ReadStep,
        unread.UnreadQueue,
    )
]
if speedups.COMPILED:
    VERSIONS.append(
        Version(
            "compiled",
            speedups.apply_mask,
            speedups.mask_in_place,
            speedups.make_frame,
            speedups.scan_messages,
            speedups.FrameBatch,
            speedups.MessageIterator,
            speedups.ReadStep,
            speedups.UnreadQueue,
        )
    )

needs_compiled = pytest.mark.skipif(not speedups.COMPILED, reason="the compiled version is not in use")
