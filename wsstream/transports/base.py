"""The interface between the driver and where bytes come from.

A transport moves bytes without waiting (`recv_into`, `send`) and waits without moving bytes
(`wait_readable`, `wait_writable`). The first two are synchronous, so no cancellation can interrupt them; the
other two may be cancelled at any time and nothing is lost. At most one task waits for each direction. Where
the event loop calls back (`watch_readable`, `watch_writable`), no task waits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint

from wsstream.protocol.frame_queue import Piece

__all__ = [
    "NOTSENT",
    "Backlog",
    "Delivery",
    "Transport",
    "receive_now",
    "receive_some",
    "release",
    "send_all",
]

NOTSENT: Final = 128 * 1024
"""Bytes that the kernel may hold unsent, where it can be told, until `Transport.limit_unsent` is called."""

_RELEASE_TIMEOUT = 2.0  # seconds


class Backlog(NamedTuple):
    """Bytes that left the transport and did not reach the peer, as far as this machine can tell."""

    size: int
    """Bytes that the peer's system has not acknowledged (TCP), or the peer has not read (Unix)."""
    waits: bool
    """Whether some of them have to wait until the peer or the network takes more."""


class Delivery(NamedTuple):
    """How far output has come since the connection was made, as the kernel has measured it."""

    size: int
    """Bytes that the peer's system has acknowledged."""
    time: int
    """Microseconds in which there was something to acknowledge: without the sender's pauses, with the time
    in which the peer had no room."""


class Transport(ABC):
    """A full-duplex byte transport in non-blocking style.

    Failures of the network raise :class:`anyio.BrokenResourceError` with the ``OSError`` (or
    ``ssl.SSLError``) as cause; calls after :meth:`close` raise :class:`anyio.ClosedResourceError`.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def unsent(self) -> int:
        """Bytes that `send` took and that have not left yet. They leave only during :meth:`wait_writable`,
        so the caller has to call it while this is not 0.
        """

    @abstractmethod
    def recv_into(self, buffer: memoryview) -> int | None:
        """Move received bytes into `buffer`, which is not empty, and return their number.

        ``None`` means that nothing has arrived yet; 0 means the end of the stream. If `buffer` is not filled,
        nothing more has arrived.

        Raises:
            anyio.BrokenResourceError: the connection failed.
            anyio.ClosedResourceError: the transport is closed.
        """

    @property
    def receive(self) -> Callable[[memoryview, int], int | None]:
        """As `recv_into`, for at most a number of bytes; what it raises may have to go through `failure`."""
        return self._recv_some

    def _recv_some(self, buffer: memoryview, size: int) -> int | None:
        return self.recv_into(buffer[:size])

    @property
    def send_directly(self) -> Callable[[bytes], int] | None:
        """As `send`, for one buffer; what it raises may have to go through `failure`.

        ``None``: the transport may keep bytes itself (`unsent`), so that `send` has to be called.
        """
        return None

    @property
    def fileno(self) -> Callable[[], int] | None:
        """That of the non-blocking socket behind `receive` and `send_directly`, if there is one."""
        return None

    def failure(self, error: Exception) -> Exception:
        """The exception for what `receive` or `send_directly` raised."""
        return error

    @abstractmethod
    def wait_readable(self) -> Awaitable[None]:
        """Return when `recv_into` may return bytes (it may still return ``None``).

        If cancelled, no byte is lost.

        Raises:
            anyio.ClosedResourceError: the transport is closed, or was closed meanwhile.
        """

    @abstractmethod
    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Take as many bytes from the start of `buffers` as possible without waiting.

        Returns their number; 0 when the transport takes none now.

        Raises:
            anyio.BrokenResourceError: the connection failed.
            anyio.ClosedResourceError: the transport is closed.
        """

    def backlog(self) -> Backlog:
        """The bytes on their way to the peer; none, where this machine cannot tell."""
        return Backlog(0, False)

    def delivery(self) -> Delivery | None:
        """How fast the peer takes what is sent; ``None``, where this machine cannot tell."""
        return None

    def limit_unsent(self, size: int) -> None:  # noqa: B027 - some transports have nothing to tell
        """Have the kernel hold no more than `size` unsent bytes. Does nothing, where it cannot be told."""

    @property
    def sends_files(self) -> bool:
        """Whether `send_pieces` sends parts of files without a copy."""
        return False

    def send_pieces(self, pieces: Sequence[Piece]) -> int:
        """As `send`, for pieces that may be parts of files. Only if `sends_files`.

        Raises:
            FileEnded: a file has ended before the part that is to be sent.
            anyio.BrokenResourceError, anyio.ClosedResourceError: as for `send`.
        """
        raise NotImplementedError

    @abstractmethod
    def wait_writable(self) -> Awaitable[None]:
        """Return when `send` may take more, or when some of `unsent` has left.

        If cancelled, the bytes in `unsent` stay there or have left; only a :class:`StreamTransport` cannot
        tell and fails.

        Raises:
            anyio.BrokenResourceError: the connection failed.
            anyio.ClosedResourceError: the transport is closed, or was closed meanwhile.
        """

    def watch_readable(self, callback: Callable[[], object]) -> bool:
        """Have the event loop call `callback`, always the same one, whenever `wait_readable` would return.

        It is called until `unwatch_readable` or `close`, which then releases everything. It returns ``True``
        if it leaves unread what is there. Returns false where the event loop cannot call back: wait instead.
        """
        return False

    def unwatch_readable(self) -> None:  # noqa: B027 - a transport that never watches has nothing to end
        """End `watch_readable`, if that has begun."""

    def watch_writable(self, callback: Callable[[], object]) -> bool:
        """As `watch_readable`, for `wait_writable`."""
        return False

    def unwatch_writable(self) -> None:  # noqa: B027 - as above
        """End `watch_writable`, if that has begun."""

    @abstractmethod
    def send_eof(self) -> None:
        """Tell the peer that nothing more will be sent, if the transport can. `unsent` must be 0."""

    @abstractmethod
    def close(self) -> None:
        """Drop the connection at once, without waiting. Waiting tasks raise
        :class:`anyio.ClosedResourceError`. May be called again.
        """

    @property
    def released(self) -> bool:
        """Whether `close` has released everything, so that `aclose` has nothing to do."""
        return False

    @abstractmethod
    async def aclose(self) -> None:
        """Release everything. May wait for a short time; if cancelled, it still releases everything.

        Raises nothing but cancellation.
        """

    @abstractmethod
    def extra(self, name: str) -> Any:
        """Return a property of the connection: ``"peername"``, ``"sockname"``, ``"socket"`` or
        ``"ssl_object"``; ``None`` if it is not known.
        """


