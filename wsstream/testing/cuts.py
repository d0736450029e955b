"""Connections that end at a given byte, by a FIN or an RST."""

from __future__ import annotations

import sys

import anyio
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from wsstream.transports.reset import reset

from .faults import Wrapper

__all__ = ["CutStream", "reset_stream"]

_NO_LIMIT = sys.maxsize


class CutStream(Wrapper):
    """The connection ends at a given byte, even in the middle of a `send`.

    Without `reset`, only the direction that reached its limit ends, as by a FIN. If that is receiving,
    `receive` returns the bytes up to the limit and then raises :class:`anyio.EndOfStream`. If it is sending,
    the other end sees the end of the stream after those bytes, and `send` raises
    :class:`anyio.BrokenResourceError`. With `reset`, :func:`reset_stream` drops the connection at that byte,
    and every later call raises :class:`anyio.BrokenResourceError`.

    Args:
        stream: the stream to wrap.
        after_receive: bytes received before the end; ``None`` for no limit.
        after_send: bytes sent before the end; ``None`` for no limit.
        reset: drop the connection instead of ending one direction.

    Raises:
        ValueError: a limit is negative.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        after_receive: int | None = None,
        after_send: int | None = None,
        reset: bool = False,
    ) -> None:
        super().__init__(stream)
        self._to_receive = _NO_LIMIT if after_receive is None else after_receive
        self._to_send = _NO_LIMIT if after_send is None else after_send
        if self._to_receive < 0 or self._to_send < 0:
            raise ValueError("after_receive and after_send must not be negative")
        self._reset = reset
        self._broken = False

    async def send_eof(self) -> None:
        """End the sending direction of the wrapped stream. If cancelled, as for that stream.

        Raises:
            anyio.BrokenResourceError: the connection was dropped.
        """
        with self._sending:
            self._check()
            await self.stream.send_eof()

    async def _receive(self, max_bytes: int) -> bytes:
        self._check()
        if self._to_receive == 0:
            await self._end_receiving()
            await checkpoint()
            self._check()
            raise anyio.EndOfStream
        try:
            data = await self.stream.receive(min(max_bytes, self._to_receive))
        except anyio.ClosedResourceError:
            self._check()
            raise
        self._to_receive -= len(data)
        if self._to_receive == 0:
            await self._end_receiving()
        return data

    async def _send(self, item: bytes) -> None:
        self._check()
        count = min(len(item), self._to_send)
        self._to_send -= count
        if count or not item:
            await self._pass_on(item[:count])
        if self._to_send == 0:
            await self._end_sending()
        if count < len(item):
            await checkpoint()
            raise anyio.BrokenResourceError

    async def _pass_on(self, item: bytes) -> None:
        try:
            await self.stream.send(item)
        except anyio.ClosedResourceError:
            self._check()
            raise

    async def _end_receiving(self) -> None:
        if self._reset:
            await self._drop()

    async def _end_sending(self) -> None:
        if self._reset:
            await self._drop()
        else:
            await self.stream.send_eof()

    async def _drop(self) -> None:
        self._broken = True
        with anyio.CancelScope(shield=True):  # `receive` still has to return the bytes before the limit
            await reset_stream(self.stream)

    def _check(self) -> None:
        if self._broken:
            raise anyio.BrokenResourceError


async def reset_stream(stream: ByteStream) -> None:
    """Drop a connection so that the other end sees a reset, TCP's RST.

    This works on memory streams and sockets, wrapped or not; other streams are closed forcefully. With
    sockets, bytes on their way may be lost. If cancelled, the stream is reset all the same. Raises only
    what closing the stream raises.
    """
    inner = stream
    while isinstance(inner, Wrapper):
        inner = inner.stream
    await reset(inner)
    await anyio.aclose_forcefully(stream)  # wakes tasks that wait in a wrapper
