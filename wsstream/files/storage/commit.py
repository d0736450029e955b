"""The last steps of a partial file: it gets its name.

In this order, so that a crash between any two of them loses nothing and shows nothing that is half-written:

1. ``fdatasync``, and the record says that the file is complete.
2. ``fsync``; then mode and time of change.
3. ``link``, which fails if the name is taken; or ``rename``, where the file of that name may be replaced.
4. ``fsync`` of the folder.
5. The part's own name is removed, then the record.

The record tells the inode. So whoever repeats the commit recognises a file that has its name already.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress

from wsstream.files.errors import TransferError
from wsstream.files.storage.folder import sync_data, sync_file
from wsstream.files.storage.part_file import PartFile
from wsstream.files.storage.target import Target

__all__ = ["commit"]

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def commit(file: PartFile, target: Target, size: int, mtime_ns: int | None, mode: int | None) -> str:
    """Give `file`, which has `size` bytes, the name of `target`; return the name it got. May be repeated."""
    file.check()
    name = target.find(file.folder, os.fstat(file.fd)) if file.record.complete else None
    if name is None:
        _seal(file, size)
        _set_status(file, target, mtime_ns, mode)
        file.check()
        name = _publish(file, target)
    file.folder.sync()
    file.remove()
    return name


def _seal(file: PartFile, size: int) -> None:
    status = os.fstat(file.fd)
    if status.st_size != size:
        raise OSError(errno.EIO, "somebody else changed the partial file")
    if not file.record.complete:
        file.flush(sync_data)
        file.update(durable=size, complete=True, inode=status.st_ino)
    file.flush(sync_file)


def _set_status(file: PartFile, target: Target, mtime_ns: int | None, mode: int | None) -> None:
    if mode is None and target.on_exist == "overwrite":
        replaced = file.folder.status(target.name)
        mode = replaced.st_mode if replaced is not None and stat.S_ISREG(replaced.st_mode) else None
    if mode is not None:
        os.fchmod(file.fd, mode & 0o777)
    if mtime_ns is not None:
        with suppress(OverflowError, OSError):  # a time that the file system cannot have
            os.utime(file.fd, ns=(time.time_ns(), mtime_ns))


def _publish(file: PartFile, target: Target) -> str:
    if target.on_exist == "overwrite":
        target.check(file.folder, None)
        file.folder.rename(file.name, target.name)
        return target.name
    for name in target.candidates():
        with suppress(FileExistsError):
            _link(file, name)
            return name
    raise TransferError("exists", "there is a file of that name")


def _link(file: PartFile, name: str) -> None:
    try:
        file.folder.link(file.name, name)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Such file systems cannot refuse to replace a file in one step: our writers take turns.
        with file.folder.locked():
            if file.folder.status(name) is not None:
                raise FileExistsError(errno.EEXIST, "there is a file of that name") from None
            file.folder.rename(file.name, name)
