"""Callbacks for ready sockets on an event loop that has only tasks: Trio, where the system has epoll.

A task for each idle connection takes 4 KiB. Here one task of the run waits for all of them: until an epoll
object of its own is readable, which it is when one of the sockets in it is ready. The methods have the names
that asyncio's event loops give them.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from math import inf
from typing import Any, Protocol, TypeAlias

from wsstream.log import Log
from wsstream.transports.alarms import Alarms

__all__ = ["Guest", "Operations", "Poller"]

_SOCKETS_AT_ONCE = 64  # called back before other tasks run: the same bound as for alarms, and for its reason

_Callbacks: TypeAlias = dict[int, Callable[[], object]]  # by descriptors

log = Log("wsstream.connection")


class Guest(Protocol):
    """Who uses a poller and has to end with it."""

    def loop_ended(self) -> None:
        """The event loop ends and calls nothing back any more. Raises nothing."""


class Operations(Protocol):
    """What a poller needs of the event loop: its task, and how that waits."""

    def start(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `task` in a task of the event loop itself."""

    def scope(self) -> Any:
        """Return a new cancel scope, with a `deadline`."""

    def readable(self, descriptor: int, /) -> Awaitable[None]:
        """Wait until `descriptor` is readable."""
        ...

    def turn(self) -> Awaitable[None]:
        """Let other tasks run."""
        ...


