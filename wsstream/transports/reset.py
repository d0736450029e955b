"""Dropping a stream so that the other end sees a reset, where it might take an end for a normal one."""

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
    """A stream that has a way of its own to tell the other end of a reset."""

    @abstractmethod
    def reset(self) -> None:
        """Close the stream as a reset ends TCP. Never waits."""


async def reset(stream: AnyByteStream) -> None:
    """Close `stream` as a reset ends TCP. Where there is no such thing it just ends. Raises nothing."""
    while isinstance(stream, TLSStream):  # TLS itself would say goodbye
        stream = stream.transport_stream
    if isinstance(stream, ResettableStream):
        stream.reset()
    else:
        await _close_at_once(stream)


async def _close_at_once(stream: AnyByteStream) -> None:
    with suppress(OSError, AttributeError, ValueError):  # it is closed; the last two are how uvloop says so
        sock = stream.extra(SocketAttribute.raw_socket, None)
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    with anyio.CancelScope(shield=True), suppress(*_FAILURES):
        # anyio 4.11 closes a socket on asyncio with a FIN first, which may be read before the RST is there.
        if (abort := getattr(getattr(stream, "_transport", None), "abort", None)) is not None:
            abort()
        await anyio.aclose_forcefully(stream)
    await cancel_shielded_checkpoint()  # asyncio closes the socket in the next turn of its loop
