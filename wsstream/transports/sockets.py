"""Plain non-blocking sockets, TCP and Unix, as transports.

The operations go straight to the socket; only waiting goes through the event loop. `close` may be called in a
task and in a callback of the loop; it wakes waiting tasks.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio

from wsstream.protocol.file_frames import FileFrames, FileRange
from wsstream.protocol.frame_queue import Piece
from wsstream.transports.base import NOTSENT, Backlog, Delivery, Transport
from wsstream.transports.eventloop import EventLoop, event_loop
from wsstream.transports.sendfile import send_file_frames, send_file_range
from wsstream.transports.tcp_info import delivery

if sys.platform != "win32":
    from fcntl import ioctl
    from termios import TIOCOUTQ

__all__ = [
    "INHERITS_OPTIONS",
    "BaseSocketTransport",
    "SocketTransport",
    "backlog",
    "limit_unsent",
    "set_options",
]

# Linux's tcp(7): the bytes in the send queue that have not been sent.
_SIOCOUTQNSD = 0x894B

# Buffers in one system call: IOV_MAX of Linux, macOS and the BSDs.
MAX_BUFFERS = 1024


_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")
_HAS_LOWAT = hasattr(socket, "TCP_NOTSENT_LOWAT")

INHERITS_OPTIONS = sys.platform == "linux"
"""Whether an accepted socket has what `set_options` has set on its listener."""


class BaseSocketTransport(Transport):
    """The common part of plain and TLS sockets: waiting, closing, and the socket's properties.

    The transport owns `sock`, a connected stream socket, and makes it non-blocking.

    Args:
        sock: the socket.
        loop: the operations of the event loop, if they are known.
        has_options: whether `sock` has the options of `set_options` already.
    """

    __slots__ = ("_event_loop", "_sock")

    def __init__(
        self, sock: socket.socket, loop: EventLoop | None = None, *, has_options: bool = False
    ) -> None:
        if sock.gettimeout() != 0:
            sock.setblocking(False)
        if not has_options:
            set_options(sock)
        self._sock = sock
        self._event_loop = loop or event_loop()

    # An idle connection waits: return the event loop's awaitable itself, to spare a coroutine around it.

    def wait_readable(self) -> Awaitable[None]:
        """Return when the socket is readable. Cancelling has no effect on the connection."""
        self._check_open()
        return self._event_loop.wait_readable(self._sock)

    def wait_writable(self) -> Awaitable[None]:
        """Return when the socket is writable. Cancelling has no effect on the connection."""
        self._check_open()
        return self._event_loop.wait_writable(self._sock)

    def close(self) -> None:
        """Close the socket at once. The kernel still sends the bytes that it has."""
        if self._sock.fileno() >= 0:
            try:
                self._event_loop.notify_closing(self._sock)
            finally:
                self._sock.close()

    @property
    def released(self) -> bool:
        """Whether the socket is closed; the transport holds nothing else."""
        return self._sock.fileno() < 0

    async def aclose(self) -> None:
        """Close the socket, even if the call is cancelled. Does nothing if it is closed already."""
        if self._sock.fileno() >= 0:
            self.close()
            await anyio.lowlevel.checkpoint()

    def extra(self, name: str) -> Any:
        """Return a property of the connection; ``None`` for the addresses once the socket is closed.

        ``"socket"`` is the socket itself: only the transport may close it, and if ``"ssl_object"`` is not
        ``None``, only the transport may write to it.
        """
        try:
            if name == "peername":
                return self._sock.getpeername()
            if name == "sockname":
                return self._sock.getsockname()
        except OSError:
            return None
        return self._sock if name == "socket" else None

    def backlog(self) -> Backlog:
        """The bytes that the kernel holds for the peer."""
        return backlog(self._sock)

    def delivery(self) -> Delivery | None:
        """What the peer's system has acknowledged; ``None`` but for TCP on Linux."""
        return delivery(self._sock)

    def limit_unsent(self, size: int) -> None:
        """Set TCP_NOTSENT_LOWAT, where there is one."""
        limit_unsent(self._sock, size)

    def _check_open(self) -> None:
        if self._sock.fileno() < 0:
            raise anyio.ClosedResourceError

    def _failure(self, error: OSError) -> Exception:
        """Return the exception to raise for `error`, which a closed socket causes, too."""
        if self._sock.fileno() < 0:
            return anyio.ClosedResourceError()
        return anyio.BrokenResourceError(f"the connection broke: {error}")


