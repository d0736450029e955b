"""One open folder, and the system calls inside it. None of them follows a symbolic link.

A folder is named by its descriptor and not by its path. So if somebody moves it, or puts a symbolic link in
its place, every call still reaches the folder that was opened.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any
from unicodedata import normalize

from wsstream.files.errors import TransferError

try:
    import fcntl as _fcntl

    fcntl: Any = _fcntl  # on macOS, it has more than on Linux
except ModuleNotFoundError:  # pragma: no cover - on Windows
    fcntl = None

__all__ = ["Folder", "check_support", "same_file", "sync_data", "sync_file", "try_lock"]

_LOCK_TIMEOUT = 5  # seconds

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# O_NONBLOCK: opening a FIFO would wait for its other end. O_NOCTTY: a terminal would become ours.
_FILE = getattr(os, "O_CLOEXEC", 0) | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_SUPPORTED = (
    bool(_NOFOLLOW)  # what has it, has fcntl
    and hasattr(os, "pwritev")
    and {os.open, os.stat, os.mkdir, os.link, os.rename, os.unlink} <= os.supports_dir_fd
    and {os.scandir, os.utime} <= os.supports_fd
)


def check_support() -> None:
    """Check that this system has the calls that this module is made of.

    Raises:
        TransferError: ``unsupported``, on Windows for one.
    """
    if not _SUPPORTED:
        raise TransferError("unsupported", f"{sys.platform} cannot open files safely below a folder")


class Folder:
    """An open folder. It takes parts of names as they are: `parse_name` has checked them."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> Folder:
        """Open the folder at `path`, which may be a symbolic link to one."""
        check_support()
        return cls(os.open(path, _DIRECTORY))

    def child(self, part: str = ".") -> Folder:
        """Open the folder `part`; by default this one once more."""
        return Folder(os.open(part, _DIRECTORY | _NOFOLLOW, dir_fd=self._fd))

    def make_child(self, part: str) -> Folder:
        """Open the folder `part`. If it is missing, make it durably first."""
        try:
            return self.child(part)
        except FileNotFoundError:
            with suppress(FileExistsError):  # somebody was quicker
                os.mkdir(part, dir_fd=self._fd)
                self.sync()
        return self.child(part)

    def status(self, part: str) -> os.stat_result | None:
        """What `part` is, or ``None`` if it is missing."""
        try:
            return os.stat(part, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self, part: str, flags: int = os.O_RDONLY) -> int:
        """Open the regular file `part`; return its descriptor. Never waits.

        Raises:
            TransferError: ``denied``, if it is a symbolic link, a folder, a FIFO, a socket or a device.
        """
        status = os.stat(part, dir_fd=self._fd, follow_symlinks=False)
        _check_regular(status)  # first: opening some devices has an effect
        fd = os.open(part, flags | _FILE, dir_fd=self._fd)
        try:
            _check_regular(os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def create(self, part: str, flags: int = os.O_RDWR, mode: int = 0o666) -> int:
        """Make the file `part`, in place of a file of that name if there is one; return its descriptor."""
        self.remove(part)
        return os.open(part, flags | os.O_CREAT | os.O_EXCL | _FILE, mode, dir_fd=self._fd)

    def open_or_create(self, part: str, flags: int, mode: int) -> int:
        """Open the regular file `part`, which is made if it is missing; return its descriptor."""
        fd = os.open(part, flags | os.O_CREAT | _FILE, mode, dir_fd=self._fd)
        try:
            _check_regular(os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def link(self, part: str, new: str) -> None:
        """Give the file `part` a second name. Raises FileExistsError if `new` exists."""
        os.link(part, new, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)

    def rename(self, part: str, new: str) -> None:
        """Give the file `part` another name, in place of the file that has it."""
        os.rename(part, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, part: str) -> None:
        """Remove the name of a file, if there is one."""
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=self._fd)

    def sync(self) -> None:
        """Wait until the names in this folder are on stable storage."""
        sync_file(self._fd)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this folder in the block.

        Raises:
            TransferError: ``busy``, after 5 seconds in which somebody else had it.
        """
        deadline = time.monotonic() + _LOCK_TIMEOUT
        with self.child() as own:  # a lock belongs to an open folder: this is one of its own
            while not try_lock(own._fd):
                if time.monotonic() > deadline:
                    raise TransferError("busy", "somebody has the lock of the folder")
                time.sleep(0.01)
            yield

    def has_in_other_case(self, part: str) -> bool:
        """Whether this file system ignores case, and has `part` under a name that differs from it by case."""
        status = self.status(part)
        other = part.swapcase()
        if status is None or other == part or not same_file(self.status(other), status):
            return False
        return all(normalize("NFC", entry.name) != part for entry in self.scan())

    def scan(self) -> Iterator[os.DirEntry[str]]:
        """Go through what is in this folder, in no order, without loading all of it."""
        with self.child() as own, os.scandir(own._fd) as entries:  # scandir moves the descriptor's position
            yield from entries

    def free_bytes(self) -> int:
        """How many bytes this user may still write to the file system."""
        status = os.fstatvfs(self._fd)
        return status.f_bavail * status.f_frsize

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise TransferError("denied", "this is not a regular file")


def same_file(one: os.stat_result | None, other: os.stat_result) -> bool:
    """Whether both are of one file, which may have several names."""
    return one is not None and (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def try_lock(fd: int) -> bool:
    """Take the lock of an open file, if nobody has it. Closing the file lets it go, and so does a crash."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_file(fd: int) -> None:
    """Wait until a file, or the names in a folder, are on stable storage."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # pragma: no cover - macOS: fsync leaves data in the disk's cache
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def sync_data(fd: int) -> None:
    """Wait until a file's bytes and its size are on stable storage, but perhaps not its times."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:  # pragma: no cover - macOS
        sync_file(fd)
