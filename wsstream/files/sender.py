"""Sending one file over a channel, from the offer to Done."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import IO, TypeAlias

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

from wsstream.files.beside import beside
from wsstream.files.channel import Channel
from wsstream.files.errors import TransferError
from wsstream.files.progress import Meter, Phase
from wsstream.files.protocol.digests import Digest, available, new_digest
from wsstream.files.protocol.messages import Abort, Accept, Done, End, Offer, Prefix
from wsstream.files.protocol.states import SERVES, State
from wsstream.files.result import TransferResult
from wsstream.files.storage.os_errors import storage_call
from wsstream.files.storage.partial import hash_range
from wsstream.files.storage.source import Source

__all__ = ["FileSource", "StreamSource", "open_path", "send_one"]

_BLOCK = 1 << 20  # bytes; one trip to a worker thread each
_HASH_STEP = 16 << 20  # bytes that are hashed in one trip


class StreamSource:
    """A stream of bytes that can be read once, such as a pipe. It cannot be resumed.

    Args:
        file: what is read.
        size: how many bytes it has; ``None``: not known.

    Attributes:
        size: as given.
        mtime_ns: not known.
        etag: one of its own.
    """

    mtime_ns: int | None = None

    def __init__(self, file: IO[bytes], size: int | None = None) -> None:
        self.size = size
        self.etag = secrets.token_hex(16)
        self._file = file
        self._offset = 0

    @storage_call
    def pread(self, size: int, offset: int) -> bytes:
        """Read up to `size` bytes from `offset`, which must be where the last call ended.

        Raises:
            TransferError: ``changed``: it is somewhere else.
        """
        if offset != self._offset:
            raise TransferError("changed", "a stream cannot be sent again", retry="never")
        read: Callable[[int], bytes] = getattr(self._file, "read1", self._file.read)
        data = read(size)
        self._offset += len(data)
        return data

    def changed(self) -> bool:
        """Never."""
        return False


FileSource: TypeAlias = Source | StreamSource
"""Where the bytes of a file come from. The calls are made in worker threads."""


@storage_call
def open_path(path: str | os.PathLike[str]) -> Source:
    """Open a regular file that this program chose, for sending. Waits for the disk."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        return Source(fd)
    except BaseException:
        os.close(fd)
        raise


async def send_one(
    channel: Channel,
    source: FileSource,
    name: str,
    meter: Meter,
    *,
    digest: str | None = None,
    keep: bool = False,
    id: int = 0,
) -> TransferResult:
    """Offer a file and send it; return what the receiver has.

    If cancelled, or if the file cannot be read, the transfer is aborted, and the receiver may keep its part.

    Args:
        channel: it must be run.
        source: the file.
        name: what to call it.
        meter: is told how far it is.
        digest: of the whole file by the first of the digests here, if it is known.
        keep: the receiver must not replace a file of that name.
        id: of the peer's Get that this answers; 0: it was not asked for.

    Raises:
        TransferError: the receiver does not take it, or it failed.
        ConnectionClosed: the connection has ended.
    """
    try:
        offer = Offer(
            id=id or channel.session.next_id,
            name=name,
            size=source.size,
            mtime=None if source.mtime_ns is None else source.mtime_ns // 1_000_000,
            hashes=available(),
            etag=source.etag,
            digest=digest,
            keep=keep,
        )
    except ValueError as error:  # the name is too long, or no text
        raise TransferError("invalid-name", str(error)) from None
    try:
        return await _Sending(channel, source, offer, meter).run()
    except BaseException as error:
        if channel.session.state in SERVES and channel.session.id == offer.id:
            problem = channel.problem(error)
            channel.post(Abort(offer.id, problem.error, problem.reason, keep=problem.error != "changed"))
        raise


