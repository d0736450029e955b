"""Running the application's handler with each open connection of a server."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import TypeAlias

from wsstream.server.connection_log import ConnectionName, log, log_end
from wsstream.streams.close_on_exit import Verdict, in_cancelled_scope, judge, leave, program_end
from wsstream.streams.websocket import WebSocketStream, ending_of
from wsstream.transports.eventloop import event_loop

__all__ = ["Handler", "HandlerRunner"]

Handler: TypeAlias = Callable[[WebSocketStream], Awaitable[object]]


class HandlerRunner:
    """Runs the application's handler, closes the connection when it ends, and logs how it ended.

    Args:
        handler: the application's.
        all_cancelled: whether all tasks are being cancelled, as when a program ends. Then the cancellation
            of a handler is not a failure.

    Attributes:
        connections: those whose handlers run.
        close_with: the code with which connections are closed as soon as they open; ``None``: they are not.
    """

    def __init__(self, handler: Handler, all_cancelled: Callable[[], bool]) -> None:
        self.connections: set[WebSocketStream] = set()
        self._handler = handler
        self._all_cancelled = all_cancelled
        self._now = event_loop().clock()
        self.close_with: int | None = None

    async def run(self, ws: WebSocketStream) -> None:
        """Run the handler with one connection, which is closed when this returns, raises or is cancelled.

        Raises:
            KeyboardInterrupt, SystemExit: the handler raised this, perhaps in a group. All else it raises is
                logged here.
        """
        self.connections.add(ws)
        opened, reason = self._now(), None
        if self.close_with is not None:
            ending_of(ws).close(self.close_with, "")
        try:
            try:
                await _awaitable(self._handler(ws))
            except BaseException as error:
                verdict = judge(error)
                reason = None if verdict.failed or verdict.cancelled else verdict.decided_by
                await self._end_after(ws, error, verdict)
            else:
                await leave(ending_of(ws), None)
        finally:
            self.connections.discard(ws)
            log_end(ws, self._now() - opened, reason)

    async def _end_after(self, ws: WebSocketStream, error: BaseException, verdict: Verdict) -> None:
        if verdict.failed:
            log.error("%s: the handler failed", ConnectionName(ws), cause=error)
        await leave(ending_of(ws), error)
        if (end := program_end(error)) is not None:
            raise end from None
        if verdict.cancelled and not (verdict.failed or in_cancelled_scope() or self._all_cancelled()):
            text = "%s: the handler was cancelled by something other than the server"
            log.error(text, ConnectionName(ws), cause=error)


def _awaitable(result: Awaitable[object]) -> Awaitable[object]:
    if type(result) is not CoroutineType and not inspect.isawaitable(result):
        kind = None if result is None else type(result).__name__
        raise TypeError(f'the handler returned {kind}: is it "async def"?')
    return result
