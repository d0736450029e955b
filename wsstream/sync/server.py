"""Serving without async: each handler runs in a thread."""

from __future__ import annotations

import inspect
import os
import signal
import socket
import ssl as ssl_module
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from contextvars import copy_context
from math import inf
from types import FrameType, TracebackType
from typing import TypeAlias, Unpack

from anyio import CapacityLimiter, to_thread

from wsstream.display import never_raises
from wsstream.driver.options import ServerKeywords
from wsstream.opening.decision import Decision
from wsstream.opening.http import Request
from wsstream.server.serve import Server as AsyncServer
from wsstream.server.serve import serve as async_serve
from wsstream.streams.websocket import WebSocketStream as AsyncWebSocket
from wsstream.sync.background import Background, background
from wsstream.sync.block import Block
from wsstream.sync.link import Link
from wsstream.sync.websocket import WebSocketStream

__all__ = ["ServeOptions", "Server", "serve"]

Handler: TypeAlias = Callable[[WebSocketStream], object]

_DECIDING = 32  # threads that run process_request at once


class ServeOptions(ServerKeywords, total=False):
    """The options of :func:`wsstream.serve` that have the same meaning here."""

    path: str | os.PathLike[str] | None
    listeners: Iterable[socket.socket] | None
    ssl: ssl_module.SSLContext | None
    subprotocols: Iterable[str]
    origins: Iterable[str | None] | None
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
    its own
    connection: it is logged, and the client gets 1011. ``SystemExit`` and ``KeyboardInterrupt`` stop the
    server. The handlers see the context variables of the thread that enters the block.

    The other arguments, what leaving does and what is raised are those of :func:`wsstream.serve`. A thread
    cannot
    be cancelled: after `shutdown_timeout` seconds its connection is dropped, so its calls raise, and nobody
    waits for it. The threads do not keep the program alive.

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
    handlers = _Handlers(handler, process_request, max_connections)
    decide = None if process_request is None else handlers.decide
    if process_request is not None and not callable(process_request):
        raise TypeError(f"process_request must be a function or None, got {type(process_request).__name__}")
    if not callable(handler):
        raise TypeError(f"handler must be a function, got {type(handler).__name__}")
    block = async_serve(
        handlers.run, host, port, process_request=decide, max_connections=max_connections, **options
    )
    return _Serve(block, handlers)


class _Handlers:
    """Runs handlers in threads."""

    def __init__(
        self,
        handler: Handler,
        process_request: Callable[[Request], Decision] | None,
        max_connections: int | None,
    ) -> None:
        self.connections: set[WebSocketStream] = set()
        self.links: set[Link] = set()
        self.stopped_by: BaseException | None = None
        self.stop: Callable[[], object] = lambda: None
        self._handler = handler
        self._process_request = process_request
        self._max_connections = max_connections
        self._threads: set[int] = set()

    def start(self, loop: Background) -> None:
        """The block was entered, in this thread. Called there."""
        self._loop = loop
        self._context = copy_context()

    def make_limits(self) -> None:
        """In the event loop."""
        self._running = CapacityLimiter(self._max_connections or inf)
        self._deciding = CapacityLimiter(_DECIDING)

    @property
    def in_handler(self) -> bool:
        """Whether this thread is a handler's."""
        return threading.get_ident() in self._threads

    async def run(self, ws: AsyncWebSocket) -> None:
        """The handler for the asynchronous server."""
        link = Link(self._loop, ws, closed_elsewhere=True)
        stream = WebSocketStream(link)
        self.connections.add(stream)
        self.links.add(link)
        try:
            await to_thread.run_sync(self._call, stream, abandon_on_cancel=True, limiter=self._running)
            await link.hand_over()
        finally:
            self.connections.discard(stream)
            self.links.discard(link)

    def _call(self, stream: WebSocketStream) -> None:
        thread = threading.get_ident()
        self._threads.add(thread)
        try:
            self._context.copy().run(self._handler, stream)
        except (SystemExit, KeyboardInterrupt) as error:  # it must not end the event loop
            self.stopped_by = error
            self.stop()
        finally:
            self._threads.discard(thread)

    async def decide(self, request: Request) -> Decision:
        """The ``process_request`` for the asynchronous server."""
        function, context = self._process_request, self._context.copy()
        assert function is not None

        def call() -> Decision:
            return context.run(function, request)

        return await to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._deciding)


