"""Byte streams in memory: two ends of a connection, without a socket.

The ends behave as the two ends of a TCP connection do: each direction has a buffer of its own and
ends on its own (`send_eof`), bytes sent before the end can still be received, and if one end is closed, the
other's `send` fails. The order of the calls alone decides the result: nothing depends on the speed of a
machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio
from anyio.lowlevel import checkpoint

from wsstream.arguments import check_int
from wsstream.transports.reset import ResettableStream

__all__ = ["MemoryStream", "MemoryStreamStatistics", "lockstep_pair", "memory_pair"]

_NOTHING = memoryview(b"")


@dataclass(frozen=True, slots=True)
class MemoryStreamStatistics:
    """One end of a pair, at one moment."""

    bytes_sent: int
    """Bytes that left this end, whether in the buffer or received by the other end."""
    bytes_received: int
    """Bytes that `receive` returned."""
    send_buffered: int
    """Bytes that left this end and that the other has not received yet."""
    receive_buffered: int
    """Bytes that the other end sent and that this one has not received yet."""
    tasks_waiting_send: int
    """1 while `send` waits for room, otherwise 0."""
    tasks_waiting_receive: int
    """1 while `receive` waits for bytes, otherwise 0."""


class _Channel:
    """One direction: a bounded buffer, followed by the bytes of the waiting sender.

    The sender leaves its bytes in `offered` and waits; each `take` moves some of them into the room
    that it made. So a capacity of 0 is not a special case.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffer = bytearray()
        self.offered = _NOTHING
        self.bytes_in = 0
        self.bytes_out = 0
        self.ended = False  # the sender has ended this direction
        self.broken = False  # the sender was reset
        self.abandoned = False  # the receiver was closed
        self.reader: anyio.Event | None = None
        self.writer: anyio.Event | None = None

    def offer(self, item: bytes) -> None:
        self.offered = memoryview(item)
        self._fill()
        self._wake_reader()

    def take(self, max_bytes: int) -> bytes:
        """Return at most `max_bytes`; ``b""`` if none have arrived."""
        data = bytes(self.buffer[:max_bytes])
        del self.buffer[:max_bytes]
        if not data:
            data = self._accept(max_bytes)
        self.bytes_out += len(data)
        self._fill()
        if not self.offered:
            self._wake_writer()
        return data

    def withdraw(self) -> None:
        self.offered = _NOTHING

    def end(self, *, broken: bool = False) -> None:
        self.ended = True
        self.broken = self.broken or broken
        self.withdraw()
        self._wake_reader()
        self._wake_writer()

    def abandon(self) -> None:
        self.abandoned = True
        self.buffer.clear()
        self._wake_reader()
        self._wake_writer()

    async def wait_readable(self) -> None:
        self.reader = anyio.Event()
        try:
            await self.reader.wait()
        finally:
            self.reader = None

    async def wait_writable(self) -> None:
        self.writer = anyio.Event()
        try:
            await self.writer.wait()
        finally:
            self.writer = None

    def _fill(self) -> None:
        self.buffer += self._accept(self.capacity - len(self.buffer))

    def _accept(self, count: int) -> bytes:
        data = bytes(self.offered[:count])
        self.offered = self.offered[len(data) :]
        self.bytes_in += len(data)
        return data

    def _wake_reader(self) -> None:
        if self.reader is not None:
            self.reader.set()

    def _wake_writer(self) -> None:
        if self.writer is not None:
            self.writer.set()


