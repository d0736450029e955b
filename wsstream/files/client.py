"""`upload` and `download`: files to and from a server, through lost connections."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Unpack
from urllib.parse import unquote

from anyio import to_thread

from wsstream.client.attempts import ConnectOptions
from wsstream.client.reconnect import reconnect
from wsstream.display import quoted
from wsstream.errors import ConnectionClosed
from wsstream.files.channel import Channel, hello
from wsstream.files.errors import TransferError
from wsstream.files.progress import OnProgress
from wsstream.files.protocol.digests import available, new_digest
from wsstream.files.protocol.messages import SUBPROTOCOL, Entries, List
from wsstream.files.receiver import Storage
from wsstream.files.result import TransferResult
from wsstream.files.sender import open_path
from wsstream.files.storage.names import normal_name
from wsstream.files.storage.safe_root import SafeRoot, digest_of
from wsstream.files.storage.target import OnExist
from wsstream.files.transfer import ask_for, name_of, offer_file, until_ready
from wsstream.opening.retry import Backoff
from wsstream.opening.url import parse_url

__all__ = ["DELAYS", "download", "split_dest", "target_of", "upload"]

Path = str | os.PathLike[str]

DELAYS = Backoff(initial=0.5, maximum=30)
"""The pauses before further attempts, by default."""


async def upload(
    url: str,
    path: Path | Iterable[Path],
    *,
    name: str | None = None,
    skip_existing: bool = False,
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
        skip_existing: leave out files of whose name the server has another one, in place of an error.
        delays: seconds to wait before each further attempt; they begin again after a connection that lasted
            a minute. If they end, the last error is raised. The first attempt to connect must succeed.
        progress: called with a :class:`Progress`, at most 20 times a second.
        options: those of :func:`~wsstream.connect`, but `subprotocols`.

    Raises:
        TransferError: the server does not take a file, with its name in a note; or a transfer failed, and
            another attempt would not help.
        OSError, HandshakeError, ConnectionClosed: as :func:`~wsstream.reconnect`.
        TypeError, ValueError: an argument is wrong, or the names do not fit.
    """
    sources = [path] if isinstance(path, str | os.PathLike) else list(path)
    files = await to_thread.run_sync(_find_files, sources, target_of(url, name))
    queue = [_Upload(file, called, skip_existing) for file, called in files]
    return await _Transfers(url, queue, delays, progress, options).run()


