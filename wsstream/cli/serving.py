"""Listening for WebSockets as the options of servers say."""

from __future__ import annotations

import argparse
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import NamedTuple

from wsstream.cli.credentials import read_token
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.opening import connection_keywords, load_certificate
from wsstream.cli.options.values import Address, address
from wsstream.cli.report import Reporter
from wsstream.files.web.login import has_bearer
from wsstream.files.web.pages import WebPage
from wsstream.opening.http import Request, Response
from wsstream.opening.peer import parse_address
from wsstream.server.handlers import Handler
from wsstream.server.serve import serve
from wsstream.server.server import Server
from wsstream.transports.activation import ActivatedSocket, listen_fds
from wsstream.transports.listen import listen_tcp, listen_unix, url_of
from wsstream.transports.signals import on_signal

__all__ = ["Bind", "binds_of", "listen_on", "listening", "server_context"]


class Activated(NamedTuple):
    """The sockets of systemd."""

    name: str | None
    """Those of this ``FileDescriptorName=``; ``None``: all."""


Bind = Address | Activated | str
"""Where to listen: host and port, the sockets of systemd, or the path of a Unix socket."""

_DEFAULT_BIND = ":8765"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def binds_of(options: argparse.Namespace) -> list[Bind]:
    """Return where ``--bind`` says to listen.

    Raises:
        CommandFailed: it is no address.
    """
    binds: list[Bind] = []
    for text in options.bind or [_DEFAULT_BIND]:
        if text.startswith("unix:"):
            binds.append(text.removeprefix("unix:"))
        elif text == "systemd" or text.startswith("systemd:"):
            binds.append(Activated(text.removeprefix("systemd").removeprefix(":") or None))
        else:
            try:
                binds.append(address(text))
            except argparse.ArgumentTypeError as error:
                raise CommandFailed(Exit.USAGE, f"--bind: {error}") from None
    return binds


async def listen_on(binds: Sequence[Bind]) -> list[socket.socket]:
    """Listen on all of `binds`.

    Raises:
        CommandFailed: the system refuses.
    """
    listeners: list[socket.socket] = []
    passed = _take_passed() if any(isinstance(bind, Activated) for bind in binds) else []
    try:
        for bind in binds:
            if isinstance(bind, str):
                listeners.append(listen_unix(bind))
            elif isinstance(bind, Activated):
                wanted = [each for each in passed if bind.name in (None, each.name)]
                if not wanted:
                    raise OSError("systemd has passed no such socket")
                listeners += wanted
            else:
                listeners += await listen_tcp(bind[0] or None, bind[1])
    except OSError as error:
        for listener in (*listeners, *passed):
            listener.close()
        raise CommandFailed(Exit.NO_CONNECTION, f"cannot listen: {error}") from None
    for each in passed:
        if each not in listeners:
            each.close()
    return listeners


def _take_passed() -> list[ActivatedSocket]:
    try:
        return listen_fds()
    except ValueError as error:
        raise CommandFailed(Exit.NO_CONNECTION, f"cannot listen: {error}") from None


def server_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the TLS context of ``--cert`` and ``--key``; ``None`` without them."""
    if options.cert is None:
        if options.key is not None:
            raise CommandFailed(Exit.USAGE, "--key needs --cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_certificate(context, options)
    return context


@asynccontextmanager
async def listening(
    options: argparse.Namespace,
    handler: Handler,
    binds: Sequence[Bind],
    *,
    path: str | None = None,
    subprotocols: Sequence[str] = (),
    page: WebPage | None = None,
) -> AsyncIterator[Server]:
    """Serve on `binds`, and on no other path than `path`, while the block runs; report the URLs.

    With a `page`, that is served too, and its URL is reported in place of the WebSockets'.

    Leaving the block drains the server, if ``--drain`` says so, and closes the connections with 1001, within
    ``--shutdown-timeout``.

    Raises:
        CommandFailed: an option is wrong, or the system refuses to listen.
    """
    if options.drain is None:
        raise CommandFailed(Exit.USAGE, "--drain must have an end")
    context, token = server_context(options), read_token(options)
    listeners = await listen_on(binds)
    urls = [url_of([listener.getsockname()], secure=context is not None) for listener in listeners]
    try:
        server_block = serve(
            handler,
            listeners=listeners,
            ssl=context,
            subprotocols=subprotocols,
            origins=None if "*" in options.origins else ["same", None, *options.origins],
            hosts=_hosts(options, binds),
            trusted_proxies=options.trusted_proxies,
            proxy_protocol=options.proxy_protocol,
            process_request=_gate(path, token, page, lambda: server.ready),
            max_connections=1 if options.once else options.max_connections,
            max_connections_per_client=options.max_connections_per_client,
            shutdown_timeout=options.shutdown_timeout,
            **connection_keywords(options),
        )
    except ValueError as error:
        for listener in listeners:
            listener.close()
        raise CommandFailed(Exit.USAGE, str(error)) from None
    async with server_block as server:
        for url in urls:
            if url.startswith(("ws://", "wss://")):
                url = url.rstrip("/") + (path or "/")
                if page is not None:
                    url = url.replace("ws", "http", 1)
            Reporter(options).note("listening", f"listening on {url}", url=url)
        with _reloading(options, server):
            yield server
            if options.drain:
                left = options.shutdown_timeout
                await server.drain(
                    timeout=None if left is None else options.drain + left, spread=options.drain
                )


def _reloading(options: argparse.Namespace, server: Server) -> AbstractContextManager[None]:
    """Load ``--cert`` and ``--key`` again at each SIGHUP, while the block runs."""
    if options.cert is None or not hasattr(signal, "SIGHUP"):
        return nullcontext()
    reporter = Reporter(options)

    def reload() -> None:
        try:
            server.reload_certificate(options.cert, options.key)
        except OSError as error:
            reporter.note("not-reloaded", f"the certificate stays as it was: {error}", message=str(error))
        else:
            reporter.note("reloaded", f"certificate loaded again from {options.cert}")

    return on_signal(signal.SIGHUP, reload)


def _hosts(options: argparse.Namespace, binds: Sequence[Bind]) -> Sequence[str] | None:
    """Under which names the server may be asked for; ``None``: all."""
    if "*" in options.hosts:
        return None
    names = {_host_of(bind) for bind in binds}
    if options.hosts or options.trusted_proxies or not all(map(_is_loopback, names)):
        return options.hosts or None
    return [f"[{name}]" if ":" in name else name for name in sorted({*_LOOPBACK, *names})]


def _host_of(bind: Bind) -> str:
    return "" if isinstance(bind, str | Activated) else bind[0] or ""


def _is_loopback(name: str) -> bool:
    address = parse_address(name)
    return name in _LOOPBACK or (address is not None and address.is_loopback)


def _gate(
    path: str | None, token: str | None, page: WebPage | None, ready: Callable[[], bool]
) -> Callable[[Request], Response | None]:
    def decide(request: Request) -> Response | None:
        """Answer health checks, and for the page; refuse other paths, and requests without the token."""
        if request.path == "/healthz" and "upgrade" not in request.headers:
            return Response(200, body="ok\n") if ready() else Response(503, body="about to stop\n")
        if page is not None and (response := page(request)) is not None:
            return response
        if path is not None and request.path != path:
            return Response(404, body="not found\n")
        if token is not None and not (has_bearer(request, token) if page is None else page.knows(request)):
            return Response(401, {"WWW-Authenticate": "Bearer"}, "a token is needed\n")
        return None

    return decide
