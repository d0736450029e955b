"""The binary messages of a WebSocket as one stream of bytes."""

from __future__ import annotations

from types import TracebackType

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from wsstream.close_codes import CloseCode
from wsstream.display import never_raises
from wsstream.driver.ending import Ending
from wsstream.driver.receiver import Receiver
from wsstream.errors import ConnectionBroken, ConnectionClosed, StreamEnded
from wsstream.streams.close_on_exit import leave
from wsstream.streams.condition import described
from wsstream.streams.only import refuse_kind
from wsstream.streams.reader import MessageReader, next_reader
from wsstream.streams.writable import Writable
from wsstream.streams.writer import payload_of
from wsstream.transports.reset import ResettableStream

__all__ = ["WebSocketByteStream"]


_NORMAL = {CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_CODE}


class WebSocketByteStream(ResettableStream):
    """An :class:`anyio.abc.ByteStream` over binary messages. Made by ``ws.byte_stream()``.

    The end of the stream is a promise that nothing is missing. Where a mark was agreed on, it is the mark,
    and the end of the connection is not enough. Without one, it is a clean end with 1000, 1001 or no code.

    Leaving a block of ``async with stream`` closes as `aclose` does. Leaving it by an exception closes as
    leaving the body of ``connect`` does, without the mark, so that what is missing is not taken for the end.

    Attributes:
        half_closes: a mark was agreed on, so that one direction can end and the other go on.
    """

    half_closes: bool

    def __init__(self, receiver: Receiver, writable: Writable, ending: Ending, eof: bytes | None) -> None:
        if eof is not None and len(eof) == 1:
            raise ValueError("an end mark must be empty or longer than one byte, which is how data may look")
        self.half_closes = eof is not None
        self._receiver = receiver
        self._writable = writable
        self._ending = ending
        self._eof = eof
        self._reader: MessageReader | None = None
        self._undecided = False  # whether the message is the end mark cannot be told yet
        self._held = bytearray()  # its beginning, until that is decided and while it is handed out
        self._ended = False  # the peer's direction
        self._finishing = False  # ours: nothing but the mark may follow,
        self._sent_eof = False  # or it has been handed over

    @never_raises
    def __repr__(self) -> str:
        return described(self, self._ending)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next 1 to `max_bytes` bytes. If cancelled, none is lost.

        Raises:
            anyio.EndOfStream: the end mark came; without a mark, the peer closed with 1000, 1001 or no code.
            ConnectionBroken: the connection ended otherwise, so something may be missing.
            ClosedLocally: it was closed on this side.
            WebSocketError: a text message came. Its code is 1003; the connection is closing with that.
            anyio.BusyResourceError: another task is receiving.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        while not self._ended:
            reader = self._reader or await self._next_message()
            self._undecided = self._undecided and self._may_be_mark(reader)
            if self._held and not self._undecided:
                return self._take_held(max_bytes)
            if reader.complete:
                self._ended = self._undecided
                self._reader = None
                continue
            try:
                chunk = await reader.receive(max_bytes)
            except anyio.EndOfStream:
                continue
            if not self._undecided:
                return chunk
            self._held += chunk
        raise anyio.EndOfStream

    async def _next_message(self) -> MessageReader:
        try:
            reader = await next_reader(self._receiver, self._ending.id)
        except StreamEnded as end:
            if self._eof is None and end.code in _NORMAL:
                raise
            what = "the byte stream failed" if self._eof is None else "the byte stream has no end mark"
            raise ConnectionBroken(f"{what}, so something may be missing", end.info) from None
        if reader.kind != "binary":
            raise refuse_kind("binary", self._ending.close)
        self._reader = reader
        self._undecided = True
        return reader

    def _may_be_mark(self, reader: MessageReader) -> bool:
        if self._eof is None:
            return False
        return self._held == self._eof if reader.complete else self._eof.startswith(self._held)

    def _take_held(self, max_bytes: int) -> bytes:
        chunk = bytes(self._held[:max_bytes])
        del self._held[:max_bytes]
        return chunk

    async def send(self, item: bytes | bytearray | memoryview) -> None:
        """Send bytes as one binary message; no bytes, no message. If cancelled: as `Writable.send`.

        Raises:
            TypeError: `item` is not bytes-like.
            ConnectionBroken: the peer has closed, or the connection broke.
            anyio.ClosedResourceError: after `send_eof`; ClosedLocally, after the connection was closed here.
        """
        if self._finishing:
            raise anyio.ClosedResourceError
        payload = payload_of(item, "a byte stream takes bytes")
        if self._eof and payload == self._eof:
            await self._writable.send(payload[:1])
            payload = payload[1:]
        if payload:
            await self._writable.send(payload)

    async def send_eof(self) -> None:
        """End this direction with the mark; the other goes on. A second call does nothing.

        If cancelled, the mark may have been handed over or not: call again, nothing else can be sent.

        Raises:
            NotImplementedError: no mark was agreed on.
            ConnectionBroken, ClosedLocally: as `send` does.
        """
        if self._eof is None:
            raise NotImplementedError("without an end mark a WebSocket cannot close one direction alone")
        self._finishing = True
        if not self._sent_eof:
            await self._writable.send(self._eof)
            self._sent_eof = True

    async def aclose(self) -> None:
        """Close cleanly: end this direction with the mark, if one was agreed on, then send Close 1000.

        Bytes that were sent go out first; arriving bytes are dropped. After ``close_timeout`` seconds, or if
        cancelled, TCP is dropped, and the peer sees no normal end unless it has the mark already. Nothing is
        raised if the connection has ended before, and then nothing happens.
        """
        try:
            with anyio.move_on_after(self._ending.timer.close_timeout):
                await checkpoint_if_cancelled()  # else the mark might follow bytes that were cut short
                await self._finish()
                await self._writable.aclose(CloseCode.NORMAL)
        finally:
            self._ending.abort()  # which does nothing if it is closed
        await self._ending.wait_finished()

    async def _finish(self) -> None:
        if self.half_closes:
            try:
                await self.send_eof()
            except ConnectionClosed:
                pass

    def reset(self) -> None:
        """End the stream as a reset ends TCP: no mark, and Close 1011 in place of what has not left yet.

        Never waits. The peer's `receive` returns the bytes that have arrived, then raises
        :class:`~wsstream.ConnectionBroken`.
        """
        self._writable.abort(CloseCode.INTERNAL_ERROR, "the byte stream was reset")

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is None:
            await self.aclose()
        else:
            await leave(self._ending, exc)
