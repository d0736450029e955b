"""Clients that have yet to send their request, without a task for each.

The event loop calls back when one of them has sent something, and one alarm serves them all: they came in
their order and have the same time, so the first of them is due first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Any

from wsstream.server.clients import Client
from wsstream.transports.alarms import Alarm
from wsstream.transports.eventloop import EventLoop

__all__ = ["Lobby"]


class Lobby:
    """Watches the sockets of clients, and their deadlines.

    Args:
        operations: those of the event loop; clients are watched on asyncio's. ``None``: none is.
        on_readable: called with a client whenever its socket has something to read.
        on_overdue: called with a client when its deadline has passed; it has left.
    """

    def __init__(
        self,
        operations: EventLoop | None,
        on_readable: Callable[[Client], None],
        on_overdue: Callable[[Client], None],
    ) -> None:
        self._loop: Any = None if operations is None else operations.task_loop()
        if operations is not None and self._loop is not None:
            self._alarms, self._now = operations.alarms(), operations.clock()
        self._on_readable = on_readable
        self._on_overdue = on_overdue
        self._clients: dict[Client, int] = {}  # and their sockets' numbers; the first is due first
        self._alarm: Alarm | None = None

    def __iter__(self) -> Iterator[Client]:
        return iter(tuple(self._clients))

    def enter(self, client: Client, number: int) -> bool:
        """Watch a client and its socket, of that number; false: the loop cannot.

        Its deadline is not before those of the others.
        """
        if self._loop is None:
            return False
        try:
            # The number, not the socket: asyncio shows a socket in an exception that it then drops, and
            # that asks the kernel for both of its addresses.
            self._loop.add_reader(number, self._on_readable, client)
        except NotImplementedError:  # the default event loop of Windows
            self._loop = None
            return False
        self._clients[client] = number
        if self._alarm is None and client.deadline != inf:
            self._alarm = self._alarms.set(client.deadline, self)
        return True

    def leave(self, client: Client, *, watched: bool = False) -> bool:
        """The client leaves; false: it was not here.

        Its socket is not watched any more, unless somebody else has it `watched` by now, which took the
        place of this watch.
        """
        if (number := self._clients.pop(client, None)) is None:
            return False
        if not watched:
            self._loop.remove_reader(number)
        return True

    def close(self) -> None:
        """Cancel the alarm. The lobby is empty, and nobody will enter."""
        if self._alarm is not None:
            self._alarms.cancel(self._alarm)
            self._alarm = None

    def on_time(self) -> None:
        """Send away the clients whose deadlines have passed."""
        self._alarm = None
        now = self._now()
        for client in self:
            if client.deadline > now:
                self._alarm = self._alarms.set(client.deadline, self)
                break
            self.leave(client)
            self._on_overdue(client)
