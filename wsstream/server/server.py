"""`Server`: a running server, and the ways in which it stops."""

from __future__ import annotations

import os
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Sequence
from signal import Signals

import anyio
from anyio.abc import ByteStream

from wsstream.arguments import check_number
from wsstream.close_codes import CloseCode
from wsstream.display import never_raises, without_query
from wsstream.errors import check_close_arguments
from wsstream.log import Log
from wsstream.opening.forwarded import TrustedProxies
from wsstream.opening.peer import PeerAddress
from wsstream.server.admission import Admission
from wsstream.server.certificates import load_certificate
from wsstream.server.draining import close_one_by_one
from wsstream.server.handlers import Handler, HandlerRunner
from wsstream.server.places import Limits
from wsstream.streams.websocket import ending_of
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.listen import url_of
from wsstream.transports.resolve import SocketName
from wsstream.transports.signals import StopSignals
from wsstream.upgrade.server import UpgradePolicy

__all__ = ["Server"]

log = Log("wsstream.server")


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
        limits: Limits,
        proxies: TrustedProxies | None,
        shutdown_timeout: float | None,
    ) -> None:
        runner = HandlerRunner(handler, lambda: self._admission.acceptor.cancelled)
        self.connections = runner.connections
        self._runner = runner
        self._ssl = ssl
        self._shutdown_timeout = shutdown_timeout
        self._names: list[SocketName | str | bytes] = []  # of the listeners
        self._admission = Admission(policy, ssl, limits, proxies, runner.run)
        self._started = self._error_raised = False

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

    @property
    def listening(self) -> bool:
        """Whether clients are accepted, as they are until `close`, the end of the block, or an error."""
        return self._started and not self._is_closed

    @property
    def ready(self) -> bool:
        """Whether new WebSockets are welcome; false from `drain` on. For the answer to a readiness check."""
        return self.listening and not self._admission.places.draining

    def reload_certificate(
        self,
        certfile: str | os.PathLike[str],
        keyfile: str | os.PathLike[str] | None = None,
        password: str | bytes | None = None,
    ) -> None:
        """Use another certificate for the clients that come from now on; open connections go on.

        The arguments are those of ``ssl.SSLContext.load_cert_chain``. Reads the files at once. If one is
        wrong, the server keeps the certificate that it has.

        Raises:
            ValueError: the server was started without `ssl`.
            OSError: a file cannot be read, or certificate and key do not fit (``ssl.SSLError``).
        """
        if self._ssl is None:
            raise ValueError("reload_certificate needs a server that was started with ssl")
        load_certificate(self._ssl, certfile, keyfile, password)

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

    async def serve_forever(self, *, stop: Callable[[], Awaitable[object]] | None = None) -> None:
        """Serve until SIGINT (Ctrl-C) or SIGTERM comes, stop, and return.

        It stops as leaving the block does: it closes all connections with 1001 and waits for the handlers,
        `shutdown_timeout` seconds at most. A second signal drops the connections and cancels the handlers at
        once. A third one does what it did before this was called.

        Several servers may wait here; a signal stops all. In a thread that is not the main one, no signal
        comes. It also returns as `wait_closed` does: when the server stops listening without a signal. Then
        the open connections stay open.

        If this is cancelled, the server goes on, unless a signal has come.

        Args:
            stop: awaited after the first signal and before the rest, such as ``server.drain``.

        Raises:
            OSError, KeyboardInterrupt, SystemExit: as `wait_closed`.
            Exception: what `stop` raised.
        """
        waiting, stopping = anyio.CancelScope(), anyio.CancelScope()

        def first(number: Signals) -> None:
            log.info("%s: the server stops", number.name)
            waiting.cancel()

        def second(number: Signals) -> None:
            signals.soon(stopping.cancel)

        with StopSignals(first, second) as signals:
            with waiting:
                await self.wait_closed()
            if not waiting.cancelled_caught:
                return
            with stopping:
                if stop is not None:
                    await stop()
                await self._shut_down()
            self._cancel()
            await self._admission.wait_idle()

    async def drain(
        self, *, timeout: float | None = 30, spread: float = 10, code: int = CloseCode.SERVICE_RESTART
    ) -> None:
        """Send the clients away, not all at once, and stop listening when they are gone.

        At once `ready` becomes false, and new opening handshakes are answered with 503; other requests still
        reach ``process_request``. The open connections are closed with `code`, one by one in random order and
        at random times over `spread` seconds. Each Close follows the messages that were sent before;
        what arrives after it began is dropped, and the handler's calls raise :class:`ClosedLocally`. After
        `timeout` seconds the connections that are left are dropped and their handlers are cancelled.

        Where several processes listen on one port, call `close` before, so that new clients reach the others.

        If this is cancelled, the connections that are left stay open, and it may be called again.

        Args:
            timeout: seconds; ``None``: no limit.
            spread: seconds, no more than `timeout`.
            code: 1012 (service restart) asks clients to stay away for 5 to 30 seconds, 1001 does not. The
                `pauses` of :func:`reconnect` change that.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        check_number("timeout", timeout, optional=True)
        check_number("spread", spread, finite=True)
        if timeout is not None and spread > timeout:
            raise ValueError(f"spread must not be longer than timeout, got {spread} and {timeout}")
        check_close_arguments(code, "")
        self._admission.places.draining = True
        self._runner.close_with = code  # those that open from now on: their requests were admitted before
        with anyio.move_on_after(timeout) as limit:
            await close_one_by_one(tuple(self.connections), code, spread)
            await self._admission.wait_vacated()
        if limit.cancelled_caught:
            log.info("dropped after %s s of draining: %s connections", timeout, len(self.connections))
            self._admission.cancel()
        self.close()

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
        self._started = True

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
