"""Running the application's handler with each open connection of a server."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import TypeAlias

from wsstream.log import Log
from wsstream.streams.close_on_exit import in_cancelled_scope, judge, leave, program_end
from wsstream.streams.websocket import WebSocketStream, ending_of
from wsstream.upgrade.client_name import client_name

__all__ = ["Handler", "HandlerRunner"]

Handler: TypeAlias = Callable[[WebSocketStream], Awaitable[object]]

log = Log("wsstream.server")


class HandlerRunner:
    """Runs the application's handler, closes the connection when it ends, and logs how it ended.

    Args:
        handler: the application's.
        all_cancelled: whether all tasks are being cancelled, as when a program ends. Then the cancellation
            of a handler is not a failure.

    Attributes:
        connections: those whose handlers run.
    """

    def __init__(self, handler: Handler, all_cancelled: Callable[[], bool]) -> None:
        self.connections: set[WebSocketStream] = set()
        self._handler = handler
        self._all_cancelled = all_cancelled

    async def run(self, ws: WebSocketStream) -> None:
        """Run the handler with one connection, which is closed when this returns, raises or is cancelled.

        Raises:
            KeyboardInterrupt, SystemExit: the handler raised this, perhaps in a group. All else it raises is
                logged here.
        """
        self.connections.add(ws)
        log.info("%s: open", _Name(ws))
        try:
            try:
                await _awaitable(self._handler(ws))
            except BaseException as error:
                await self._end_after(ws, error)
            else:
                await leave(ending_of(ws), None)
        finally:
            self.connections.discard(ws)
            log.info("%s: closed, %s", _Name(ws), ws.close_info)

    async def _end_after(self, ws: WebSocketStream, error: BaseException) -> None:
        verdict = judge(error)
        if verdict.failed:
            log.error("%s: the handler failed", _Name(ws), cause=error)
        elif not verdict.cancelled:
            log.info("%s: %s", _Name(ws), verdict.decided_by)
        await leave(ending_of(ws), error)
        if (end := program_end(error)) is not None:
            raise end from None
        if verdict.cancelled and not (verdict.failed or in_cancelled_scope() or self._all_cancelled()):
            text = "%s: the handler was cancelled by something other than the server"
            log.error(text, _Name(ws), cause=error)


class _Name:
    """A connection in a log line; the text is made only if the line is wanted."""

    __slots__ = ("_ws",)

    def __init__(self, ws: WebSocketStream) -> None:
        self._ws = ws

    def __str__(self) -> str:
        ws = self._ws
        return f"connection {ws.id} ({client_name(ws.request.peer, ws.request)})"


def _awaitable(result: Awaitable[object]) -> Awaitable[object]:
    if type(result) is not CoroutineType and not inspect.isawaitable(result):
        kind = None if result is None else type(result).__name__
        raise TypeError(f'the handler returned {kind}: is it "async def"?')
    return result
