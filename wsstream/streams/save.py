"""Saving a message of any size in a file, in bounded memory."""

from __future__ import annotations

import io
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import IO, TypeAlias

import anyio
from anyio import CancelScope, to_thread

from wsstream.arguments import check_int
from wsstream.driver.signals import Signal
from wsstream.errors import MessageTooBig
from wsstream.streams.file_writer import MOST_PIECES, FileWriter, Hash
from wsstream.streams.progress import ProgressReport

__all__ = ["check_hash", "check_target", "save_message", "too_big"]

Receive: TypeAlias = Callable[[int], Awaitable[bytes]]
Refuse: TypeAlias = Callable[[MessageTooBig], object]

_ENOUGH = 3 << 19  # bytes (1.5 MiB) that are worth waking a worker thread
_PATIENCE = 0.05  # seconds that fewer bytes wait for more


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
    """A message on its way into a file: a worker thread writes while the next bytes gather."""

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
        self._max_bytes = max_bytes
        self._report = ProgressReport(progress)
        self._writer = FileWriter(file, hash)
        self._batch: list[bytes] = []
        self._gathered = 0  # bytes in the batch
        self._taken = 0  # bytes taken from the message
        self._complete = False  # nothing will be added to the batch
        self._error: Exception | None = None
        self._gathering = CancelScope()
        self._added = Signal()

    async def run(self) -> int:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write)
            try:
                with self._gathering:
                    await self._gather()
            except anyio.EndOfStream:
                pass
            except Exception as error:
                self._error = self._error or error
            finally:
                self._end()
        if self._error is not None:
            raise self._error
        self._report.complete(self._writer.written)
        return self._writer.written

    # -- gathering -----------------------------------------------------------------------------

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
            if self._gathered >= _ENOUGH or len(self._batch) == MOST_PIECES:
                self._hand_over()
                self._added.notify()
                await self._writer.wait_for_room()
            elif len(self._batch) == 1:
                self._added.notify()

    def _next_size(self) -> int:
        if self._max_bytes is None:
            return _ENOUGH
        return min(_ENOUGH, self._max_bytes - self._taken + 1)  # one byte more shows that it is too large

    def _hand_over(self) -> None:
        if self._batch:
            self._writer.put(self._batch)
            self._batch, self._gathered = [], 0

    def _end(self) -> None:
        """No more bytes come: the worker thread need not wait for any."""
        self._hand_over()
        self._writer.put([])
        self._complete = True
        self._added.notify()

    # -- writing -------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Write what is gathered, to the last byte, also when the saving is cancelled."""
        with CancelScope(shield=True):
            try:
                while await self._something_to_write():
                    await self._writer.write()
                    self._report.update(self._writer.written)
            except Exception as error:  # of the file, the hash or `progress`
                self._error = error
                self._gathering.cancel()

    async def _something_to_write(self) -> bool:
        """Wait for enough bytes to write, or a short time for a few; false at the end of the message."""
        if not (self._writer.waiting or self._batch or self._complete):
            await self._added.wait()
        if not (self._writer.waiting or self._complete):
            with anyio.move_on_after(_PATIENCE):
                await self._added.wait()
        if not self._writer.waiting:
            self._hand_over()
        return self._writer.waiting
