"""`serve`: a server that listens, and its handlers."""

from __future__ import annotations

import os
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any

import anyio
from anyio.abc import ByteStream

from wsstream.arguments import check_int, check_number, check_type
from wsstream.close_codes import CloseCode
from wsstream.display import never_raises, without_query
from wsstream.driver.flow import FlowControl
from wsstream.driver.options import ConnectionOptions
from wsstream.opening.decision import ProcessRequest
from wsstream.opening.forwarded import TrustedProxies
from wsstream.opening.handshake import validate_subprotocols
from wsstream.opening.origins import OriginsArgument
from wsstream.opening.peer import PeerAddress
from wsstream.protocol.arrival import ReceiveRate
from wsstream.protocol.deflate import Deflate
from wsstream.routing.router import Router
from wsstream.server.admission import Admission
from wsstream.server.handlers import Handler, HandlerRunner
from wsstream.streams.block import AsyncBlock
from wsstream.streams.close_on_exit import is_closing
from wsstream.streams.websocket import ending_of
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.listen import listen_tcp, listen_unix, url_of
from wsstream.transports.resolve import SocketName
from wsstream.upgrade.process_request import check_process_request
from wsstream.upgrade.route_options import handler_subprotocols
from wsstream.upgrade.server import UpgradePolicy

__all__ = ["Server", "serve"]


