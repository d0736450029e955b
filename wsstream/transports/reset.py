"""Dropping a stream so that the other end sees a reset, which it cannot mistake for a normal end."""

from __future__ import annotations

import socket
import struct
import sys
from abc import abstractmethod
from contextlib import suppress

import anyio
from anyio.abc import AnyByteStream, ByteStream, SocketAttribute
from anyio.lowlevel import cancel_shielded_checkpoint
from anyio.streams.tls import TLSStream

__all__ = ["ResettableStream", "reset"]

# SO_LINGER with 0 seconds: closing drops what is unsent and sends RST (RFC 9293 section 3.10.5, "ABORT").
_AT_ONCE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)

_FAILURES = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError)


class ResettableStream(ByteStream):
    """A stream with a way of its own to signal a reset to the other end."""

    @abstractmethod
    def reset(self) -> None:
        """Close the stream, and have the other end see a reset. Never waits."""


async def reset(stream: AnyByteStream) -> None:
    """Close `stream` with a reset; a stream that cannot signal one just ends.

    Raises nothing but cancellation; if cancelled, the stream is closed.
    """
    while isinstance(stream, TLSStream):  # aclose of TLS would send close_notify, a normal end
        stream = stream.transport_stream
    if isinstance(stream, ResettableStream):
        stream.reset()
    else:
        await _close_at_once(stream)


async def _close_at_once(stream: AnyByteStream) -> None:
    with suppress(OSError, AttributeError, ValueError):  # it is closed; uvloop raises the last two then
        sock = stream.extra(SocketAttribute.raw_socket, None)
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    with anyio.CancelScope(shield=True), suppress(*_FAILURES):
        # anyio 4.11 on asyncio sends FIN before it closes a socket, so the peer might read that before the
        # RST.
        if (abort := getattr(getattr(stream, "_transport", None), "abort", None)) is not None:
            abort()
        await anyio.aclose_forcefully(stream)
    await cancel_shielded_checkpoint()  # asyncio closes the socket in the next turn of its loop
