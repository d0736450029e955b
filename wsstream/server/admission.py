"""Admission: which accepted sockets become connections, and how many of each kind there may be.

A client is watched in the `Lobby` until its request is complete, if the event loop calls back; then it gets a
task, which lasts to the end of its handler. With TLS, and where the event loop does not call back, it has the
task from the beginning. Like those of the `Acceptor`, the tasks belong to the event loop and not to a task
group, so this module does what a task group would do. Each task has a cancel scope; the clients are counted,
so that the server can wait for the last one; an exception in one task reaches no other. A client is removed
by a callback when its task has ended, not by the task itself, which may be cancelled before its first step.

Two limits hold, so that clients that never finish a request cannot take the place of those that do:

- `max_handshakes` for the *pending*: clients that have not sent a complete request (TCP, TLS, head), and
  rejected ones that have yet to read the response. If there is one too many, the oldest is dropped.
- `max_connections`, and `max_connections_per_client`, for the *admitted*: clients whose request is complete,
  while the application looks at it and while the connection is open. They take one of the `Places`; one too
  many is answered with 503 or 429.
"""

from __future__ import annotations

import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from itertools import islice
from math import inf

import anyio

from wsstream.driver.signals import Signal
from wsstream.errors import WebSocketError
from wsstream.opening.forwarded import TrustedProxies
from wsstream.opening.handshake_server import RequestRejected
from wsstream.opening.peer import PeerAddress
from wsstream.server.acceptor import Acceptor
from wsstream.server.clients import Client, ClientState
from wsstream.server.connection_log import facts_of_client, log, log_rejection
from wsstream.server.lobby import Lobby
from wsstream.server.places import Limits, Places
from wsstream.server.proxied import read_proxy_header
from wsstream.streams.close_on_exit import in_cancelled_scope, judge, program_end
from wsstream.streams.websocket import WebSocketStream, ending_of
from wsstream.transports.base import Transport
from wsstream.transports.eventloop import Task, event_loop
from wsstream.transports.sockets import INHERITS_OPTIONS, SocketTransport
from wsstream.transports.tcp_info import silence
from wsstream.transports.tls import TLSTransport
from wsstream.upgrade.server import ServerUpgrade, UpgradePolicy, client_broke

__all__ = ["Admission"]

# To free descriptors, the server drops clients that have sent nothing this many seconds after they connected,
# as a client's first bytes follow its connecting at once; and those without a complete request after these.
_SILENT, _SLOW = 0.25, 1.0
# A name of the module is found faster than a member of an enum.
_ADMITTED, _REJECTED = ClientState.ADMITTED, ClientState.REJECTED


