"""``wsstream bridge``: opens both ends and joins them, once or for each connection that comes in."""

from __future__ import annotations

import argparse
from functools import partial

import anyio
from anyio.abc import ByteStream

from wsstream.cli.bridge.ends import (
    OFFERED,
    SUBPROTOCOLS,
    End,
    Listening,
    Open,
    Standard,
    WebSocketURL,
    byte_stream_of,
    opener,
    parse_end,
)
from wsstream.cli.bridge.listen import serve_streams
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.failures import failure_of, reason_of
from wsstream.cli.opening import Dial, dial_of
from wsstream.cli.report import Reporter
from wsstream.cli.running import run_command
from wsstream.cli.serving import listening
from wsstream.cli.signals import Stopping
from wsstream.close_codes import CloseCode
from wsstream.errors import ConnectionClosed, WebSocketError
from wsstream.streams.join import join
from wsstream.streams.websocket import WebSocketStream

__all__ = ["bridge_command"]


def bridge_command(options: argparse.Namespace) -> int:
    """Run ``wsstream bridge`` and return the exit status.

    Raises:
        CommandFailed: the ends do not go together, one could not be opened, or the connection broke.
    """
    ends = [parse_end(options.a), parse_end(options.b)]
    incoming = [end for end in ends if isinstance(end, Listening)]
    if len(incoming) == 2 or ends[0] == ends[1] == Standard():
        raise CommandFailed(Exit.USAGE, "one end may listen, and one may be stdio")
    if incoming:
        ends.sort(key=lambda end: not isinstance(end, Listening))
        options.once = options.once or isinstance(ends[1], Standard)
    # The token and the certificate belong to the WebSockets that come in, if some do.
    serves = bool(incoming) and incoming[0].websocket
    bridge = _Bridge(options, [_dial(options, end, with_token=not serves) for end in ends], ends)
    return run_command(options, bridge.listen if incoming else bridge.connect)


def _dial(options: argparse.Namespace, end: End, *, with_token: bool) -> Dial | None:
    if not isinstance(end, WebSocketURL):
        return None
    return dial_of(options, end.url, OFFERED, with_token=with_token)


class _Bridge:
    def __init__(self, options: argparse.Namespace, dials: list[Dial | None], ends: list[End]) -> None:
        self._options = options
        self._reporter = Reporter(options)
        self._websockets: set[WebSocketStream] = set()  # those that this process opened
        self._ends = ends
        self._opens = [opener(end, dial, self._websockets) for end, dial in zip(ends, dials, strict=True)]
        self._status: BaseException | None = None  # of the one connection of --once

    # -- both ends are opened here -----------------------------------------------------------

    async def connect(self, stopping: Stopping) -> int:
        """Open both ends and join them."""
        first, second = self._opens
        if isinstance(self._ends[0], Standard):  # what is piped in waits until the other end is open
            first, second = second, first
        try:
            async with first() as a, second() as b:
                with stopping.by(partial(self._stop, stopping)):
                    broken = await join(a, b)
        except (ConnectionClosed, anyio.ClosedResourceError):
            stopping.check()
            raise
        stopping.check()
        if broken is not None:
            raise broken
        return Exit.OK

    def _stop(self, stopping: Stopping) -> None:
        """Close the WebSockets with 1001. Whatever has none is cancelled."""
        for ws in self._websockets:
            ws.begin_close(CloseCode.GOING_AWAY, stopping.reason)
        if not self._websockets:
            stopping.cancel()

    # -- one end listens ---------------------------------------------------------------------

    async def listen(self, stopping: Stopping) -> int:
        """Join each connection that comes in with one of its own at the other end."""
        end = self._ends[0]
        assert isinstance(end, Listening)
        if end.websocket:
            await self._listen_for_websockets(end, stopping)
        else:
            await serve_streams(
                self._options, end.bind, self._carry_stream, stopping, partial(self._stop_all, stopping)
            )
        if self._options.once and stopping.number is None and self._status is not None:
            raise self._status
        return Exit.OK

    async def _listen_for_websockets(self, end: Listening, stopping: Stopping) -> None:
        ended = anyio.Event()

        async def handle(ws: WebSocketStream) -> None:
            try:
                await self._carry_websocket(ws)
            finally:
                if self._options.once:
                    ended.set()

        names = [name for name in self._options.subprotocols if name] or SUBPROTOCOLS
        async with listening(self._options, handle, [end.bind], path=end.path, subprotocols=names):
            with stopping.by(ended.set):
                await ended.wait()

    def _stop_all(self, stopping: Stopping) -> None:
        for ws in self._websockets:
            ws.begin_close(CloseCode.GOING_AWAY, stopping.reason)

    async def _carry_websocket(self, ws: WebSocketStream) -> None:
        """Join a WebSocket that came in with the other end. If that cannot be reached, it gets 1014.

        Raises:
            WebSocketError: the other end could not be opened.
        """
        try:
            async with self._opens[1]() as other:
                self._note_end(await join(byte_stream_of(ws), other))
        except ConnectionClosed as error:  # a signal closed one of the two
            self._note_end(error)
        except (OSError, WebSocketError) as error:
            self._note_end(error)
            raise WebSocketError(code=CloseCode.BAD_GATEWAY, reason="the target cannot be reached") from error

    async def _carry_stream(self, stream: ByteStream) -> None:
        """Join a stream that came in with the other end. Raises nothing that one connection can cause."""
        try:
            await self._join_with_other(stream)
        except Exception as error:
            failure = failure_of(reason_of(error) if isinstance(error, BaseExceptionGroup) else error)
            if not isinstance(failure, CommandFailed | anyio.ClosedResourceError):
                raise
            self._note_end(failure)

    async def _join_with_other(self, stream: ByteStream) -> None:
        opening: Open = self._opens[1]
        async with stream, opening() as other:
            self._note_end(await join(stream, other))

    def _note_end(self, error: BaseException | None) -> None:
        """Report how one connection ended."""
        self._status = error
        if error is not None:
            failure = failure_of(error)
            self._reporter.note("broken", f"a connection ended: {failure}", message=str(failure))
