"""The interface between the driver and where bytes come from.

A transport moves bytes without waiting (`recv_into`, `send`) and waits without moving bytes
(`wait_readable`, `wait_writable`). The first two are synchronous, so no cancellation can cut them
in two; the other two may be cancelled at any time and nothing is lost. One task at a time waits for
each direction, or, where the event loop calls back (`watch_readable`, `watch_writable`), none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint

from wsstream.protocol.frame_queue import Piece

__all__ = ["Backlog", "Transport", "receive_some", "release", "send_all"]

_RELEASE_TIMEOUT = 2.0  # seconds


class Backlog(NamedTuple):
    """What has left the transport and not arrived, as far as this machine can tell."""

    size: int
    """Bytes that the peer's system has not acknowledged (TCP), or the peer has not read (Unix)."""
    waits: bool
    """Whether some of them cannot leave before the peer or the network takes more."""


class Transport(ABC):
    """A full-duplex byte transport in non-blocking style.

    Failures of the network raise :class:`anyio.BrokenResourceError` with the ``OSError`` (or
    ``ssl.SSLError``) as cause; calls after :meth:`close` raise :class:`anyio.ClosedResourceError`.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def unsent(self) -> int:
        """Bytes that `send` took and that have not left yet. While it is not 0, somebody has to
        call :meth:`wait_writable` for them to leave.
        """

    @abstractmethod
    def recv_into(self, buffer: memoryview) -> int | None:
        """Move what has arrived into `buffer` and return its length in bytes.

        ``None`` means that nothing has arrived yet; 0 means the end of the stream. `buffer` is not
        empty. A return of fewer bytes than `buffer` holds means that nothing more has arrived.
        """

    @abstractmethod
    def wait_readable(self) -> Awaitable[None]:
        """Return when `recv_into` may have something (it may still return ``None``)."""

    @abstractmethod
    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Take bytes from the front of `buffers`, as many as are taken without waiting.

        Returns their number; 0 when the transport takes none now.
        """

    def backlog(self) -> Backlog:
        """What is on its way behind the transport; nothing, where that cannot be told."""
        return Backlog(0, False)

    @property
    def sends_files(self) -> bool:
        """Whether there is a `send_pieces` that spares the copy."""
        return False

    def send_pieces(self, pieces: Sequence[Piece]) -> int:
        """As `send`, of pieces that may be parts of files. Only where `sends_files`.

        Raises:
            FileEnded: a file is shorter than the part of it that is next.
        """
        raise NotImplementedError

    @abstractmethod
    def wait_writable(self) -> Awaitable[None]:
        """Return when `send` may take more, or when some of `unsent` has left."""

    def watch_readable(self, callback: Callable[[], None]) -> bool:
        """Have the event loop call `callback`, always the same one, whenever `wait_readable` would return.

        Goes on until `unwatch_readable` or `close`, which then releases everything. False: that cannot be
        done here, wait instead.
        """
        return False

    def unwatch_readable(self) -> None:  # noqa: B027 - where nothing is watched, nothing ends
        """End `watch_readable`, if that has begun."""

    def watch_writable(self, callback: Callable[[], None]) -> bool:
        """As `watch_readable`, for `wait_writable`."""
        return False

    def unwatch_writable(self) -> None:  # noqa: B027 - as above
        """End `watch_writable`, if that has begun."""

    @abstractmethod
    def send_eof(self) -> None:
        """Tell the peer, if the transport can, that nothing more will be sent. `unsent` is 0."""

    @abstractmethod
    def close(self) -> None:
        """Drop the connection at once, without waiting. Tasks that wait are woken with
        :class:`anyio.ClosedResourceError`. May be called again.
        """

    @property
    def released(self) -> bool:
        """Whether `close` has released everything, so that nothing is left for `aclose`."""
        return False

    @abstractmethod
    async def aclose(self) -> None:
        """Release everything. May wait for a little while; if cancelled, the connection is dropped."""

    @abstractmethod
    def extra(self, name: str) -> Any:
        """What is known of the connection: ``"peername"``, ``"sockname"``, ``"socket"``,
        ``"ssl_object"``; ``None`` where it is not.
        """


async def receive_some(transport: Transport, max_bytes: int) -> bytes:
    """Wait for bytes: at least one, at most `max_bytes`; ``b""`` at the end of the stream.

    If cancelled, nothing was taken from the transport. No checkpoint if something is there.
    """
    while (data := _received(transport, max_bytes)) is None:
        await transport.wait_readable()
    return data


def _received(transport: Transport, max_bytes: int) -> bytes | None:
    """What is there. The buffer lives no longer than the read: thousands of tasks may wait for bytes."""
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
