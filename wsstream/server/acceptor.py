"""Accepting sockets on the listeners of a server.

Each listener has one task, from `listen` to the end. Where the event loop calls back, the sockets are
accepted in a callback, and the task waits for what ends that. The tasks belong to the event loop and not to a
task group: a task group is bound to the task that opened it, and a block of `serve` may be left in another
task than it was entered in.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from wsstream.driver.signals import Latch, Signal
from wsstream.log import Log
from wsstream.opening.peer import PeerAddress
from wsstream.transports.eventloop import Task, event_loop
from wsstream.transports.listen import accept_now, close_listener
from wsstream.transports.sockets import INHERITS_OPTIONS, set_options

__all__ = ["Acceptor", "Spawn"]

Spawn: TypeAlias = Callable[[Task, Callable[[], None]], None]

log = Log("wsstream.server")

# Sockets that are accepted before others of the event loop run: one takes some 20 µs.
_AT_ONCE = 16
_PAUSE = 0.1  # seconds between attempts to accept while the system is out of descriptors
_BRIEFLY = 0.01  # seconds for clients that were dropped to give theirs back
_SILENCE = 60.0  # seconds until the log says so again
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """Accepts sockets until it is closed.

    Args:
        spawn: starts a task; the second argument is called when it has ended.
        add: takes an accepted socket and the address of its peer.
        make_room: called with an error, when the system is out of descriptors, and with how many to free at
            most; returns how many it frees.
        on_end: called when one of the tasks has ended.

    Attributes:
        closed: set when no more sockets are accepted.
        error: why, unless `close` was called.
        cancelled: whether a task was cancelled, as all tasks are when a program ends.
    """

    def __init__(
        self,
        spawn: Spawn,
        add: Callable[[socket.socket, PeerAddress], None],
        make_room: Callable[[OSError, int], int],
        on_end: Callable[[], None],
    ) -> None:
        self.closed = Latch()
        self.error: BaseException | None = None
        self.cancelled = False
        self._spawn = spawn
        self._add = add
        self._make_room = make_room
        self._on_end = on_end
        self._listeners: list[socket.socket] = []
        self._running: set[socket.socket] = set()  # listeners that have a task
        self._short_at = -inf  # when descriptors were missing last
        self._room = 1  # how many to make room for: twice as many each time, while that is not enough
        self._warned = -inf  # when the log last said that descriptors are missing
        self._ends: dict[socket.socket, Callable[[Exception], None]] = {}  # of those that call back

    @property
    def is_running(self) -> bool:
        """Whether a task is left."""
        return bool(self._running)

    def listen(self, listeners: Sequence[socket.socket]) -> None:
        """Start accepting."""
        self._listeners = list(listeners)
        for listener in self._listeners:
            listener.setblocking(False)
            if INHERITS_OPTIONS:
                set_options(listener)
            self._running.add(listener)
            self._spawn(partial(self._run, listener), partial(self._end, listener))

    def close(self) -> None:
        """Accept no more sockets."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            if (end := self._ends.pop(listener, None)) is not None:
                end(anyio.ClosedResourceError())
            close_listener(listener)
        self.closed.set()

    def fail(self, error: BaseException) -> None:
        """Accept no more sockets, because of `error`."""
        self.error = self.error or error
        self.close()

    # -- the task of a listener ----------------------------------------------------------------

    async def _run(self, listener: socket.socket) -> None:
        try:
            while True:
                try:
                    await self._accept_sockets(listener)
                except OSError as error:
                    if error.errno not in _OUT_OF_RESOURCES:
                        raise
                    await self._wait_for_room(listener, error)
        except anyio.ClosedResourceError:
            pass
        except OSError as error:
            log.error("the server stops listening: %s", error, cause=error)
            self.fail(error)
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            self.close()
            raise

    def _end(self, listener: socket.socket) -> None:
        """The task ended, perhaps before its first step: close, or clients would wait in vain."""
        self._running.discard(listener)
        self.close()
        self._on_end()

    async def _accept_sockets(self, listener: socket.socket) -> None:
        """Accept until that fails."""
        await checkpoint()
        if (loop := event_loop().task_loop()) is not None:
            try:
                await self._accept_in_callbacks(listener, loop)
            except NotImplementedError:  # the default event loop of Windows
                pass
        while True:
            self._accept_some(listener)
            await event_loop().wait_readable(listener)

    async def _accept_in_callbacks(self, listener: socket.socket, loop: Any) -> None:
        number, ended, errors = listener.fileno(), Signal(), list[Exception]()
        if number < 0:
            raise anyio.ClosedResourceError

        def end(error: Exception) -> None:
            loop.remove_reader(number)
            errors.append(error)
            ended.notify()

        def accept() -> None:
            try:
                self._accept_some(listener)
            except Exception as error:
                self._ends.pop(listener, end)(error)

        loop.add_reader(number, accept)
        self._ends[listener] = end
        try:
            await ended.wait()
            raise errors[0]
        finally:
            if self._ends.pop(listener, None) is not None:
                loop.remove_reader(number)

    def _accept_some(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            accepted = accept_now(listener)
            if accepted is None:
                break
            self._add(*accepted)

    async def _wait_for_room(self, listener: socket.socket, error: OSError) -> None:
        await event_loop().wait_readable(listener)  # Linux reports this even if nobody waits
        now = anyio.current_time()
        if now - self._warned >= _SILENCE:
            self._warned = now
            log.warning("cannot accept connections: %s; trying again until there is room", error)
        room = 1 if now - self._short_at > 1 else self._room
        made = self._make_room(error, room)
        self._room = min(2 * room, _AT_ONCE) if made == room else 1
        self._short_at = now
        with anyio.move_on_after(_BRIEFLY if made else _PAUSE):
            await self.closed.wait()
