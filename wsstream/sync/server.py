"""`Server`: a running server, as threads use it."""

from __future__ import annotations

import os
from collections.abc import Callable
from signal import Signals

from wsstream.close_codes import CloseCode
from wsstream.display import never_raises
from wsstream.log import Log
from wsstream.server.server import Server as AsyncServer
from wsstream.sync.background import Background
from wsstream.sync.call import Call, Cancelled
from wsstream.sync.handlers import Handlers
from wsstream.sync.websocket import WebSocketStream
from wsstream.transports.signals import StopSignals

__all__ = ["Server"]

log = Log("wsstream.server")


class Server:
    """A running server. Made by :func:`~wsstream.sync.serve`."""

    def __init__(self, loop: Background, server: AsyncServer, handlers: Handlers) -> None:
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

    @property
    def listening(self) -> bool:
        """Whether clients are accepted, as they are until `close`, the end of the block, or an error."""
        return self._server.listening

    @property
    def ready(self) -> bool:
        """Whether new WebSockets are welcome; false from `drain` on. For the answer to a readiness check."""
        return self._server.ready

    def reload_certificate(
        self,
        certfile: str | os.PathLike[str],
        keyfile: str | os.PathLike[str] | None = None,
        password: str | bytes | None = None,
    ) -> None:
        """Use another certificate for the clients that come from now on, as
        :meth:`wsstream.Server.reload_certificate` does.

        Raises:
            ValueError, OSError: as there.
        """

        async def reload() -> None:
            self._server.reload_certificate(certfile, keyfile, password)

        self._loop.call(reload)

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
        self._handlers.raise_error()

    def serve_forever(self, *, stop: Callable[[], object] | None = None) -> None:
        """Serve until SIGINT (Ctrl-C) or SIGTERM comes, stop, and return.

        It stops as `shutdown` does. A second signal drops the connections at once, and nobody waits for the
        handlers. A third one does what it did before this was called. In a thread that is not the main one,
        no signal comes.

        It also returns as `wait_closed` does: when the server stops listening without a signal. Then the open
        connections stay open.

        Args:
            stop: called after the first signal and before the rest, such as ``server.drain``.

        Raises:
            OSError, KeyboardInterrupt, SystemExit: as `wait_closed`.
            Exception: what `stop` raised.
        """
        waiting = Call(self._server.wait_closed)
        signalled = False

        def first(number: Signals) -> None:
            nonlocal signalled
            log.info("%s: the server stops", number.name)
            signalled = True
            waiting.cancel()

        def second(number: Signals) -> None:
            self._loop.post_if_alive(self._server._cancel)

        with StopSignals(first, second, self._loop.post):
            try:
                self._loop.run(waiting)
            except Cancelled:
                if not signalled:
                    raise
            if not signalled:
                self._handlers.raise_error()
                return
            if stop is not None:
                stop()
            self.shutdown()

    def shutdown(self) -> None:
        """Stop listening, close all connections with 1001, and wait for the handlers.

        What is left after ``shutdown_timeout`` seconds is dropped. In a handler's own thread, which cannot
        wait for itself, this only begins.

        Raises:
            KeyboardInterrupt: Ctrl-C came while it waited; the connections go on closing.
        """
        if self._handlers.in_handler:
            self._loop.post(lambda: self._loop.spawn(self._server._shut_down))
        else:
            self._loop.call(self._server._shut_down)

    def drain(
        self, *, timeout: float | None = 30, spread: float = 10, code: int = CloseCode.SERVICE_RESTART
    ) -> None:
        """Send the clients away, not all at once, and stop listening when they are gone.

        The arguments and what happens are those of :meth:`wsstream.Server.drain`; a handler that still runs
        after `timeout` seconds is not waited for. After Ctrl-C the connections that are left stay open.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        self._loop.call(lambda: self._server.drain(timeout=timeout, spread=spread, code=code))
