"""Slow lines, for tests of what waits before a control frame: with a kernel of our own, and over sockets.

A slow line has one queue, of a few KiB, and takes bytes in small steps. A reader that merely sleeps is none:
the stream under it and the kernel's receive buffer hold bytes of their own, a megabyte and more, which the
sender can do nothing about.

`kernel_line` is for virtual time: exact, whatever the machine does. `PacedSocket` is the reader of a real
socket.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

import anyio
from anyio.abc import ByteStream

from wsstream.testing import memory_pair
from wsstream.testing.faults import Wrapper
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.base import NOTSENT, Backlog, Delivery

__all__ = ["Line", "LineTransport", "PacedSocket", "kernel_line"]

_STEP = 0.005  # seconds
_PACKET = 65536  # bytes; Linux fills one without a look at its limit for unsent bytes


class Line:
    """What the sender's kernel holds for a line of `rate` bytes a second with a queue of `queue` bytes."""

    def __init__(self, rate: float, queue: int) -> None:
        self.rate = rate
        self.queue = queue
        self.limit = NOTSENT
        self.limits = [NOTSENT]
        self.delivered = 0
        self.held = bytearray()
        self.ended = False
        self.changed = anyio.Event()
        self._busy = 0.0
        self._busy_since: float | None = None

    @property
    def unsent(self) -> int:
        return max(0, len(self.held) - self.queue)

    @property
    def busy(self) -> float:
        """Seconds in which the line had something to carry."""
        since = self._busy_since
        return self._busy + (0 if since is None else anyio.current_time() - since)

    def take(self, buffers: Sequence[bytes | memoryview]) -> int:
        data = memoryview(b"".join(buffers))
        taken = 0
        while taken < len(data) and self.unsent < self.limit:
            size = _PACKET - len(self.held) % _PACKET
            self.held += data[taken : taken + size]
            taken = min(len(data), taken + size)
        if taken:
            if self._busy_since is None:
                self._busy_since = anyio.current_time()
            self.wake()
        return taken

    def carry(self, size: int) -> bytes:
        data = bytes(self.held[:size])
        del self.held[:size]
        self.delivered += len(data)
        if not self.held:
            self._busy = self.busy
            self._busy_since = None
        self.wake()
        return data

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


class NearEnd(Wrapper):
    """Carries the line to where the transport is made."""

    def __init__(self, stream: ByteStream, line: Line) -> None:
        super().__init__(stream)
        self.line = line

    async def _receive(self, max_bytes: int) -> bytes:
        return await self.stream.receive(max_bytes)


class _FarEnd(NearEnd):
    """Receives over the line, in steps of 5 ms; what it sends arrives at once."""

    _free_at = -1.0

    async def _receive(self, max_bytes: int) -> bytes:
        line = self.line
        await anyio.sleep_until(self._free_at)
        while not line.held:
            if line.ended:
                raise anyio.EndOfStream
            await line.changed.wait()
        data = line.carry(min(max_bytes, max(1, int(line.rate * _STEP))))
        self._free_at = max(self._free_at, anyio.current_time()) + len(data) / line.rate
        return data


class LineTransport(StreamTransport):
    """Sends over a line, as a TCP socket of Linux does; to be made where wsstream makes a StreamTransport."""

    __slots__ = ("_line",)

    def __init__(self, stream: ByteStream) -> None:
        super().__init__(stream)
        assert isinstance(stream, NearEnd)
        self._line = stream.line

    @property
    def unsent(self) -> int:
        return 0

    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        self._check_open()
        return self._line.take(buffers)

    async def wait_writable(self) -> None:
        await anyio.lowlevel.checkpoint()
        while not self._closed and self._line.unsent >= self._line.limit // 2:
            with self._call():
                await self._line.changed.wait()
        self._check_open()

    def close(self) -> None:
        super().close()
        self._line.ended = True
        self._line.wake()

    def backlog(self) -> Backlog:
        return Backlog(len(self._line.held), self._line.unsent > 0)

    def limit_unsent(self, size: int) -> None:
        self._line.limit = size
        self._line.limits.append(size)

    def delivery(self) -> Delivery:
        return Delivery(self._line.delivered, int(self._line.busy * 1e6))


def kernel_line(rate: float, *, queue: int) -> tuple[ByteStream, ByteStream, Line]:
    """The end of the sender, for a LineTransport, the end of the reader, and the line between them."""
    line = Line(rate, queue)
    near, far = memory_pair()
    return NearEnd(near, line), _FarEnd(far, line), line


class PacedSocket(ByteStream):
    """Reads `rate` bytes a second from `sock`, in steps of 5 ms, and holds none itself.

    Set the socket's SO_RCVBUF to `BUFFER` before it is connected; the kernel doubles it, and more.
    """

    BUFFER = 8192

    def __init__(self, sock: socket.socket, rate: float) -> None:
        sock.setblocking(False)
        self.rate = rate
        self._sock = sock
        self._free_at = 0.0

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.sleep(max(0.0, self._free_at - time.monotonic()))
        while True:
            try:
                data = self._sock.recv(max(1, min(max_bytes, int(self.rate * _STEP))))
                break
            except BlockingIOError:
                await anyio.wait_readable(self._sock)
        if not data:
            raise anyio.EndOfStream
        # A busy machine may be late: what it missed then, a line would have carried.
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 4 * _STEP) + len(data) / self.rate
        return data

    async def send(self, item: bytes) -> None:
        view = memoryview(item)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._sock)

    async def send_eof(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        self._sock.close()
        await anyio.lowlevel.checkpoint()
