"""What a call of a client consists of: steps, one after the other, over as many connections as it takes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from anyio import to_thread

from wsstream.client.attempts import ConnectOptions
from wsstream.client.reconnect import reconnect
from wsstream.display import quoted
from wsstream.errors import ConnectionClosed
from wsstream.files.channel import Channel, hello
from wsstream.files.errors import TransferError
from wsstream.files.into_stream import StreamTarget
from wsstream.files.progress import AllFiles, OnProgress
from wsstream.files.protocol.digests import available, new_digest
from wsstream.files.protocol.messages import SUBPROTOCOL, Delete, Done, Entries, List
from wsstream.files.rate import RateLimit
from wsstream.files.receiver import Storage
from wsstream.files.reception import refuse
from wsstream.files.result import TransferResult
from wsstream.files.sender import open_path
from wsstream.files.storage.safe_root import digest_of
from wsstream.files.storage.target import OnExist, names_for
from wsstream.files.transfer import ask_for, ask_into, offer_file, request, until_ready

__all__ = ["DeleteFile", "Download", "ListFolder", "PassOn", "Step", "Transfers", "Upload"]

_Path: TypeAlias = str | os.PathLike[str]

_MOST_LISTED = 256 << 20  # bytes of memory for what a server lists: over 500,000 files
_OF_A_STEP = 300  # bytes, without its names


class Step:
    """One thing to do on a connection. It may be repeated on another one.

    Attributes:
        name: of the file or folder, on the server.
        size: of a file that is moved, in bytes; ``None``: not known, or none is moved.
    """

    name: str
    size: int | None = None

    async def run(self, channel: Channel, progress: OnProgress | None) -> TransferResult | list[Step] | None:
        """Do it; return the file that has arrived, or what is to be done in place of this."""
        raise NotImplementedError


class Upload(Step):
    """Sends the file at `path` as `name`, or under a name with a number if `on_exist` is ``"rename"``."""

    def __init__(self, path: _Path, name: str, size: int, on_exist: OnExist) -> None:
        self._path = path
        self.name = name
        self.size = size
        self._on_exist: OnExist = on_exist
        self._digest: str | None = None

    async def run(self, channel: Channel, progress: OnProgress | None) -> TransferResult | None:
        """See `Step`. ``None``: the server has another file of that name, and it is left out."""
        refused = TransferError("exists")
        for name in names_for(self.name, self._on_exist):
            try:
                return await self._send(channel, name, progress)
            except TransferError as error:
                if not _exists(error, channel):
                    raise
                refused = error
        if self._on_exist == "skip":
            return None
        raise refused

    async def _send(self, channel: Channel, name: str, progress: OnProgress | None) -> TransferResult:
        """Raises TransferError: ``exists``: the server has another file of this name, which it keeps."""
        keep = self._on_exist != "overwrite"
        try:
            return await offer_file(channel, self._path, name, progress, keep=keep)
        except TransferError as error:
            if not _exists(error, channel):
                raise
        # Perhaps it is this file: an earlier attempt ended after the last byte, and before Done.
        if self._digest is None:
            self._digest = await to_thread.run_sync(_digest_of_file, self._path)
        return await offer_file(channel, self._path, name, progress, self._digest, keep=keep)


def _exists(error: TransferError, channel: Channel) -> bool:
    """Whether the peer refuses a file for another one of that name, and the connection goes on."""
    return error.error == "exists" and channel.session.close is None


def _digest_of_file(path: _Path) -> str:
    with open_path(path) as source:
        return digest_of(source, new_digest(available()[0]))


class Download(Step):
    """Gets the file `name`, and stores it as `store_as`."""

    def __init__(self, name: str, store_as: str, storage: Storage, size: int | None = None) -> None:
        self.name = name
        self.size = size
        self._store_as = store_as
        self._storage = storage

    async def run(self, channel: Channel, progress: OnProgress | None) -> TransferResult | None:
        """See `Step`. ``None``: there is another file of that name, and it is left out."""
        try:
            return await ask_for(channel, self.name, self._storage, self._store_as, progress)
        except TransferError as error:
            if error.error == "exists" and self._storage.on_exist == "skip":
                return None
            raise


class PassOn(Step):
    """Gets the file `name`, and passes its bytes on to `target`."""

    def __init__(self, name: str, target: StreamTarget) -> None:
        self.name = name
        self._target = target

    async def run(self, channel: Channel, progress: OnProgress | None) -> TransferResult:
        """See `Step`."""
        return await ask_into(channel, self.name, self._target, progress)


class ListFolder(Step):
    """Lists a page of the folder `name`, for one `Download` each, as files of the folder `store_as`."""

    def __init__(self, name: str, store_as: str, storage: Storage, cursor: str | None = None) -> None:
        self.name = name.rstrip("/")
        self._store_as = store_as
        self._storage = storage
        self._cursor = cursor

    async def run(self, channel: Channel, progress: OnProgress | None) -> list[Step]:
        """See `Step`."""
        request(channel, List, self.name, self._cursor)
        while not isinstance(page := await channel.event(), Entries):
            pass
        steps: list[Step] = []
        for entry in page.entries:
            name = f"{self.name}/{entry.name}" if self.name else entry.name
            store_as = f"{self._store_as}/{entry.name}" if self._store_as else entry.name
            if entry.kind == "folder":
                steps.append(ListFolder(name, store_as, self._storage))
            else:
                steps.append(Download(name, store_as, self._storage, entry.size))
        if page.cursor is not None:
            steps.append(ListFolder(self.name, self._store_as, self._storage, page.cursor))
        return steps


class DeleteFile(Step):
    """Deletes the file `name`, if `etag` is ``None`` or that of this version."""

    def __init__(self, name: str, etag: str | None) -> None:
        self.name = name
        self._etag = etag
        self._tried = False

    async def run(self, channel: Channel, progress: OnProgress | None) -> None:
        """See `Step`. On a second attempt, a file that is missing was deleted by the first one."""
        tried, self._tried = self._tried, True
        request(channel, Delete, self.name, self._etag)
        try:
            while not isinstance(await channel.event(), Done):
                pass
        except TransferError as error:
            if error.error != "not-found" or not tried or channel.session.close is not None:
                raise
        except BaseException:
            refuse(channel, TransferError(channel.cancelled))
            raise


class Transfers:
    """Does steps, one after the other, on as many connections as it takes.

    Args:
        url, delays, options: as for `reconnect`; the first attempt to connect must succeed.
        steps: what to do.
        progress: is told how far each file is; ``None``: nobody.
        limit_rate: the most bytes of files in a second; ``None``: no limit.

    Raises:
        TypeError, ValueError: `limit_rate` is wrong.
    """

    def __init__(
        self,
        url: str,
        steps: Sequence[Step],
        *,
        delays: Iterable[float],
        progress: OnProgress | None,
        limit_rate: int | None,
        options: ConnectOptions,
    ) -> None:
        self._url = url
        self._folders: deque[Step] = deque()  # listed before the first file: then the size of all is known
        self._files: deque[Step] = deque()
        self._all = None if progress is None else AllFiles(progress)
        self._delays = delays
        self._limit = None if limit_rate is None else RateLimit(limit_rate)
        self._options = options
        self._results: list[TransferResult] = []
        self._connected = False
        self._listed = 0  # bytes
        self._add(steps)

    async def run(self) -> list[TransferResult]:
        """Do the steps; return the files that have arrived. Raises what `upload` does."""
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
                    await self._use(Channel(ws, hello(), client=True, limit=self._limit))
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
            while queue := self._folders or self._files:
                await self._do(queue, channel)

    async def _do(self, queue: deque[Step], channel: Channel) -> None:
        """Do the first step of a queue, and take it off."""
        step = queue[0]
        try:
            done = await step.run(channel, None if self._all is None else self._all.tell)
        except TransferError as error:
            error.add_note(f"This was {quoted(step.name)}.")
            raise
        queue.popleft()
        if isinstance(done, list):
            self._listed += sum(_OF_A_STEP + 2 * len(each.name) for each in done)
            if self._listed > _MOST_LISTED:
                raise TransferError("too-large", "the folder has more files than are taken in one call")
            self._add(done)
            return
        if self._all is not None:
            self._all.done(step.size if done is None else done.size, left_out=done is None)
        if done is not None:
            self._results.append(done)

    def _add(self, steps: Sequence[Step]) -> None:
        self._folders.extendleft(step for step in reversed(steps) if isinstance(step, ListFolder))
        files = [step for step in steps if not isinstance(step, ListFolder)]
        self._files += files
        if self._all is not None:
            for step in files:
                self._all.add(step.size)

    def _is_worth_it(self, error: Exception) -> bool | None:
        return None if self._connected else False
