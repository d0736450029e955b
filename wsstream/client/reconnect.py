"""`reconnect`: opening one connection after another, as long as the application wants one."""

from __future__ import annotations

import ssl as ssl_module
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from math import inf
from types import MappingProxyType
from typing import Unpack

import anyio

from wsstream.client.attempts import Attempts, ConnectOptions, Source
from wsstream.client.connector import is_stream
from wsstream.display import never_raises
from wsstream.errors import (
    ClosedLocally,
    ConnectionBroken,
    ConnectionClosed,
    HandshakeError,
    HandshakeRejected,
    ProxyError,
)
from wsstream.log import Log
from wsstream.opening.retry import (
    Backoff,
    Pauses,
    check_delay,
    check_pauses,
    code_may_change,
    pause_after_code,
    pause_after_response,
    socks_reply_may_change,
    status_may_change,
)
from wsstream.streams.block import AsyncLoop
from wsstream.streams.close_on_exit import leave
from wsstream.streams.websocket import WebSocketStream, ending_of

__all__ = ["reconnect"]

log = Log("wsstream.client")


def reconnect(
    url: str | Source,
    *,
    delays: Iterable[float] = Backoff(),
    retry: Callable[[Exception], bool | None] | None = None,
    healthy_after: float = 60,
    pauses: Pauses = MappingProxyType({}),
    **options: Unpack[ConnectOptions],
) -> AsyncIterator[WebSocketStream]:
    """``async for ws in reconnect(url)``: open a connection, and another one each time it has ended.

    Instead of a URL it takes a function that returns one for each attempt.

    The arguments are checked at once, before any I/O. Each turn of the loop gets an open
    :class:`WebSocketStream`. When the body ends, the loop closes the connection with 1000 if it is still
    open, waits, and connects until that succeeds. The loop ends only when the body leaves it, or with an
    error for which another attempt would not help. A body that leaves the loop (``break``, ``return``, an
    exception) keeps its connection open, so begin the body with ``async with ws``.

    The first attempt is made at once, each further one after the next of `delays`. They start again after a
    connection that lasted `healthy_after` seconds. The server may ask for more: if it closes a connection
    with 1012, the next attempt waits at least 5 to 30 seconds, with 1013 at least 30 to 120 (at random, see
    `pauses`). ``Retry-After`` is waited for before the delay, one hour at most.

    By default, these raise: close codes 1002, 1003, 1007, 1008 and 1010, unless this side closed first;
    statuses other than 408, 429 and 5xx, and also 501 and 505; a response that does not open a WebSocket; an
    invalid certificate, and TLS that the two sides cannot agree on. After anything else it tries again.

    If a call for the next connection is cancelled while it closes, waits or connects, it may be repeated: a
    closing handshake that was cut short has dropped TCP, the rest of the delay is still to be waited for, and
    an attempt that was cut short leaves nothing. After an error, the iterator has ended.

    Args:
        url: as for :func:`connect`; or a function, perhaps asynchronous, that returns a URL or a
            :class:`Target`. It is called once for each attempt, after the delay, and has `open_timeout`
            seconds of its own. An exception that it raises leaves the loop, unless `retry` returns ``True``
            for it.
        delays: seconds to wait before each further attempt. If they end, so do the attempts: the last
            error is raised. They may not be an iterator, as they are iterated again.
        retry: called with each error that prevented a connection, or the :class:`ConnectionClosed` with which
            one ended (:class:`ClosedLocally` if this side closed it). ``True`` tries again, ``False`` raises
            the error, ``None`` leaves the decision to the rules above. It must not block.
        healthy_after: seconds.
        pauses: other pauses after these close codes, as ``{code: (least, most)}`` in seconds; 1012 and 1013
            keep those above if they are not among them. With ``{1012: (0, 0)}`` only `delays` count: right
            where a server sends its clients away one by one, as :meth:`Server.drain` does, and another has
            taken its place.
        options: those of :func:`connect`; `transport` is a function that opens a stream for each attempt. A
            mapping for `headers` is read again for each attempt, so its values may change.

    Raises:
        InvalidURL, TypeError, ValueError, ImportError: as :func:`connect`, at once; from the loop, if a
            function returns a wrong value.
        OSError, HandshakeError: from the loop, as :func:`connect`.
        ConnectionClosed: from the loop: a connection ended, and by the rules above or `retry` no other
            follows. Mostly :class:`ConnectionBroken`, also after a clean end; its `code` says why.
        anyio.BusyResourceError: two tasks ask for the next connection.
    """
    if is_stream(options.get("transport")):
        raise TypeError("transport must be a function that opens a stream: a stream is one connection")
    if isinstance(delays, Iterator) or not isinstance(delays, Iterable):
        raise TypeError("delays must be a Backoff or a list, not an iterator: it is iterated several times")
    if retry is not None and not callable(retry):
        raise TypeError(f"retry must be a function or None, got {type(retry).__name__}")
    check_delay("healthy_after", healthy_after)
    return _Reconnect(Attempts(url, options), delays, retry, healthy_after, check_pauses(pauses))


