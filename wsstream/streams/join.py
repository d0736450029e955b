"""Two byte streams, joined: each sends what the other receives, until both have ended."""

from __future__ import annotations

import anyio
from anyio.abc import ByteStream

from wsstream.errors import WebSocketError
from wsstream.streams.bytestream import WebSocketByteStream
from wsstream.streams.pipe import pipe
from wsstream.transports.reset import reset

__all__ = ["join"]

_CLOSE_TIMEOUT = 10.0  # seconds for a stream to close cleanly; a TLS peer may never answer

_FAILURES = (anyio.BrokenResourceError, OSError, WebSocketError)


async def join(a: ByteStream, b: ByteStream) -> Exception | None:
    """Carry bytes from `a` to `b` and from `b` to `a`, until both directions have ended; then close both.

    The end of one direction is passed on with ``send_eof``, and the other direction goes on. When one stream
    breaks, the other is reset, so that its peer does not take what it has for the whole: TCP gets RST, a
    WebSocket Close 1011 and no end mark; other streams are just closed. The slower side sets
    the pace, and no more than a chunk (64 KiB) is held for each direction.

    A stream that cannot close one direction alone (TLS, a byte stream without a mark) is closed where it
    should do so, after all that was to be sent. What its peer still had to say is lost; for that the other
    stream is reset, unless that peer had ended before.

    Returns ``None`` if both ended cleanly, otherwise the exception that a stream raised. It is not
    raised: that a client resets its connection is no reason for a listener to end. In any case, and also if
    cancelled (both are reset then), neither is left open; the WebSocket of a byte stream that was reset may
    still be closing, which it does by itself within ``close_timeout``.

    Raises:
        TypeError: `a` or `b` is not a byte stream. Of a WebSocket, ``ws.byte_stream()`` is one.
        anyio.ClosedResourceError, anyio.BusyResourceError: one of the two was closed on this side, or
            another task uses it. Both are reset.
    """
    for stream in (a, b):
        if not isinstance(stream, ByteStream):
            kind = type(stream).__name__
            raise TypeError(f"join() takes byte streams, such as ws.byte_stream(), not a {kind}")
    return await _Join(a, b).run()


class _Join:
    def __init__(self, a: ByteStream, b: ByteStream) -> None:
        self._streams = (a, b)
        self._complete: list[ByteStream] = []  # those that were sent all there was
        self._error: Exception | None = None
        self._tasks = anyio.create_task_group()

    async def run(self) -> Exception | None:
        a, b = self._streams
        whole: list[ByteStream] = []
        try:
            async with self._tasks:
                self._tasks.start_soon(self._carry, a, b)
                self._tasks.start_soon(self._carry, b, a)
            if self._error is None:
                whole = self._complete
        finally:
            for stream in self._streams:
                if stream not in whole:
                    await reset(stream)
        async with anyio.create_task_group() as tasks:
            for stream in whole:
                tasks.start_soon(_close, stream)
        if self._error is not None and not _is_ordinary(self._error):
            raise self._error
        return self._error

    async def _carry(self, source: ByteStream, sink: ByteStream) -> None:
        try:
            await pipe(source, sink)
            self._complete.append(sink)
            await self._pass_on_end(source, sink)
        except Exception as error:
            self._error = self._error or error
            self._tasks.cancel_scope.cancel()

    async def _pass_on_end(self, source: ByteStream, sink: ByteStream) -> None:
        """Tell `sink` that all was sent. Where only the whole can end, the other direction ends here too."""
        try:
            await sink.send_eof()
        except NotImplementedError:
            self._tasks.cancel_scope.cancel()
        if isinstance(source, WebSocketByteStream) and not source.half_closes:
            self._tasks.cancel_scope.cancel()


def _is_ordinary(error: Exception) -> bool:
    return isinstance(error, _FAILURES) and not isinstance(error, anyio.ClosedResourceError)


async def _close(stream: ByteStream) -> None:
    try:
        with anyio.move_on_after(_CLOSE_TIMEOUT):
            await stream.aclose()
    except _FAILURES:
        pass  # its peer has everything
