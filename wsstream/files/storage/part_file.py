"""The two files of a partial: the part with its bytes, and the record. Opening them, also after a crash."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any

from wsstream.files.errors import TransferError
from wsstream.files.storage.copying import copy_start
from wsstream.files.storage.fence import Fence
from wsstream.files.storage.folder import Folder, sync_file, try_lock
from wsstream.files.storage.names import part_name, record_name, temporary_name
from wsstream.files.storage.record import Record, read_record, write_record
from wsstream.files.storage.target import Target

__all__ = ["PartFile", "open_part"]

_MOST_KILLED = 1000  # writers in a row, whose files are looked for


class PartFile:
    """An open part and its record.

    Attributes:
        fd: the descriptor of the part, or of the file that it has become; -1 when this object is closed.
        record: the record as it is on the disk.
        fence: what the writer shows, or ``None`` without a locker.
    """

    __slots__ = ("_broken", "_changed", "_closed", "_users", "fd", "fence", "folder", "record", "token")

    def __init__(self, folder: Folder, fd: int, token: str, record: Record, fence: Fence | None) -> None:
        self.folder = folder
        self.fd = fd
        self.token = token
        self.record = record
        self.fence = fence
        self._broken: OSError | None = None
        self._closed = False
        self._users = 0  # calls that run in worker threads
        self._changed = threading.Condition()

    def __enter__(self) -> PartFile:
        """Use the file in the block: `close` waits for its end.

        A caller that waits for a worker thread may be cancelled, and then close this object under the thread.
        By the next system call, the number of the descriptor could be that of another file.

        Raises:
            ValueError: this object is closed.
        """
        with self._changed:
            if self._closed:
                raise ValueError("the partial is closed")
            self._users += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._users -= 1
            self._changed.notify_all()

    @property
    def name(self) -> str:
        """The name of the part in its folder."""
        return part_name(self.token, self.record.part)

    def check(self, *, leaving: bool = False) -> None:
        """Check that the writer may go on; if it is `leaving`, a newer one that asks has to wait.

        Raises:
            OSError: writing to the disk failed before.
            TransferError: ``superseded``.
        """
        if self._broken is not None:
            raise OSError(self._broken.errno, "writing to the disk failed before") from self._broken
        _check(self.fence, leaving)

    def flush(self, sync: Callable[[int], None]) -> None:
        """Wait for the disk. After a failure there is no second try: lost bytes would pass for written."""
        try:
            sync(self.fd)
        except OSError as error:
            self._broken = error
            raise

    def update(self, *, leaving: bool = False, **changes: Any) -> None:
        """Change the record, durably."""
        _check(self.fence, leaving)
        record = replace(self.record, **changes)
        write_record(self.folder, self.token, record)
        self.record = record

    def remove(self) -> None:
        """Remove the part, then the record: alone, the record of a part is worth nothing."""
        _check(self.fence)
        self.folder.remove(self.name)
        self.folder.remove(record_name(self.token))

    def close(self) -> None:
        """Wait for the calls that run, then close the descriptors. A second call does nothing."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._users)
            fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        self.folder.close()


def open_part(folder: Folder, token: str, wanted: Record, fence: Fence | None, target: Target) -> PartFile:
    """Open the part to go on with it; or make it, if there is none or it is of another version of the file.

    `wanted` says of which file it must be; its other fields do not count. `folder` belongs to the result.

    Raises:
        TransferError: ``denied`` if somebody else began this transfer; ``exists``; ``superseded``; ``busy``
            if another writer has the part, and there is no locker.
    """
    _check(fence)
    old = read_record(folder, token)
    if old is not None:
        _check_owner(old, wanted, fence)
    if fence is not None:
        _remove_litter(folder, token, old, fence)
    fd = _open_old(folder, token, old, target)
    if fd is None:
        target.check(folder, None)
        return _start(folder, token, old, wanted, fence)
    file = PartFile(folder, fd, token, old or wanted, fence)
    try:
        part = os.fstat(fd)
        if not try_lock(fd) and fence is None:
            raise TransferError("busy", "another writer has this transfer, and there is no locker")
        target.check(folder, part if old is not None and old.complete else None)
        if old is not None and _may_resume(old, wanted, part):
            _resume(file, part)
            return file
        started = _start(folder, token, old, wanted, fence)
    except BaseException:
        os.close(file.fd)  # another one, if the part was moved
        raise
    os.close(fd)
    return started


