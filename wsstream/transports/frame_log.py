"""The log of frames: what passes through a transport, frame by frame.

It looks at the bytes between a connection and its transport, so it shows what is really sent and received,
and the connection knows nothing of it. Where nobody wants the log when a connection opens, the transport
stays as it is, so the log costs nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from wsstream.codec.frames import Opcode
from wsstream.codec.masking import apply_mask
from wsstream.display import quoted
from wsstream.log import Log
from wsstream.transports.base import Backlog, Delivery, Transport

__all__ = ["FrameReader", "LoggedTransport", "with_frame_log"]

log = Log("wsstream.frames")

_SHOWN = 60  # bytes of a payload
_KINDS = {opcode.value: opcode.name.lower() for opcode in Opcode}


def with_frame_log(transport: Transport, name: str, received: bytes) -> Transport:
    """Return `transport`, or one that logs its frames too, if somebody wants that log.

    Args:
        transport: of a connection whose opening handshake is over.
        name: of the connection.
        received: what has been received already.
    """
    if not log.wants_debug:
        return transport
    logged = LoggedTransport(transport, name)
    logged.note_received(received)
    return logged


class FrameReader:
    """Finds the frames in one direction of a connection, and shows each with the beginning of its payload.

    It checks nothing: bytes that are no frames are shown as frames.

    Args:
        show: called with a text for each frame.
    """

    __slots__ = ("_head", "_show", "_skip")

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show
        self._head = bytearray()  # of a frame: its header, and the payload that is shown
        self._skip = 0  # bytes of payload that are left of the last one

    def feed(self, data: bytes | memoryview) -> None:
        """Take what was sent or received."""
        view = memoryview(data)
        while view:
            if self._skip:
                passed = min(self._skip, len(view))
                self._skip -= passed
                view = view[passed:]
                continue
            wanted = self._wanted() - len(self._head)
            self._head += view[:wanted]
            view = view[wanted:]
            if len(self._head) == self._wanted():
                self._finish()

    def _wanted(self) -> int:
        """How many bytes of this frame are to be kept, as far as that is known."""
        head = self._head
        if len(head) < 2 or len(head) < self._header_size():
            return self._header_size()
        return self._header_size() + min(self._length(), _SHOWN)

    def _header_size(self) -> int:
        if len(self._head) < 2:
            return 2
        return 2 + {126: 2, 127: 8}.get(self._head[1] & 0x7F, 0) + (4 if self._head[1] & 0x80 else 0)

    def _length(self) -> int:
        short = self._head[1] & 0x7F
        if short < 126:
            return short
        return int.from_bytes(self._head[2 : 4 if short == 126 else 10], "big")

    def _finish(self) -> None:
        head, size, length = self._head, self._header_size(), self._length()
        payload = bytes(head[size:])
        if head[1] & 0x80:
            payload = bytes(apply_mask(payload, bytes(head[size - 4 : size])))
        self._show(f"{_flags(head[0])}, {length} bytes{_shown(head[0], payload, length)}")
        self._skip = length - len(payload)
        self._head = bytearray()


def _flags(first: int) -> str:
    kind = _KINDS.get(first & 0x0F, f"opcode {first & 0x0F}")
    words = [kind, *(["compressed"] if first & 0x40 else []), *([] if first & 0x80 else ["to be continued"])]
    return ", ".join(words)


def _shown(first: int, payload: bytes, length: int) -> str:
    if not payload:
        return ""
    more = "..." if length > len(payload) else ""
    if first & 0x4F == Opcode.TEXT:
        return f": {quoted(payload.decode(errors='replace'), _SHOWN)}{more}"
    if first & 0x0F == Opcode.CLOSE and len(payload) >= 2:
        reason = payload[2:].decode(errors="replace")
        return f": {int.from_bytes(payload[:2], 'big')} {quoted(reason, _SHOWN)}{more}"
    return f": {payload.hex(' ')}{more}"


class LoggedTransport(Transport):
    """A transport that logs the frames that pass through another one, which it owns."""

    __slots__ = ("_incoming", "_inner", "_outgoing")

    def __init__(self, inner: Transport, name: str) -> None:
        self._inner = inner
        self._incoming = FrameReader(lambda text: log.debug("connection %s < %s", name, text))
        self._outgoing = FrameReader(lambda text: log.debug("connection %s > %s", name, text))

    def note_received(self, data: bytes | memoryview) -> None:
        """Log what was received."""
        self._incoming.feed(data)

    @property
    def unsent(self) -> int:
        """As that of the inner transport."""
        return self._inner.unsent

    def recv_into(self, buffer: memoryview) -> int | None:
        """Receive, and log the frames."""
        count = self._inner.recv_into(buffer)
        if count:
            self._incoming.feed(buffer[:count])
        return count

    def failure(self, error: Exception) -> Exception:
        """As that of the inner transport."""
        return self._inner.failure(error)

    def wait_readable(self) -> Awaitable[None]:
        """As that of the inner transport."""
        return self._inner.wait_readable()

    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Send, and log the frames."""
        count = left = self._inner.send(buffers)
        for buffer in buffers:
            if left <= 0:
                break
            self._outgoing.feed(memoryview(buffer)[:left])
            left -= len(buffer)
        return count

    def backlog(self) -> Backlog:
        """As that of the inner transport."""
        return self._inner.backlog()

    def delivery(self) -> Delivery | None:
        """As that of the inner transport."""
        return self._inner.delivery()

    def limit_unsent(self, size: int) -> None:
        """As that of the inner transport."""
        self._inner.limit_unsent(size)

    def wait_writable(self) -> Awaitable[None]:
        """As that of the inner transport."""
        return self._inner.wait_writable()

    def watch_readable(self, callback: Callable[[], object]) -> bool:
        """As that of the inner transport."""
        return self._inner.watch_readable(callback)

    def unwatch_readable(self) -> None:
        """As that of the inner transport."""
        self._inner.unwatch_readable()

    def watch_writable(self, callback: Callable[[], object]) -> bool:
        """As that of the inner transport."""
        return self._inner.watch_writable(callback)

    def unwatch_writable(self) -> None:
        """As that of the inner transport."""
        self._inner.unwatch_writable()

    def send_eof(self) -> None:
        """As that of the inner transport."""
        self._inner.send_eof()

    def close(self) -> None:
        """As that of the inner transport."""
        self._inner.close()

    @property
    def released(self) -> bool:
        """As that of the inner transport."""
        return self._inner.released

    async def aclose(self) -> None:
        """As that of the inner transport."""
        await self._inner.aclose()

    def extra(self, name: str) -> Any:
        """As that of the inner transport."""
        return self._inner.extra(name)