async def receive_some(transport: Transport, max_bytes: int) -> bytes:
    """Wait for bytes: at least one, at most `max_bytes`; ``b""`` at the end of the stream.

    If cancelled, nothing was taken from the transport. No checkpoint if bytes have already arrived.
    """
    while (data := receive_now(transport, max_bytes)) is None:
        await transport.wait_readable()
    return data


def receive_now(transport: Transport, max_bytes: int) -> bytes | None:
    """The bytes that have arrived, at most `max_bytes`; ``None`` if none have, ``b""`` at the end."""
    # The buffer is freed at once: thousands of tasks may wait for bytes.
    view = memoryview(bytearray(max_bytes))
    count = transport.recv_into(view)
    return None if count is None else bytes(view[:count])


async def send_all(transport: Transport, data: bytes) -> None:
    """Send `data` and wait until it left the transport. If cancelled, part of it may have been sent.

    No checkpoint if all of it leaves at once.
    """
    view = memoryview(data)
    while view or transport.unsent:
        count = transport.send([view]) if view else 0
        view = view[count:]
        if (view and count == 0) or (not view and transport.unsent):
            await transport.wait_writable()


async def release(transport: Transport) -> None:
    """Drop a transport that no driver owns. Takes 2 seconds at most, and ends even if it is cancelled."""
    transport.close()
    with anyio.move_on_after(_RELEASE_TIMEOUT, shield=True):
        await transport.aclose()
    await cancel_shielded_checkpoint()
