"""Writing to a file in worker threads, each of which stays while there is more to write.

A trip to a worker thread costs as much time as writing 256 KiB to the page cache. So the event loop puts
bytes into a queue, and one trip writes whatever comes within a short time.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import IO, Any, Protocol

from anyio import to_thread

from wsstream.codec.events import PIECE_OVERHEAD
from wsstream.driver.signals import Signal
from wsstream.heap import keep_freed
from wsstream.transports.eventloop import event_loop

__all__ = ["MOST_PIECES", "FileWriter", "Hash", "write_all"]

MOST_PIECES = 1024  # in one batch; IOV_MAX of Linux, macOS and the BSDs
_MOST = 3 << 20  # bytes that wait to be written, 64 for each piece included
_FEW = _MOST // 2  # those at which more are taken again
_TURN = 0.05  # seconds; then the thread is free for another file, and `progress` is called
_LINGER = 0.005  # seconds that a worker thread waits for more


class Hash(Protocol):
    """What digests bytes on their way, as the objects of :mod:`hashlib` do."""

    def update(self, data: Any, /) -> object:
        """Add `data`, a bytes-like object. It is called in a worker thread."""


class FileWriter:
    """Batches of bytes on their way into a file.

    The event loop puts them in, and awaits `write`, which is one trip to a worker thread.

    Attributes:
        written: bytes that are in the file.
    """

    def __init__(self, file: IO[bytes] | io.FileIO, hash: Hash | None) -> None:
        keep_freed(2 * _MOST)
        self._file = file
        self._hash = hash
        self._batches: SimpleQueue[list[bytes]] = SimpleQueue()
        self._put = 0  # cost of all batches; only the event loop changes it
        self._done = 0  # cost of those that are written; only the worker thread changes it
        self.written = 0
        self._blocked = False  # the event loop waits for room
        self._room = Signal()
        self._soon: Callable[[Callable[[], object]], object] = event_loop().from_signal()
        self._write = _write_pieces if _is_plain(file) else _write_each

    @property
    def waiting(self) -> bool:
        """There is something to write."""
        return self._put != self._done

    def put(self, batch: list[bytes]) -> None:
        """Have `batch` written, of up to `MOST_PIECES` pieces. An empty one ends the trip: no more comes."""
        self._put += _cost(batch)
        self._batches.put(batch)

    async def wait_for_room(self) -> None:
        """Return at once if less than 3 MiB wait to be written, otherwise once that is down to a half."""
        if self._put - self._done < _MOST:
            return
        while True:
            # First this, then the look: the thread does the two in the other order.
            self._blocked = True
            if self._put - self._done <= _FEW:
                return
            await self._room.wait()

    async def write(self) -> None:
        """Write what has been put, and what is put meanwhile, for 50 ms or as long as there is more.

        Raises:
            Exception: of the file, or of the hash. The bytes that wait are lost.
        """
        await to_thread.run_sync(self._work)

    # -- in the worker thread ------------------------------------------------------------------

    def _work(self) -> None:
        until = monotonic() + _TURN
        while monotonic() < until:
            try:
                batch = self._batches.get(timeout=_LINGER)
            except Empty:
                return
            if not batch:
                return
            if self._hash is not None:
                for piece in batch:
                    self._hash.update(piece)
            self._write(self._file, batch)
            self._count(batch)

    def _count(self, batch: list[bytes]) -> None:
        self.written += sum(map(len, batch))
        self._done += _cost(batch)
        if self._blocked and self._put - self._done <= _FEW:
            self._blocked = False
            self._soon(self._room.notify)


def _cost(batch: list[bytes]) -> int:
    return sum(map(len, batch)) + PIECE_OVERHEAD * len(batch)


def _is_plain(file: object) -> bool:
    """Whether all that writing to `file` does is writing to its descriptor."""
    return type(file) is io.FileIO and hasattr(os, "writev")


def _write_pieces(file: IO[bytes] | io.FileIO, pieces: list[bytes]) -> None:
    """Write `pieces` to the descriptor of `file`, by one system call if it takes all of them."""
    try:
        written = os.writev(file.fileno(), pieces)
    except BlockingIOError:
        written = 0
    if written < sum(map(len, pieces)):
        write_all(file, b"".join(pieces)[written:])


def _write_each(file: IO[bytes] | io.FileIO, pieces: list[bytes]) -> None:
    for piece in pieces:
        write_all(file, piece)


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
