"""What clients call: files to and from a server, through lost connections."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Unpack
from urllib.parse import unquote

from anyio import to_thread

from wsstream.client.attempts import ConnectOptions
from wsstream.files.expected import check_expected
from wsstream.files.into_stream import ByteSink, StreamTarget
from wsstream.files.progress import OnProgress
from wsstream.files.receiver import Storage
from wsstream.files.result import TransferResult
from wsstream.files.steps import DeleteFile, Download, ListFolder, PassOn, Step, Transfers, Upload
from wsstream.files.storage.names import normal_name
from wsstream.files.storage.safe_root import SafeRoot
from wsstream.files.storage.target import OnExist, check_on_exist
from wsstream.files.transfer import name_of
from wsstream.opening.retry import Backoff
from wsstream.opening.url import parse_url

__all__ = ["DELAYS", "delete", "download", "download_into", "is_folder", "split_dest", "target_of", "upload"]

Path = str | os.PathLike[str]

DELAYS = Backoff(initial=0.5, maximum=30)
"""The pauses before further attempts, by default."""


async def upload(
    url: str,
    path: Path | Iterable[Path],
    *,
    name: str | None = None,
    on_exist: OnExist = "fail",
    limit_rate: int | None = None,
    delays: Iterable[float] = DELAYS,
    progress: OnProgress | None = None,
    **options: Unpack[ConnectOptions],
) -> list[TransferResult]:
    """Send files and folders to a server of ``wsstream.file.v1``; return what it has, file by file.

    A connection that is lost is opened again, after a pause, and the file goes on where the server's disk
    has it. So does a later call, of another process too, while the file is the same. What has arrived already
    is not sent again.

    Args:
        url: the server's. With a path that ends in ``/``, the files go into that folder of the server;
            otherwise the path is the name of the one file.
        path: a file; a folder, for all regular files in it and below, which are called by the folder's name
            and their own; or several of them.
        name: what to call the one file or folder; replaces the path of `url`.
        on_exist: what happens if the server has another file of that name: ``"fail"``; ``"skip"``, which
            leaves this file out; ``"rename"``, which sends it as ``name (1)``; or ``"overwrite"``, if the
            server allows that.
        limit_rate: the most bytes a second, at least 1,024. ``None``: no limit.
        delays: seconds to wait before each further attempt; they begin again after a connection that lasted
            a minute. If they end, the last error is raised. The first attempt to connect must succeed.
        progress: called with a :class:`Progress`, at most 20 times a second for each file.
        options: those of :func:`~wsstream.connect`, but `subprotocols`.

    Raises:
        TransferError: the server does not take a file, with its name in a note; or a transfer failed, and
            another attempt would not help.
        OSError, HandshakeError, ConnectionClosed: as :func:`~wsstream.reconnect`.
        TypeError, ValueError: an argument is wrong, or the names do not fit.
    """
    check_on_exist(on_exist)
    sources = [path] if isinstance(path, str | os.PathLike) else list(path)
    files = await to_thread.run_sync(_find_files, sources, target_of(url, name))
    steps = [Upload(file, called, size, on_exist) for file, called, size in files]
    return await Transfers(
        url, steps, delays=delays, progress=progress, limit_rate=limit_rate, options=options
    ).run()


async def download(
    url: str,
    dest: Path,
    *,
    name: str | None = None,
    on_exist: OnExist = "fail",
    max_size: int | None = None,
    expect: str | None = None,
    limit_rate: int | None = None,
    delays: Iterable[float] = DELAYS,
    progress: OnProgress | None = None,
    **options: Unpack[ConnectOptions],
) -> list[TransferResult]:
    """Get a file, or a folder with all files below, from a server of ``wsstream.file.v1``.

    Lost connections, and calls that are repeated, are as with :func:`upload`.

    Args:
        url: the server's; its path is the name of the file. A path that ends in ``/`` is a folder.
        dest: a folder that exists, for the file under its own name; or else the path to store it under.
        name: the file or folder to ask for; replaces the path of `url`.
        on_exist: what happens if there is a file of that name: ``"fail"``, unless it is the same file, by
            size and digest; ``"skip"``, ``"overwrite"``, or ``"rename"``, which stores the new one as
            ``name (1)``.
        max_size: the most bytes of one file to take. ``None``: any number.
        expect: the SHA-256 that the file must have, or its digest of the kind that the two ends use, as 64
            hexadecimal digits. Another file fails with ``digest-mismatch``, and is not stored.
        limit_rate: the most bytes a second, at least 1,024; the server gets less credit. ``None``: no limit.
        delays, progress, options: as for :func:`upload`.

    Raises:
        TransferError, OSError, HandshakeError, ConnectionClosed, TypeError, ValueError: as :func:`upload`.
    """
    wanted = target_of(url, name)
    check_expected(expect)
    if expect is not None and is_folder(wanted):
        raise ValueError("expect must be None for a folder: it is the digest of one file")
    folder, store_as = await to_thread.run_sync(split_dest, os.fspath(dest), wanted)
    root = await to_thread.run_sync(SafeRoot, folder)
    with root:
        storage = Storage(root, on_exist=on_exist, max_size=max_size, expect=expect)
        step = (ListFolder if is_folder(wanted) else Download)(wanted, store_as, storage)
        return await Transfers(
            url, [step], delays=delays, progress=progress, limit_rate=limit_rate, options=options
        ).run()


async def download_into(
    url: str,
    stream: ByteSink,
    *,
    name: str | None = None,
    max_size: int | None = None,
    expect: str | None = None,
    limit_rate: int | None = None,
    delays: Iterable[float] = DELAYS,
    progress: OnProgress | None = None,
    **options: Unpack[ConnectOptions],
) -> TransferResult:
    """Get a file from a server of ``wsstream.file.v1``, and pass its bytes on while they arrive.

    Nothing is stored. A slow stream slows the server: at most 32 MiB wait here, far less for a stream that
    was slow all the time. A lost connection is opened again, after a pause, and the file goes on after the
    last byte that was passed on. A later call begins at 0.

    The digest is known at the end. So what was passed on is to be thrown away if this raises.

    If this is cancelled, a part of the file was passed on.

    Args:
        url: the server's; its path is the name of the file.
        stream: takes the bytes by ``await stream.send(data)``, as every anyio byte stream. It is not closed.
        name: the file to ask for; replaces the path of `url`.
        max_size, expect, limit_rate, delays, progress, options: as for :func:`download`.

    Raises:
        TransferError: also ``changed``, if the file is another one after a connection was lost; and
            ``digest-mismatch``.
        Exception: what `stream` raises.
        OSError, HandshakeError, ConnectionClosed, TypeError, ValueError: as :func:`upload`.
    """
    wanted = target_of(url, name)
    check_expected(expect)
    if is_folder(wanted):
        raise ValueError("the name must be that of a file, not of a folder")
    step = PassOn(wanted, StreamTarget(stream, max_size=max_size, expect=expect))
    (result,) = await Transfers(
        url, [step], delays=delays, progress=progress, limit_rate=limit_rate, options=options
    ).run()
    return result


async def delete(
    url: str,
    *,
    name: str | None = None,
    etag: str | None = None,
    delays: Iterable[float] = DELAYS,
    **options: Unpack[ConnectOptions],
) -> None:
    """Delete a file of a server of ``wsstream.file.v1`` for good. The server has to allow ``"delete"``.

    If this is cancelled, the file is deleted or not.

    Args:
        url: the server's; its path is the name of the file.
        name: the file; replaces the path of `url`.
        etag: the version that is meant, as the server calls it; ``None``: whichever it is.
        delays, options: as for :func:`upload`.

    Raises:
        TransferError: ``denied``, ``not-found``, ``changed`` for another version, or the server failed.
        OSError, HandshakeError, ConnectionClosed, TypeError, ValueError: as :func:`upload`.
    """
    step: Step = DeleteFile(target_of(url, name), etag)
    await Transfers(url, [step], delays=delays, progress=None, limit_rate=None, options=options).run()


def is_folder(name: str) -> bool:
    """Whether a name on the server is that of a folder, for the files in it."""
    return not name or name.endswith("/")


def target_of(url: str, name: str | None) -> str:
    """What the URL, or `name`, calls the file or folder on the server."""
    return unquote(parse_url(url).target.partition("?")[0].lstrip("/")) if name is None else name


def _find_files(sources: Sequence[Path], target: str) -> list[tuple[Path, str, int]]:
    """The files to send, with their names on the server, and their sizes."""
    if not is_folder(target) and len(sources) != 1:
        raise ValueError("the name must end in / for several files: it is that of a folder")
    found: list[tuple[Path, str, int]] = []
    for source in sources:
        base = name_of(source)
        called = target + base if is_folder(target) else target
        if not os.path.isdir(source):
            found.append((source, called, _size_of(source)))
            continue
        for folder, below, names in os.walk(source):
            below.sort()
            inside = os.path.relpath(folder, source)
            prefix = called if inside == "." else f"{called}/{inside.replace(os.sep, '/')}"
            for each in sorted(names):
                path = os.path.join(folder, each)
                if os.path.isfile(path) and not os.path.islink(path):
                    found.append((path, normal_name(f"{prefix}/{each}"), _size_of(path)))
    return found


def _size_of(path: Path) -> int:
    """As it is now; 0 for a file that is missing, which the attempt to open it reports."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def split_dest(dest: str, wanted: str) -> tuple[str, str]:
    """The folder to open, and the name in it: of the file, or of the folder that is received."""
    last = wanted.rstrip("/").rpartition("/")[2]
    if os.path.isdir(dest):
        return dest, last
    folder, own = os.path.split(os.path.abspath(dest))
    return folder, own
