"""Handlers in threads, for the server in the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from math import inf
from typing import TypeAlias

from anyio import CapacityLimiter, to_thread

from wsstream.opening.decision import Decision
from wsstream.opening.http import Request
from wsstream.streams.websocket import WebSocketStream as AsyncWebSocket
from wsstream.sync.background import Background
from wsstream.sync.link import Link
from wsstream.sync.websocket import WebSocketStream

__all__ = ["Handler", "Handlers"]

Handler: TypeAlias = Callable[[WebSocketStream], object]

_DECIDING = 32  # threads that run process_request at once


class Handlers:
    """Runs handlers in threads."""

    def __init__(
        self,
        handler: Handler,
        process_request: Callable[[Request], Decision] | None,
        max_connections: int | None,
    ) -> None:
        self.connections: set[WebSocketStream] = set()
        self.stopped_by: BaseException | None = None
        self.stop: Callable[[], object] = lambda: None
        self._handler = handler
        self._process_request = process_request
        self._max_connections = max_connections
        self._threads: set[int] = set()

    def start(self, loop: Background) -> None:
        """The block was entered, in this thread. Called there."""
        self._loop = loop
        self._context = copy_context()

    def make_limits(self) -> None:
        """In the event loop."""
        self._running = CapacityLimiter(self._max_connections or inf)
        self._deciding = CapacityLimiter(_DECIDING)

    def raise_error(self) -> None:
        """Raise what a handler ended the server with, once."""
        if (error := self.stopped_by) is not None:
            self.stopped_by = None
            raise error

    @property
    def in_handler(self) -> bool:
        """Whether this thread is a handler's."""
        return threading.get_ident() in self._threads

    async def run(self, ws: AsyncWebSocket) -> None:
        """The handler for the asynchronous server."""
        link = Link(self._loop, ws, closed_elsewhere=True)
        stream = WebSocketStream(link)
        self.connections.add(stream)
        try:
            await to_thread.run_sync(self._call, stream, abandon_on_cancel=True, limiter=self._running)
            await link.hand_over()
        finally:
            self.connections.discard(stream)

    def _call(self, stream: WebSocketStream) -> None:
        thread = threading.get_ident()
        self._threads.add(thread)
        try:
            self._context.copy().run(self._handler, stream)
        except (SystemExit, KeyboardInterrupt) as error:  # it must not end the event loop
            self.stopped_by = error
            self.stop()
        finally:
            self._threads.discard(thread)

    async def decide(self, request: Request) -> Decision:
        """The ``process_request`` for the asynchronous server."""
        function, context = self._process_request, self._context.copy()
        assert function is not None

        def call() -> Decision:
            return context.run(function, request)

        return await to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._deciding)
