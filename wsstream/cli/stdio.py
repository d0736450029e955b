"""stdin and stdout without a thread that could hang: waiting for either can be cancelled.

What they are shared with (the shell, other processes of a pipeline) must not notice, so the descriptors stay
blocking. stdin is read when it is readable. stdout, a pipe or a terminal, is opened once more through
``/proc``, which gives a description of its own that does not block.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
from collections.abc import Callable

import anyio
from anyio.lowlevel import checkpoint

from wsstream.cli.exits import CommandFailed, Exit

__all__ = ["Input", "Output"]

_CHUNK = 64 * 1024  # bytes of a read
_PIPE_BUF = getattr(select, "PIPE_BUF", 512)  # a pipe that is writable takes as much without blocking
_INLINE = 64 * 1024  # bytes that may be written to a file on the event loop: they go to the page cache


def _failure(name: str, error: OSError) -> CommandFailed:
    return CommandFailed(Exit.LOCAL_IO, f"{name}: {error.strerror or error}")


def _can_wait(number: int) -> bool:
    """Whether the event loop can wait for it: not for files and devices such as /dev/null."""
    mode = os.fstat(number).st_mode
    return sys.platform != "win32" and (
        stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(number))
    )


class Input:
    """Reads from a descriptor, by default stdin."""

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self._can_wait = _can_wait(number)

    async def read(self, size: int = _CHUNK) -> bytes:
        """Return the next 1 to `size` bytes, ``b""`` at the end. If cancelled while it waits, none is lost.

        Raises:
            CommandFailed: it cannot be read.
        """
        try:
            if not self._can_wait:
                return await anyio.to_thread.run_sync(os.read, self._number, size)
            while True:
                await anyio.wait_readable(self._number)
                try:
                    return os.read(self._number, size)
                except BlockingIOError:
                    pass  # another process was faster
        except OSError as error:
            raise _failure("standard input", error) from error


class Output:
    """Writes to a descriptor, by default stdout. A slow reader makes `write` wait.

    Attributes:
        is_terminal: somebody looks at it.
    """

    def __init__(self, number: int = 1) -> None:
        self.is_terminal = os.isatty(number)
        self._number = number
        self._waits_first = False  # else it is written to at once, and fails if that would block
        self._limit = sys.maxsize  # of bytes in one call
        self._own: int | None = None  # the descriptor that was opened here
        self._socket: socket.socket | None = None
        self._write_some: Callable[[memoryview], int] | None = None  # None: a file
        if _can_wait(number):
            self._write_some = self._choose()

    def _choose(self) -> Callable[[memoryview], int]:
        if stat.S_ISSOCK(os.fstat(self._number).st_mode):
            self._socket = socket.socket(fileno=os.dup(self._number))
            return lambda data: self._socket.send(data, socket.MSG_DONTWAIT)  # type: ignore[union-attr]
        try:
            self._own = os.open(f"/proc/self/fd/{self._number}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:  # another system, or another user's pipe
            self._waits_first, self._limit = True, _PIPE_BUF
        target = self._number if self._own is None else self._own
        return lambda data: os.write(target, data)

    async def write(self, data: bytes) -> None:
        """Write all of `data`. If cancelled, a part of it may have been written.

        Raises:
            CommandFailed: it cannot be written, perhaps as nobody reads any more.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[await self._write(view[: self._limit]) :]
        except OSError as error:
            raise _failure("standard output", error) from error

    async def _write(self, view: memoryview) -> int:
        if self._write_some is None:
            if len(view) <= _INLINE:
                return os.write(self._number, view)
            return await anyio.to_thread.run_sync(os.write, self._number, view)
        while True:
            if self._waits_first:
                await anyio.wait_writable(self._number)
            try:
                return self._write_some(view)
            except BlockingIOError:
                await anyio.wait_writable(self._number if self._own is None else self._own)

    async def end(self) -> None:
        """End it: whoever reads it sees the end. Writing is over."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the other side is gone
            self._socket.close()
        if self._own is not None:
            os.close(self._own)
        self._socket = self._own = None
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._number)  # not closed: a socket must not get the number of stdout
        os.close(null)
        self._write_some = None
        await checkpoint()
