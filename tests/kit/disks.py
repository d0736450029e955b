"""Disks: of their own, in memory, which only root mounts, that are full or read-only; and slow ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["mount", "needs_disks", "slow_disk_code", "small_disk"]

needs_disks = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.getuid() != 0 or shutil.which("mount") is None,
    reason="only root mounts disks",
)


def slow_disk_code(rate: int) -> str:
    """What a process runs first so that the disk on which it stores files takes `rate` bytes a second."""
    return f"""
import time
from wsstream.files.storage.partial import Partial

write = Partial.write

def write_slowly(self, chunks):
    for chunk in chunks:
        time.sleep(len(chunk) / {rate})
        write(self, [chunk])

Partial.write = write_slowly
"""


def mount(*arguments: str) -> None:
    """Run ``mount``; skip the test where the system does not let us."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this system does not let us mount: {done.stderr.strip()}")


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A disk of 1 MiB at `path`, while the block runs."""
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs", str(path))
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)  # a process may still have it open