class SocketTransport(BaseSocketTransport):
    """A connected TCP or Unix stream socket.

    Args:
        sock: the socket, which the transport owns from now on.
        loop, has_options: as for `BaseSocketTransport`.
    """

    __slots__ = ("_loop", "_reading", "_writing")

    _loop: Any

    def __init__(
        self, sock: socket.socket, loop: EventLoop | None = None, *, has_options: bool = False
    ) -> None:
        super().__init__(sock, loop, has_options=has_options)
        self._loop = self._event_loop.callbacks()
        self._reading = self._writing = False  # whether the event loop calls back

    @property
    def unsent(self) -> int:
        """Always 0: the kernel has all bytes that `send` took."""
        return 0

    def watch_readable(self, callback: Callable[[], object]) -> bool:
        """Call `callback` whenever the socket is readable; false where the event loop cannot."""
        if not self._reading:
            self._reading = self._watch("add_reader", callback)
        return self._reading

    def unwatch_readable(self) -> None:
        """Call back no more."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def watch_writable(self, callback: Callable[[], object]) -> bool:
        """Call `callback` whenever the socket is writable; false where the event loop cannot."""
        if not self._writing:
            self._writing = self._watch("add_writer", callback)
        return self._writing

    def unwatch_writable(self) -> None:
        """Call back no more."""
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock.fileno())

    def _watch(self, add: str, callback: Callable[[], object]) -> bool:
        if self._loop is None or self._sock.fileno() < 0:
            return False
        try:
            # asyncio finds a number at once; of a socket it first makes an error message with its addresses.
            getattr(self._loop, add)(self._sock.fileno(), callback)
        except NotImplementedError:  # the default event loop of Windows; or a poller that was not started
            self._loop = None
        return self._loop is not None

    def close(self) -> None:
        """Close the socket at once. The kernel still sends the bytes that it has."""
        self.unwatch_readable()
        self.unwatch_writable()
        super().close()

    def recv_into(self, buffer: memoryview) -> int | None:
        """Receive into `buffer`; ``None`` if nothing has arrived, 0 at the end of the stream.

        Raises:
            anyio.BrokenResourceError: the connection failed, with the ``OSError`` as cause.
            anyio.ClosedResourceError: the transport is closed.
        """
        try:
            return self._sock.recv_into(buffer)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise self._failure(exc) from exc

    @property
    def receive(self) -> Callable[[memoryview, int], int | None]:
        """The socket's own ``recv_into``, which spares a call for each read."""
        return self._sock.recv_into

    @property
    def send_directly(self) -> Callable[[bytes], int] | None:
        """The socket's own ``send``."""
        return self._sock.send

    @property
    def fileno(self) -> Callable[[], int] | None:
        """The socket's own ``fileno``."""
        return self._sock.fileno

    def failure(self, error: Exception) -> Exception:
        """The exception for what the socket raised, with that as cause."""
        if not isinstance(error, OSError):
            return error
        failure = self._failure(error)
        failure.__cause__ = error
        return failure

    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Pass `buffers` to the kernel in one system call; return how many bytes it took.

        Raises:
            anyio.BrokenResourceError: the connection failed, with the ``OSError`` as cause.
            anyio.ClosedResourceError: the transport is closed.
        """
        try:
            if len(buffers) == 1:
                return self._sock.send(buffers[0])
            if _HAS_SENDMSG:
                return self._sock.sendmsg(buffers[:MAX_BUFFERS])
            return self._sock.send(b"".join(buffers[:MAX_BUFFERS]))
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise self._failure(exc) from exc

    @property
    def sends_files(self) -> bool:
        """Only on Linux, where a header can share a packet with the file's bytes that follow (MSG_MORE)."""
        return sys.platform == "linux" and hasattr(os, "sendfile")

    def send_pieces(self, pieces: Sequence[Piece]) -> int:
        """Pass `pieces` to the kernel, one system call each; return how many bytes it took.

        For files it takes references to pages of the page cache. Pages that are missing there are read from
        the disk first, which blocks the event loop.

        Raises:
            FileEnded: a file has ended before the part that is to be sent.
            anyio.BrokenResourceError, anyio.ClosedResourceError: as for `send`.
        """
        sent = 0
        try:
            for piece in pieces:
                if isinstance(piece, FileFrames):
                    taken = send_file_frames(self._sock, piece)
                elif isinstance(piece, FileRange):
                    taken = send_file_range(self._sock, piece.file.fileno(), piece.start, piece.stop)
                else:
                    taken = self._sock.send(piece)
                sent += taken
                if taken < len(piece):
                    break
        except BlockingIOError:
            pass
        except OSError as exc:
            raise self._failure(exc) from exc
        return sent

    def send_eof(self) -> None:
        """Shut down the sending direction (FIN on TCP). Does nothing if the connection has ended."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)


def backlog(sock: socket.socket) -> Backlog:
    """Return the bytes that the kernel holds in `sock` for the peer; none, if it does not tell."""
    if sys.platform == "win32" or sock.fileno() < 0:
        return Backlog(0, False)
    size = _ask_kernel(sock, TIOCOUTQ) or 0
    unsent = _ask_kernel(sock, _SIOCOUTQNSD) if sys.platform == "linux" else None
    return Backlog(size, bool(size if unsent is None else unsent))  # None: a Unix socket, another system


def _ask_kernel(sock: socket.socket, request: int) -> int | None:
    try:
        return int(struct.unpack("i", ioctl(sock, request, bytes(4)))[0])
    except OSError:
        return None


def set_options(sock: socket.socket) -> None:
    """Set the options of connections on a socket, or on the listener of those that it accepts."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):  # as in `limit_unsent`
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        limit_unsent(sock, NOTSENT)


def limit_unsent(sock: socket.socket, size: int) -> None:
    """Set TCP_NOTSENT_LOWAT, where there is one."""
    if _HAS_LOWAT:
        # Some systems refuse options on a connection that was already reset; the next read reports it.
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)