class Poller:
    """Calls back for the sockets of one run of an event loop, in a task that lasts as long as its guests.

    A method may raise NotImplementedError as long as none was called: the system is out of descriptors.

    Args:
        clock: the time, in seconds.
        operations: those of the event loop.

    Attributes:
        alarms: deadlines that the same task keeps.
        ended: whether the event loop has ended, after which nothing is called back.
    """

    __slots__ = (
        "_clock",
        "_deadline",
        "_epoll",
        "_gone",
        "_guests",
        "_operations",
        "_readers",
        "_scope",
        "_soon",
        "_waits",
        "_writers",
        "alarms",
        "ended",
    )

    def __init__(self, clock: Callable[[], float], operations: Operations) -> None:
        self.alarms = Alarms(clock, self._set_deadline)
        self.ended = False
        self._clock = clock
        self._operations = operations
        self._epoll: Any = None  # made when it is first needed
        self._readers: _Callbacks = {}
        self._writers: _Callbacks = {}
        self._gone: list[Callable[[], None]] = []  # to call when the task has ended
        self._soon: list[Callable[[], object]] = []
        self._guests: set[Guest] = set()
        self._deadline = inf  # when the alarms ring
        self._scope: Any = None  # around the waiting
        self._waits = False  # the task waits for sockets

    # -- what asyncio's event loops have, too --------------------------------------------------

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call `callback` when `descriptor` is readable; true from it means that it left something unread."""
        self._add(descriptor, self._readers, callback)

    def add_writer(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call `callback` whenever `descriptor` is writable."""
        self._add(descriptor, self._writers, callback)

    def remove_reader(self, descriptor: int) -> None:
        """Call back no more when `descriptor` is readable. It is still open."""
        self._remove(descriptor, self._readers)

    def remove_writer(self, descriptor: int) -> None:
        """Call back no more when `descriptor` is writable. It is still open."""
        self._remove(descriptor, self._writers)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` in the task's next turn."""
        self._soon.append(callback)
        self._start()
        if self._waits:
            self._scope.cancel()

    # -- guests: the task lasts as long as there are some -----------------------------------------

    def attach(self, guest: Guest) -> None:
        """Tell `guest` when the event loop ends, unless it detaches before."""
        self._guests.add(guest)

    def detach(self, guest: Guest, gone: Callable[[], None]) -> None:
        """Forget `guest`, for which nothing is called back any more.

        `gone` is called once: when the task has ended, if it was the last guest, and else at once.
        """
        self._guests.discard(guest)
        if self._epoll is None or self._is_used:
            gone()
            return
        self._gone.append(gone)
        if self._waits:
            self._scope.cancel()

    @property
    def _is_used(self) -> bool:
        return bool(self._guests or self._readers or self._writers)

    # -- the task ------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._epoll is None:
            try:
                self._epoll = select.epoll()
            except OSError as error:
                raise NotImplementedError("the system is out of descriptors") from error
            self._operations.start(self._run)

    async def _run(self) -> None:
        """Call back until the last guest has gone, or the event loop ends and cancels this."""
        try:
            while not self._gone:
                with self._operations.scope() as self._scope:
                    self._scope.deadline = self._deadline
                    await self._run_until_woken()
                self._call_soon_ones()
                if self._deadline <= self._clock():
                    self.alarms.ring()
                if self._is_used:
                    self._call_gone_ones()
        except BaseException:
            self.ended = True
            raise
        finally:
            self._end()

    async def _run_until_woken(self) -> None:
        """Call back for sockets, until `call_soon` or the alarms cancel this."""
        descriptor = self._epoll.fileno()
        unread = False
        while not self._gone:
            if self._soon or unread:  # to wait for what is there already would cost a system call more
                await self._operations.turn()
            else:
                await self._wait(descriptor)
            self._call_soon_ones()  # first: what the ready ones ask for has its turn later
            unread = self._call_ready_ones()

    async def _wait(self, descriptor: int) -> None:
        self._waits = True
        try:
            await self._operations.readable(descriptor)
        finally:
            self._waits = False

    def _call_ready_ones(self) -> bool:
        """Returns whether a callback has left unread what is there."""
        unread = False
        # An error or the end of a connection is told as some other event, for reader and writer.
        for descriptor, events in self._epoll.poll(0, _SOCKETS_AT_ONCE):
            if events & ~select.EPOLLOUT and (callback := self._readers.get(descriptor)) is not None:
                unread |= self._call(callback) is True
            if events & ~select.EPOLLIN and (callback := self._writers.get(descriptor)) is not None:
                self._call(callback)
        return unread

    def _call_soon_ones(self) -> None:
        soon, self._soon = self._soon, []
        for callback in soon:
            self._call(callback)

    def _call(self, callback: Callable[[], object]) -> object:
        try:
            return callback()
        except Exception as error:  # one connection's mistake must not end the others
            log.error("wsstream failed in a callback", cause=error)
            return None

    def _add(self, descriptor: int, callbacks: _Callbacks, callback: Callable[[], object]) -> None:
        self._start()
        known = self._events(descriptor)
        callbacks[descriptor] = callback
        try:
            if known:
                self._epoll.modify(descriptor, self._events(descriptor))
                return
        except FileNotFoundError:  # somebody else closed the socket that had this number before
            self._readers.pop(descriptor, None)
            self._writers.pop(descriptor, None)
            callbacks[descriptor] = callback
        self._epoll.register(descriptor, self._events(descriptor))

    def _remove(self, descriptor: int, callbacks: _Callbacks) -> None:
        if callbacks.pop(descriptor, None) is None:
            return
        with suppress(FileNotFoundError):  # as above
            if left := self._events(descriptor):
                self._epoll.modify(descriptor, left)
            else:
                self._epoll.unregister(descriptor)

    def _events(self, descriptor: int) -> int:
        reads = select.EPOLLIN if descriptor in self._readers else 0
        return reads | (select.EPOLLOUT if descriptor in self._writers else 0)

    def _set_deadline(self, deadline: float) -> None:
        self._deadline = deadline
        if deadline < inf:
            self._start()
        if self._scope is not None:
            self._scope.deadline = deadline

    def _call_gone_ones(self) -> None:
        gone, self._gone = self._gone, []
        for callback in gone:
            self._call(callback)

    def _end(self) -> None:
        self._scope = None
        while self._guests:
            self._guests.pop().loop_ended()  # which may have attached others
        self._epoll.close()
        self._epoll = None
        self._soon.clear()
        self._call_gone_ones()
