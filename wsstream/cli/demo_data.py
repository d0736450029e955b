"""The data of the demo: a file, or made-up data."""

from __future__ import annotations

import os
import stat
from hashlib import sha256, shake_128
from types import TracebackType
from typing import Protocol

from wsstream.cli.exits import CommandFailed, Exit

__all__ = ["CHUNK", "DemoFile", "MadeUpSource", "Source", "Tally"]

CHUNK = 256 * 1024  # bytes

_POOL = 1 << 20  # bytes
_STEP = 611_953  # bytes; a prime, so that chunks begin at every offset of the pool before one repeats


class Tally:
    """Counts and digests bytes."""

    def __init__(self) -> None:
        self.bytes = 0
        self._digest = sha256()

    def add(self, chunk: bytes) -> None:
        """Count and digest `chunk`. Releases the GIL for large chunks."""
        self.bytes += len(chunk)
        self._digest.update(chunk)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all chunks, in hexadecimal."""
        return self._digest.hexdigest()


class Source(Protocol):
    """A source of bytes to send, read from a worker thread."""

    name: str
    size: int

    def read(self) -> bytes:
        """Return the next chunk, ``b""`` at the end. Waits for the disk."""
        ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...


class DemoFile:
    """A regular file, from its beginning to its end at the time of reading.

    Raises:
        CommandFailed: it cannot be opened or read, or is not a regular file, which might block for ever.

    Attributes:
        path: as given.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = path if path.isprintable() else ascii(path)
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise CommandFailed(Exit.LOCAL_IO, f"{self.name}: not a regular file")
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - this is a context manager
        except OSError as error:
            raise self._failure(error) from error
        self.size = status.st_size

    def read(self) -> bytes:
        """The next chunk, ``b""`` at the end."""
        try:
            return self._file.read(CHUNK) or b""
        except OSError as error:
            raise self._failure(error) from error

    def __enter__(self) -> DemoFile:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._file.close()

    def _failure(self, error: OSError) -> CommandFailed:
        return CommandFailed(Exit.LOCAL_IO, f"{self.name}: {error.strerror or error}")


class MadeUpSource:
    """`size` bytes, the same ones in each run, at the speed of copying memory.

    Each chunk is a part of a pool of pseudo-random bytes. Deflate cannot compress them, and no two chunks
    within 192 GiB are alike, so a lost, repeated or displaced chunk changes the digest.
    """

    def __init__(self, size: int) -> None:
        self.name = "made-up data"
        self.size = size
        self._left = size
        self._chunks = 0
        self._pool = shake_128(b"wsstream").digest(_POOL)

    def read(self, size: int = CHUNK) -> bytes:
        """The next chunk, of at most `size` bytes; ``b""`` at the end."""
        size = min(CHUNK, size, self._left)
        start = self._chunks * _STEP % (_POOL - CHUNK)
        self._chunks += 1
        self._left -= size
        return self._pool[start : start + size]

    def __enter__(self) -> MadeUpSource:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._left = 0
