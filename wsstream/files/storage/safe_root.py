"""SafeRoot: the one way to the files below a folder, for names that a peer chose."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from types import TracebackType

from wsstream.arguments import check_int
from wsstream.display import never_raises, quoted
from wsstream.files.errors import TransferError
from wsstream.files.storage.expiry import expire, used_bytes
from wsstream.files.storage.fence import Fence
from wsstream.files.storage.folder import Folder, same_file
from wsstream.files.storage.listing import Page, list_page
from wsstream.files.storage.names import check_token, join_name, parse_name, part_name, record_name
from wsstream.files.storage.os_errors import storage_call
from wsstream.files.storage.part_file import open_part
from wsstream.files.storage.partial import Hash, Partial, hash_range
from wsstream.files.storage.record import Record, check_text
from wsstream.files.storage.source import Source
from wsstream.files.storage.target import OnExist, Target

__all__ = ["SafeRoot", "digest_of"]

_MAX_PAGE = 10_000  # entries
_MAX_HASHED = 16  # files that one retry may have read


class SafeRoot:
    """A folder, and all that is below it. No name leads out of it, and none to anything but a regular file.

    The folder is opened once. Each part of a name is opened inside the folder before it, and never if it is a
    symbolic link: it does not matter who swaps what in the meantime. Nothing here waits for a FIFO or a
    device.

    The calls wait for the disk, so worker threads make them; several may at once. They raise TransferError:
    ``invalid-name`` for a name that breaks the rules, ``not-found``, ``denied`` for what is no regular file
    or lies behind a symbolic link, and where the system says no; ``io`` for what should not happen.

    Args:
        path: the folder. It must exist. The path itself may be a symbolic link to a folder.

    Raises:
        TransferError: also ``unsupported``, where the system has no such calls: on Windows.
    """

    @storage_call
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.folder = Folder.at(path)

    @storage_call
    def open_source(self, name: str) -> Source:
        """Open a file for reading."""
        *folders, part = parse_name(name)
        with self._open_folder(folders) as folder:
            fd = folder.open_file(part)
        try:
            return Source(fd)
        except BaseException:
            os.close(fd)
            raise

    @storage_call
    def entries(self, name: str = "", cursor: str | None = None, limit: int = 1000) -> Page:
        """List a folder, page by page. The memory that a page takes depends on `limit` (1 to 10,000) alone.

        Left out are partial files, names that break the rules, and what is neither a file nor a folder.
        Entries that come and go while a caller turns the pages may be in or out; all others are there once.

        Args:
            name: the folder; ``""`` is the root.
            cursor: the former page's.
            limit: most entries of a page.
        """
        check_int("limit", limit, 1, _MAX_PAGE)
        with self._open_folder(parse_name(name) if name else ()) as folder:
            return list_page(folder, cursor, limit)

    @storage_call
    def make_folder(self, name: str) -> None:
        """Make a folder, and those above it; nothing happens if it exists."""
        self._open_folder(parse_name(name), make=True).close()

    @storage_call
    def partial(
        self,
        name: str,
        *,
        token: str,
        size: int | None,
        etag: str | None,
        identity: str | None = None,
        fence: Fence | None = None,
        on_exist: OnExist = "fail",
    ) -> Partial:
        """Open the partial file of a transfer: where it was left, if that was the same version of the file.

        Folders in `name` that are missing are made. A record that cannot be read, is not ours or is of
        another version means a new start at 0.

        Args:
            name: the name that the file gets in the end.
            token: names the transfer; see `check_token`.
            size: of the whole file in bytes, or ``None``.
            etag: the version of the sender's file; with ``None``, a transfer never resumes.
            identity: who sends. Nobody else can go on with this transfer.
            fence: what a locker gave; without one, a second writer of the same token gets ``busy``.
            on_exist: what happens if there is such a file: see `OnExist`.

        Raises:
            TransferError: also ``exists``; ``denied`` for another's transfer; ``superseded``; ``busy``.
        """
        *folders, part = parse_name(name)
        wanted = Record(part, size, check_text("etag", etag), check_text("identity", identity))
        target = Target(part, on_exist)
        folder = self._open_folder(folders, make=True)
        try:
            file = open_part(folder, check_token(token), wanted, fence, target)
        except BaseException:
            if fence is not None and not _has_begun(folder, token):
                fence.retire()
            folder.close()
            raise
        return Partial(file, tuple(folders), target)

    @storage_call
    def find_complete(
        self,
        name: str,
        size: int,
        digest: str,
        *,
        token: str | None = None,
        new_hash: Callable[[], Hash] = hashlib.sha256,
        on_exist: OnExist = "fail",
    ) -> str | None:
        """Return the name of the file that is offered once more, or ``None`` if it is not there.

        It has this size and this digest, so an offer after a lost ``done`` need not be sent again. With
        ``"rename"``, files with a number count, too; at most 16 files are read. The answer is ``None`` as
        well if the transfer `token` has a record: then :meth:`partial` resumes it, and its commit tidies up.
        """
        *folders, part = parse_name(name)
        hashed = 0
        try:
            with self._open_folder(folders) as folder:
                if token is not None and folder.status(record_name(check_token(token))) is not None:
                    return None
                for candidate in Target(part, on_exist).candidates():
                    status = folder.status(candidate)
                    if status is None or hashed == _MAX_HASHED:
                        return None
                    if stat.S_ISREG(status.st_mode) and status.st_size == size:
                        hashed += 1
                        with Source(folder.open_file(candidate)) as source:
                            if digest_of(source, new_hash()) == digest:
                                return join_name(*folders, candidate)
        except FileNotFoundError:
            pass
        return None

    @storage_call
    def find_sized(self, name: str, size: int, token: str) -> Source | None:
        """Open a file if it has this size; ``None`` also if the transfer `token` has a record, as above."""
        *folders, part = parse_name(name)
        try:
            with self._open_folder(folders) as folder:
                status = folder.status(part)
                if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != size:
                    return None
                if folder.status(record_name(check_token(token))) is not None:
                    return None
                return Source(folder.open_file(part))
        except FileNotFoundError:
            return None

    @storage_call
    def delete(self, name: str, etag: str | None = None) -> int:
        """Remove a file for good; return how many bytes it had. A folder that gets empty stays.

        Whoever has the file open goes on reading it, and a file that is still arriving under this name
        arrives.

        Args:
            name: the file's.
            etag: the version that is meant, as :attr:`Source.etag`; ``None``: whichever it is.

        Raises:
            TransferError: also ``changed``: it is another version.
        """
        *folders, part = parse_name(name)
        with self._open_folder(folders) as folder, Source(folder.open_file(part)) as source:
            if etag is not None and etag != source.etag:
                raise TransferError("changed", "the file is another version", retry="never")
            if not same_file(folder.status(part), os.fstat(source.fd)):
                raise TransferError("changed", "another file took the name")
            folder.remove(part)
            folder.sync()
            return source.size

    @storage_call
    def expire(self, older_than: float, *, now: float | None = None) -> int:
        """Remove the partial files that nobody has written to for `older_than` seconds; return how many
        files.

        What a writer has open stays. `now` is in seconds since 1970, by default the system's time.
        """
        return expire(self.folder, older_than, now)

    @storage_call
    def check_room(
        self,
        size: int,
        *,
        min_free: int = 0,
        quota: int | None = None,
        name: str = "",
        used: int | None = None,
    ) -> None:
        """Check that `size` bytes more may be written.

        Args:
            size: in bytes: what is still missing of the file.
            min_free: bytes that must stay free on the disk.
            quota: most bytes of all files in the folder `name`, partial ones included.
            name: the folder whose quota it is; ``""`` is the root.
            used: the bytes in use there, where the caller knows them: counting takes a look at every file.

        Raises:
            TransferError: ``no-space`` or ``quota``.
        """
        if size + min_free > self.folder.free_bytes():
            raise TransferError("no-space", "the disk has too little free space")
        if quota is not None and size + (self.used_bytes(name) if used is None else used) > quota:
            raise TransferError("quota", f"the share of {quota} bytes is used up")

    @storage_call
    def used_bytes(self, name: str = "") -> int:
        """Return the bytes of all files below a folder, partial ones included; 0 if it is missing."""
        try:
            with self._open_folder(parse_name(name) if name else ()) as folder:
                return used_bytes(folder)
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Close the folder. Files that are open stay so."""
        self.folder.close()

    def _open_folder(self, parts: Sequence[str], make: bool = False) -> Folder:
        folder = self.folder.child()
        for part in parts:
            with folder:
                if make and folder.has_in_other_case(part):
                    raise TransferError(
                        "exists", "there is a folder whose name differs by the case of letters only"
                    )
                folder = folder.make_child(part) if make else folder.child(part)
        return folder

    def __enter__(self) -> SafeRoot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @never_raises
    def __repr__(self) -> str:
        return f"<SafeRoot {quoted(str(self.path))}>"


def _has_begun(folder: Folder, token: str) -> bool:
    """Whether a transfer has left something that a later fence must be told from."""
    return any(folder.status(name) is not None for name in (record_name(token), part_name(token, 0)))


def digest_of(source: Source, digest: Hash) -> str:
    """Return the digest of the file, as far as it is as large as it was when it was opened."""
    hash_range(source.read_into, digest, 0, source.size)
    return digest.hexdigest()
