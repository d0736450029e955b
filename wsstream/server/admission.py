"""Admission: accepting sockets, their opening handshakes, and how many of each there may be.

Each accepted socket is a `Client` with one task, from accepting to the end of its handler. The tasks belong
to the event loop and not to a task group: a task group is bound to the task that opened it, and a block of
`serve` may be left in another task than it was entered in. So this module does what a task group would do.
Each client has a cancel scope; the tasks are counted, so that the server can wait for the last one; an
exception in one task reaches no other. A client is removed by a callback when its task has ended, not by the
task itself, which may be cancelled before its first step.

Two limits hold, so that clients that never finish a request cannot take the place of those that do:

- `max_handshakes` for the *pending*: clients that have not sent a complete request (TCP, TLS, head), and
  rejected ones that have yet to read the response. If there is one too many, the oldest is dropped.
- `max_connections` for the *admitted*: clients whose request is complete, while the application looks at it
  and while the connection is open. One too many is answered with 503.
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
from wsstream.opening.handshake_server import RequestRejected
from wsstream.opening.http import Response
from wsstream.server.clients import Client, ClientState
from wsstream.streams.close_on_exit import in_cancelled_scope, judge, program_end
from wsstream.streams.condition import ConnectionState
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.base import Transport
from wsstream.transports.eventloop import Task, event_loop
from wsstream.transports.listen import accept_socket, close_listener
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.tls import TLSTransport
from wsstream.upgrade.process_request import ApplicationResponse
from wsstream.upgrade.server import ServerUpgrade, UpgradePolicy

__all__ = ["Admission"]

log = Log("wsstream.server")

_PAUSE = 0.1  # seconds between attempts to accept while the system is out of descriptors
_SLOW = 1.0  # seconds after which a pending client may be dropped to free a descriptor
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Admission:
    """Accepts sockets, upgrades them, and runs a handler with each open connection.

    Args:
        policy: which requests are upgraded.
        ssl: the TLS context, if the server speaks TLS.
        max_handshakes, max_connections: the limits; ``None`` for none.
        handle: called in the client's task with the open connection; the task ends when it returns. It may
            raise only cancellation, ``KeyboardInterrupt`` and ``SystemExit``.

    Attributes:
        closed: set when the server accepts no more sockets.
        error: why it stopped accepting, unless `close` was called.
        cancelled: whether it stopped because its tasks were cancelled, as all tasks are when a program ends.
    """

    def __init__(
        self,
        policy: UpgradePolicy,
        ssl: ssl_module.SSLContext | None,
        max_handshakes: int | None,
        max_connections: int | None,
        handle: Callable[[WebSocketStream], Awaitable[None]],
    ) -> None:
        self.closed = Latch()
        self.error: BaseException | None = None
        self.cancelled = False
        self._policy = policy
        self._ssl = ssl
        self._max_pending = inf if max_handshakes is None else max_handshakes
        self._max_admitted = inf if max_connections is None else max_connections
        self._handle = handle
        self._listeners: list[socket.socket] = []
        self._context = copy_context()  # of the task that enters the block of `serve`
        self._accepting: set[socket.socket] = set()  # listeners that have a task
        self._clients: set[Client] = set()  # all that have a task
        self._pending: dict[Client, float] = {}  # those that count as pending, since when; oldest first
        self._admitted = 0
        self._idle = Signal()

    def listen(self, listeners: Sequence[socket.socket]) -> None:
        """Start accepting."""
        self._listeners = list(listeners)
        for listener in self._listeners:
            listener.setblocking(False)
            self._accepting.add(listener)
            self._spawn(partial(self._accept_sockets, listener), partial(self._end_accepting, listener))

    def close(self) -> None:
        """Accept no more sockets. The clients stay."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            close_listener(listener)
        self.closed.set()

    def fail(self, error: BaseException) -> None:
        """Accept no more sockets, because of `error`."""
        self.error = self.error or error
        self.close()

    def drop_handshakes(self) -> None:
        """Drop the clients whose connections are not open yet."""
        for client in self._clients:
            if client.ws is None:
                client.drop("the server shuts down")

    def cancel(self) -> None:
        """Cancel the tasks of all clients."""
        for client in self._clients:
            client.drop("the server ends")

    async def wait_idle(self) -> None:
        """Wait until no task is left. May be cancelled, and called again."""
        while self._clients or self._accepting:
            await self._idle.wait()

    def _spawn(self, task: Task, over: Callable[[], None]) -> None:
        spawn(task, "wsstream server", over, self._context.copy())

    # -- accepting ---------------------------------------------------------------------------

    async def _accept_sockets(self, listener: socket.socket) -> None:
        try:
            while True:
                self._add(await self._accept(listener))
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
        """The accepting task ended, perhaps before its first step: close, or clients would wait in vain."""
        self._accepting.discard(listener)
        self._idle.notify()
        self.close()

    async def _accept(self, listener: socket.socket) -> socket.socket:
        while True:
            try:
                return await accept_socket(listener)
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                await event_loop().wait_readable(listener)  # Linux reports this even if nobody waits
                log.warning("cannot accept connections: %s", error)
                self._drop_oldest(f"{error}", _SLOW)
                with anyio.move_on_after(_PAUSE):
                    await self.closed.wait()

    def _add(self, sock: socket.socket) -> None:
        while len(self._pending) >= self._max_pending:
            self._drop_oldest(f"more than {self._max_pending} opening handshakes are in progress")
        timeout, now = self._policy.options.open_timeout, anyio.current_time()
        client = Client(sock, inf if timeout is None else now + timeout)
        self._clients.add(client)
        self._pending[client] = now
        self._spawn(partial(self._serve, client), partial(self._remove, client))

    def _drop_oldest(self, why: str, after: float = 0.0) -> None:
        """Drop the oldest pending client, if it has been pending for at least `after` seconds."""
        for client, since in self._pending.items():
            if anyio.current_time() - since >= after:
                del self._pending[client]
                client.drop(why)
            break

    def _remove(self, client: Client) -> None:
        """The client's task ended, perhaps before its first step: close what it left open."""
        self._clients.discard(client)
        self._pending.pop(client, None)
        self._admitted -= client.state is ClientState.ADMITTED
        self._idle.notify()
        if client.ws is None:
            client.sock.close()
        elif client.ws.state is not ConnectionState.CLOSED:
            client.ws.abort()

    # -- one client --------------------------------------------------------------------------

    async def _serve(self, client: Client) -> None:
        """The task of a client. Whatever it raises ends this client and no other."""
        try:
            with client.scope:
                client.ws = await self._upgrade(client)
                if client.ws is not None:
                    client.upgrade = None  # frees the request's buffers while the connection is open
                    client.scope.deadline = inf
                    await self._handle(client.ws)
        except BaseException as error:
            if (end := program_end(error)) is not None:
                self.fail(end)
                raise end from None
            if not judge(error).cancelled:
                log.error("%s: the connection's task failed", client, cause=error)

    async def _upgrade(self, client: Client) -> WebSocketStream | None:
        """The open connection, or ``None`` if the opening handshake failed, which is logged."""
        try:
            transport = await self._transport(client.sock)
            client.upgrade = ServerUpgrade(self._policy, transport, client.peer)
            return await client.upgrade.run(partial(self._admit, client), partial(self._reject, client))
        except RequestRejected:
            pass  # logged by _reject
        except (WebSocketError, OSError, anyio.BrokenResourceError) as error:
            log.info("%s: the opening handshake failed: %s", client, error)
        except anyio.get_cancelled_exc_class():
            if client.state is not ClientState.REJECTED:
                self._log_drop(client)
            raise
        return None

    async def _transport(self, sock: socket.socket) -> Transport:
        return SocketTransport(sock) if self._ssl is None else await TLSTransport.server(sock, self._ssl)

    def _admit(self, client: Client) -> None:
        self._pending.pop(client, None)
        if self._admitted >= self._max_admitted:
            reason = "The server has as many connections as it takes."
            raise RequestRejected(Response(503, [("Retry-After", "1")], f"{reason}\n"), reason)
        self._admitted += 1
        client.state = ClientState.ADMITTED

    def _reject(self, client: Client, rejected: RequestRejected) -> None:
        self._admitted -= client.state is ClientState.ADMITTED
        client.state = ClientState.REJECTED
        self._pending.pop(client, None)  # it moves to the end: reading the response gets time of its own
        self._pending[client] = anyio.current_time()
        status = rejected.response.status
        if isinstance(rejected, ApplicationResponse):
            log.info("%s: answered with status %s", client, status)
        else:
            log.info("%s: rejected with status %s: %s", client, status, rejected)

    def _log_drop(self, client: Client) -> None:
        waiting_for = "TLS" if client.upgrade is None else client.upgrade.waiting_for
        if client.dropped is not None:
            log.info("%s: dropped in the opening handshake: %s", client, client.dropped)
        elif in_cancelled_scope():
            timeout = self._policy.options.open_timeout
            log.info(
                "%s: dropped after open_timeout, %s s, still waiting for %s", client, timeout, waiting_for
            )
        elif not self.cancelled:
            log.error("%s: cancelled in the opening handshake by something other than the server", client)