async def download(
    url: str,
    dest: Path,
    *,
    name: str | None = None,
    on_exist: OnExist = "fail",
    max_size: int | None = None,
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
        on_exist: what happens if there is a file of that name: ``"fail"``, ``"skip"``, ``"overwrite"`` or
            ``"rename"``, which stores the new one as ``name (1)``.
        max_size: the most bytes of one file to take. ``None``: any number.
        delays, progress, options: as for :func:`upload`.

    Raises:
        TransferError, OSError, HandshakeError, ConnectionClosed, TypeError, ValueError: as :func:`upload`.
    """
    wanted = target_of(url, name)
    folder, store_as = await to_thread.run_sync(split_dest, os.fspath(dest), wanted)
    root = await to_thread.run_sync(SafeRoot, folder)
    with root:
        storage = Storage(root, on_exist=on_exist, max_size=max_size)
        queue: list[_Step] = [
            _ListFolder(wanted, store_as, storage)
            if not wanted or wanted.endswith("/")
            else _Download(wanted, store_as, storage)
        ]
        return await _Transfers(url, queue, delays, progress, options).run()


def target_of(url: str, name: str | None) -> str:
    """What the URL, or `name`, calls the file or folder on the server."""
    return unquote(parse_url(url).target.partition("?")[0].lstrip("/")) if name is None else name


def _find_files(sources: Sequence[Path], target: str) -> list[tuple[Path, str]]:
    """The files to send, with their names on the server."""
    if target and not target.endswith("/") and len(sources) != 1:
        raise ValueError("the name must end in / for several files: it is that of a folder")
    found: list[tuple[Path, str]] = []
    for source in sources:
        base = name_of(source)
        called = target + base if not target or target.endswith("/") else target
        if not os.path.isdir(source):
            found.append((source, called))
            continue
        for folder, below, names in os.walk(source):
            below.sort()
            inside = os.path.relpath(folder, source)
            prefix = called if inside == "." else f"{called}/{inside.replace(os.sep, '/')}"
            for each in sorted(names):
                path = os.path.join(folder, each)
                if os.path.isfile(path) and not os.path.islink(path):
                    found.append((path, normal_name(f"{prefix}/{each}")))
    return found


def split_dest(dest: str, wanted: str) -> tuple[str, str]:
    """The folder to open, and the name in it: of the file, or of the folder that is received."""
    last = wanted.rstrip("/").rpartition("/")[2]
    if os.path.isdir(dest):
        return dest, last
    folder, own = os.path.split(os.path.abspath(dest))
    return folder, own


class _Step:
    """One thing to do on a connection. It may be repeated on another one.

    Attributes:
        name: of the file or folder, on the server.
    """

    name: str

    async def run(self, channel: Channel, progress: OnProgress | None) -> TransferResult | list[_Step] | None:
        """Do it; return the file that has arrived, or what is to be done in place of this."""
        raise NotImplementedError


class _Upload(_Step):
    def __init__(self, path: Path, name: str, skip_existing: bool) -> None:
        self._path = path
        self.name = name
        self._skip = skip_existing

    async def run(self, channel: Channel, progress: OnProgress | None) -> TransferResult | None:
        try:
            return await offer_file(channel, self._path, self.name, progress)
        except TransferError as error:
            if error.error != "exists" or channel.session.close is not None:
                raise
        # Perhaps it is this file: an earlier attempt ended after the last byte, and before Done.
        digest = await to_thread.run_sync(self._digest)
        try:
            return await offer_file(channel, self._path, self.name, progress, digest)
        except TransferError as error:
            if error.error == "exists" and self._skip:
                return None
            raise

    def _digest(self) -> str:
        with open_path(self._path) as source:
            return digest_of(source, new_digest(available()[0]))


class _Download(_Step):
    def __init__(self, name: str, store_as: str, storage: Storage) -> None:
        self.name = name
        self._store_as = store_as
        self._storage = storage

    async def run(self, channel: Channel, progress: OnProgress | None) -> TransferResult | None:
        try:
            return await ask_for(channel, self.name, self._storage, self._store_as, progress)
        except TransferError as error:
            if error.error == "exists" and self._storage.on_exist == "skip":
                return None
            raise


class _ListFolder(_Step):
    def __init__(self, name: str, store_as: str, storage: Storage) -> None:
        self.name = name.rstrip("/")
        self._store_as = store_as
        self._storage = storage

    async def run(self, channel: Channel, progress: OnProgress | None) -> list[_Step]:
        steps: list[_Step] = []
        cursor = None
        while True:
            channel.post(List(channel.session.next_id, self.name, cursor))
            while not isinstance(page := await channel.event(), Entries):
                pass
            for entry in page.entries:
                name = f"{self.name}/{entry.name}" if self.name else entry.name
                store_as = f"{self._store_as}/{entry.name}" if self._store_as else entry.name
                kind = _ListFolder if entry.kind == "folder" else _Download
                steps.append(kind(name, store_as, self._storage))
            if (cursor := page.cursor) is None:
                return steps


class _Transfers:
    """Steps, one after the other, on as many connections as it takes."""

    def __init__(
        self,
        url: str,
        steps: Sequence[_Step],
        delays: Iterable[float],
        progress: OnProgress | None,
        options: ConnectOptions,
    ) -> None:
        self._url = url
        self._steps = list(steps)
        self._delays = delays
        self._progress = progress
        self._options = options
        self._results: list[TransferResult] = []
        self._connected = False

    async def run(self) -> list[TransferResult]:
        options: dict[str, Any] = {**self._options, "subprotocols": [SUBPROTOCOL]}
        connections = reconnect(self._url, delays=self._delays, retry=self._is_worth_it, **options)
        error: TransferError | None = None
        while True:
            try:
                ws = await anext(connections)
            except ConnectionClosed:
                if error is not None:  # this end has closed, for that reason
                    raise error from None
                raise
            self._connected, error = True, None
            async with ws:
                try:
                    await self._use(Channel(ws, hello(), client=True))
                    return self._results
                except TransferError as raised:
                    if raised.retry == "never":
                        raise
                    error = raised
                except ConnectionClosed:
                    pass  # `reconnect` knows how it ended

    async def _use(self, channel: Channel) -> None:
        async with channel.run():
            await until_ready(channel)
            await self._do_steps(channel)

    async def _do_steps(self, channel: Channel) -> None:
        while self._steps:
            step = self._steps[0]
            try:
                done = await step.run(channel, self._progress)
            except TransferError as error:
                error.add_note(f"This was {quoted(step.name)}.")
                raise
            del self._steps[0]
            if isinstance(done, list):
                self._steps[:0] = done
            elif done is not None:
                self._results.append(done)

    def _is_worth_it(self, error: Exception) -> bool | None:
        return None if self._connected else False
