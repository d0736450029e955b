"""Listing a folder in pages, with memory for one page."""

from __future__ import annotations

import heapq
import os
import stat
from dataclasses import dataclass
from typing import Literal

from wsstream.files.storage.folder import Folder
from wsstream.files.storage.names import is_part

__all__ = ["Entry", "Page", "list_page"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder in a listing. `name` is one part. A folder has 0 as its `size` and `mtime_ns`."""

    name: str
    kind: Literal["file", "folder"]
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in the order of their names. `cursor` asks for the next page; ``None`` on the last one."""

    entries: list[Entry]
    cursor: str | None


def list_page(folder: Folder, cursor: str | None, limit: int) -> Page:
    """Return at most `limit` entries whose names come after `cursor`."""
    names = (entry.name for entry in folder.scan() if _is_listed(entry))
    found = heapq.nsmallest(limit + 1, (name for name in names if cursor is None or name > cursor))
    entries = (_entry(name, folder.status(name)) for name in found[:limit])
    return Page(
        [entry for entry in entries if entry is not None], found[limit - 1] if len(found) > limit else None
    )


def _is_listed(entry: os.DirEntry[str]) -> bool:
    if not is_part(entry.name):
        return False
    return entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)


def _entry(name: str, status: os.stat_result | None) -> Entry | None:
    if status is not None and stat.S_ISREG(status.st_mode):
        return Entry(name, "file", status.st_size, status.st_mtime_ns)
    if status is not None and stat.S_ISDIR(status.st_mode):
        return Entry(name, "folder", 0, 0)
    return None
