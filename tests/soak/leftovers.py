"""What a program holds while no connection is open: nothing of that may grow."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from report import all_tasks

__all__ = ["Holdings", "memory_in_use"]

_GROWTH = 512 * 1024  # bytes of Python's heap: caches, and what the event loop and OpenSSL keep
_SEEN = ("WebSocketStream", "Driver", "SocketTransport", "TLSTransport", "StreamTransport", "Inbox")


@dataclass(frozen=True)
class Holdings:
    """What is there at one moment.

    Attributes:
        tasks: how many have each name.
        files: open descriptors.
        objects: how many there are of each class of the library that a connection is made of.
        heap: bytes of Python's heap.
    """

    tasks: Counter[str]
    files: int
    objects: Counter[str]
    heap: int

    @classmethod
    def now(cls) -> Holdings:
        for _ in range(3):
            gc.collect()
        names = [type(thing).__name__ for thing in gc.get_objects() if _is_ours(type(thing))]
        return cls(
            tasks=Counter(name for name, _ in all_tasks()),
            files=len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0,
            objects=Counter(name for name in names if name in _SEEN),
            heap=tracemalloc.get_traced_memory()[0],
        )

    def left_since(self, before: Holdings) -> list[str]:
        """What is more than before."""
        found = []
        if tasks := self.tasks - before.tasks:
            found.append(f"tasks are left: {dict(tasks)}")
        if self.files > before.files:
            found.append(f"{self.files - before.files} descriptors are left")
        if objects := self.objects - before.objects:
            found.append(f"objects are left: {dict(objects)}")
        if self.heap > before.heap + _GROWTH:
            found.append(f"{(self.heap - before.heap) >> 10} KiB of memory are left")
        return found


def _is_ours(cls: type) -> bool:
    return str(cls.__module__).partition(".")[0] == "wsstream"


def memory_in_use() -> int:
    """Bytes of the process that are in memory; 0 where that cannot be told."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
