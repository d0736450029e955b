"""Opening connections as a server: `serve` listens, `accept` takes one stream that is already there."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeAlias

import anyio
from anyio.abc import ByteStream, TaskGroup

from wsstream.acceptor import Acceptor, ProcessRequest
from wsstream.arguments import check_int, check_number
from wsstream.errors import ConnectionClosed, WebSocketError
from wsstream.protocol.deflate import Deflate
from wsstream.protocol.http import Request, Response
from wsstream.protocol.showing import never_raises, without_query
from wsstream.streams.flow import FlowControl
from wsstream.streams.options import ConnectionOptions
from wsstream.streams.tasks import Signal
from wsstream.streams.websocket import WebSocketStream, leave
from wsstream.transports.base import Transport
from wsstream.transports.listen import accept as accept_socket
from wsstream.transports.listen import close_listener, listen_tcp, listen_unix, url_of
from wsstream.transports.resolve import SocketName
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.streams import StreamTransport
from wsstream.transports.tls import TLSTransport

__all__ = ["Server", "accept", "serve"]

Handler: TypeAlias = Callable[[WebSocketStream], Awaitable[object]]

logger = logging.getLogger("wsstream.server")

_REFUSALS = 64  # connections above max_connections that are answered at a time
_PAUSE = 0.1  # seconds, when the system has no descriptor left
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def accept(
    transport: ByteStream,
    *,
    subprotocols: Iterable[str] = (),
    origins: Iterable[str | None] | None = None,
    process_request: ProcessRequest | None = None,
    max_message_size: int | None = 2**20,
    compression: Deflate | None = None,
    flow: FlowControl = FlowControl(),  # noqa: B008 - immutable
    open_timeout: float | None = 10,
    close_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
) -> AbstractAsyncContextManager[WebSocketStream]:
    """``async with accept(stream) as ws``: the server's side over a byte stream that is already open.

    The stream is owned from now on. Leaving the block closes as leaving that of :func:`connect` does.
    The arguments are those of :func:`serve`.

    Raises:
        HandshakeError: on entering: no opening handshake came, or it was refused; the answer was sent.
        TimeoutError: on entering: `open_timeout` has passed.
    """
    options = ConnectionOptions(
        max_message_size=max_message_size,
        compression=compression,
        flow=flow,
        open_timeout=open_timeout,
        close_timeout=close_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
    )
    return _Accept(transport, Acceptor(subprotocols, origins, process_request, options))


class _Accept(AbstractAsyncContextManager[WebSocketStream]):
    def __init__(self, stream: ByteStream, acceptor: Acceptor) -> None:
        self._stream = stream
        self._acceptor = acceptor
        self._ws: WebSocketStream | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<accept: {self._ws or type(self._stream).__name__!r}>"

    async def __aenter__(self) -> WebSocketStream:
        with anyio.fail_after(self._acceptor.options.open_timeout):
            self._ws = await self._acceptor.open(StreamTransport(self._stream))
        return self._ws

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._ws is not None
        await leave(self._ws, exc)


def serve(
    handler: Handler,
    host: str | None = None,
    port: int = 0,
    *,
    path: str | os.PathLike[str] | None = None,
    listeners: Iterable[socket.socket] | None = None,
    ssl: ssl_module.SSLContext | None = None,
    subprotocols: Iterable[str] = (),
    origins: Iterable[str | None] | None = None,
    process_request: ProcessRequest | None = None,
    max_connections: int | None = None,
    shutdown_timeout: float | None = 10,
    max_message_size: int | None = 2**20,
    compression: Deflate | None = None,
    flow: FlowControl = FlowControl(),  # noqa: B008 - immutable
    open_timeout: float | None = 10,
    close_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
) -> AbstractAsyncContextManager[Server]:
    """``async with serve(handler, host, port) as server``: run a server while the block runs.

    Each connection gets a task that awaits ``handler(ws)`` and then closes as the body of :func:`connect`
    does; an exception of the handler is logged, with the connection's id, and answered with 1011.
    Leaving the block stops listening, closes all connections with 1001 and waits for their handlers;
    after `shutdown_timeout` seconds, or when the block was cancelled, they are cancelled.

    Args:
        handler: called with each open :class:`WebSocketStream`.
        host: a name or address to listen on; ``None``: all interfaces.
        port: 0: a free one, see ``server.port``.
        path: listen on a Unix socket instead.
        listeners: listening sockets to use instead; owned from now on.
        ssl: the TLS context; with it the server speaks ``wss``.
        subprotocols: those the server speaks, the preferred first.
        origins: the ``Origin`` values that are let in (``None`` in it: no such header); by default all.
        process_request: sees each HTTP request first; may be asynchronous. Returns ``None`` to go on, or
            a :class:`Response` to send instead.
        max_connections: more are answered with 503.
        shutdown_timeout: seconds that handlers get to end.
        max_message_size, compression, flow, open_timeout, close_timeout, ping_interval, ping_timeout:
            as for :func:`connect`.

    Raises:
        OSError: on entering: cannot listen.
        TypeError, ValueError: an argument is not as it should be.
    """
    if sum((host is not None or port != 0, path is not None, listeners is not None)) > 1:
        raise ValueError("give either host and port, or path, or listeners")
    options = ConnectionOptions(
        max_message_size=max_message_size,
        compression=compression,
        flow=flow,
        open_timeout=open_timeout,
        close_timeout=close_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
    )
    check_number("shutdown_timeout", shutdown_timeout, optional=True)
    check_int("max_connections", max_connections, 1, optional=True)
    given = None if listeners is None else list(listeners)
    if given == []:
        raise ValueError("listeners must not be empty")

    async def listen() -> list[socket.socket]:
        if given is not None:
            return given
        return await listen_tcp(host, port) if path is None else [listen_unix(path)]

    acceptor = Acceptor(subprotocols, origins, process_request, options)
    return _Serve(Server(handler, acceptor, ssl, max_connections, shutdown_timeout), listen)


class Server:
    """A running server. Made by :func:`serve`.

    Attributes:
        connections: the open connections.
    """

    def __init__(
        self,
        handler: Handler,
        acceptor: Acceptor,
        ssl: ssl_module.SSLContext | None,
        max_connections: int | None,
        shutdown_timeout: float | None,
    ) -> None:
        self.connections: set[WebSocketStream] = set()
        self._handler = handler
        self._acceptor = acceptor
        self._ssl = ssl
        self._max_connections = max_connections
        self._shutdown_timeout = shutdown_timeout
        self._listeners: list[socket.socket] = []
        self._names: list[SocketName | str | bytes] = []  # of the listeners
        self._serving = 0  # connections, from accepting to the end of the handler
        self._refusing = 0
        self._opening: set[anyio.CancelScope] = set()
        self._shutting_down = False
        self._closed = anyio.Event()
        self._idle = Signal()

    @never_raises
    def __repr__(self) -> str:
        if not self._listeners and not self._closed.is_set():
            return "<Server, not started>"
        end = ", closed" if self._closed.is_set() else ""
        return f"<Server {without_query(self.url)}, connections: {len(self.connections)}{end}>"

    @property
    def port(self) -> int:
        """The TCP port, 0 on a Unix socket."""
        name = self._names[0]
        return name[1] if isinstance(name, tuple) else 0

    @property
    def url(self) -> str:
        """A URL that :func:`connect` takes on this machine; of a Unix socket, ``ws+unix:`` and its path.

        Of several listeners it is that of the first one that has a URL.

        Raises:
            ValueError: all listen on IPv6 addresses with a scope (``fe80::1%eth0``), which no URL can hold.
        """
        return url_of(self._names, secure=self._ssl is not None)

    def close(self) -> None:
        """Stop listening, so that `wait_closed` returns. The open connections go on."""
        for listener in self._listeners:
            close_listener(listener)
        self._listeners.clear()
        self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until `close` was called. May be cancelled."""
        await self._closed.wait()

    # -- for the context manager -------------------------------------------------------------

    def start(self, listeners: Sequence[socket.socket], tasks: TaskGroup) -> None:
        """Accept on `listeners` in `tasks`."""
        self._listeners = list(listeners)
        self._names = [listener.getsockname() for listener in self._listeners]
        for listener in self._listeners:
            listener.setblocking(False)
            tasks.start_soon(self._accept_loop, listener, tasks)

    async def shut_down(self) -> None:
        """Close everything with 1001 and wait for the handlers, for `shutdown_timeout` seconds at most."""
        self.close()
        self._shutting_down = True
        for scope in self._opening:
            scope.cancel()
        with anyio.move_on_after(self._shutdown_timeout):
            for ws in self.connections:
                ws.begin_close(1001)
            while self._serving:
                await self._idle.wait()

    # -- connections -------------------------------------------------------------------------

    async def _accept_loop(self, listener: socket.socket, tasks: TaskGroup) -> None:
        while True:
            try:
                sock = await accept_socket(listener)
            except anyio.ClosedResourceError:
                return
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                logger.warning("cannot accept connections: %s", error)
                await anyio.sleep(_PAUSE)
                continue
            if self._max_connections is None or self._serving < self._max_connections:
                self._serving += 1
                tasks.start_soon(self._serve, sock)
            elif self._refusing < _REFUSALS:
                self._refusing += 1
                tasks.start_soon(self._turn_away, sock)
            else:
                sock.close()

    async def _serve(self, sock: socket.socket) -> None:
        try:
            ws = await self._open(sock, self._acceptor)
            if ws is not None:
                await self._handle(ws)
        finally:
            self._serving -= 1
            if not self._serving:
                self._idle.notify()

    async def _turn_away(self, sock: socket.socket) -> None:
        try:
            await self._open(sock, Acceptor((), None, _no_room, self._acceptor.options))
        finally:
            self._refusing -= 1

    async def _open(self, sock: socket.socket, acceptor: Acceptor) -> WebSocketStream | None:
        """Shake hands; ``None`` if that came to nothing."""
        timeout = acceptor.options.open_timeout
        try:
            with anyio.move_on_after(timeout) as scope:
                self._opening.add(scope)
                if self._shutting_down:  # accepted just before
                    scope.cancel()
                try:
                    return await acceptor.open(await self._transport(sock))
                finally:
                    self._opening.discard(scope)
            if not self._closed.is_set():
                logger.info("an opening handshake took more than %s seconds", timeout)
        except (WebSocketError, OSError, anyio.BrokenResourceError) as error:
            logger.info("an opening handshake failed: %s", error)
        return None

    async def _transport(self, sock: socket.socket) -> Transport:
        return SocketTransport(sock) if self._ssl is None else await TLSTransport.server(sock, self._ssl)

    async def _handle(self, ws: WebSocketStream) -> None:
        error: BaseException | None = None
        self.connections.add(ws)
        if self._shutting_down:  # too late to be cancelled while it opened
            ws.begin_close(1001)
        logger.info("connection %s: open", ws.id)
        try:
            await self._handler(ws)
        except Exception as exc:
            error = exc
            self._log_failure(ws, exc)
        except BaseException as exc:
            error = exc
            raise
        finally:
            try:
                await leave(ws, error)
            finally:
                self.connections.discard(ws)
                logger.info("connection %s: closed, %s", ws.id, ws.close_info)

    @staticmethod
    def _log_failure(ws: WebSocketStream, error: Exception) -> None:
        if isinstance(error, ConnectionClosed) or (isinstance(error, WebSocketError) and error.code):
            logger.info("connection %s: %s", ws.id, error)
        else:
            logger.error("connection %s: the handler failed", ws.id, exc_info=error)


def _no_room(request: Request) -> Response:
    return Response(503, [("Retry-After", "1")], "The server has as many connections as it takes.\n")


class _Serve(AbstractAsyncContextManager[Server]):
    def __init__(self, server: Server, listen: Callable[[], Awaitable[list[socket.socket]]]) -> None:
        self._server = server
        self._listen = listen
        self._tasks = anyio.create_task_group()

    @never_raises
    def __repr__(self) -> str:
        return f"<serve: {self._server!r}>"

    async def __aenter__(self) -> Server:
        listeners = await self._listen()
        await self._tasks.__aenter__()
        self._server.start(listeners, self._tasks)
        return self._server

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        cancelled = isinstance(exc, anyio.get_cancelled_exc_class())
        self._server.close()
        try:
            if not cancelled:
                await self._server.shut_down()
        except BaseException as error:
            exc_type, exc, tb, cancelled = type(error), error, error.__traceback__, True
        self._tasks.cancel_scope.cancel()
        try:
            # An exception of the body is not the task group's, which would wrap it.
            if cancelled:
                return await self._tasks.__aexit__(exc_type, exc, tb)
            return await self._tasks.__aexit__(None, None, None) and None
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