def _check(fence: Fence | None, leaving: bool = False) -> None:
    if fence is not None:
        (fence.check_held if leaving else fence.check)()


def _check_owner(old: Record, wanted: Record, fence: Fence | None) -> None:
    if old.identity != wanted.identity:
        raise TransferError("denied", "this transfer belongs to somebody else")
    if fence is not None and old.fence > fence.number:
        raise TransferError("superseded", "a newer connection has written to this transfer")


def _remove_litter(folder: Folder, token: str, old: Record | None, fence: Fence) -> None:
    """Remove what writers left that were killed before their record was there.

    One that was left behind may still write, and learns by itself that it is late: its files stay.
    """
    fences, used = (old.fence, old.part) if old is not None else (0, 0)
    for number in range(max(fences, fence.barrier, fence.number - _MOST_KILLED), fence.number):
        folder.remove(temporary_name(token, number))
        if number > used:
            folder.remove(part_name(token, number))


def _open_old(folder: Folder, token: str, old: Record | None, target: Target) -> int | None:
    """Open what is there of this transfer: the part, or the file that it became just before a crash."""
    try:
        return folder.open_file(part_name(token, old.part if old is not None else 0), os.O_RDWR)
    except FileNotFoundError:
        pass
    except TransferError:  # somebody put something else in its place
        return None
    if old is None or not old.complete:
        return None
    for name in target.candidates():
        status = folder.status(name)
        if status is None:
            return None
        if (status.st_ino, status.st_size) == (old.inode, old.durable):
            return folder.open_file(name)
    return None


def _may_resume(old: Record, wanted: Record, part: os.stat_result) -> bool:
    """Whether the part has the durable bytes of the same version of the same file."""
    if wanted.etag is None or (old.name, old.size, old.etag) != (wanted.name, wanted.size, wanted.etag):
        return False
    return part.st_size == old.durable if old.complete else part.st_size >= old.durable


def _start(folder: Folder, token: str, old: Record | None, wanted: Record, fence: Fence | None) -> PartFile:
    """Make an empty part and its record. An older part is removed, not emptied: it may be a file by now."""
    number = fence.number if fence is not None else 0
    part = number if number > 1 else 0  # before 1 there was no other writer
    record = replace(wanted, durable=0, fence=number, part=part, complete=False, inode=0)
    fd = folder.create(part_name(token, part))
    file = PartFile(folder, fd, token, record, fence)
    try:
        try_lock(fd)
        file.update()
        if old is not None and old.part != part:
            folder.remove(part_name(token, old.part))
    except BaseException:
        os.close(fd)
        folder.remove(file.name)
        raise
    return file


def _resume(file: PartFile, part: os.stat_result) -> None:
    """Take the part over at its durable offset."""
    record, fence = file.record, file.fence
    number = fence.number if fence is not None else record.fence
    left_behind = fence is not None and fence.barrier > record.fence
    if not record.complete:
        if left_behind or part.st_nlink > 1:  # somebody else may write to these bytes, or read them
            _move(file, number)
            return
        if part.st_size > record.durable:
            os.ftruncate(file.fd, record.durable)
    file.update(fence=number)


def _move(file: PartFile, number: int) -> None:
    """Copy the durable bytes to a new part, which takes the place of the old one."""
    folder, record, old_name = file.folder, file.record, file.name
    part = max(number, record.part + 1)
    new_name = part_name(file.token, part)
    fd = folder.create(new_name)
    try:
        try_lock(fd)
        copy_start(file.fd, fd, record.durable, lambda: _check(file.fence))
        sync_file(fd)
        file.update(part=part, fence=number)
    except BaseException:
        os.close(fd)
        folder.remove(new_name)
        raise
    os.close(file.fd)
    file.fd = fd
    folder.remove(old_name)
