"""Clients that have yet to send their request, without a task for each.

The event loop calls back when one of them has sent something, and one timer serves them all: they came in
their order and have the same time, so the first of them is due first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Any

from wsstream.server.clients import Client

__all__ = ["Lobby"]


class Lobby:
    """Watches the sockets of clients, and their deadlines.

    Args:
        loop: asyncio's event loop, which calls back; ``None``: nothing does.
        on_readable: called with a client whenever its socket has something to read.
        on_overdue: called with a client when its deadline has passed; it has left.
    """

    def __init__(
        self, loop: Any, on_readable: Callable[[Client], None], on_overdue: Callable[[Client], None]
    ) -> None:
        self._loop: Any = loop
        self._on_readable = on_readable
        self._on_overdue = on_overdue
        self._clients: dict[Client, None] = {}  # the first is due first
        self._timer: Any = None

    def __iter__(self) -> Iterator[Client]:
        return iter(tuple(self._clients))

    def enter(self, client: Client) -> bool:
        """Watch a client, whose deadline is not before those of the others; false: the loop cannot."""
        if self._loop is None:
            return False
        try:
            # The number, not the socket: asyncio shows a socket in an exception that it then drops, and
            # that asks the kernel for both of its addresses.
            self._loop.add_reader(client.sock.fileno(), self._on_readable, client)
        except NotImplementedError:  # the default event loop of Windows
            self._loop = None
            return False
        self._clients[client] = None
        if self._timer is None and client.deadline != inf:
            self._timer = self._loop.call_at(client.deadline, self._on_time)
        return True

    def leave(self, client: Client, *, watched: bool = False) -> bool:
        """The client leaves; false: it was not here.

        Its socket is not watched any more, unless somebody else has it `watched` by now, which took the
        place of this watch.
        """
        if client not in self._clients:
            return False
        del self._clients[client]
        if not watched:
            self._loop.remove_reader(client.sock.fileno())
        return True

    def close(self) -> None:
        """Stop the timer. The lobby is empty, and nobody will enter."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        now = self._loop.time()
        for client in self:
            if client.deadline > now:
                self._timer = self._loop.call_at(client.deadline, self._on_time)
                break
            self.leave(client)
            self._on_overdue(client)
