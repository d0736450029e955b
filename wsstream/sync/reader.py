"""One message of the peer as a file."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from typing import IO, Any

import anyio

from wsstream.arguments import check_int
from wsstream.codec.events import Kind
from wsstream.display import never_raises
from wsstream.errors import MessageTooBig
from wsstream.streams.file_writer import Hash, write_all
from wsstream.streams.progress import ProgressReport
from wsstream.streams.reader import MessageReader as AsyncReader
from wsstream.streams.save import check_hash, check_target, too_big
from wsstream.sync.link import Link

__all__ = ["MessageReader"]

_SAVED_AT_ONCE = 256 * 1024  # bytes


class MessageReader(io.RawIOBase):
    """The message that is being received, as a binary file that is read as it arrives.

    Made by :meth:`Readable.message` and :meth:`Readable.messages`. ``shutil.copyfileobj(reader, file)``
    copies a message of any size in bounded memory; ``io.TextIOWrapper(io.BufferedReader(reader), "utf-8")``
    reads the lines of a text message.

    Attributes:
        kind (str): ``"text"`` or ``"binary"``.
        bytes_received: bytes handed out so far.
        complete: the message was handed out to its end.
        thread: the identifier of the thread that takes it: another one's `receive` does not skip it.
    """

    def __init__(self, link: Link, message: bytes | str, remote: AsyncReader | None) -> None:
        super().__init__()
        self.bytes_received = 0
        self.complete = False
        self.thread = threading.get_ident()
        self._link = link
        self._remote = remote  # where more comes from
        self.kind: Kind = "text" if isinstance(message, str) else "binary"
        if remote is not None:
            self.kind = remote.kind
        self._held = message.encode() if isinstance(message, str) else message
        self._at = 0  # where in `_held` the next chunk begins
        link.incoming.set_reader(self)

    @never_raises
    def __repr__(self) -> str:
        state = "complete" if self.complete else "closed" if self.closed else "open"
        text = f"{self.kind}, {self.bytes_received} bytes received, {state}"
        return f"<MessageReader of connection {self._link.ending.id}: {text}>"

    def receive(self, max_bytes: int = 65536, *, timeout: float | None = None) -> bytes:
        """Return the next 1 to `max_bytes` bytes, as soon as one has arrived.

        After Ctrl-C or a timeout no byte is lost.

        Raises:
            anyio.EndOfStream: the message is complete.
            TimeoutError: nothing came within `timeout` seconds.
            ConnectionBroken: the connection ended inside the message.
            ClosedLocally: the connection was closed on this side.
            anyio.ClosedResourceError: the reader was closed.
        """
        check_int("max_bytes", max_bytes, 1)
        if self.closed and not self.complete:
            raise anyio.ClosedResourceError
        if chunk := self._take(max_bytes, timeout):
            return chunk
        raise anyio.EndOfStream

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, at least one unless the message has ended; without `size` all the rest.

        After the end of the message: ``b""``. Raises what :meth:`receive` raises, but ``ValueError`` on a
        closed reader.

        Raises:
            MessageTooBig: without `size`: the rest is larger than the ``max_message_size`` of the connection,
                which fails with 1009.
        """
        self._check_not_closed()
        if size == 0:
            return b""
        if size is not None and size > 0:
            return self._take(size, None)
        return self.readall()

    def readall(self) -> bytes:
        """The same as ``read()``."""
        self._check_not_closed()
        rest, self._held, self._at = self._held[self._at :], b"", 0
        if self._remote is not None and not self.complete:
            rest += self._link.call(self._remote.read)
        self.bytes_received += len(rest)
        self._finish()
        return rest

    def readinto(self, buffer: Any) -> int:
        """Read into a writable buffer; returns the number of bytes, 0 at the end of the message."""
        self._check_not_closed()
        with memoryview(buffer) as view, view.cast("B") as target:
            chunk = self._take(len(target), None) if len(target) else b""
            target[: len(chunk)] = chunk
        return len(chunk)

    def readable(self) -> bool:
        """It can be read."""
        return True

    def _check_not_closed(self) -> None:
        if self.closed:
            raise ValueError("the reader of the message was closed")

    def _take(self, most: int, timeout: float | None) -> bytes:
        """The next 1 to `most` bytes; ``b""``: the message has ended."""
        if self._at == len(self._held):
            if self.complete or self._remote is None or self._remote.complete:
                self._finish()
                return b""
            try:
                self._link.background.call(lambda: self._fetch(most), timeout, lambda: self._fetch_now(most))
            except anyio.EndOfStream:
                if not self._remote.complete:
                    raise
                self._finish()
                return b""
        held, at = self._held, self._at
        chunk = held if not at and len(held) <= most else held[at : at + most]
        self._at += len(chunk)
        self.bytes_received += len(chunk)
        if self._at == len(held):
            self._held, self._at = b"", 0
            if self._remote is None or self._remote.complete:
                self._finish()
        return chunk

    # In the event loop: what comes is kept in `_held`, so a call that was interrupted loses nothing.

    def _fetch_now(self, most: int) -> bool:
        assert self._remote is not None
        self._held = self._remote._take_arrived(max(most, self._link.incoming.ahead))
        return bool(self._held)

    async def _fetch(self, most: int) -> None:
        assert self._remote is not None
        first = await self._remote.receive(max(most, self._link.incoming.ahead))
        self._held = first + self._remote._take_arrived(max(most, self._link.incoming.ahead) - len(first))

    def _finish(self) -> None:
        self.complete = True
        self._link.incoming.set_reader(None)

    def save(
        self,
        file: str | os.PathLike[str] | IO[bytes],
        *,
        max_bytes: int | None = None,
        progress: Callable[[int], object] | None = None,
        hash: Hash | None = None,
    ) -> int:
        """Write the rest of the message to a file, whatever its size. Returns the number of bytes.

        `file` is a path, whose file is created or replaced, or a binary file object, which is written from
        its position and stays open. After Ctrl-C the file has all that the reader handed out.

        Args:
            max_bytes: the most bytes to take. ``None``: any number.
            progress: called in this thread with the number of bytes written, at most 20 times a second, and
                at the end.
            hash: such as ``hashlib.sha256()``: its ``update`` is called with the bytes.

        Raises:
            TypeError: `file` is a text file, or not a file; `hash` is not a hash.
            OSError: the file cannot be opened or written. The rest of the message can be read.
            MessageTooBig: the rest has more than `max_bytes` bytes, of which all have been written; the
                connection fails with 1009.
            ConnectionBroken, ClosedLocally, anyio.ClosedResourceError: as `receive`.
        """
        check_int("max_bytes", max_bytes, 0, optional=True)
        check_hash(hash)
        if isinstance(file, str | os.PathLike):
            with io.FileIO(file, "w") as opened:
                return self._save(opened, max_bytes, progress, hash)
        check_target(file)
        return self._save(file, max_bytes, progress, hash)

    def _save(
        self,
        file: IO[bytes] | io.FileIO,
        max_bytes: int | None,
        progress: Callable[[int], object] | None,
        hash: Hash | None,
    ) -> int:
        report, written = ProgressReport(progress, time.monotonic), 0
        while True:
            left = None if max_bytes is None else max_bytes - written
            try:
                # One byte more than is allowed shows that the message is too large.
                chunk = self.receive(_SAVED_AT_ONCE if left is None else min(_SAVED_AT_ONCE, left + 1))
            except anyio.EndOfStream:
                if not self.complete:
                    raise
                report.complete(written)
                return written
            allowed = chunk if left is None else chunk[:left]
            if hash is not None:
                hash.update(allowed)
            write_all(file, allowed)
            written += len(allowed)
            report.update(written)
            if max_bytes is not None and len(allowed) < len(chunk):
                self._refuse(too_big(max_bytes))

    def _refuse(self, error: MessageTooBig) -> None:
        self._link.background.post(lambda: self._link.incoming.refuse(error))
        raise error

    def close(self) -> None:
        """Skip the rest of the message without buffering it; the connection goes on. Never waits."""
        if self.closed:
            return
        super().close()
        link: Link | None = getattr(self, "_link", None)  # not where __init__ failed
        if link is None or self.complete:
            return
        link.incoming.set_reader(None)
        if self._remote is not None and not link.background.forked:
            link.background.post_if_alive(self._remote._close)
