"""Running the application's handler with each open connection of a server."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from wsstream.log import Log
from wsstream.server.upgrade import client_name
from wsstream.streams.leaving import in_cancelled_scope, judge, leave, program_end
from wsstream.streams.websocket import WebSocketStream, ending_of

__all__ = ["Handler", "Handling"]

Handler: TypeAlias = Callable[[WebSocketStream], Awaitable[object]]

log = Log("wsstream.server")


class Handling:
    """Runs a handler, closes the connection when it ends, and says in the log how it ended.

    Args:
        handler: the application's.
        all_cancelled: whether all tasks are being cancelled, as when a program ends. Then that one is, is no
            failure.

    Attributes:
        connections: those whose handlers run.
    """

    def __init__(self, handler: Handler, all_cancelled: Callable[[], bool]) -> None:
        self.connections: set[WebSocketStream] = set()
        self._handler = handler
        self._all_cancelled = all_cancelled

    async def run(self, ws: WebSocketStream) -> None:
        """Run the handler with one connection. Whatever it raises is judged here.

        Raises:
            KeyboardInterrupt, SystemExit: as the handler did, perhaps in a group.
        """
        self.connections.add(ws)
        log.info("%s: open", _Name(ws))
        try:
            try:
                await _awaitable(self._handler(ws))
            except BaseException as error:
                await self._left_by(ws, error)
            else:
                await leave(ending_of(ws), None)
        finally:
            self.connections.discard(ws)
            log.info("%s: closed, %s", _Name(ws), ws.close_info)

    async def _left_by(self, ws: WebSocketStream, error: BaseException) -> None:
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
    """A connection in a log line; put into words only if the line is wanted."""

    __slots__ = ("_ws",)

    def __init__(self, ws: WebSocketStream) -> None:
        self._ws = ws

    def __str__(self) -> str:
        ws = self._ws
        return f"connection {ws.id} ({client_name(ws.request.peer, ws.request)})"


def _awaitable(result: Awaitable[object]) -> Awaitable[object]:
    if not inspect.isawaitable(result):
        kind = None if result is None else type(result).__name__
        raise TypeError(f'the handler returned {kind}: is it "async def"?')
    return result
