"""Opening connections as a server: `serve` listens, `accept` takes one stream that is already there."""

from __future__ import annotations

import os
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import anyio
from anyio.abc import ByteStream

from wsstream.arguments import check_int, check_number
from wsstream.close_codes import CloseCode
from wsstream.display import never_raises, without_query
from wsstream.driver.flow import FlowControl
from wsstream.driver.options import ConnectionOptions
from wsstream.protocol.arrival import ReceiveRate
from wsstream.protocol.deflate import Deflate
from wsstream.server.handlers import Handler, Handling
from wsstream.server.reception import Reception
from wsstream.server.upgrade import Acceptor, Opening, ProcessRequest
from wsstream.streams.block import AsyncBlock
from wsstream.streams.leaving import is_closing, leave
from wsstream.streams.websocket import WebSocketStream, ending_of
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.listen import listen_tcp, listen_unix, url_of
from wsstream.transports.resolve import SocketName

__all__ = ["Server", "accept", "serve"]


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
    receive_timeout: float | None = None,
    receive_rate: ReceiveRate | None = None,
) -> AbstractAsyncContextManager[WebSocketStream]:
    """``async with accept(stream) as ws``: the server's side over a byte stream that is already open.

    The stream is owned from now on. Leaving the block closes as leaving that of :func:`connect` does.
    The arguments are those of :func:`serve`.

    Raises:
        HandshakeError: on entering: no opening handshake came, or it was refused; the answer was sent.
        TimeoutError: on entering: `open_timeout` has passed; the message says what was waited for.
    """
    options = ConnectionOptions(
        max_message_size=max_message_size,
        compression=compression,
        flow=flow,
        open_timeout=open_timeout,
        close_timeout=close_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        receive_timeout=receive_timeout,
        receive_rate=receive_rate,
    )
    return _Accept(transport, Acceptor(subprotocols, origins, process_request, options))


