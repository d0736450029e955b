"""Copying the start of a file into another, by the file system itself where it can."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

__all__ = ["copy_start"]

_STEP = 1 << 26  # bytes between two checks
_BUFFER = 1 << 20  # bytes
_CANNOT = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY}


def copy_start(source: int, target: int, count: int, check: Callable[[], None]) -> None:
    """Copy the first `count` bytes between two descriptors; call `check` each 64 MiB.

    Where the file system can share blocks between files, this takes no time and no space.

    Raises:
        OSError: also if `source` is shorter.
    """
    copy = _copy_in_kernel if hasattr(os, "copy_file_range") else _copy
    at = 0
    while at < count:
        check()
        try:
            done = copy(source, target, at, min(_STEP, count - at))
        except OSError as error:
            if copy is _copy or error.errno not in _CANNOT:
                raise
            copy = _copy
            continue
        if not done:
            raise OSError(errno.EIO, "the file became shorter")
        at += done


def _copy_in_kernel(source: int, target: int, at: int, count: int) -> int:
    return os.copy_file_range(source, target, count, at, at)


def _copy(source: int, target: int, at: int, count: int) -> int:
    data = memoryview(os.pread(source, min(count, _BUFFER), at))
    return os.pwrite(target, data, at)
