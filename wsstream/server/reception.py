"""Where a server's connections come in: accepting sockets, opening handshakes, and how many of each.

Theory. Each accepted socket is a `Visit` with one task, from accepting to the end of its handler. The tasks
belong to the event loop and to no task group: a task group is bound to the task that opened it, and a block
of `serve` may be left in another task than it was entered in. So this module does what a task group would do.
Each visit has a cancel scope; the tasks are counted, to wait for the last one; what leaves one task reaches
no other. A visit is cleared up when its task has ended, not by the task itself, which may be cancelled before
its first step.

Visits are in two lists with a limit each, so that strangers cannot take the place of guests:

- *strangers*: those that have not sent a whole request (TCP, TLS, head), and those that were refused and
  have yet to read the answer. Of more than `max_handshakes`, the one that came first is dropped.
- *guests*: those whose request is there, while the application looks at it and while they are open. One more
  than `max_connections` is answered with 503.
"""

from __future__ import annotations

import errno
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from functools import partial
from math import inf

import anyio

from wsstream.driver.signals import Latch, Signal, spawn
from wsstream.errors import WebSocketError
from wsstream.log import Log
from wsstream.opening.handshake import RequestRefused
from wsstream.opening.http import PeerAddress, Response
from wsstream.server.upgrade import Acceptor, Answered, Opening, client_name
from wsstream.streams.condition import ConnectionState
from wsstream.streams.leaving import in_cancelled_scope, judge, program_end
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.base import Transport
from wsstream.transports.eventloop import Task, event_loop
from wsstream.transports.listen import accept, close_listener
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.tls import TLSTransport

__all__ = ["Reception"]

log = Log("wsstream.server")

_PAUSE = 0.1  # seconds, when the system has no descriptor left
_SLOW = 1.0  # seconds in the opening handshake, after which another connection is worth more
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Visit:
    """One accepted socket.

    Attributes:
        sock: the socket, which a transport owns soon.
        peer: the client's address.
        scope: what its task runs in; its deadline is that of the opening handshake.
        opening: its opening handshake, while that goes on.
        ws: the connection, once it is open.
        is_guest: whether it is among the guests.
        turned_away: whether it was refused, and is only to read the answer.
        dropped: why it was cancelled, if not by its deadline.
    """

    __slots__ = ("dropped", "is_guest", "opening", "peer", "scope", "sock", "turned_away", "ws")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.peer = _peer_address(sock)
        self.scope = anyio.CancelScope(deadline=deadline)
        self.opening: Opening | None = None
        self.ws: WebSocketStream | None = None
        self.is_guest = self.turned_away = False
        self.dropped: str | None = None

    def drop(self, why: str) -> None:
        """Have its task end."""
        self.dropped = why
        self.scope.cancel()

    def __str__(self) -> str:
        return client_name(self.peer, None if self.opening is None else self.opening.request)


