"""Serving without async: each handler runs in a thread."""

from __future__ import annotations

import inspect
import os
import socket
import ssl as ssl_module
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Unpack

from wsstream.display import never_raises
from wsstream.driver.options import ServerKeywords
from wsstream.opening.decision import Decision
from wsstream.opening.http import Request
from wsstream.opening.origins import OriginsArgument
from wsstream.server.serve import serve as async_serve
from wsstream.server.server import Server as AsyncServer
from wsstream.sync.background import Background, background
from wsstream.sync.block import Block
from wsstream.sync.handlers import Handler, Handlers
from wsstream.sync.server import Server
from wsstream.transports.signals import sigterm_as_ctrl_c

__all__ = ["ServeOptions", "serve"]


class ServeOptions(ServerKeywords, total=False):
    """The options of :func:`wsstream.serve` that have the same meaning here."""

    path: str | os.PathLike[str] | None
    listeners: Iterable[socket.socket] | None
    ssl: ssl_module.SSLContext | None
    subprotocols: Iterable[str]
    reuse_port: bool
    origins: OriginsArgument
    hosts: Iterable[str] | None
    trusted_proxies: Iterable[str]
    proxy_protocol: bool
    max_connections_per_client: int | None
    max_handshakes: int | None
    shutdown_timeout: float | None


def serve(
    handler: Handler,
    host: str | None = None,
    port: int = 0,
    *,
    process_request: Callable[[Request], Decision] | None = None,
    max_connections: int | None = 256,
    **options: Unpack[ServeOptions],
) -> AbstractContextManager[Server]:
    """``with serve(handler, host, port) as server``: run a server while the block runs.

    Each connection gets a thread that calls ``handler(ws)`` with a :class:`WebSocketStream`, and is closed
    when that returns, as the end of a block of :func:`connect` closes. An exception of a handler ends only
    its own connection: it is logged, and the client gets 1011. ``SystemExit`` and ``KeyboardInterrupt`` stop
    the server. The handlers see the context variables of the thread that enters the block.

    The other arguments, what leaving does and what is raised are those of :func:`wsstream.serve`. A thread
    cannot be cancelled: after `shutdown_timeout` seconds its connection is dropped, so its calls raise, and
    nobody waits for it. The threads do not keep the program alive.

    Args:
        handler: a plain function.
        process_request: sees each HTTP request first, in a worker thread, so it may block.
        max_connections: the most connections, and so the most threads. Others get 503. ``None``: no limit.

    Raises:
        OSError: on entering: the system refuses to listen.
        TypeError, ValueError: an argument is wrong.
    """
    for name, function in (("handler", handler), ("process_request", process_request)):
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{name} must be a plain function, got an async one: use wsstream.serve for it")
    handlers = Handlers(handler, process_request, max_connections)
    decide = None if process_request is None else handlers.decide
    if process_request is not None and not callable(process_request):
        raise TypeError(f"process_request must be a function or None, got {type(process_request).__name__}")
    if not callable(handler):
        raise TypeError(f"handler must be a function, got {type(handler).__name__}")
    block = async_serve(
        handlers.run, host, port, process_request=decide, max_connections=max_connections, **options
    )
    return _Serve(block, handlers)


class _Serve(Block[Server]):
    use = "serve(...) as server"

    def __init__(self, block: AbstractAsyncContextManager[AsyncServer], handlers: Handlers) -> None:
        self._block = block
        self._handlers = handlers
        self._server: Server | None = None
        self._release_sigterm: Callable[[], None] = lambda: None

    @never_raises
    def __repr__(self) -> str:
        return repr(self._block)

    def __enter__(self) -> Server:
        self.enter_once()
        loop = self._loop = background()
        self._handlers.start(loop)
        try:
            loop.call(lambda: self._open(loop))
            assert self._server is not None
        except BaseException:
            if self._server is not None:  # Ctrl-C came at the last moment
                loop.call(lambda: self._block.__aexit__(None, None, None))
            raise
        self._handlers.stop = self._server.close
        self._release_sigterm = sigterm_as_ctrl_c(loop.post)
        return self._server

    async def _open(self, loop: Background) -> None:
        self._handlers.make_limits()
        self._server = Server(loop, await self._block.__aenter__(), self._handlers)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._loop.forked:
            return

        try:
            self._loop.call(lambda: self._block.__aexit__(exc_type, exc, tb))
        finally:
            self._release_sigterm()
        if exc is None:
            self._handlers.raise_error()