def serve(
    handler: Handler | Router,
    host: str | None = None,
    port: int = 0,
    *,
    path: str | os.PathLike[str] | None = None,
    listeners: Iterable[socket.socket] | None = None,
    ssl: ssl_module.SSLContext | None = None,
    subprotocols: Iterable[str] = (),
    origins: OriginsArgument = "same",
    hosts: Iterable[str] | None = None,
    trusted_proxies: Iterable[str] = (),
    proxy_protocol: bool = False,
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

    Each connection gets a task that awaits ``handler(ws)`` and then closes the connection as the end of a
    block of :func:`connect` does. An exception of a handler ends only its own connection: it is logged, with
    the connection's id, and the client gets 1011. Only ``KeyboardInterrupt`` and ``SystemExit`` go further:
    they stop the server, leave the event loop on asyncio, and are raised by `wait_closed` and by leaving the
    block.

    The handlers see the context variables of the task that enters the block. Another task may leave it.
    Leaving stops listening, closes all connections with 1001 and waits for their handlers. After
    `shutdown_timeout` seconds it drops the connections that are left and cancels their handlers; after 2
    seconds already, those whose clients read nothing while output waits for them. If the block is cancelled,
    or left by ``KeyboardInterrupt`` or ``SystemExit``, it cancels the handlers at once.

    Args:
        handler: called with each open :class:`WebSocketStream`. Or a :class:`Router`, which has several.
        host: a name or address to listen on; ``None``: all interfaces.
        port: 0: a free one, see ``server.port``.
        path: listen on a Unix socket instead.
        listeners: listening sockets to use instead; owned from now on.
        ssl: the TLS context; with it the server speaks ``wss``.
        subprotocols: those the server speaks, the preferred first; by default the handler's attribute
            `subprotocols`, if it has one.
        origins: the web pages that may connect, by the ``Origin`` that browsers send; others get 403. By
            default ``"same"``: those whose host is the one asked for, and programs other than browsers, which
            send none. ``None``: all. Or a sequence of ``"https://a.example"``, ``"https://*.a.example"``,
            ``"same"``, and ``None`` for requests without ``Origin``.
        hosts: the names under which the server may be asked for, such as ``"files.example"``,
            ``"*.files.example"`` or ``"[::1]:8080"``; others get 421. ``None``: any name, which lets web
            pages in by *DNS rebinding*.
        trusted_proxies: addresses and networks of the proxies whose ``Forwarded`` and ``X-Forwarded-For``,
            ``-Proto`` and ``-Host`` are believed, and ``"unix"`` for peers on a Unix socket. Then
            ``request.client``, ``request.scheme`` and ``request.host`` are the client's, and the checks of
            `origins` and `hosts` use them.
        proxy_protocol: each connection begins with a header of the PROXY protocol, version 1 or 2, which must
            come from a trusted proxy. Then ``request.peer`` is the client's address.
        process_request: sees each HTTP request first; may be asynchronous. Returns ``None`` to go on, an
            :class:`Accept` to take part in the response, or a :class:`Response` to send instead.
        max_handshakes: how many clients may be at sending their request. If there is one too many, the oldest
            is dropped.
        max_connections: how many clients may have sent their request or have an open connection. Others get
        503.
        shutdown_timeout: seconds for the handlers to end.
        max_message_size, compression, flow, open_timeout, close_timeout, ping_interval, ping_timeout:
            as for :func:`connect`.
        receive_timeout: as for :func:`connect`.
        receive_rate: a :class:`ReceiveRate`, the least rate at which messages must arrive; the connection of
        a
            slower one fails with 1008. ``None``: any rate.

    Raises:
        OSError: on entering: the system refuses to listen. On leaving: the server had to stop listening, and
            neither `wait_closed` nor the body of the block raised that.
        TypeError, ValueError: an argument is wrong.
    """
    if not callable(handler):
        raise TypeError(f"handler must be an async function, got {type(handler).__name__}")
    check_type("ssl", ssl, ssl_module.SSLContext | None, "an ssl.SSLContext or None")
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

    spoken = validate_subprotocols(subprotocols) or handler_subprotocols(handler)
    if isinstance(handler, Router):
        check_process_request(process_request)
        process_request = partial(handler.process_request, first=process_request)
    proxies = TrustedProxies(trusted_proxies)
    check_type("proxy_protocol", proxy_protocol, bool, "a bool")
    if proxy_protocol and not proxies:
        raise ValueError("proxy_protocol needs trusted_proxies: the header says who the client is")
    policy = UpgradePolicy(
        spoken,
        origins,
        process_request,
        options,
        hosts=hosts,
        trusted_proxies=proxies,
        own_tasks=True,
    )

    make_server = partial(
        Server,
        handler,
        policy,
        ssl,
        max_handshakes,
        max_connections,
        proxies if proxy_protocol else None,
        shutdown_timeout,
    )
    return _Serve(listen, make_server)


def in_memory(handler: Handler | Router, **options: Any) -> AbstractAsyncContextManager[Server]:
    """`serve` without listeners, for tests: its connections come by `Server._add_open`."""
    listens = {"host", "port", "path", "listeners", "ssl"} & set(options)
    if listens:
        raise TypeError(f"a server in memory does not listen: it takes no {min(listens)}")
    block = serve(handler, **options)
    assert isinstance(block, _Serve)
    block.listens = False
    return block


class Server:
    """A running server. Made by :func:`serve`.

    Attributes:
        connections: the open connections.
    """

    def __init__(
        self,
        handler: Handler,
        policy: UpgradePolicy,
        ssl: ssl_module.SSLContext | None,
        max_handshakes: int | None,
        max_connections: int | None,
        proxies: TrustedProxies | None,
        shutdown_timeout: float | None,
    ) -> None:
        runner = HandlerRunner(handler, lambda: self._admission.acceptor.cancelled)
        self.connections = runner.connections
        self._ssl = ssl
        self._shutdown_timeout = shutdown_timeout
        self._names: list[SocketName | str | bytes] = []  # of the listeners
        self._admission = Admission(policy, ssl, max_handshakes, max_connections, proxies, runner.run)
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
        """The server's URL, for :func:`connect` on this machine: that of the first listener that has one.

        For a Unix socket it is ``ws+unix:`` and the path.

        Raises:
            ValueError: all listen on IPv6 addresses with a scope (``fe80::1%eth0``), which no URL can hold.
        """
        return url_of(self._names, secure=self._ssl is not None)

    def close(self) -> None:
        """Stop listening, so that `wait_closed` returns. The open connections stay open."""
        self._admission.acceptor.close()

    async def wait_closed(self) -> None:
        """Wait until the server stops listening: usually because `close` was called.

        If this is cancelled, the server goes on, and it may be called again.

        Raises:
            OSError: the server had to stop, as the system accepts no more connections for it.
            KeyboardInterrupt, SystemExit: a handler or ``process_request`` raised this, which stopped it.
        """
        await self._admission.acceptor.closed.wait()
        self._raise_error()

    @property
    def _is_closed(self) -> bool:
        return self._admission.acceptor.closed.is_set()

    def _raise_error(self) -> None:
        if self._admission.acceptor.error is not None:
            self._error_raised = True
            raise self._admission.acceptor.error

    def _add_open(self, stream: ByteStream, peer: PeerAddress) -> None:
        """Serve a client over a byte stream that is already open."""
        if self._is_closed:
            raise anyio.ClosedResourceError
        self._admission.add_open(StreamTransport(stream), peer)

    # -- for the context manager -------------------------------------------------------------

    def _start(self, listeners: Sequence[socket.socket]) -> None:
        """Accept connections on `listeners`."""
        self._names = [listener.getsockname() for listener in listeners]
        self._admission.acceptor.listen(listeners)

    async def _shut_down(self) -> None:
        """Close all connections with 1001 and wait for the handlers, `shutdown_timeout` seconds at most."""
        self.close()
        self._admission.drop_handshakes()
        with anyio.move_on_after(self._shutdown_timeout):
            for ws in tuple(self.connections):
                ending_of(ws).close(CloseCode.GOING_AWAY, "", hurried=True)
            await self._admission.wait_idle()
        for ws in tuple(self.connections):
            ws.abort()  # the Close frame has gone out, and the peer had its time

    def _cancel(self) -> None:
        """Cancel all tasks."""
        self.close()
        self._admission.cancel()


class _Serve(AsyncBlock[Server]):
    use = "serve(...) as server"
    listens = True

    def __init__(
        self, listen: Callable[[], Awaitable[list[socket.socket]]], make_server: Callable[[], Server]
    ) -> None:
        self._listen = listen
        self._make_server = make_server  # needs a running event loop
        self._server: Server | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<serve: {self._server or 'not entered'}>"

    async def __aenter__(self) -> Server:
        self.enter_once()
        listeners = await self._listen() if self.listens else []
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
                    await server._admission.wait_idle()
        if exc is None and not server._error_raised:
            server._raise_error()
