"""Slow and awkward networks, made by wrapping: each class adds one behaviour to any anyio byte stream.

They nest: ``SplitStream(RateStream(stream, receive=1000))`` returns one byte at a time, a thousand
each second. They wait by anyio's clock, so waiting takes no time under
:func:`~wsstream.testing.virtual_clock`. A cancelled `receive` loses no byte. After a cancelled `send`, some
of the first bytes may have been sent, as with the wrapped stream.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
from anyio.abc import ByteStream

from wsstream.arguments import check_int

__all__ = ["DelayStream", "RateStream", "SplitStream", "StallStream", "Wrapper"]


class Wrapper(ByteStream):
    """The base of the others: passes everything on.

    One task at a time may use a direction, as with the wrapped stream, even while a call waits in the
    wrapper.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._receiving = anyio.ResourceGuard("receiving from")
        self._sending = anyio.ResourceGuard("sending to")

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive from the wrapped stream. If cancelled, no byte is lost.

        Raises:
            anyio.BusyResourceError: another task receives.
            anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError: as the wrapped stream
                does.
        """
        with self._receiving:
            return await self._receive(max_bytes)

    async def send(self, item: bytes) -> None:
        """Send to the wrapped stream. If cancelled, some of the first bytes may have been sent.

        Raises:
            anyio.BusyResourceError: another task sends.
            anyio.BrokenResourceError, anyio.ClosedResourceError: as the wrapped stream does.
        """
        with self._sending:
            await self._send(item)

    async def send_eof(self) -> None:
        """End the sending direction of the wrapped stream. If cancelled, it may have ended.

        Raises:
            anyio.BusyResourceError: another task sends.
            anyio.BrokenResourceError, anyio.ClosedResourceError: as the wrapped stream does.
        """
        with self._sending:
            await self.stream.send_eof()

    async def aclose(self) -> None:
        """Close the wrapped stream. If cancelled, or if it raises, as for that stream."""
        await self.stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the wrapped stream."""
        return self.stream.extra_attributes

    @abstractmethod
    async def _receive(self, max_bytes: int) -> bytes:
        """Receive, with the behaviour of this class."""

    async def _send(self, item: bytes) -> None:
        await self.stream.send(item)


class SplitStream(Wrapper):
    """`receive` returns small pieces, whatever its `max_bytes`.

    Args:
        stream: the stream to wrap.
        size: the most bytes that `receive` returns; 1 means byte by byte.
        at: offsets in bytes from the start of the stream, at each of which a piece ends. They replace `size`.

    Raises:
        ValueError: `size` is less than 1, or an offset is negative.
    """

    def __init__(self, stream: ByteStream, size: int = 1, *, at: Sequence[int] | None = None) -> None:
        super().__init__(stream)
        check_int("size", size, 1)
        for offset in at or ():
            check_int("an offset", offset, 0)
        self._size = size
        self._at = None if at is None else sorted(at)
        self._position = 0

    async def _receive(self, max_bytes: int) -> bytes:
        data = await self.stream.receive(min(max_bytes, self._room(max_bytes)))
        self._position += len(data)
        return data

    def _room(self, max_bytes: int) -> int:
        if self._at is None:
            return self._size
        index = bisect_right(self._at, self._position)
        return self._at[index] - self._position if index < len(self._at) else max_bytes


class DelayStream(Wrapper):
    """Each call sleeps first.

    Args:
        stream: the stream to wrap.
        receive: seconds before each `receive`.
        send: seconds before each `send` and `send_eof`.
    """

    def __init__(self, stream: ByteStream, *, receive: float = 0, send: float = 0) -> None:
        super().__init__(stream)
        self._receive_delay = receive
        self._send_delay = send

    async def send_eof(self) -> None:
        """Sleep, then end the sending direction. If cancelled while it sleeps, nothing happened.

        Raises:
            anyio.BusyResourceError, anyio.BrokenResourceError, anyio.ClosedResourceError: as for `send`.
        """
        with self._sending:
            await anyio.sleep(self._send_delay)
            await self.stream.send_eof()

    async def _receive(self, max_bytes: int) -> bytes:
        await anyio.sleep(self._receive_delay)
        return await self.stream.receive(max_bytes)

    async def _send(self, item: bytes) -> None:
        await anyio.sleep(self._send_delay)
        await self.stream.send(item)


