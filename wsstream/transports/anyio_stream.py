"""Any anyio ByteStream as a transport.

A byte stream only has operations that wait, so they run in `wait_readable` and `wait_writable`, and this
transport buffers at most one piece of data for each direction: received but not read by `recv_into`, and
taken by `send` but not sent. Each operation has a cancel scope of its own, so that `close` can end it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import anyio
from anyio.abc import ByteStream

from wsstream.transports.attributes import ATTRIBUTES
from wsstream.transports.base import Backlog, Transport
from wsstream.transports.slices import slices
from wsstream.transports.sockets import backlog

__all__ = ["StreamTransport"]

# Bytes requested by one `receive`, and passed to one `send`.
PIECE_SIZE = 64 * 1024

# What a failing stream may raise: the first two by anyio's rules, the last from streams that do not map it.
_FAILURES = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class StreamTransport(Transport):
    """A transport over `stream`, which it owns from now on.

    Args:
        stream: a connected stream. Its `receive` has to keep anyio's promise: a cancelled call loses no
            bytes.
    """

    __slots__ = (
        "_arrived",
        "_call_left",
        "_calls",
        "_closed",
        "_ended",
        "_eof_due",
        "_outgoing",
        "_receive_error",
        "_receiving",
        "_send_error",
        "_stream",
    )

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._arrived = memoryview(b"")
        self._ended = False
        self._receive_error: Exception | None = None
        self._outgoing = b""
        self._send_error: Exception | None = None
        self._eof_due = False
        self._closed = False
        self._receiving: anyio.CancelScope | None = None
        self._calls: set[anyio.CancelScope] = set()
        self._call_left: anyio.Event | None = None

    @property
    def unsent(self) -> int:
        """Bytes taken that the stream's `send` has not finished with, 64 KiB at most."""
        return len(self._outgoing)

    def recv_into(self, buffer: memoryview) -> int | None:
        """Move bytes that `wait_readable` received; 0 at the end, ``None`` if there are none.

        Raises:
            anyio.BrokenResourceError: the stream failed, with its exception as cause.
            anyio.ClosedResourceError: the transport is closed.
        """
        self._check_open()
        if self._arrived:
            count = min(len(buffer), len(self._arrived))
            buffer[:count] = self._arrived[:count]
            self._arrived = self._arrived[count:]
            return count
        if self._receive_error is not None:
            raise _broken(self._receive_error)
        return 0 if self._ended else None

    async def wait_readable(self) -> None:
        """Receive from the stream, unless bytes are buffered. If cancelled, no byte is lost."""
        self._check_open()
        if self._has_news():
            await anyio.lowlevel.checkpoint()
        while not self._has_news():
            await self._receive()

    def _has_news(self) -> bool:
        return bool(self._arrived) or self._ended or self._receive_error is not None

    async def _receive(self) -> None:
        """Receive once. `send_eof` cannot wait, so it cancels this, and the next call sends the end."""
        if self._eof_due:
            self._eof_due = False
            # uvloop raises RuntimeError for a closed stream.
            with self._call(), suppress(NotImplementedError, RuntimeError, *_FAILURES):
                await self._stream.send_eof()
        try:
            with self._call() as self._receiving:
                data = await self._stream.receive(PIECE_SIZE)
                self._arrived = memoryview(data)
                self._ended = not data
        except anyio.EndOfStream:
            self._ended = True
        except _FAILURES as exc:
            self._check_open()
            self._receive_error = exc
        finally:
            self._receiving = None

    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Copy at most 64 KiB to be sent by `wait_writable`; 0 while the last piece is unsent.

        Raises:
            anyio.BrokenResourceError: sending failed or was cut short by cancellation.
            anyio.ClosedResourceError: the transport is closed.
        """
        self._check_open()
        if self._send_error is not None:
            raise _broken(self._send_error)
        if self._outgoing:
            return 0
        self._outgoing = bytes(next(slices(buffers, PIECE_SIZE), b""))
        return len(self._outgoing)

    def backlog(self) -> Backlog:
        """The bytes that the kernel holds for the peer, if the stream has a socket; otherwise none."""
        sock = self.extra("socket")
        return super().backlog() if sock is None else backlog(sock)

    async def wait_writable(self) -> None:
        """Send the bytes that `send` took. If cancelled while the stream is sending, nobody knows how many
        have left: `send` raises from then on.

        Raises:
            anyio.BrokenResourceError: sending failed, with the stream's exception as cause.
            anyio.ClosedResourceError: the transport is closed.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        if self._send_error is not None:
            raise _broken(self._send_error)
        if not self._outgoing:
            await anyio.lowlevel.cancel_shielded_checkpoint()
            return
        try:
            with self._call():
                await self._stream.send(self._outgoing)
                self._outgoing = b""
        except _FAILURES as exc:
            self._check_open()
            self._send_error = exc
            raise _broken(exc) from exc
        except BaseException:
            self._send_error = anyio.BrokenResourceError("a send was cut short")
            raise

    def send_eof(self) -> None:
        """Have the task in `wait_readable`, or the next one there, send the stream's end of file.

        Streams that cannot (anyio's TLS streams) send nothing until `aclose`.
        """
        self._eof_due = True
        if self._receiving is not None:
            self._receiving.cancel()

    def close(self) -> None:
        """End the waiting calls. `aclose` closes the stream itself, then without waiting for the peer."""
        self._closed = True
        for call in self._calls:
            call.cancel()

    async def aclose(self) -> None:
        """Close the stream; after `close`, or if cancelled, without waiting for the peer."""
        forcefully = self._closed
        self.close()
        try:
            while self._calls:
                self._call_left = left = anyio.Event()
                await left.wait()
        finally:
            with suppress(*_FAILURES):
                await (anyio.aclose_forcefully(self._stream) if forcefully else self._stream.aclose())

    def extra(self, name: str) -> Any:
        """Return the stream's typed attribute; ``None`` if it has none."""
        try:
            return self._stream.extra(ATTRIBUTES[name], None)
        except (KeyError, OSError, AttributeError, ValueError):
            # The last two come from anyio on uvloop, for a closed stream.
            return None

    def _check_open(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError

    @contextmanager
    def _call(self) -> Iterator[anyio.CancelScope]:
        """Run an operation of the stream so that `close` ends it with ClosedResourceError."""
        scope = anyio.CancelScope()
        self._calls.add(scope)
        try:
            with scope:
                yield scope
        finally:
            self._calls.discard(scope)
            if self._call_left is not None:
                self._call_left.set()
        self._check_open()


def _broken(cause: Exception) -> anyio.BrokenResourceError:
    error = anyio.BrokenResourceError("the stream broke" + (f": {cause}" if str(cause) else ""))
    error.__cause__ = cause
    return error