class Admission:
    """Upgrades accepted sockets, and runs a handler with each open connection.

    Args:
        policy: which requests are upgraded.
        ssl: the TLS context, if the server speaks TLS.
        limits: on the number of clients.
        proxies: those from which each connection begins with a header of the PROXY protocol; ``None`` if
            none does.
        handle: called in the client's task with the open connection; the task ends when it returns. It may
            raise only cancellation, ``KeyboardInterrupt`` and ``SystemExit``.

    Attributes:
        acceptor: accepts the sockets.
        places: what the admitted clients take.
    """

    def __init__(
        self,
        policy: UpgradePolicy,
        ssl: ssl_module.SSLContext | None,
        limits: Limits,
        proxies: TrustedProxies | None,
        handle: Callable[[WebSocketStream], Awaitable[None]],
    ) -> None:
        self.acceptor = Acceptor(self._spawn, self._add, self._make_room, self._on_accepting_end)
        self._policy = policy
        self._ssl = ssl
        self._max_pending = limits.handshakes
        self.places = Places(limits)
        self._proxies = proxies
        self._handle = handle
        timeout = policy.options.open_timeout
        self._timeout = inf if timeout is None else timeout
        self._loop = event_loop()
        self._now = self._loop.clock()
        self._context = copy_context()  # of the task that enters the block of `serve`
        has_tasks = ssl is not None or proxies is not None  # from the beginning
        self._lobby = Lobby(None if has_tasks else self._loop, self._on_readable, self._on_overdue)
        self._clients: set[Client] = set()  # all that are not over
        self._pending: dict[Client, float] = {}  # those that count as pending, since when; oldest first
        self._idle = Signal()

    def add_open(self, transport: Transport, peer: PeerAddress) -> None:
        """Take a client whose transport is open already."""
        self._start_task(self._new_client(transport, peer))

    def drop_handshakes(self) -> None:
        """Drop the clients whose connections are not open yet, or whose handlers have not begun."""
        for client in tuple(self._clients):
            if client.ws is None or client.scope is None:
                self._drop(client, "the server shuts down")

    def cancel(self) -> None:
        """Cancel the tasks of all clients."""
        for client in tuple(self._clients):
            self._drop(client, "the server ends")

    async def wait_idle(self) -> None:
        """Wait until no client and no task is left. May be cancelled, and called again."""
        while self._clients or self.acceptor.is_running:
            await self._idle.wait()

    async def wait_vacated(self) -> None:
        """Wait until no client has a place. May be cancelled, and called again."""
        while self.places.taken:
            await self._idle.wait()

    def _spawn(self, task: Task, over: Callable[[], None]) -> None:
        self._loop.spawn(task, "wsstream server", over, self._context.copy())

    # -- clients come and go -----------------------------------------------------------------

    def _add(self, sock: socket.socket, peer: PeerAddress) -> None:
        client = self._new_client(sock, peer)
        if not self._lobby.enter(client, sock.fileno()):
            self._start_task(client)

    def _new_client(self, source: socket.socket | Transport, peer: PeerAddress) -> Client:
        while len(self._pending) >= self._max_pending:
            self._drop_pending(
                next(iter(self._pending)), f"more than {self._max_pending} opening handshakes are in progress"
            )
        now = self._now()
        client = Client(source, peer, now, now + self._timeout)
        self._clients.add(client)
        self._pending[client] = now
        return client

    def _start_task(self, client: Client, rejected: RequestRejected | None = None) -> None:
        self._spawn(partial(self._serve, client, rejected), partial(self._remove, client))

    def _make_room(self, error: OSError, most: int) -> int:
        """Drop at most `most` pending clients, those that are silent or slow; returns how many."""
        slow_since = self._now() - _SLOW
        idle = (
            client
            for client, since in self._pending.items()
            if since <= slow_since
            or (isinstance(client.source, socket.socket) and silence(client.source) >= _SILENT)
        )
        chosen = list(islice(idle, most))
        for client in chosen:
            self._drop_pending(client, str(error))
        return len(chosen)

    def _drop_pending(self, client: Client, why: str) -> None:
        del self._pending[client]
        self._drop(client, why)

    def _drop(self, client: Client, why: str) -> None:
        client.drop(why)
        if self._lobby.leave(client):
            self._log_drop(client)
            self._remove(client)

    def _remove(self, client: Client) -> None:
        """The client's task ended, perhaps before its first step, or it never had one: close what is open."""
        self._clients.discard(client)
        self._pending.pop(client, None)
        if client.state is _ADMITTED:
            self.places.free(client.place)
        self._idle.notify()
        if client.ws is None:
            client.source.close()
        elif not ending_of(client.ws).is_done:
            client.ws.abort()

    def _on_accepting_end(self) -> None:
        """Nobody accepts on a listener any more."""
        if self.acceptor.cancelled:  # all tasks are: the program ends, perhaps without leaving the block
            for client in self._lobby:
                self._drop(client, "the server ends")
        if not self.acceptor.is_running:
            self._lobby.close()
        self._idle.notify()

    # -- a client without a task -------------------------------------------------------------

    def _on_readable(self, client: Client) -> None:
        """It has sent something. What it raises would be lost: nobody waits for a callback."""
        rejected: RequestRejected | None = None
        try:
            upgrade = client.upgrade
            if upgrade is None:
                upgrade = self._start_upgrade(client, self._plain_transport(client.source))
            client.ws = upgrade.advance()
            if client.ws is None and upgrade.request is None:
                return
        except RequestRejected as rejection:
            rejected = rejection
        except Exception as error:
            self._lobby.leave(client)
            self._log_failure(client, error)
            self._remove(client)
            return
        self._lobby.leave(client, watched=client.ws is not None)
        self._start_task(client, rejected)

    def _on_overdue(self, client: Client) -> None:
        self._log_timeout(client)
        self._remove(client)

    # -- the task of a client ----------------------------------------------------------------

    async def _serve(self, client: Client, rejected: RequestRejected | None) -> None:
        """From the request, or from the beginning. Whatever it raises ends this client and no other."""
        try:
            with anyio.CancelScope(deadline=client.deadline if client.ws is None else inf) as client.scope:
                if client.dropped is not None:
                    client.scope.cancel()
                if client.ws is None:
                    client.ws = await self._upgrade(client, rejected)
                    client.scope.deadline = inf
                client.upgrade = None  # frees the request's buffers while the connection is open
                if client.ws is not None:
                    await self._handle(client.ws)
        except BaseException as error:
            if (end := program_end(error)) is not None:
                self.acceptor.fail(end)
                raise end from None
            if not judge(error).cancelled:
                log.error("%s: the connection's task failed", client, cause=error)

    async def _upgrade(self, client: Client, rejected: RequestRejected | None) -> WebSocketStream | None:
        """The open connection, or ``None`` if the opening handshake failed, which is logged."""
        try:
            upgrade = client.upgrade
            if upgrade is None:
                upgrade = self._start_upgrade(client, await self._transport(client))
            return await upgrade.run(partial(self._reject, client), rejected)
        except RequestRejected:
            pass  # logged by _reject
        except (WebSocketError, OSError, anyio.BrokenResourceError) as error:
            self._log_failure(client, error)
        except anyio.get_cancelled_exc_class():
            if client.state is not _REJECTED:
                self._log_cancellation(client)
            raise
        return None

    async def _transport(self, client: Client) -> Transport:
        source = client.source
        if self._proxies is not None and isinstance(source, socket.socket):
            client.is_known = False
            client.peer = await read_proxy_header(source, client.peer, self._proxies)
            client.is_known = True
        if self._ssl is None or not isinstance(source, socket.socket):
            return self._plain_transport(source)
        return await TLSTransport.server(source, self._ssl)

    def _plain_transport(self, source: socket.socket | Transport) -> Transport:
        if isinstance(source, socket.socket):
            return SocketTransport(source, self._loop, has_options=INHERITS_OPTIONS)
        return source

    def _start_upgrade(self, client: Client, transport: Transport) -> ServerUpgrade:
        client.upgrade = ServerUpgrade(self._policy, transport, client.peer, partial(self._admit, client))
        return client.upgrade

    def _admit(self, client: Client) -> None:
        self._pending.pop(client, None)
        assert client.upgrade is not None
        assert client.upgrade.request is not None
        client.place = self.places.take(client.upgrade.request)
        client.state = _ADMITTED

    def _reject(self, client: Client, rejected: RequestRejected) -> None:
        if client.state is _ADMITTED:
            self.places.free(client.place)
        client.state = _REJECTED
        self._pending.pop(client, None)  # it moves to the end: reading the response gets time of its own
        self._pending[client] = self._now()
        log_rejection(client, rejected, self._now() - client.since)

    # -- what is logged of those that fail -----------------------------------------------------

    def _log_failure(self, client: Client, error: Exception) -> None:
        if isinstance(error, anyio.BrokenResourceError):
            error = client_broke(error)
        if isinstance(error, WebSocketError | OSError):
            self._log(client, "the opening handshake failed: %s", error)
        else:
            log.error("%s: the opening handshake failed", client, cause=error)

    def _log_cancellation(self, client: Client) -> None:
        if client.dropped is not None:
            self._log_drop(client)
        elif in_cancelled_scope():
            self._log_timeout(client)
        elif not self.acceptor.cancelled:
            log.error("%s: cancelled in the opening handshake by something other than the server", client)

    def _log_drop(self, client: Client) -> None:
        self._log(client, "dropped in the opening handshake: %s", client.dropped)

    def _log_timeout(self, client: Client) -> None:
        waiting_for = "TLS" if self._ssl is not None else "the client's request"
        if not client.is_known:
            waiting_for = "the PROXY protocol"
        if client.upgrade is not None:
            waiting_for = client.upgrade.waiting_for
        timeout = self._policy.options.open_timeout
        self._log(client, "dropped after open_timeout, %s s, still waiting for %s", timeout, waiting_for)

    def _log(self, client: Client, message: str, *args: object) -> None:
        if not log.wants_info:
            return
        log.info(f"%s: {message}", client, *args, facts=facts_of_client(client, self._now() - client.since))
