"""A file whose lock says who may write a partial file, and whose length says who asked last.

Who asks for the right appends one byte: the length of the file is then the number of its fence. So the holder
sees with one ``fstat`` that a newer one asks. The holder has the file's lock, which the system lets go when
the holder's process dies. A holder that lives and does not let go is left with a file that has no name any
more: the newer one puts a file of its own in its place, as long as its own number, with the last byte marked.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from wsstream.files.errors import TransferError
from wsstream.files.storage.folder import Folder, same_file, try_lock
from wsstream.files.storage.names import HIDDEN, lock_name

__all__ = ["LockFile"]

_ASKED = b"."
_SEIZED = b"!"
_MOST = 1 << 20  # bytes: more holders than any transfer has


class LockFile:
    """One holder's view of the lock file of a token: a :class:`~wsstream.files.storage.fence.Fence`.

    `claim`, `take`, `seize` and `release` run in worker threads; calls that come together take turns.
    """

    __slots__ = ("_fd", "_folder", "_mutex", "_released", "_retired", "_token", "barrier", "number")

    def __init__(self, folder: Folder, token: str) -> None:
        self.number = 0
        self.barrier = 0
        self._folder = folder
        self._token = token
        self._fd = -1
        self._mutex = threading.Lock()
        self._released = False
        self._retired = False

    def check(self) -> None:
        """See `Fence`. The file without a name is one that was seized."""
        fd = self._fd
        if fd >= 0:
            status = os.fstat(fd)
            if status.st_size == self.number and status.st_nlink:
                return
        raise TransferError("superseded", "a newer connection has taken this transfer over")

    def check_held(self) -> None:
        """See `Fence`."""
        fd = self._fd
        if fd < 0 or not os.fstat(fd).st_nlink:
            raise TransferError("superseded", "a newer connection has taken this transfer over")

    def retire(self) -> None:
        """See :class:`~wsstream.files.storage.fence.Fence`."""
        self._retired = True

    def claim(self) -> None:
        """Ask for the right: the present holder sees it."""
        with self._mutex:
            self._claim()

    def take(self) -> bool:
        """Take the right if nobody has it; return whether this holder has it now.

        Raises:
            TransferError: ``superseded``: a newer one asks, too.
        """
        with self._mutex:
            if not self._is_current():
                self._claim()  # the file was removed or seized after we had opened it
            self.check()
            if not try_lock(self._fd):
                return False
            if not self._is_current():
                return False
            self.check()
            self.barrier = os.pread(self._fd, _MOST, 0).rfind(_SEIZED) + 1
            return True

    def seize(self) -> None:
        """Take the right from a holder that does not let go.

        Raises:
            TransferError: ``superseded``: a newer one asks, too.
        """
        with self._mutex:
            self.check()
            name = f"{HIDDEN}{self._token}.{self.number}.lock"
            fd = self._folder.create(name, os.O_RDWR | os.O_APPEND, 0o600)
            try:
                _write(fd, _ASKED * (self.number - 1) + _SEIZED)
                try_lock(fd)  # nobody else knows this file
                self.check()
                self._folder.rename(name, lock_name(self._token))
                self._folder.sync()
            except BaseException:
                os.close(fd)
                self._folder.remove(name)
                raise
            os.close(self._fd)
            self._fd = fd
            self.barrier = self.number

    def release(self) -> None:
        """Let the right go. If the transfer has ended, the file goes, too. A second call does nothing."""
        with self._mutex:
            self._released = True
            fd, self._fd = self._fd, -1
            if fd < 0:
                return
            try:
                if self._retired and self._is_named(fd) and try_lock(fd):
                    with suppress(OSError):  # it expires later
                        self._folder.remove(lock_name(self._token))
            finally:
                os.close(fd)

    def _claim(self) -> None:
        if self._released:  # the caller was cancelled in the meantime
            return
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self._folder.open_or_create(lock_name(self._token), os.O_RDWR | os.O_APPEND, 0o600)
        _write(self._fd, _ASKED)
        self.number = os.lseek(self._fd, 0, os.SEEK_CUR)  # where this byte ended, also if others append
        if self.number >= _MOST:
            raise TransferError("busy", "this transfer was taken over too often")
        self._folder.sync()

    def _is_current(self) -> bool:
        return self._fd >= 0 and self._is_named(self._fd)

    def _is_named(self, fd: int) -> bool:
        return same_file(self._folder.status(lock_name(self._token)), os.fstat(fd))


def _write(fd: int, data: bytes) -> None:
    """Write durably: after a crash, a number must not be given out again."""
    os.write(fd, data)
    os.fsync(fd)
