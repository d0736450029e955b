"""TLS over non-blocking sockets.

OpenSSL works on the socket itself. Passing records through memory instead was measured: reading costs the
same, writing a little less, and each connection that has moved much data keeps buffers for it. Four
properties of OpenSSL shape this module:

- A read returns one record, at most 16 KiB, and bytes that OpenSSL has already read from the socket never
  make the socket readable again. So `recv_into` reads until OpenSSL has nothing more, and `wait_readable`
  looks at ``pending()`` before it waits.
- A write passes one record to the kernel, which would send each record in packets of its own. So, where the
  kernel can hold packets back until they are full (TCP_CORK), it does so for several records.
- An unfinished write has to be repeated with the same bytes. So the transport keeps one record: its bytes
  count as taken, and as `unsent` until OpenSSL has written them.
- A read may have to write first and a write may have to read first (key updates, renegotiation). Only one
  task may wait for a socket in each direction, so the two tasks of a connection share: a task that finds
  another one waiting until the socket is writable waits for that task, and a write that has to read waits
  for the next `recv_into`, which does the reading.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Any, cast

import anyio

from wsstream.transports.slices import slices
from wsstream.transports.sockets import BaseSocketTransport

__all__ = ["TLSTransport", "default_client_context"]

# The payload of a TLS record (RFC 8446 section 5.1).
RECORD_SIZE = 16 * 1024

_HAS_CORK = hasattr(socket, "TCP_CORK")  # on Linux

# Records encrypted in one call of `send`: bounds the time until other tasks run.
MAX_RECORDS = 32


@cache
def default_client_context() -> ssl.SSLContext:
    """Return the context of clients that pass none. It is shared, as making one is slow, so do not change it.

    It trusts the system's certificate authorities, checks host names, offers ``http/1.1`` by ALPN
    and refuses renegotiation.
    """
    context = ssl.create_default_context()
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class TLSTransport(BaseSocketTransport):
    """A TLS connection over a TCP or Unix socket; made by :meth:`client` or :meth:`server`.

    A stream that ends without the peer's close_notify ends like any other (0 from `recv_into`): the
    closing handshake of the WebSocket tells whether something was cut off. CPython up to 3.12.2 reports
    a reset connection in that way too.
    """

    __slots__ = (
        "_ended",
        "_has_cork",
        "_read_done",
        "_read_error",
        "_read_wants_write",
        "_record",
        "_writable_seen",
    )

    _sock: ssl.SSLSocket

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self._has_cork = _HAS_CORK and sock.family in (socket.AF_INET, socket.AF_INET6)
        self._record: bytes | memoryview = b""  # the unfinished write, to be repeated
        self._ended = False
        self._read_error: OSError | None = None  # if bytes came before it, the next read raises it
        self._read_wants_write = False
        self._read_done: anyio.Event | None = None  # set by `recv_into`, for a write that has to read
        self._writable_seen: anyio.Event | None = None  # set by the task that waits for writable

    @classmethod
    async def client(
        cls, sock: socket.socket, context: ssl.SSLContext, server_hostname: str | None
    ) -> TLSTransport:
        """Do the TLS handshake as a client. The transport owns `sock`, a connected socket, from now on: it is
        closed if the handshake fails or is cancelled.

        Args:
            sock: the connected socket.
            context: says which certificates are trusted; see :func:`default_client_context`.
            server_hostname: the name that the certificate must have, also sent to the server (SNI).

        Raises:
            OSError: the handshake failed: ``ssl.SSLError`` (``ssl.SSLCertVerificationError`` for
                the certificate), or an error of the system.
            ValueError: `server_hostname` is not a host name, or is missing though `context` checks it.
        """
        return await cls._handshake(sock, context, server_side=False, server_hostname=server_hostname)

    @classmethod
    async def server(cls, sock: socket.socket, context: ssl.SSLContext) -> TLSTransport:
        """Do the TLS handshake as a server. The transport owns `sock`, as in :meth:`client`.

        Raises:
            OSError: the handshake failed: ``ssl.SSLError``, or an error of the system.
        """
        return await cls._handshake(sock, context, server_side=True, server_hostname=None)

    @classmethod
    async def _handshake(
        cls, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None
    ) -> TLSTransport:
        try:
            sock.setblocking(False)
            # Both raise the errors of wrap_socket() before it does, as it would leak the socket.
            sock.getpeername()
            (server_hostname or "").encode("idna")
            sock = tls = context.wrap_socket(
                sock,
                server_side=server_side,
                server_hostname=server_hostname,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=True,
            )
            await anyio.lowlevel.checkpoint_if_cancelled()
            await _shake_hands(tls)
            return cls(tls)
        except BaseException:
            sock.close()
            raise

    @property
    def unsent(self) -> int:
        """Bytes of the record that OpenSSL has not been able to write, at most 16 KiB."""
        return len(self._record)

    def recv_into(self, buffer: memoryview) -> int | None:
        """Decrypt into `buffer` until it is full or nothing more has arrived.

        Raises:
            anyio.BrokenResourceError: the connection failed or the peer broke TLS, with the
                ``OSError`` or ``ssl.SSLError`` as cause.
            anyio.ClosedResourceError: the transport is closed.
        """
        self._check_open()
        self._read_wants_write = False
        # recv_into() calls this, too. It is documented that it takes a buffer and then returns an int.
        read = cast("Callable[[int, memoryview], int]", self._sock.read)
        size, filled = len(buffer), 0
        try:
            if self._read_error is not None:
                raise self._read_error
            while filled < size and not self._ended:
                count = read(size - filled, buffer[filled:])  # one record
                filled += count
                self._ended = not count
            return filled
        except ssl.SSLWantReadError:
            return filled or None
        except ssl.SSLWantWriteError:
            self._read_wants_write = True
            return filled or None
        except ssl.SSLZeroReturnError:
            self._ended = True
            return filled
        except OSError as exc:
            self._read_error = exc
            if not filled:
                raise self._failure(exc) from exc
            return filled
        finally:
            if self._read_done is not None:
                self._read_done.set()
                self._read_done = None

    async def wait_readable(self) -> None:
        """Return when `recv_into` may return bytes. Cancelling has no effect on the connection."""
        self._check_open()
        if self._ended or self._read_error is not None or self._sock.pending():
            await anyio.lowlevel.checkpoint()
        elif self._read_wants_write:
            await self._wait_fd_writable()
        else:
            await super().wait_readable()

    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Encrypt and send records until the kernel takes no more; at most 512 KiB in one call.

        The last record may not fit into the kernel's buffer: its bytes count as taken, and as `unsent`.

        Raises:
            anyio.BrokenResourceError: the connection failed, with the ``OSError`` or
                ``ssl.SSLError`` as cause.
            anyio.ClosedResourceError: the transport is closed.
        """
        if not self._send_record():
            return 0
        if not self._has_cork or sum(map(len, buffers)) <= RECORD_SIZE:
            return self._send_records(buffers)
        self._cork(True)
        try:
            return self._send_records(buffers)
        finally:
            self._cork(False)

    def _send_records(self, buffers: Sequence[bytes | memoryview]) -> int:
        taken = 0
        for piece in islice(slices(buffers, RECORD_SIZE), MAX_RECORDS):
            taken += len(piece)
            count = self._write(piece)
            if count < len(piece):
                self._record = bytes(piece[count:])
                break
        return taken

    def _cork(self, on: bool) -> None:
        """Have the kernel hold packets back until they are full; or, if not `on`, send them."""
        with suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)

    def _send_record(self) -> bool:
        """Repeat the unfinished write; returns whether it is done."""
        while self._record:
            count = self._write(self._record)
            if not count:
                return False
            self._record = self._record[count:]
        return True

    def _write(self, piece: bytes | memoryview) -> int:
        try:
            return self._sock.send(piece)
        except ssl.SSLWantWriteError:
            return 0
        except ssl.SSLWantReadError:
            self._read_done = anyio.Event()
            return 0
        except OSError as exc:
            raise self._failure(exc) from exc

    async def wait_writable(self) -> None:
        """Return when `send` may take more or some of `unsent` has left. Cancelling loses nothing.

        Raises:
            anyio.BrokenResourceError: the connection failed, with the cause as in `send`.
            anyio.ClosedResourceError: the transport is closed.
        """
        self._check_open()
        if self._read_done is not None:
            await self._read_done.wait()
        else:
            await self._wait_fd_writable()
        self._check_open()
        self._send_record()

    async def _wait_fd_writable(self) -> None:
        """Wait until writable. If another task already waits for that, wait until it stops."""
        if self._writable_seen is not None:
            await self._writable_seen.wait()
            self._check_open()
            return
        self._writable_seen = seen = anyio.Event()
        try:
            await super().wait_writable()
        finally:
            self._writable_seen = None
            seen.set()

    def send_eof(self) -> None:
        """Send close_notify (RFC 8446 section 6.1) and shut down the sending direction of the socket.

        Received data that has not been read may be lost by this; then the stream ends. Does nothing if the
        connection has ended.
        """
        self._send_close_notify()
        with suppress(OSError):
            # SSLSocket.shutdown() would remove TLS, so that later calls used plain text.
            socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket at once, after a close_notify if it can be sent without waiting."""
        if self._sock.fileno() >= 0:
            if not self._record:
                self._send_close_notify()
            super().close()
            if self._read_done is not None:
                self._read_done.set()

    def _send_close_notify(self) -> None:
        try:
            self._sock.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return  # the peer's close_notify has not come: it may still send
        except (OSError, ValueError):
            pass
        # From here on a read would return plain text, or raise errors about data after the end.
        self._ended = True

    def extra(self, name: str) -> Any:
        """As for plain sockets; ``"ssl_object"`` and ``"socket"`` are the :class:`ssl.SSLSocket`."""
        return super().extra("socket" if name == "ssl_object" else name)


async def _shake_hands(tls: ssl.SSLSocket) -> None:
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await anyio.wait_readable(tls)
        except ssl.SSLWantWriteError:
            await anyio.wait_writable(tls)
        else:
            return
