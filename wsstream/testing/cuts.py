"""Connections that end in the wrong place: by a FIN or an RST at a given byte."""

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
    """The connection ends at a given byte, in the middle of whatever passes.

    Without `reset`, only the direction ends that reached its limit, as by a FIN: `receive` gives its
    bytes and then raises :class:`anyio.EndOfStream`, or the other end sees the end of the stream after
    those bytes and `send` raises :class:`anyio.BrokenResourceError`. With `reset`, the whole connection
    is dropped with :func:`reset_stream` at that byte, and every later call raises
    :class:`anyio.BrokenResourceError`.

    Args:
        stream: the stream to wrap.
        after_receive: bytes that are received before the end; ``None`` for no limit.
        after_send: bytes that are sent before the end; ``None`` for no limit.
        reset: drop the connection instead of ending a direction.
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
        """Pass it on, unless the connection was dropped."""
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
        with anyio.CancelScope(shield=True):  # what was received before is still to be returned
            await reset_stream(self.stream)

    def _check(self) -> None:
        if self._broken:
            raise anyio.BrokenResourceError


async def reset_stream(stream: ByteStream) -> None:
    """Drop a connection as TCP does with an RST, so that the other end sees it.

    It works on memory streams and sockets, wrapped or not; what is neither is closed forcefully. With
    sockets, bytes on their way may be lost.
    """
    inner = stream
    while isinstance(inner, Wrapper):
        inner = inner.stream
    await reset(inner)
    await anyio.aclose_forcefully(stream)  # who waits in a wrapper has to be woken
