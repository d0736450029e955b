"""Opening connections without async: `connect` and `reconnect`."""

from __future__ import annotations

import inspect
import ssl as ssl_module
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import MappingProxyType, TracebackType
from typing import TypeAlias, Unpack

from anyio import to_thread

from wsstream import Backoff, Target
from wsstream.client.connect import connect as async_connect
from wsstream.client.reconnect import reconnect as async_reconnect
from wsstream.display import never_raises
from wsstream.driver.options import ConnectionKeywords
from wsstream.opening.headers import HeaderPairs
from wsstream.opening.retry import Pauses
from wsstream.streams.websocket import WebSocketStream as AsyncWebSocket
from wsstream.sync.background import Background, background
from wsstream.sync.block import Block
from wsstream.sync.link import Link
from wsstream.sync.websocket import WebSocketStream

__all__ = ["ConnectOptions", "connect", "reconnect"]

Source: TypeAlias = Callable[[], str | Target]


class ConnectOptions(ConnectionKeywords, total=False):
    """The options of :func:`wsstream.connect`, but `transport`, which is an asynchronous stream."""

    subprotocols: Iterable[str]
    headers: HeaderPairs | None
    origin: str | None
    ssl: ssl_module.SSLContext | None
    server_hostname: str | None
    proxy: str | None
    proxy_headers: HeaderPairs | None
    max_redirects: int


def connect(url: str, **options: Unpack[ConnectOptions]) -> AbstractContextManager[WebSocketStream]:
    """``with connect(url) as ws``: open a connection, and close it when the block is left.

    The arguments, when they are checked, how the block ends the connection and what is raised are those of
    :func:`wsstream.connect`. Ctrl-C while it opens leaves nothing; in the block it closes with 1001.

    Raises:
        InvalidURL, TypeError, ValueError, ImportError: at once, as there.
        OSError, TimeoutError, HandshakeError: on entering, as there.
        RuntimeError: on entering: the program is ending.
    """
    _check_no_transport(options)
    return _Connect(async_connect(url, **options))


def _check_no_transport(options: object) -> None:
    if isinstance(options, dict) and "transport" in options:
        raise TypeError("transport is an asynchronous stream, and cannot be used without async")


class _Connect(Block[WebSocketStream]):
    use = "connect(url) as ws"

    def __init__(self, block: AbstractAsyncContextManager[AsyncWebSocket]) -> None:
        self._block = block
        self._link: Link | None = None
        self._ws: WebSocketStream | None = None

    @never_raises
    def __repr__(self) -> str:
        return repr(self._block)

    def __enter__(self) -> WebSocketStream:
        self.enter_once()
        loop = background()
        try:
            loop.call(lambda: self._open(loop))
            assert self._link is not None
            self._ws = WebSocketStream(self._link)
        except BaseException:
            if self._link is not None:  # Ctrl-C came at the last moment
                self._link.abort()
            raise
        return self._ws

    async def _open(self, loop: Background) -> None:
        self._link = Link(loop, await self._block.__aenter__())

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._link is not None
        self._link.leave(exc)


def reconnect(
    url: str | Source,
    *,
    delays: Iterable[float] = Backoff(),
    retry: Callable[[Exception], bool | None] | None = None,
    healthy_after: float = 60,
    pauses: Pauses = MappingProxyType({}),
    **options: Unpack[ConnectOptions],
) -> Iterator[WebSocketStream]:
    """``for ws in reconnect(url)``: open a connection, and another one each time it has ended.

    The arguments, the rules and what is raised are those of :func:`wsstream.reconnect`. A function that
    returns URLs runs in a worker thread, so it may block; `retry` runs in the event loop and must not. Begin
    the body with ``with ws``, which closes the connection also if the body leaves the loop. After Ctrl-C in a
    wait, the next turn may be asked for again.

    Raises:
        InvalidURL, TypeError, ValueError, ImportError: at once, or from the loop, as there.
        OSError, HandshakeError, ConnectionClosed: from the loop, as there.
        anyio.BusyResourceError: two threads ask for the next connection.
    """
    _check_no_transport(options)
    source = url if isinstance(url, str) or not callable(url) else _in_worker_thread(url)
    return _Reconnect(
        async_reconnect(
            source, delays=delays, retry=retry, healthy_after=healthy_after, pauses=pauses, **options
        )
    )


def _in_worker_thread(source: Source) -> Callable[[], Awaitable[str | Target]]:
    if inspect.iscoroutinefunction(source):
        raise TypeError("url must be a str or a plain function, got an async one")

    async def next_url() -> str | Target:
        return await to_thread.run_sync(source, abandon_on_cancel=True)

    return next_url


class _Reconnect(Iterator[WebSocketStream]):
    def __init__(self, connections: AsyncIterator[AsyncWebSocket]) -> None:
        self._connections = connections
        self._link: Link | None = None
        self._handed_out = True

    @never_raises
    def __repr__(self) -> str:
        return repr(self._connections)

    def __next__(self) -> WebSocketStream:
        loop = background()
        if self._handed_out:
            loop.call(lambda: self._next(loop))
        if self._link is None:
            raise StopIteration
        self._handed_out = True
        return WebSocketStream(self._link)

    async def _next(self, loop: Background) -> None:
        if self._link is not None:
            await self._link.hand_over()
        try:
            ws = await anext(self._connections)
        except StopAsyncIteration:
            self._link = None
            return
        self._link = Link(loop, ws)
        self._handed_out = False  # until a thread has it: the call may have been interrupted