class _Sending:
    def __init__(self, channel: Channel, source: FileSource, offer: Offer, meter: Meter) -> None:
        self._channel = channel
        self._session = channel.session
        self._source = source
        self._offer = offer
        self._meter = meter
        self._moved = 0
        self._hashed = 0  # bytes of the file, if they are hashed beside sending
        self._all_hashed = anyio.Event()

    async def run(self) -> TransferResult:
        answer = await self._offer_it(self._offer)
        if isinstance(answer, Accept) and answer.check is not None and not await self._passes(answer):
            answer = await self._offer_it(replace(self._offer, fresh=True))
        if isinstance(answer, Accept):
            self._meter.start(answer.offset, self._offer.size)
            answer = await self._send(answer)
        self._meter.tell("done", answer.size, answer.durable)
        assert answer.digest is not None  # the session has compared it
        assert answer.hash is not None
        return TransferResult(answer.name, answer.size, answer.digest, answer.hash, self._moved)

    async def _offer_it(self, offer: Offer) -> Accept | Done:
        self._channel.check()
        self._channel.post(offer)
        self._meter.tell("waiting")
        while True:
            answer = await self._channel.event()
            if isinstance(answer, Accept | Done):
                return answer

    async def _passes(self, accept: Accept) -> bool:
        """Compare what the receiver has before the offset with this file."""
        assert accept.check is not None
        async with self._channel.telling("hashing", lambda: 0, None):
            found = await to_thread.run_sync(self._hash_prefix, accept.check, accept.hash)
        if found != accept.check.digest:
            return False
        if self._session.state is State.CHECKING:
            self._session.check_passed()
        return True

    def _hash_prefix(self, prefix: Prefix, kind: str) -> str:
        digest = new_digest(kind)
        hash_range(self._read_into, digest, prefix.start, prefix.end)
        return digest.hexdigest()

    def _read_into(self, buffer: memoryview, offset: int) -> int:
        data = self._source.pread(len(buffer), offset)
        buffer[: len(data)] = data
        return len(data)

    async def _send(self, accept: Accept) -> Done:
        digest = new_digest(accept.hash)
        # The bytes before the offset are hashed while the others are sent; then all are read once more.
        resumed = accept.offset > 0
        tasks = [partial(self._hash_file, digest)] if resumed else []
        async with beside(*tasks):
            async with self._read_ahead(accept.offset, None if resumed else digest) as blocks:
                async for block in blocks:
                    await self._send_block(block)
            await self._end(accept, digest, resumed)
        while not isinstance(answer := await self._channel.event(), Done):
            self._tell("verifying")
        return answer

    async def _send_block(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            self._channel.check()
            if not (size := self._session.may_send()):
                self._tell("sending")
                await self._channel.change()
                continue
            piece = view[: min(size, self._channel.step)]
            await self._channel.may_move(len(piece))
            if await self._channel.send_data(piece):
                self._moved += len(piece)
                view = view[len(piece) :]
                self._tell("sending")

    async def _end(self, accept: Accept, digest: Digest, resumed: bool) -> None:
        credit = self._session.credit
        size = accept.offset if credit is None else credit.sent
        if self._source.size not in (None, size):
            raise TransferError("changed", "the file became shorter while it was sent")
        if resumed:
            self._tell("hashing")
            async with self._channel.telling("hashing", lambda: self._hashed, size):
                await self._all_hashed.wait()
        if await to_thread.run_sync(self._source.changed):
            raise TransferError("changed", "the file changed while it was sent")
        self._channel.check()
        self._channel.post(End(self._offer.id, size, digest.hexdigest()))
        self._tell("verifying")

    async def _hash_file(self, digest: Digest) -> None:
        """Hash all of the file, beside sending it."""
        size = self._offer.size or 0
        while self._hashed < size:
            stop = min(self._hashed + _HASH_STEP, size)
            done = await to_thread.run_sync(hash_range, self._read_into, digest, self._hashed, stop)
            if done < stop:
                raise TransferError("changed", "the file became shorter while it was sent")
            self._hashed = done
        self._all_hashed.set()

    @asynccontextmanager
    async def _read_ahead(
        self, offset: int, digest: Digest | None
    ) -> AsyncIterator[MemoryObjectReceiveStream[bytes]]:
        """The blocks of the file from `offset` on; one is read while another one is sent."""
        put, take = anyio.create_memory_object_stream[bytes](1)

        size = self._offer.size

        def read(at: int) -> bytes:
            block = self._source.pread(_BLOCK if size is None else min(_BLOCK, size - at), at)
            if digest is not None:
                digest.update(block)
            return block

        async def read_all() -> None:
            at = offset
            async with put:
                while block := await to_thread.run_sync(read, at):
                    await put.send(block)
                    at += len(block)

        async with take, beside(read_all):
            yield take

    def _tell(self, phase: Phase) -> None:
        credit = self._session.credit
        if credit is not None:
            self._meter.tell(
                phase,
                credit.written,
                credit.durable,
                credit.sent - credit.written,
                credit.window,
            )
