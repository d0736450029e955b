"""A connection that another server opened with asyncio, as a transport.

The other server has an asyncio transport, which calls a protocol back: bytes have come, no more can be taken.
That server's protocol passes the calls on to this object. An asyncio transport keeps whatever it is given, so
this one gives it nothing while it holds anything, and stops its reading while much is unread: then both
directions push back.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, Protocol

import anyio

from wsstream.transports.base import Backlog, Delivery, Transport
from wsstream.transports.eventloop import event_loop
from wsstream.transports.readiness import Readiness
from wsstream.transports.slices import slices
from wsstream.transports.sockets import backlog, limit_unsent, set_options
from wsstream.transports.tcp_info import delivery

__all__ = ["ProtocolTransport"]

_PIECE_SIZE = 64 * 1024  # bytes of a write; a memoryview would have to stay as it is, so they are copied
_PIECES = 4  # in one call of `send`
_UNREAD = 64 * 1024  # bytes at which reading stops; one read of asyncio, 256 KiB at most, may come on top


class _AsyncioTransport(Protocol):
    """The methods of ``asyncio.Transport`` that are needed here."""

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def write(self, data: bytes) -> None: ...
    def can_write_eof(self) -> bool: ...
    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class ProtocolTransport(Transport):
    """A transport over an asyncio transport, plain or TLS, which it owns from now on.

    Args:
        transport: connected. Its protocol calls the methods here that have the names of a protocol's.
    """

    __slots__ = (
        "_blocked",
        "_closed",
        "_ended",
        "_error",
        "_is_over",
        "_lost",
        "_paused",
        "_readable",
        "_transport",
        "_unread",
        "_unread_size",
        "_writable",
    )

    def __init__(self, transport: _AsyncioTransport) -> None:
        self._transport = transport
        loop = event_loop().callbacks()
        self._unread: deque[memoryview] = deque()
        self._unread_size = 0
        self._paused = False  # asyncio's reading
        self._blocked = False  # asyncio holds bytes that the kernel has not taken
        self._ended = self._lost = self._closed = False
        self._error: Exception | None = None
        self._readable = Readiness(loop, lambda: bool(self._unread) or self._ended)
        self._writable = Readiness(loop, lambda: not self._blocked)
        self._is_over: anyio.Event | None = None
        # Not 0: over TLS, asyncio would then pause at 0 bytes, and never resume.
        transport.set_write_buffer_limits(high=1, low=0)
        with self._socket() as sock:
            if sock is not None:
                set_options(sock)

    # -- what the protocol passes on -----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Keep `data` until it is read, and stop reading if that is much."""
        if self._closed or not data:
            return
        self._unread.append(memoryview(data))
        self._unread_size += len(data)
        self._readable.changed()
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if self._unread_size >= _UNREAD and not (self._paused or self._closed or self._lost):
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """The peer sends no more."""
        self._ended = True
        self._readable.changed()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing can be received or sent any more."""
        self._lost = self._ended = True
        self._error = error
        self._blocked = False
        if self._is_over is not None:
            self._is_over.set()
        self._readable.changed()
        self._writable.changed()

    def pause_writing(self) -> None:
        """The kernel did not take all that was written."""
        self._blocked = True

    def resume_writing(self) -> None:
        """It has taken the rest."""
        self._blocked = False
        self._writable.changed()

    # -- reading -------------------------------------------------------------------------------

    def recv_into(self, buffer: memoryview) -> int | None:
        """Move bytes that were received into `buffer`; 0 at the end, ``None`` if there are none.

        Raises:
            anyio.BrokenResourceError: the connection was lost, with its exception as cause.
            anyio.ClosedResourceError: the transport is closed.
        """
        self._check_open()
        filled, size = 0, len(buffer)
        while self._unread and filled < size:
            piece = self._unread[0]
            count = min(size - filled, len(piece))
            buffer[filled : filled + count] = piece[:count]
            filled += count
            if count == len(piece):
                self._unread.popleft()
            else:
                self._unread[0] = piece[count:]
        self._unread_size -= filled
        if self._paused and not self._unread and not self._lost:
            self._paused = False
            self._transport.resume_reading()
        if filled:
            return filled
        if self._error is not None:
            raise self._broken()
        return 0 if self._ended else None

    async def wait_readable(self) -> None:
        """Return when `recv_into` may return bytes. Cancelling has no effect on the connection.

        Raises:
            anyio.ClosedResourceError: the transport is closed, or was closed meanwhile.
        """
        self._check_open()
        await self._readable.wait()
        self._check_open()

    def watch_readable(self, callback: Callable[[], object]) -> bool:
        """Call `callback` when bytes arrive, and as long as it leaves some unread."""
        self._readable.watch(callback)
        return True

    def unwatch_readable(self) -> None:
        """Call back no more."""
        self._readable.unwatch()

    # -- writing -------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that asyncio's transport holds: at most those of one `send`, 256 KiB."""
        return self._transport.get_write_buffer_size() if self._blocked else 0

    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Pass at most 256 KiB to asyncio's transport, if the kernel has taken all before.

        Raises:
            anyio.BrokenResourceError: the connection was lost, with its exception as cause.
            anyio.ClosedResourceError: the transport is closed.
        """
        self._check_open()
        sent = 0
        for piece in islice(slices(buffers, _PIECE_SIZE), _PIECES):
            if self._lost:
                raise self._broken()
            if self._blocked:
                break
            self._transport.write(bytes(piece))
            sent += len(piece)
        return sent

    async def wait_writable(self) -> None:
        """Return when `send` takes more. Cancelling loses nothing.

        Raises:
            anyio.BrokenResourceError: the connection was lost, with its exception as cause.
            anyio.ClosedResourceError: the transport is closed, or was closed meanwhile.
        """
        self._check_open()
        await self._writable.wait()
        self._check_open()
        if self._lost:
            raise self._broken()

    def watch_writable(self, callback: Callable[[], object]) -> bool:
        """Call `callback` when `send` takes more, until `unwatch_writable`."""
        self._writable.watch(callback)
        return True

    def unwatch_writable(self) -> None:
        """Call back no more."""
        self._writable.unwatch()

    def backlog(self) -> Backlog:
        """The bytes that the kernel holds for the peer."""
        with self._socket() as sock:
            return super().backlog() if sock is None else backlog(sock)

    def delivery(self) -> Delivery | None:
        """What the peer's system has acknowledged; ``None`` where this machine cannot tell."""
        with self._socket() as sock:
            return None if sock is None else delivery(sock)

    def limit_unsent(self, size: int) -> None:
        """Set TCP_NOTSENT_LOWAT, where there is one."""
        with self._socket() as sock:
            if sock is not None:
                limit_unsent(sock, size)

    @contextmanager
    def _socket(self) -> Iterator[socket.socket | None]:
        """The socket below, which asyncio owns: uvloop shows one that takes no options."""
        shown = None if self._closed or self._lost else self._transport.get_extra_info("socket")
        if shown is None or shown.fileno() < 0:
            yield None
            return
        sock = socket.socket(shown.family, shown.type, shown.proto, fileno=shown.fileno())
        try:
            yield sock
        finally:
            sock.detach()

    # -- the end -------------------------------------------------------------------------------

    def send_eof(self) -> None:
        """Tell the peer that nothing more will be sent; over TLS, `close` does."""
        if self._transport.can_write_eof() and not self._lost:
            with suppress(OSError):
                self._transport.write_eof()

    def close(self) -> None:
        """Drop the connection. What the kernel has is still sent, and over TLS a close_notify."""
        if self._closed:
            return
        self._closed = True
        self._unread.clear()
        if self._lost:
            pass
        elif self._blocked:
            self._transport.abort()
        else:
            self._transport.close()
        self._blocked = False
        self._readable.end()
        self._writable.end()

    @property
    def released(self) -> bool:
        """Whether asyncio has closed the socket."""
        return self._lost

    async def aclose(self) -> None:
        """Close, and wait until asyncio has closed the socket. If cancelled, at once."""
        self.close()
        if self._lost:
            await anyio.lowlevel.checkpoint()
            return
        self._is_over = anyio.Event()
        try:
            await self._is_over.wait()
        finally:
            if not self._lost:
                self._transport.abort()

    def extra(self, name: str) -> Any:
        """Return a property of the connection; ``None`` if it is not known."""
        return self._transport.get_extra_info(name)

    def _check_open(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError

    def _broken(self) -> anyio.BrokenResourceError:
        error = anyio.BrokenResourceError("the connection broke")
        error.__cause__ = self._error
        return error
