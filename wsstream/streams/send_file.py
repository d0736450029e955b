"""Sending a file as one message."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO

import anyio
from anyio import to_thread

from wsstream.driver.ending import Ending
from wsstream.driver.outgoing import OutgoingMessage
from wsstream.driver.sender import Sender
from wsstream.errors import ConnectionBroken, MessageAborted
from wsstream.protocol.file_frames import FileEnded, FileRange
from wsstream.streams.file_writer import Hash
from wsstream.streams.progress import ProgressReport
from wsstream.transports.file import RegularFile, regular_file

__all__ = ["send_open_file"]

_CHUNK = 1 << 20  # bytes; one trip to a worker thread each
_PART = 1 << 22  # bytes of a file that the driver takes over at once, without a copy
_REPORTED_PART = 1 << 18  # the same, where the application wants to see the progress


async def send_open_file(
    sender: Sender,
    ending: Ending,
    file: IO[bytes],
    offset: int,
    count: int | None,
    progress: Callable[[int], object] | None,
    hash: Hash | None,
) -> int:
    """Send `count` bytes of `file` from `offset`, or all to its end, as one binary message.

    Returns their number when they have left for the kernel. If cancelled, the connection fails with 1011.

    Raises:
        TypeError: `file` is not a seekable binary file.
        OSError, EOFError: the file cannot be read, or ended early; the connection fails with 1011.
        ConnectionBroken, ClosedLocally: the connection has ended.
    """
    kind: object = file
    if isinstance(kind, io.TextIOBase) or not hasattr(kind, "read") or not hasattr(kind, "seek"):
        raise TypeError(f"file must be a path or a seekable binary file, got {type(file).__name__}")
    await anyio.wrap_file(file).seek(offset)  # also writes what the object has in its buffer
    source = regular_file(file)
    ending.check_open()
    message = await sender.begin("binary", compress=True)
    report = ProgressReport(progress)
    transfer = _Transfer(sender, ending, message, report, hash)
    try:
        await transfer.run(file, source, offset, count)
    except BaseException:
        if sender.is_sending(message):
            ending.fail(MessageAborted("a message was left unfinished"))
        raise
    await sender.append(message, b"", finished=True)
    report.complete(transfer.sent)
    if source is not None:
        file.seek(offset + transfer.sent)
    return transfer.sent


class _Transfer:
    """The bytes of one file on their way into one message.

    Attributes:
        sent: bytes that the driver has taken over.
    """

    def __init__(
        self,
        sender: Sender,
        ending: Ending,
        message: OutgoingMessage,
        report: ProgressReport,
        hash: Hash | None,
    ) -> None:
        self._sender = sender
        self._ending = ending
        self._message = message
        self._report = report
        self._hash = hash
        self.sent = 0

    async def run(self, file: IO[bytes], source: RegularFile | None, offset: int, count: int | None) -> None:
        wrapped = anyio.wrap_file(file)
        sends_ranges = self._sender.pump.sends_files and self._hash is None
        part = _REPORTED_PART if self._report.wanted else _PART
        while count is None or self.sent < count:
            before = self.sent
            most = part if count is None else min(part, count - before)
            if source is not None and sends_ranges:
                await self._send_range(source, offset + before, most)
            elif source is not None:
                await self._send(await source.read(most, offset + before))
            else:
                await self._send(await wrapped.read(min(most, _CHUNK)))
            if self.sent == before:
                if count is not None:
                    raise EOFError(f"the file ended {count - before} bytes early")
                return
            self._report.update(self.sent)

    async def _send(self, chunk: bytes) -> None:
        if chunk:
            if self._hash is not None:
                await to_thread.run_sync(self._hash.update, chunk)
            await self._sender.wait_for_room()
            self.sent += len(chunk)
            await self._sender.append(self._message, chunk, finished=False)

    async def _send_range(self, source: RegularFile, start: int, most: int) -> None:
        stop = min(start + most, source.size)
        if stop > start:
            stop = await source.cache(start, stop)
        if stop <= start:
            return
        await self._sender.wait_for_room()
        self.sent += stop - start
        try:
            await self._sender.append_file(self._message, FileRange(source, start, stop))
        except ConnectionBroken as error:
            if isinstance(self._ending.cause, FileEnded):
                raise EOFError("the file became shorter while it was sent") from error
            raise
