"""Saving a message of any size in a file, in bounded memory."""

from __future__ import annotations

import io
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import IO, Any, Protocol, TypeAlias

import anyio
from anyio import CancelScope, to_thread

from wsstream.arguments import check_int
from wsstream.driver.signals import Signal
from wsstream.errors import MessageTooBig
from wsstream.streams.progress import ProgressReport

__all__ = ["Hash", "check_hash", "check_target", "save_message", "too_big", "write_all"]

Receive: TypeAlias = Callable[[int], Awaitable[bytes]]
Refuse: TypeAlias = Callable[[MessageTooBig], object]

_ENOUGH = 512 * 1024  # bytes that are worth a trip to a worker thread
_MOST = 1 << 20  # bytes that gather while a worker thread writes
_PATIENCE = 0.05  # seconds that fewer bytes wait for more


class Hash(Protocol):
    """What digests bytes on their way, as the objects of :mod:`hashlib` do."""

    def update(self, data: Any, /) -> object:
        """Add `data`, a bytes-like object. It is called in a worker thread."""


def check_hash(hash: object) -> None:
    """Raise TypeError, unless `hash` is ``None`` or has an ``update`` method."""
    if hash is not None and not callable(getattr(hash, "update", None)):
        raise TypeError(f"hash must be a hash object, such as hashlib.sha256(), got {type(hash).__name__}")


def too_big(max_bytes: int) -> MessageTooBig:
    """The error for a message of which more than `max_bytes` would have to be saved."""
    what = f"the message has more than {max_bytes} bytes"
    return MessageTooBig(f"{what}: raise max_bytes to save it", reason=what)


def check_target(file: object) -> None:
    """Raise TypeError, unless bytes can be written to `file`, as far as its type tells."""
    if isinstance(file, io.TextIOBase) or not hasattr(file, "write"):
        raise TypeError(f"file must be a path or a binary file, got {type(file).__name__}")


async def save_message(
    receive: Receive,
    refuse: Refuse,
    file: str | os.PathLike[str] | IO[bytes],
    max_bytes: int | None,
    progress: Callable[[int], object] | None,
    hash: Hash | None,
) -> int:
    """Write the rest of a message to `file`: `MessageReader.save` has the contract.

    Args:
        receive: returns the next bytes of the message, at most as many as it is called with, and raises
            ``anyio.EndOfStream`` after the last.
        refuse: called with MessageTooBig, fails the connection.
    """
    check_int("max_bytes", max_bytes, 0, optional=True)
    check_hash(hash)
    if not isinstance(file, str | os.PathLike):
        check_target(file)
        return await _Saving(receive, refuse, file, max_bytes, progress, hash).run()
    opened = await to_thread.run_sync(partial(io.FileIO, file, "w"))
    try:
        return await _Saving(receive, refuse, opened, max_bytes, progress, hash).run()
    finally:
        opened.close()  # without a buffer there is nothing left to write


class _Saving:
    """A message on their way into a file: a worker thread writes a batch while the next one gathers."""

    def __init__(
        self,
        receive: Receive,
        refuse: Refuse,
        file: IO[bytes] | io.FileIO,
        max_bytes: int | None,
        progress: Callable[[int], object] | None,
        hash: Hash | None,
    ) -> None:
        self._receive = receive
        self._refuse = refuse
        self._file = file
        self._max_bytes = max_bytes
        self._report = ProgressReport(progress)
        self._hash = hash
        self._batch: list[bytes] = []
        self._gathered = 0  # bytes in the batch
        self._taken = 0  # bytes taken from the message
        self._written = 0
        self._complete = False  # nothing will be added to the batch
        self._error: Exception | None = None
        self._gathering = CancelScope()
        self._added = Signal()
        self._removed = Signal()

    async def run(self) -> int:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write_batches)
            try:
                with self._gathering:
                    await self._gather()
            except anyio.EndOfStream:
                pass
            except Exception as error:
                self._error = self._error or error
            finally:
                self._complete = True
                self._added.notify()
        if self._error is not None:
            raise self._error
        self._report.complete(self._written)
        return self._written

    async def _gather(self) -> None:
        """Take chunks until the message ends."""
        while True:
            chunk = await self._receive(self._next_size())
            if self._max_bytes is not None and self._taken + len(chunk) > self._max_bytes:
                self._batch.append(chunk[: self._max_bytes - self._taken])
                error = too_big(self._max_bytes)
                self._refuse(error)
                raise error
            self._taken += len(chunk)
            self._batch.append(chunk)
            self._gathered += len(chunk)
            if self._gathered >= _ENOUGH or len(self._batch) == 1:
                self._added.notify()
            while self._gathered >= _MOST:
                await self._removed.wait()

    def _next_size(self) -> int:
        if self._max_bytes is None:
            return _ENOUGH
        return min(_ENOUGH, self._max_bytes - self._taken + 1)  # one byte more shows that it is too large

    async def _write_batches(self) -> None:
        """Write what is gathered, to the last byte, also when the saving is cancelled."""
        with CancelScope(shield=True):
            try:
                while self._batch or not self._complete:
                    if not self._batch:
                        await self._added.wait()
                    if self._gathered < _ENOUGH and not self._complete:
                        with anyio.move_on_after(_PATIENCE):
                            await self._added.wait()
                    await self._write_batch()
            except Exception as error:  # of the file, the hash or `progress`
                self._error = error
                self._gathering.cancel()

    async def _write_batch(self) -> None:
        batch, size = self._batch, self._gathered
        self._batch, self._gathered = [], 0
        self._removed.notify()
        if batch:
            await to_thread.run_sync(self._write, batch)
            self._written += size
            self._report.update(self._written)

    def _write(self, batch: list[bytes]) -> None:
        for chunk in batch:
            if self._hash is not None:
                self._hash.update(chunk)
            write_all(self._file, chunk)


def write_all(file: IO[bytes] | io.FileIO, chunk: bytes) -> None:
    """Write `chunk` to `file`, which may take a part at a time, as files without a buffer do.

    Raises:
        OSError: as ``file.write`` does; also if the file does not block and is full.
    """
    written = file.write(chunk)
    while written != len(chunk):
        if not written:
            raise BlockingIOError("the file took no bytes: it must block while it is full")
        chunk = chunk[written:]
        written = file.write(chunk)