class Reception:
    """Accepts connections, sees them through the opening handshake, and hands them on.

    Args:
        acceptor: how the handshake is done.
        ssl: the TLS context, if there is TLS.
        max_handshakes, max_connections: the limits; ``None`` for none.
        handle: called in the task of each open connection, which ends when it returns. It may raise nothing
            but cancellation, ``KeyboardInterrupt`` and ``SystemExit``.

    Attributes:
        closed: set when nothing is accepted any more.
        error: what ended that, if it was not `close`.
        cancelled: whether that ended because its tasks were cancelled, as all tasks are when a program ends.
    """

    def __init__(
        self,
        acceptor: Acceptor,
        ssl: ssl_module.SSLContext | None,
        max_handshakes: int | None,
        max_connections: int | None,
        handle: Callable[[WebSocketStream], Awaitable[None]],
    ) -> None:
        self.closed = Latch()
        self.error: BaseException | None = None
        self.cancelled = False
        self._acceptor = acceptor
        self._ssl = ssl
        self._max_strangers = inf if max_handshakes is None else max_handshakes
        self._max_guests = inf if max_connections is None else max_connections
        self._handle = handle
        self._listeners: list[socket.socket] = []
        self._context = copy_context()  # of the task that enters the block of `serve`
        self._accepting: set[socket.socket] = set()  # listeners that have a task
        self._visits: set[Visit] = set()  # those that have a task
        self._strangers: dict[Visit, float] = {}  # and since when, the first comer first
        self._guests = 0
        self._idle = Signal()

    def listen(self, listeners: Sequence[socket.socket]) -> None:
        """Begin to accept."""
        self._listeners = list(listeners)
        for listener in self._listeners:
            listener.setblocking(False)
            self._accepting.add(listener)
            self._spawn(partial(self._accept_loop, listener), partial(self._end_accepting, listener))

    def close(self) -> None:
        """Accept no more. Those that have come stay."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            close_listener(listener)
        self.closed.set()

    def fail(self, error: BaseException) -> None:
        """Accept no more, because of `error`."""
        self.error = self.error or error
        self.close()

    def dismiss_handshakes(self) -> None:
        """Drop those that are not open yet."""
        for visit in self._visits:
            if visit.ws is None:
                visit.drop("the server shuts down")

    def cancel(self) -> None:
        """Cancel the tasks of all visits."""
        for visit in self._visits:
            visit.drop("the server ends")

    async def wait_idle(self) -> None:
        """Wait until no task is left."""
        while self._visits or self._accepting:
            await self._idle.wait()

    def _spawn(self, task: Task, over: Callable[[], None]) -> None:
        spawn(task, "wsstream server", over, self._context.copy())

    # -- accepting ---------------------------------------------------------------------------

    async def _accept_loop(self, listener: socket.socket) -> None:
        try:
            while True:
                self._begin_visit(await self._accept(listener))
        except anyio.ClosedResourceError:
            pass
        except OSError as error:
            log.error("the server stops listening: %s", error, cause=error)
            self.fail(error)
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            self.close()
            raise

    def _end_accepting(self, listener: socket.socket) -> None:
        """Its task has ended, perhaps before its first step: clients would wait in vain."""
        self._accepting.discard(listener)
        self._idle.notify()
        self.close()

    async def _accept(self, listener: socket.socket) -> socket.socket:
        while True:
            try:
                return await accept(listener)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                await event_loop().wait_readable(listener)  # Linux reports this even if nobody waits
                log.warning("cannot accept connections: %s", error)
                self._drop_oldest(f"{error}", _SLOW)
                with anyio.move_on_after(_PAUSE):
                    await self.closed.wait()

    def _begin_visit(self, sock: socket.socket) -> None:
        while len(self._strangers) >= self._max_strangers:
            self._drop_oldest(f"more than {self._max_strangers} opening handshakes are in progress")
        timeout, now = self._acceptor.options.open_timeout, anyio.current_time()
        visit = Visit(sock, inf if timeout is None else now + timeout)
        self._visits.add(visit)
        self._strangers[visit] = now
        self._spawn(partial(self._visit, visit), partial(self._end_visit, visit))

    def _drop_oldest(self, why: str, after: float = 0.0) -> None:
        """Drop the stranger that came first, if that is at least `after` seconds ago."""
        for visit, since in self._strangers.items():
            if anyio.current_time() - since >= after:
                del self._strangers[visit]
                visit.drop(why)
            break

    def _end_visit(self, visit: Visit) -> None:
        """Its task has ended, perhaps before its first step: leave nothing of it."""
        self._visits.discard(visit)
        self._strangers.pop(visit, None)
        self._guests -= visit.is_guest
        self._idle.notify()
        if visit.ws is None:
            visit.sock.close()
        elif visit.ws.state is not ConnectionState.CLOSED:
            visit.ws.abort()

    # -- one visit ---------------------------------------------------------------------------

    async def _visit(self, visit: Visit) -> None:
        """What the task of a visit does. Whatever it raises ends this visit and no other."""
        try:
            with visit.scope:
                visit.ws = await self._open(visit)
                if visit.ws is not None:
                    visit.opening = None  # keep little
                    visit.scope.deadline = inf
                    await self._handle(visit.ws)
        except BaseException as error:
            if (end := program_end(error)) is not None:
                self.fail(end)
                raise end from None
            if not judge(error).cancelled:
                log.error("%s: the connection's task failed", visit, cause=error)

    async def _open(self, visit: Visit) -> WebSocketStream | None:
        """Shake hands; ``None`` if that came to nothing."""
        try:
            transport = await self._transport(visit.sock)
            visit.opening = Opening(self._acceptor, transport, visit.peer)
            return await visit.opening.run(partial(self._admit, visit), partial(self._turn_away, visit))
        except RequestRefused:
            pass  # was logged
        except (WebSocketError, OSError, anyio.BrokenResourceError) as error:
            log.info("%s: the opening handshake failed: %s", visit, error)
        except anyio.get_cancelled_exc_class():
            if not visit.turned_away:
                self._log_drop(visit)
            raise
        return None

    async def _transport(self, sock: socket.socket) -> Transport:
        return SocketTransport(sock) if self._ssl is None else await TLSTransport.server(sock, self._ssl)

    def _admit(self, visit: Visit) -> None:
        self._strangers.pop(visit, None)
        if self._guests >= self._max_guests:
            reason = "The server has as many connections as it takes."
            raise RequestRefused(Response(503, [("Retry-After", "1")], f"{reason}\n"), reason)
        self._guests += 1
        visit.is_guest = True

    def _turn_away(self, visit: Visit, refusal: RequestRefused) -> None:
        self._guests -= visit.is_guest
        visit.is_guest, visit.turned_away = False, True
        self._strangers.pop(visit, None)  # to the end
        self._strangers[visit] = anyio.current_time()
        status = refusal.response.status
        if isinstance(refusal, Answered):
            log.info("%s: answered with status %s", visit, status)
        else:
            log.info("%s: refused with status %s: %s", visit, status, refusal)

    def _log_drop(self, visit: Visit) -> None:
        waits_for = "TLS" if visit.opening is None else visit.opening.waits_for
        if visit.dropped is not None:
            log.info("%s: dropped in the opening handshake: %s", visit, visit.dropped)
        elif in_cancelled_scope():
            timeout = self._acceptor.options.open_timeout
            log.info("%s: dropped after open_timeout, %s s, still waiting for %s", visit, timeout, waits_for)
        elif not self.cancelled:
            log.error("%s: cancelled in the opening handshake by something other than the server", visit)


def _peer_address(sock: socket.socket) -> PeerAddress:
    try:
        return sock.getpeername()  # type: ignore[no-any-return]
    except OSError:  # it is gone
        return None
