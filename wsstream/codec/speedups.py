"""The codec's hot paths, compiled or in Python. The rest of the library imports them from here.

The compiled version is used if it was built, unless the environment variable ``WSSTREAM_PURE`` is set and
not empty.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from wsstream.codec import batch, framing, masking, read_step, scan, unread
from wsstream.codec.events import Event

__all__ = [
    "COMPILED",
    "FrameBatch",
    "MessageIterator",
    "ReadStep",
    "UnreadQueue",
    "apply_mask",
    "make_frame",
    "mask_in_place",
    "scan_messages",
]

apply_mask: Callable[..., bytes]
make_frame: Callable[[int, bytes | memoryview, bytes | None], bytes]
mask_in_place: Callable[[memoryview, bytes], None]
scan_messages: Callable[[bytes | memoryview, int, bool, bool, int, int, list[Event]], tuple[int, int]]

try:
    if os.environ.get("WSSTREAM_PURE"):
        raise ImportError("WSSTREAM_PURE asks for the Python version")
    from wsstream.codec import _speedups
except ImportError:
    COMPILED = False
    apply_mask = masking.apply_mask
    make_frame = framing.make_frame
    mask_in_place = masking.mask_in_place
    scan_messages = scan.scan
else:
    COMPILED = True
    apply_mask = _speedups.apply_mask
    make_frame = _speedups.make_frame
    mask_in_place = _speedups.mask_in_place
    scan_messages = _speedups.scan

if TYPE_CHECKING or not COMPILED:
    FrameBatch = batch.FrameBatch
    MessageIterator = unread.MessageIterator
    ReadStep = read_step.ReadStep
    UnreadQueue = unread.UnreadQueue
else:
    FrameBatch = _speedups.FrameBatch
    MessageIterator = _speedups.MessageIterator
    ReadStep = _speedups.ReadStep
    UnreadQueue = _speedups.UnreadQueue
