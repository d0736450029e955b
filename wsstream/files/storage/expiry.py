"""What is done to all files below a folder: partial files expire, and bytes are counted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

from wsstream.files.errors import TransferError
from wsstream.files.storage.folder import Folder, try_lock
from wsstream.files.storage.names import HIDDEN, part_name, record_name
from wsstream.files.storage.record import read_record

__all__ = ["expire", "used_bytes"]


def expire(root: Folder, older_than: float, now: float | None) -> int:
    """Remove our files below `root` that have not changed for `older_than` seconds and that nobody has
    locked.

    A record and its part go together: neither goes as long as the other is young or locked. Returns how many
    files were removed.
    """
    limit = (time.time() if now is None else now) - older_than
    removed = 0
    for folder, entry in _files(root):
        if entry.name.startswith(HIDDEN):
            with suppress(OSError, TransferError):  # somebody else removes it, or put something in its place
                removed += _remove_if_idle(folder, entry.name, limit)
    return removed


def used_bytes(root: Folder) -> int:
    """The sizes of all files below `root`, added."""
    total = 0
    for folder, entry in _files(root):
        status = folder.status(entry.name)
        total += status.st_size if status is not None else 0
    return total


def _files(root: Folder) -> Iterator[tuple[Folder, os.DirEntry[str]]]:
    """All regular files below `root`, each with its folder, of which one is open at a time."""
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop()
        with suppress(OSError), _descend(root, parts) as folder:  # it may be gone, or not be ours to read
            for entry in folder.scan():
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((*parts, entry.name))
                elif entry.is_file(follow_symlinks=False):
                    yield folder, entry


def _descend(root: Folder, parts: tuple[str, ...]) -> Folder:
    folder = root.child()
    for part in parts:
        with folder:
            folder = folder.child(part)
    return folder


def _remove_if_idle(folder: Folder, name: str, limit: float) -> bool:
    token = name.removeprefix(HIDDEN).partition(".")[0]
    if name == record_name(token):
        record = read_record(folder, token)
        other = part_name(token, record.part if record is not None else 0)
    else:
        other = record_name(token)
    status = folder.status(other)
    if status is not None and not _is_idle(folder, other, limit):
        return False
    return _is_idle(folder, name, limit, remove=True)


def _is_idle(folder: Folder, name: str, limit: float, *, remove: bool = False) -> bool:
    """Whether a file is old, and nobody has its lock. If so, `remove` removes it while nobody can take it."""
    fd = folder.open_file(name)
    try:
        idle = os.fstat(fd).st_mtime < limit and try_lock(fd)
        if idle and remove:
            folder.remove(name)
    finally:
        os.close(fd)
    return idle
