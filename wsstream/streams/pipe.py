"""From one stream to another, with backpressure from end to end and at most a chunk in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, ObjectReceiveStream, ObjectSendStream

from wsstream.close_codes import CloseCode
from wsstream.driver.relay import Relay
from wsstream.errors import CloseInfo, ConnectionClosed, check_close_arguments
from wsstream.streams.readable import Readable
from wsstream.streams.websocket import WebSocketStream
from wsstream.streams.writable import Writable

__all__ = ["pipe", "proxy"]

Source: TypeAlias = ObjectReceiveStream[Any] | ByteReceiveStream
Sink: TypeAlias = ObjectSendStream[Any] | ByteSendStream


async def pipe(source: Source, sink: Sink) -> None:
    """Send everything that `source` yields to `sink`, until `source` ends. Neither is closed.

    Both may be a :class:`WebSocketStream`, its readable or writable, a message's reader or writer, or
    any stream of anyio. Between WebSockets the boundaries and kinds of messages are kept, and the first
    chunk of a message is forwarded before the message is complete. To a stream of bytes the chunks of all
    messages are written one after the other; from a stream of bytes each chunk becomes a binary message.

    If cancelled, or if one side fails, inside a message between WebSockets, that message is aborted
    (Close 1011 to the sink). Raises what the two streams raise.
    """
    source = source.readable if isinstance(source, WebSocketStream) else source
    sink = sink.writable if isinstance(sink, WebSocketStream) else sink
    if isinstance(source, Readable) and isinstance(sink, Writable):
        await Relay(source._receiver, sink._sender).run()
    elif isinstance(source, Readable) and isinstance(sink, ByteSendStream):
        async for reader in source.messages():
            await _forward_items(reader, sink)
    else:
        await _forward_items(source, sink)


async def _forward_items(source: Source, sink: Sink) -> None:
    send: Callable[[Any], Awaitable[None]] = sink.send
    async for item in source:
        await send(item)


async def proxy(a: WebSocketStream, b: WebSocketStream) -> tuple[CloseInfo, CloseInfo]:
    """Connect two WebSockets: every message goes on to the other side, and so does the close code.

    Returns when both are closed: how `a` and how `b` ended. An end that cannot be passed on as it
    is (no Close frame, or a code that must not be sent) becomes 1001. If cancelled, both are left
    open, except that a message which was half-way is aborted, as in :func:`pipe`. Raises only what is wrong
    with the arguments: an end of `a` or `b`, clean or not, is what it waits for.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_forward, a, b)
        tasks.start_soon(_forward, b, a)
    return await _end_of(a), await _end_of(b)


async def _forward(source: WebSocketStream, sink: WebSocketStream) -> None:
    try:
        await pipe(source, sink)
    except ConnectionClosed:
        if source.close_info is None:  # the sink has ended; the other direction closes the source
            return
    await sink.aclose(*_passed_on(source.close_info))


def _passed_on(info: CloseInfo | None) -> tuple[int | None, str]:
    assert info is not None
    if info.code == CloseCode.NO_CODE:
        return None, ""
    try:
        check_close_arguments(info.code, info.reason)
    except ValueError:
        return CloseCode.GOING_AWAY, ""
    return info.code, info.reason


async def _end_of(ws: WebSocketStream) -> CloseInfo:
    try:
        return await ws.wait_closed()
    except ConnectionClosed as error:
        return error.info