class _Accept(AsyncBlock[WebSocketStream]):
    use = "accept(stream) as ws"

    def __init__(self, stream: ByteStream, acceptor: Acceptor) -> None:
        self._stream = stream
        self._acceptor = acceptor
        self._ws: WebSocketStream | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<accept: {self._ws or type(self._stream).__name__!r}>"

    async def __aenter__(self) -> WebSocketStream:
        self.enter_once()
        timeout = self._acceptor.options.open_timeout
        transport = StreamTransport(self._stream)
        opening = Opening(self._acceptor, transport, transport.extra("peername"))
        with anyio.move_on_after(timeout):
            self._ws = await opening.run()
            return self._ws
        raise TimeoutError(
            f"the opening handshake did not end within open_timeout, {timeout} s: "
            f"still waiting for {opening.waits_for}"
        )

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._ws is not None
        await leave(ending_of(self._ws), exc)


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
    max_handshakes: int | None = 1024,
    max_connections: int | None = None,
    shutdown_timeout: float | None = 10,
    max_message_size: int | None = 2**20,
    compression: Deflate | None = None,
    flow: FlowControl = FlowControl(),  # noqa: B008 - immutable
    open_timeout: float | None = 10,
    close_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
    receive_timeout: float | None = None,
    receive_rate: ReceiveRate | None = None,
) -> AbstractAsyncContextManager[Server]:
    """``async with serve(handler, host, port) as server``: run a server while the block runs.

    Each connection gets a task that awaits ``handler(ws)`` and then closes as the body of :func:`connect`
    does. What a handler raises ends its own connection: it is logged, with the connection's id, and answered
    with 1011. Only ``KeyboardInterrupt`` and ``SystemExit`` go further: they stop the server, leave the event
    loop on asyncio, and are raised by `wait_closed` and by leaving the block.

    The handlers see the context variables of the task that enters the block. Another task may leave it.
    Leaving stops listening, closes all connections with 1001 and waits for their handlers. After
    `shutdown_timeout` seconds the connections that are left are dropped and their handlers cancelled, after 2
    seconds those whose clients read nothing while output waits for them. If the
    block was cancelled, or left by ``KeyboardInterrupt`` or ``SystemExit``, they are cancelled at once.

    Args:
        handler: called with each open :class:`WebSocketStream`.
        host: a name or address to listen on; ``None``: all interfaces.
        port: 0: a free one, see ``server.port``.
        path: listen on a Unix socket instead.
        listeners: listening sockets to use instead; owned from now on.
        ssl: the TLS context; with it the server speaks ``wss``.
        subprotocols: those the server speaks, the preferred first.
        origins: the ``Origin`` values that are let in (``None`` in it: no such header); by default all.
        process_request: sees each HTTP request first; may be asynchronous. Returns ``None`` to go on, an
            :class:`Accept` to take part in the answer, or a :class:`Response` to send instead.
        max_handshakes: clients that have not sent a whole request. When there is one too many, the one that
            came first is dropped.
        max_connections: clients whose request is there or whose connection is open. More are answered with
            503.
        shutdown_timeout: seconds that handlers get to end.
        max_message_size, compression, flow, open_timeout, close_timeout, ping_interval, ping_timeout:
            as for :func:`connect`.
        receive_timeout: as for :func:`connect`.
        receive_rate: a :class:`ReceiveRate`, the least rate at which a message has to arrive; slower ones
            fail with 1008. ``None``: any rate.

    Raises:
        OSError: on entering: cannot listen. On leaving: the server had to stop listening, and neither
            `wait_closed` nor the body of the block raised that.
        TypeError, ValueError: an argument is not as it should be.
    """
    if not callable(handler):
        raise TypeError(f"handler must be an async function, got {type(handler).__name__}")
    if ssl is not None and not isinstance(ssl, ssl_module.SSLContext):
        raise TypeError(f"ssl must be an ssl.SSLContext or None, got {type(ssl).__name__}")
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
        receive_timeout=receive_timeout,
        receive_rate=receive_rate,
    )
    check_number("shutdown_timeout", shutdown_timeout, optional=True)
    for name, limit in (("max_handshakes", max_handshakes), ("max_connections", max_connections)):
        check_int(name, limit, 1, optional=True)
    given = None if listeners is None else list(listeners)
    if given == []:
        raise ValueError("listeners must not be empty")

    async def listen() -> list[socket.socket]:
        if given is not None:
            return given
        return await listen_tcp(host, port) if path is None else [listen_unix(path)]

    acceptor = Acceptor(subprotocols, origins, process_request, options, own_tasks=True)

    def make_server() -> Server:
        return Server(handler, acceptor, ssl, max_handshakes, max_connections, shutdown_timeout)

    return _Serve(listen, make_server)


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
        max_handshakes: int | None,
        max_connections: int | None,
        shutdown_timeout: float | None,
    ) -> None:
        handling = Handling(handler, lambda: self._reception.cancelled)
        self.connections = handling.connections
        self._ssl = ssl
        self._shutdown_timeout = shutdown_timeout
        self._names: list[SocketName | str | bytes] = []  # of the listeners
        self._reception = Reception(acceptor, ssl, max_handshakes, max_connections, handling.run)
        self._error_raised = False

    @never_raises
    def __repr__(self) -> str:
        if not self._names:
            return "<Server, not started>"
        end = ", closed" if self._is_closed else ""
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
        self._reception.close()

    async def wait_closed(self) -> None:
        """Wait until the server stops listening, mostly because `close` was called. May be cancelled.

        Raises:
            OSError: it had to stop, as the system accepts no more connections for it.
            KeyboardInterrupt, SystemExit: it stopped because a handler or ``process_request`` raised this.
        """
        await self._reception.closed.wait()
        self._raise_error()

    @property
    def _is_closed(self) -> bool:
        return self._reception.closed.is_set()

    def _raise_error(self) -> None:
        if self._reception.error is not None:
            self._error_raised = True
            raise self._reception.error

    # -- for the context manager -------------------------------------------------------------

    def _start(self, listeners: Sequence[socket.socket]) -> None:
        """Accept on `listeners`."""
        self._names = [listener.getsockname() for listener in listeners]
        self._reception.listen(listeners)

    async def _shut_down(self) -> None:
        """Close everything with 1001 and wait for the handlers, for `shutdown_timeout` seconds at most."""
        self.close()
        self._reception.dismiss_handshakes()
        with anyio.move_on_after(self._shutdown_timeout):
            for ws in tuple(self.connections):
                ending_of(ws).close(CloseCode.GOING_AWAY, "", hurried=True)
            await self._reception.wait_idle()
        for ws in tuple(self.connections):
            ws.abort()  # the Close frame has gone out, and the peer had its time

    def _cancel(self) -> None:
        """Cancel whatever runs."""
        self.close()
        self._reception.cancel()


class _Serve(AsyncBlock[Server]):
    use = "serve(...) as server"

    def __init__(
        self, listen: Callable[[], Awaitable[list[socket.socket]]], make_server: Callable[[], Server]
    ) -> None:
        self._listen = listen
        self._make_server = make_server  # which needs the event loop
        self._server: Server | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<serve: {self._server or 'not entered'}>"

    async def __aenter__(self) -> Server:
        self.enter_once()
        listeners = await self._listen()
        self._server = self._make_server()
        self._server._start(listeners)
        return self._server

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        server = self._server
        assert server is not None
        try:
            if exc_type is None or issubclass(exc_type, Exception):
                await server._shut_down()
        finally:
            server._cancel()
            if not is_closing(exc):
                with anyio.CancelScope(shield=True):
                    await server._reception.wait_idle()
        if exc is None and not server._error_raised:
            server._raise_error()