class _Gate:
    """Lets tasks pass, or makes them wait until it is opened."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self._opened = anyio.Event()

    def open(self) -> None:
        self.is_open = True
        self._opened.set()
        self._opened = anyio.Event()

    def shut(self) -> None:
        self.is_open = False

    async def wait(self) -> None:
        while not self.is_open:
            await self._opened.wait()


class StallStream(Wrapper):
    """Nothing passes while a direction is stalled; calls wait until :meth:`resume`.

    A `receive` that was waiting when :meth:`stall` was called stalls as well: bytes that arrive are held
    back, even if it is cancelled. A `send` that began before continues.

    Args:
        stream: the stream to wrap.
        receive: whether receiving is stalled from the start.
        send: whether sending is stalled from the start.
    """

    def __init__(self, stream: ByteStream, *, receive: bool = True, send: bool = True) -> None:
        super().__init__(stream)
        self._receive_gate = _Gate(is_open=not receive)
        self._send_gate = _Gate(is_open=not send)
        self._held = b""

    def stall(self, *, receive: bool = True, send: bool = True) -> None:
        """Stall these directions."""
        if receive:
            self._receive_gate.shut()
        if send:
            self._send_gate.shut()

    def resume(self, *, receive: bool = True, send: bool = True) -> None:
        """End the stall of these directions."""
        if receive:
            self._receive_gate.open()
        if send:
            self._send_gate.open()

    async def send_eof(self) -> None:
        """Wait while sending is stalled, then end that direction. If cancelled while it waits, nothing
        happened.

        Raises:
            anyio.BusyResourceError, anyio.BrokenResourceError, anyio.ClosedResourceError: as for `send`.
        """
        with self._sending:
            await self._send_gate.wait()
            await self.stream.send_eof()

    async def aclose(self) -> None:
        """Close the wrapped stream, even if cancelled. Waiting calls then raise what that stream raises."""
        try:
            await self.stream.aclose()
        finally:
            self._held = b""
            self.resume()

    async def _receive(self, max_bytes: int) -> bytes:
        await self._receive_gate.wait()
        while not self._held:
            try:
                self._held = await self.stream.receive(max_bytes)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                await self._receive_gate.wait()
                raise
            await self._receive_gate.wait()
        data, self._held = self._held[:max_bytes], self._held[max_bytes:]
        return data

    async def _send(self, item: bytes) -> None:
        await self._send_gate.wait()
        await self.stream.send(item)


class _Pace:
    """When the next bytes may pass."""

    def __init__(self, rate: float) -> None:
        if rate <= 0:
            raise ValueError(f"the rate must be greater than 0, got {rate}")
        self.piece = max(1, int(rate / 20))
        self._rate = rate
        self._free_at = -math.inf

    async def wait(self) -> None:
        await anyio.sleep_until(self._free_at)

    def passed(self, count: int) -> None:
        self._free_at = max(self._free_at, anyio.current_time()) + count / self._rate


class RateStream(Wrapper):
    """A slow line: bytes pass in pieces, each worth a twentieth of a second, with pauses between them.

    Args:
        stream: the stream to wrap.
        receive: bytes per second; ``None`` for no limit.
        send: bytes per second; ``None`` for no limit.
    """

    def __init__(
        self, stream: ByteStream, *, receive: float | None = None, send: float | None = None
    ) -> None:
        super().__init__(stream)
        self._receive_pace = None if receive is None else _Pace(receive)
        self._send_pace = None if send is None else _Pace(send)

    async def _receive(self, max_bytes: int) -> bytes:
        pace = self._receive_pace
        if pace is None:
            return await self.stream.receive(max_bytes)
        await pace.wait()
        data = await self.stream.receive(min(max_bytes, pace.piece))
        pace.passed(len(data))
        return data

    async def _send(self, item: bytes) -> None:
        pace = self._send_pace
        if pace is None:
            await self.stream.send(item)
            return
        for start in range(0, max(1, len(item)), pace.piece):
            piece = item[start : start + pace.piece]
            await pace.wait()
            pace.passed(len(piece))
            await self.stream.send(piece)