class MemoryStream(ResettableStream):
    """One end of a pair, made by :func:`memory_pair` or :func:`lockstep_pair`.

    One task at a time may send and one may receive; a second one gets
    :class:`anyio.BusyResourceError`. Calls after :meth:`aclose` or :meth:`reset`, and calls that
    wait meanwhile, raise :class:`anyio.ClosedResourceError`.
    """

    def __init__(self, incoming: _Channel, outgoing: _Channel) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._receiving = anyio.ResourceGuard("receiving from")
        self._sending = anyio.ResourceGuard("sending to")

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for bytes and return at least one and at most `max_bytes`.

        If cancelled, no byte is lost.

        Raises:
            anyio.EndOfStream: the other end has ended this direction, or was closed.
            anyio.BrokenResourceError: the other end was reset.
            ValueError: `max_bytes` is less than 1.
        """
        check_int("max_bytes", max_bytes, 1)
        with self._receiving:
            await checkpoint()
            while True:
                self._check_open()
                if data := self._incoming.take(max_bytes):
                    return data
                if self._incoming.broken:
                    raise anyio.BrokenResourceError
                if self._incoming.ended:
                    raise anyio.EndOfStream
                await self._incoming.wait_readable()

    async def send(self, item: bytes) -> None:
        """Send `item`; wait until it is in the buffer (with a lockstep pair: until it was received).

        If cancelled, some of the first bytes may have been sent, as with a socket:
        ``statistics().bytes_sent`` counts them.

        Raises:
            anyio.BrokenResourceError: the other end was closed or reset.
            anyio.ClosedResourceError: also after :meth:`send_eof`.
        """
        with self._sending:
            await checkpoint()
            channel = self._outgoing
            self._check_sending()
            channel.offer(item)
            try:
                while channel.offered:
                    await channel.wait_writable()
                    self._check_open()
                    if channel.offered:
                        self._check_sending()
            finally:
                channel.withdraw()

    async def send_eof(self) -> None:
        """End this direction: the other end receives the bytes that were sent, then the end of the stream.

        A second call does nothing. If cancelled, nothing happened.

        Raises:
            anyio.BusyResourceError: a task is sending.
            anyio.ClosedResourceError: this end is closed.
        """
        with self._sending:
            await checkpoint()
            self._check_open()
            self._outgoing.end()

    async def aclose(self) -> None:
        """Close this end, as TCP does with a FIN each way.

        The other end can still receive the bytes that this one sent; bytes that this one has not received are
        lost. If cancelled, it is closed all the same. Raises nothing but cancellation.
        """
        self._close(broken=False)
        await checkpoint()

    def reset(self) -> None:
        """Close this end as TCP does with an RST.

        The other end can receive what is already in the buffer, then its calls raise
        :class:`anyio.BrokenResourceError`. After :meth:`aclose` it does nothing.
        """
        self._close(broken=True)

    def statistics(self) -> MemoryStreamStatistics:
        """Return how many bytes passed through this end, and how many tasks wait."""
        return MemoryStreamStatistics(
            bytes_sent=self._outgoing.bytes_in,
            bytes_received=self._incoming.bytes_out,
            send_buffered=len(self._outgoing.buffer),
            receive_buffered=len(self._incoming.buffer),
            tasks_waiting_send=int(self._outgoing.writer is not None),
            tasks_waiting_receive=int(self._incoming.reader is not None),
        )

    def _close(self, *, broken: bool) -> None:
        if not self._closed:
            self._closed = True
            self._outgoing.end(broken=broken)
            self._incoming.abandon()

    def _check_open(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError

    def _check_sending(self) -> None:
        self._check_open()
        if self._outgoing.ended:
            raise anyio.ClosedResourceError
        if self._outgoing.abandoned:
            raise anyio.BrokenResourceError


def memory_pair(max_buffer: int = 65536) -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a connection whose directions buffer at most `max_buffer` bytes each.

    `send` waits while its bytes do not fit. A longer item passes through in pieces, and boundaries between
    items are not kept.

    Raises:
        ValueError: `max_buffer` is less than 1.
    """
    if max_buffer < 1:
        raise ValueError(f"max_buffer must be at least 1, got {max_buffer}; lockstep_pair() has no buffer")
    return _pair(max_buffer)


def lockstep_pair() -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a connection without buffers: `send` waits until every byte was received."""
    return _pair(0)


def _pair(capacity: int) -> tuple[MemoryStream, MemoryStream]:
    one_way, other_way = _Channel(capacity), _Channel(capacity)
    return MemoryStream(one_way, other_way), MemoryStream(other_way, one_way)
