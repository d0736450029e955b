"""Waiting for sockets on asyncio's event loops."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

__all__ = ["SocketWaits", "settle"]


class SocketWaits:
    """Waits for sockets. Unlike with anyio's functions, a callback can end the waiting.

    Args:
        running_loop: returns asyncio's running event loop.
    """

    def __init__(self, running_loop: Callable[[], Any]) -> None:
        self._running_loop = running_loop
        self._ends: dict[tuple[socket.socket, str], Callable[[], object]] = {}

    async def readable(self, sock: socket.socket) -> None:
        """Wait until `sock` is readable; ``anyio.ClosedResourceError``: it is closed meanwhile."""
        await self._wait(sock, "reader", anyio.wait_readable)

    async def writable(self, sock: socket.socket) -> None:
        """As `readable`, until it is writable."""
        await self._wait(sock, "writer", anyio.wait_writable)

    async def _wait(
        self, sock: socket.socket, kind: str, anyio_wait: Callable[[socket.socket], Awaitable[None]]
    ) -> None:
        key, number = (sock, kind), sock.fileno()
        if key in self._ends:
            raise anyio.BusyResourceError(f"waiting as the {kind} of")
        loop = self._running_loop()
        future = loop.create_future()
        # Numbers, not sockets: asyncio shows an object that it does not know in an exception that it drops,
        # and the repr of a socket asks the kernel for both of its addresses.
        try:
            if kind == "reader":
                loop.add_reader(number, settle, future)
            else:
                loop.add_writer(number, settle, future)
        except NotImplementedError:  # Windows' default event loop: anyio waits in a thread
            await self._wait_with_anyio(key, anyio_wait(sock))
            return

        def end() -> None:
            _unwatch(loop, number, kind)
            settle(future, anyio.ClosedResourceError())

        self._ends[key] = end
        try:
            await future
        finally:
            if self._ends.pop(key, None) is not None:
                _unwatch(loop, number, kind)

    async def _wait_with_anyio(self, key: tuple[socket.socket, str], waiting: Awaitable[None]) -> None:
        with anyio.CancelScope() as scope:
            self._ends[key] = scope.cancel
            try:
                await waiting
            finally:
                self._ends.pop(key, None)
        if scope.cancelled_caught:
            raise anyio.ClosedResourceError

    def notify_closing(self, sock: socket.socket) -> None:
        """End the waiting for `sock`, which is about to be closed."""
        if not self._ends:
            return
        for kind in ("reader", "writer"):
            if (end := self._ends.pop((sock, kind), None)) is not None:
                end()


def _unwatch(loop: Any, number: int, kind: str) -> None:
    if kind == "reader":
        loop.remove_reader(number)
    else:
        loop.remove_writer(number)


def settle(future: Any, error: Exception | None = None) -> None:
    """Wake the task that awaits `future`, unless it was cancelled or woken before."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
