"""The attempts of `reconnect`: their URLs and their options."""

from __future__ import annotations

import inspect
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeAlias, Unpack

import anyio

from wsstream.client.connect import connect
from wsstream.client.connector import OpenStream
from wsstream.display import never_raises
from wsstream.driver.options import ConnectionKeywords, ConnectionOptions
from wsstream.opening.handshake import validate_subprotocols
from wsstream.opening.headers import HeaderPairs
from wsstream.opening.url import parse_url
from wsstream.streams.websocket import WebSocketStream

__all__ = ["Attempts", "ConnectOptions", "Source", "Target"]

_DEFAULTS = ConnectionOptions()


class ConnectOptions(ConnectionKeywords, total=False):
    """The options of :func:`~wsstream.connect`, for more than one connection.

    They are the same, except that `transport` must be a function: a stream is one connection.
    """

    subprotocols: Iterable[str]
    headers: HeaderPairs | None
    origin: str | None
    ssl: ssl_module.SSLContext | None
    server_hostname: str | None
    proxy: str | None
    proxy_headers: HeaderPairs | None
    transport: OpenStream | None
    max_redirects: int


class Target:
    """The URL and the options of one attempt of :func:`reconnect`.

    Args:
        url: as for :func:`connect`.
        options: options of :func:`connect` that replace those of :func:`reconnect` for this attempt, such as
            ``headers={"Authorization": ...}``.

    Raises:
        TypeError, InvalidURL: `url` is not a WebSocket URL.
    """

    def __init__(self, url: str, **options: Unpack[ConnectOptions]) -> None:
        self.shown = parse_url(url).shown
        self.url = url
        self.options = options

    @never_raises
    def __repr__(self) -> str:
        return f"<Target {self.shown}>"


Source: TypeAlias = Callable[[], str | Target | Awaitable[str | Target]]


class Attempts:
    """Makes attempts to connect. All arguments are checked when it is made, before any I/O.

    Attributes:
        shown: the URL of the last attempt, for errors and logs.
        asking: whether the last attempt is still waiting for the application to return its URL.
    """

    def __init__(self, source: str | Source, options: ConnectOptions) -> None:
        if not isinstance(source, str) and not callable(source):
            raise TypeError(f"url must be a str or a function that returns one, got {type(source).__name__}")
        self._source = source
        self._options = options = _repeatable(options)
        self.shown = "the next URL"
        self.asking = False
        connect(source if isinstance(source, str) else "wss://localhost/", **options)  # checks the options

    async def open(self) -> WebSocketStream:
        """Make an attempt, and return an open connection. If cancelled, nothing is left of the attempt.

        Raises:
            Exception: as :func:`connect`, or as the function that returns URLs.
        """
        target = await self._next_target()
        self.shown = target.shown
        options: ConnectOptions = {**self._options, **target.options}
        return await connect(target.url, **options).__aenter__()

    async def _next_target(self) -> Target:
        given = self._source if isinstance(self._source, str) else await self._ask(self._source)
        if isinstance(given, str):
            return Target(given)
        if not isinstance(given, Target):
            raise TypeError(f"url must return a str or a Target, got {type(given).__name__}")
        return given

    async def _ask(self, source: Source) -> str | Target:
        timeout = self._options.get("open_timeout", _DEFAULTS.open_timeout)
        self.asking = True
        with anyio.move_on_after(timeout):
            given = source()
            if inspect.isawaitable(given):
                given = await given
            self.asking = False
            return given
        self.asking = False
        raise TimeoutError(f"no URL from the function that returns it within {timeout:g} s")


def _repeatable(options: ConnectOptions) -> ConnectOptions:
    """`options` without iterators, which could be used only once."""
    options = options.copy()
    if "subprotocols" in options:
        options["subprotocols"] = validate_subprotocols(options["subprotocols"])
    if isinstance(headers := options.get("headers"), Iterator):
        options["headers"] = list(headers)
    if isinstance(headers := options.get("proxy_headers"), Iterator):
        options["proxy_headers"] = list(headers)
    return options
