"""A file that is still arriving: written, made durable, read back for its digest, and committed.

Beside the target lie ``.wsstream-<token>.part``, the bytes, and ``.wsstream-<token>.json``, the record. A
part that begins or is copied under a later fence has the fence's number in its name: no two writers ever mean
two files by one name, so a writer that was left behind can do no harm by a name.

The record names an offset only after the bytes before it are on stable storage, and the sender hears of the
offset only after the record is there, too. The steps of a commit are in :mod:`wsstream.files.storage.commit`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from wsstream.display import never_raises, quoted
from wsstream.files.errors import TransferError
from wsstream.files.storage.commit import commit
from wsstream.files.storage.folder import sync_data
from wsstream.files.storage.names import join_name
from wsstream.files.storage.os_errors import storage_call
from wsstream.files.storage.part_file import PartFile
from wsstream.files.storage.target import Target

__all__ = ["Hash", "PartHasher", "Partial", "ReadInto", "hash_range"]

ReadInto = Callable[[memoryview, int], int]
"""Reads into a buffer, from an offset; returns the number of bytes, 0 at the end."""

_MAX_BUFFERS = 512  # in one system call; Linux takes 1,024
_READ = 1 << 20  # bytes read at once for a digest


class Hash(Protocol):
    """What computes a digest: hashlib's objects have these calls."""

    def update(self, data: memoryview, /) -> object:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far."""
        ...


class Partial:
    """One partial file, open for writing at its end. Made by :meth:`SafeRoot.partial`.

    The calls wait for the disk, so worker threads make them. One thread may write while another one syncs or
    hashes; apart from that, one call runs at a time. All raise TransferError: ``superseded`` once a newer
    holder has the fence or asks for it, ``no-space`` if the disk or this user's share of it is full, ``io``
    if it fails.

    Attributes:
        token: the transfer's token.
        written: how many bytes have been written.
        durable: how many of them are on stable storage, and recorded. Both numbers begin at what the record
            said: a part is cut to that when it is opened.
    """

    def __init__(self, file: PartFile, folders: tuple[str, ...], target: Target) -> None:
        self.token = file.token
        self.written = self.durable = file.record.durable
        self._file = file
        self._folders = folders
        self._target = target

    @property
    def size(self) -> int | None:
        """The size of the whole file in bytes, or ``None`` if the sender does not know it."""
        return self._file.record.size

    @property
    def complete(self) -> bool:
        """Whether a commit has begun, perhaps before a crash: no byte may follow."""
        return self._file.record.complete

    @storage_call
    def write(self, chunks: Sequence[bytes | bytearray | memoryview]) -> None:
        """Append the chunks. After an error, `written` tells how many bytes were taken.

        Raises:
            TransferError: also ``too-large``, with nothing written, if the file would exceed its size.
        """
        views = [memoryview(chunk).cast("B") for chunk in chunks if len(chunk)]
        with self._file as file:
            file.check()
            most = self.written if self.complete else self.size
            if most is not None and self.written + sum(map(len, views)) > most:
                raise TransferError("too-large", f"the file has only {most} bytes")
            while views:
                count = os.pwritev(file.fd, views[:_MAX_BUFFERS], self.written)
                self.written += count
                _drop(views, count)

    @storage_call
    def sync(self, *, leaving: bool = False) -> int:
        """Put what is written on stable storage, then the record of it; then return the new `durable`.

        A writer that is `leaving` does so even if a newer one asks for its right, and waits for it.

        If the disk fails to write, nobody knows which bytes it has, and this object is of no further use. The
        transfer resumes at the recorded offset, once the partial is opened again.
        """
        with self._file as file:
            file.check(leaving=leaving)
            written = self.written  # another thread may go on writing
            if written > self.durable:
                file.flush(sync_data)
                file.update(leaving=leaving, durable=written)
                self.durable = written
        return self.durable

    @storage_call
    def read_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        """Read written bytes from `offset`; return how many, 0 at the end of what is written."""
        view = memoryview(buffer)[: max(0, self.written - offset)]
        with self._file as file:
            return os.preadv(file.fd, [view], offset) if len(view) else 0

    def check(self, start: int, stop: int, new_hash: Callable[[], Hash]) -> str:
        """Return the digest of the bytes from `start` to `stop`: the sender compares it before it goes on.

        Raises:
            ValueError: not all of them are written.
        """
        if not 0 <= start <= stop <= self.written:
            raise ValueError(f"the range must be within 0..{self.written}, got {start}..{stop}")
        digest = new_hash()
        if hash_range(self.read_into, digest, start, stop) < stop:
            raise TransferError("io", "the partial file became shorter")
        return digest.hexdigest()

    def hasher(self, digest: Hash) -> PartHasher:
        """Return what gives the bytes of this file to `digest`, from the first on, and follows the writer."""
        return PartHasher(self, digest)

    @storage_call
    def commit(self, *, size: int, mtime_ns: int | None = None, mode: int | None = None) -> str:
        """Give the file its name; return that name. The caller has compared the digest.

        A crash in the middle leaves the partial, the file or both, and the same transfer, resumed, is at the
        end of its bytes: then the same call finishes the rest. It may be repeated after an error, too.

        Args:
            size: in bytes, as the sender says at the end.
            mtime_ns: the time of change, in nanoseconds since 1970. One that the file system cannot have is
                ignored.
            mode: the permissions; only the lowest nine bits count. By default those of the file that is
                replaced, or else those of any new file.

        Raises:
            TransferError: also ``short`` or ``too-large`` if `size` is not what is written; ``exists`` if
                there is a file that must not be replaced.
        """
        with self._file as file:
            if self.written != size:
                error = "short" if self.written < size else "too-large"
                raise TransferError(error, f"{self.written} bytes arrived")
            name = commit(file, self._target, size, mtime_ns, mode)
            self.durable = size
            self._retire()
        return join_name(*self._folders, name)

    @storage_call
    def discard(self) -> None:
        """Remove the partial and its record, and close it. After `close`, nothing is done."""
        if self._file.fd >= 0:
            with self._file as file:
                file.remove()
                self._retire()
            self.close()

    def close(self) -> None:
        """Wait for the calls that run in other threads, and close the file. What is durable stays for a
        resume.

        A second call does nothing. The block of a locker must not end before this has returned.
        """
        self._file.close()

    def _retire(self) -> None:
        if self._file.fence is not None:
            self._file.fence.retire()

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @never_raises
    def __repr__(self) -> str:
        name = quoted(join_name(*self._folders, self._target.name))
        return f"<Partial {name} durable={self.durable} written={self.written} size={self.size}>"


class PartHasher:
    """Gives the bytes of a partial file to a digest, as far as they are written.

    Attributes:
        position: how many bytes the digest has.
    """

    def __init__(self, partial: Partial, digest: Hash) -> None:
        self.position = 0
        self._partial = partial
        self._digest = digest

    def advance(self, most: int = 16 << 20) -> int:
        """Take up to `most` bytes more, of those that are written; return the new `position`."""
        stop = min(self.position + most, self._partial.written)
        self.position = hash_range(self._partial.read_into, self._digest, self.position, stop)
        return self.position


def hash_range(read_into: ReadInto, digest: Hash, start: int, stop: int) -> int:
    """Give `digest` the bytes from `start` to `stop`; return `stop`, or where the file ended before."""
    buffer = memoryview(bytearray(min(_READ, max(0, stop - start))))
    while start < stop and (count := read_into(buffer[: stop - start], start)):
        digest.update(buffer[:count])
        start += count
    return start


def _drop(views: list[memoryview], count: int) -> None:
    """Remove the first `count` bytes."""
    whole = 0
    while whole < len(views) and len(views[whole]) <= count:
        count -= len(views[whole])
        whole += 1
    del views[:whole]
    if count:
        views[0] = views[0][count:]