class _Reconnect(AsyncLoop[WebSocketStream]):
    """Keeps all state in the object, not in a coroutine, so that a cancelled `__anext__` can be repeated."""

    use = "ws in reconnect(url)"

    def __init__(
        self,
        attempts: Attempts,
        delays: Iterable[float],
        retry: Callable[[Exception], bool | None] | None,
        healthy_after: float,
        pauses: Pauses,
    ) -> None:
        self._attempts = attempts
        self._delays = delays
        self._delays_left = iter(delays)
        self._retry = retry
        self._healthy_after = healthy_after
        self._pauses = pauses
        self._ws: WebSocketStream | None = None
        self._opened = -inf  # by anyio's clock, as is the next
        self._next_attempt = -inf
        self._ended = False
        self._guard = anyio.ResourceGuard("reconnecting")

    @never_raises
    def __repr__(self) -> str:
        between = "ended" if self._ended else "not connected"
        return f"<reconnect: {between if self._ws is None else repr(self._ws)}>"

    async def __anext__(self) -> WebSocketStream:
        with self._guard:
            if self._ws is not None:
                await self._end_turn(self._ws)
            while not self._ended:
                await anyio.sleep_until(self._next_attempt)
                try:
                    self._ws = await self._attempts.open()
                except Exception as error:
                    if not self._plan(error):
                        raise
                else:
                    self._opened = anyio.current_time()
                    return self._ws
            raise StopAsyncIteration

    async def _end_turn(self, ws: WebSocketStream) -> None:
        lasted = anyio.current_time() - self._opened
        await leave(ending_of(ws), None)
        error = await _how_it_ended(ws)
        self._ws = None
        if lasted >= self._healthy_after:
            self._delays_left = iter(self._delays)
        if not self._plan(error):
            error.add_note(f"This was the connection to {self._attempts.shown}.")
            raise error

    def _plan(self, error: Exception) -> bool:
        """Set the time of the next attempt, or return false if no other attempt is due."""
        self._ended = True  # also if a line below raises
        if not self._is_worth_it(error):
            return False
        delay = next(self._delays_left, None)
        if delay is None:
            return False
        check_delay("a delay", delay)
        wait = _wait(error, delay, self._pauses)
        log.info(
            "connecting to %s again in %s s after %s: %s",
            self._attempts.shown,
            f"{wait:.1f}",
            type(error).__name__,
            error,
        )
        self._next_attempt = anyio.current_time() + wait
        self._ended = False
        return True

    def _is_worth_it(self, error: Exception) -> bool:
        verdict = None if self._retry is None else self._retry(error)
        if verdict is None:
            return _may_change(error) and not self._attempts.asking
        if not isinstance(verdict, bool):
            raise TypeError(f"retry must return True, False or None, got {type(verdict).__name__}")
        return verdict


async def _how_it_ended(ws: WebSocketStream) -> ConnectionClosed:
    """The error that says how a closed connection ended; `ClosedLocally` if this side closed it."""
    try:
        info = await ws.wait_closed()
    except ConnectionBroken as error:
        if not ending_of(ws).begun_here:
            return error
        info = error.info
    if info.clean and not ending_of(ws).begun_here:
        return ConnectionBroken("the peer closed the connection", info)
    return ClosedLocally("the connection was closed on this side", info)


def _may_change(error: Exception) -> bool:
    """Whether another attempt may fare better."""
    match error:
        case ClosedLocally():
            return True
        case ConnectionClosed():
            return code_may_change(error.info.code)
        case HandshakeRejected(status=int(status)) | ProxyError(status=int(status)):
            return status_may_change(status)
        case HandshakeError():  # a wrong response does not change, one that was cut off may
            cut_off = isinstance(error.__cause__, OSError | EOFError | anyio.BrokenResourceError)
            return cut_off or socks_reply_may_change(getattr(error.__cause__, "error_code", None))
        case ssl_module.SSLError():
            return _tls_may_change(error)
        case _:
            return isinstance(error, OSError)


def _tls_may_change(error: ssl_module.SSLError) -> bool:
    """Whether TLS only broke off: it did not find that the two sides do not fit.

    The alert internal_error is "unrelated to the peer" (RFC 8446 section 6.2): some servers send it while
    they fetch their certificate.
    """
    broken = ssl_module.SSLEOFError | ssl_module.SSLZeroReturnError | ssl_module.SSLSyscallError
    return isinstance(error, broken) or (error.reason or "").endswith("ALERT_INTERNAL_ERROR")


def _wait(error: Exception, delay: float, pauses: Pauses) -> float:
    """Seconds to wait: `delay`, or more if the peer asks for more."""
    match error:
        case HandshakeRejected() | ProxyError():
            return pause_after_response(error.headers, time.time()) + delay
        case ConnectionBroken():
            return max(delay, pause_after_code(error.info.code, pauses))
        case _:
            return delay
