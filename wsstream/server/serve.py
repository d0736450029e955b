"""`serve`: a server that listens, and its handlers."""

from __future__ import annotations

import os
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any

import anyio

from wsstream.arguments import check_int, check_number, check_type
from wsstream.display import never_raises
from wsstream.driver.flow import FlowControl
from wsstream.driver.options import ConnectionOptions
from wsstream.opening.decision import ProcessRequest
from wsstream.opening.forwarded import TrustedProxies
from wsstream.opening.handshake import validate_subprotocols
from wsstream.opening.origins import OriginsArgument
from wsstream.protocol.arrival import ReceiveRate
from wsstream.protocol.deflate import Deflate
from wsstream.routing.router import Router
from wsstream.server.handlers import Handler
from wsstream.server.places import Limits
from wsstream.server.server import Server
from wsstream.streams.block import AsyncBlock
from wsstream.streams.close_on_exit import is_closing
from wsstream.transports.listen import listen_tcp, listen_unix
from wsstream.transports.signals import sigterm_as_ctrl_c
from wsstream.upgrade.process_request import check_process_request
from wsstream.upgrade.route_options import handler_subprotocols
from wsstream.upgrade.server import UpgradePolicy

__all__ = ["serve"]


def serve(
    handler: Handler | Router,
    host: str | None = None,
    port: int = 0,
    *,
    path: str | os.PathLike[str] | None = None,
    listeners: Iterable[socket.socket] | None = None,
    reuse_port: bool = False,
    ssl: ssl_module.SSLContext | None = None,
    subprotocols: Iterable[str] = (),
    origins: OriginsArgument = "same",
    hosts: Iterable[str] | None = None,
    trusted_proxies: Iterable[str] = (),
    proxy_protocol: bool = False,
    process_request: ProcessRequest | None = None,
    max_handshakes: int | None = 1024,
    max_connections: int | None = None,
    max_connections_per_client: int | None = None,
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
        listeners: listening sockets to use instead, such as those of :func:`listen_fds`; owned from now on.
        reuse_port: several processes may listen on the same port (``SO_REUSEPORT``), if all of them ask for
            this; the system shares out new connections.
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
        max_connections_per_client: as `max_connections`, for each address; an IPv6 address counts as its /64.
            Others get 429. Clients of Unix sockets have no address and no limit.
        shutdown_timeout: seconds for the handlers to end.
        max_message_size, compression, flow, open_timeout, close_timeout, ping_interval, ping_timeout:
            as for :func:`connect`.
        receive_timeout: as for :func:`connect`.
        receive_rate: a :class:`ReceiveRate`, the rates at which messages may arrive on each connection; one
            that is too slow fails with 1008, one that is too fast is read no faster. ``None``: any rate.

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
    check_int("max_handshakes", max_handshakes, 1, optional=True)
    check_int("max_connections", max_connections, 1, optional=True)
    check_int("max_connections_per_client", max_connections_per_client, 1, optional=True)
    limits = Limits(max_handshakes, max_connections, max_connections_per_client)
    check_type("reuse_port", reuse_port, bool, "a bool")
    if reuse_port and (path is not None or listeners is not None):
        raise ValueError("reuse_port needs a host or a port: it is set before a socket listens")
    given = None if listeners is None else list(listeners)
    if given == []:
        raise ValueError("listeners must not be empty")

    async def listen() -> list[socket.socket]:
        if given is not None:
            return given
        if path is not None:
            return [listen_unix(path)]
        return await listen_tcp(host, port, reuse_port=reuse_port)

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
        Server, handler, policy, ssl, limits, proxies if proxy_protocol else None, shutdown_timeout
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


class _Serve(AsyncBlock[Server]):
    use = "serve(...) as server"
    listens = True

    def __init__(
        self, listen: Callable[[], Awaitable[list[socket.socket]]], make_server: Callable[[], Server]
    ) -> None:
        self._listen = listen
        self._make_server = make_server  # needs a running event loop
        self._server: Server | None = None
        self._release_sigterm: Callable[[], None] = lambda: None

    @never_raises
    def __repr__(self) -> str:
        return f"<serve: {self._server or 'not entered'}>"

    async def __aenter__(self) -> Server:
        self.enter_once()
        listeners = await self._listen() if self.listens else []
        self._server = self._make_server()
        self._server._start(listeners)
        self._release_sigterm = sigterm_as_ctrl_c()
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
            self._release_sigterm()
        if exc is None and not server._error_raised:
            server._raise_error()