class Server:
    """A running server. Made by :func:`~wsstream.sync.serve`."""

    def __init__(self, loop: Background, server: AsyncServer, handlers: _Handlers) -> None:
        self._loop = loop
        self._server = server
        self._handlers = handlers

    @never_raises
    def __repr__(self) -> str:
        return repr(self._server)

    @property
    def connections(self) -> frozenset[WebSocketStream]:
        """The open connections at this moment."""
        return frozenset(self._handlers.connections.copy())

    @property
    def port(self) -> int:
        """The TCP port, 0 on a Unix socket."""
        return self._server.port

    @property
    def url(self) -> str:
        """The server's URL, for :func:`connect` on this machine; see :attr:`wsstream.Server.url`."""
        return self._server.url

    def close(self) -> None:
        """Stop listening, so that `wait_closed` and `serve_forever` return. The open connections stay open.

        Never waits, so a signal handler may call it.
        """
        self._loop.post_if_alive(self._server.close)

    def wait_closed(self, *, timeout: float | None = None) -> None:
        """Wait until the server stops listening: usually because `close` was called.

        Raises:
            TimeoutError: that was not so within `timeout` seconds.
            OSError: the server had to stop, as the system accepts no more connections for it.
            KeyboardInterrupt, SystemExit: a handler raised this, which stopped it.
        """
        self._loop.call(self._server.wait_closed, timeout)
        if (error := self._handlers.stopped_by) is not None:
            self._handlers.stopped_by = None
            raise error

    def serve_forever(self) -> None:
        """Serve until `close` or `shutdown` is called or, in the main thread, SIGINT or SIGTERM comes.

        A signal is no exception here: this returns, and leaving the block then closes the connections. The
        next one has its usual effect. Signals for which the program has set a handler of its own are left to
        that.

        Raises:
            OSError, KeyboardInterrupt, SystemExit: as `wait_closed`.
        """
        with _closed_by_signals(self.close):
            self.wait_closed()

    def shutdown(self) -> None:
        """Stop listening, close all connections with 1001, and wait for the handlers.

        What is left after ``shutdown_timeout`` seconds is dropped. In a handler's own thread, which cannot
        wait for itself, this only begins.
        """

        async def shut_down() -> None:
            for link in tuple(self._handlers.links):
                await link.hand_over()
            await self._server._shut_down()

        if self._handlers.in_handler:
            self._loop.post(lambda: self._loop.spawn(shut_down))
        else:
            self._loop.call(shut_down)


@contextmanager
def _closed_by_signals(close: Callable[[], object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = {number: handler for number, handler in usual.items() if signal.getsignal(number) is handler}

    def restore() -> None:
        for number, handler in ours.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        close()

    try:
        for number in ours:
            signal.signal(number, handle)
        yield
    finally:
        restore()


class _Serve(Block[Server]):
    use = "serve(...) as server"

    def __init__(self, block: AbstractAsyncContextManager[AsyncServer], handlers: _Handlers) -> None:
        self._block = block
        self._handlers = handlers
        self._server: Server | None = None

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
        return self._server

    async def _open(self, loop: Background) -> None:
        self._handlers.make_limits()
        self._server = Server(loop, await self._block.__aenter__(), self._handlers)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._loop.forked:
            return

        async def leave() -> None:
            if exc is None or isinstance(exc, Exception):
                for link in tuple(self._handlers.links):
                    await link.hand_over()
            await self._block.__aexit__(exc_type, exc, tb)

        self._loop.call(leave)
        if exc is None and (error := self._handlers.stopped_by) is not None:
            self._handlers.stopped_by = None
            raise error
