"""An ASGI application in memory, for its tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import anyio

from .lifespan import Lifespan
from .memory import MemoryStream, memory_pair

if TYPE_CHECKING:
    from wsstream.asgi.session import Session
    from wsstream.streams.websocket import WebSocketStream

__all__ = ["asgi_connect"]


@asynccontextmanager
async def asgi_connect(
    app: Any,
    path: str = "/",
    *,
    client: tuple[str, int] = ("127.0.0.1", 50000),
    root_path: str = "",
    state: Mapping[str, Any] | None = None,
    lifespan: Literal["auto", "on", "off"] = "auto",
    timeout: float | None = 30,
    **options: Any,
) -> AsyncIterator[WebSocketStream]:
    """``async with asgi_connect(app, "/chat") as ws``: a client of an ASGI application, without a network.

    The application runs in a task, behind the same opening handshake and with the same backpressure as under
    ``wsstream.asgi.UvicornProtocol``. Leaving the block closes with 1000 and waits until the application has
    ended. Its lifespan is around that, as a server runs it: startup before the block, shutdown after it.

    Args:
        app: the application: of Starlette, FastAPI, or any other of ASGI 3.
        path: of the request, with its query if it has one.
        client: the client's address in the scope.
        root_path: the path at which the application is mounted.
        state: the lifespan's state before startup, or instead of a lifespan.
        lifespan: as uvicorn's option: ``"auto"`` runs it, and goes on without one if the application raises
            before it has answered to startup; with ``"on"`` it has to answer; ``"off"`` runs none.
        timeout: seconds for all of it: startup, the block, the end of the application; ``None``: no limit.
        options: keyword arguments of :func:`wsstream.connect`.

    Raises:
        Exception: what the application raised; not if it only says that the client has left, with the `code`
            of ``websocket.disconnect``. If the block has raised something of its own, that, with a note.
        Exception: on entering: what the application raised in startup, after ``lifespan.startup.failed``.
        RuntimeError: the application said that startup or shutdown failed, and raised nothing; or a message
            that it sent had no place there.
        HandshakeRejected: on entering: the application denied the WebSocket; with its response.
        TimeoutError: `timeout` has passed. The application was cancelled.
        TypeError, ValueError: on entering: an argument of :func:`wsstream.connect`, or `lifespan`, is wrong.
    """
    from wsstream.client.connect import connect
    from wsstream.errors import WebSocketError

    own, servers = memory_pair()
    life = Lifespan(app, dict(state or {}), lifespan)
    scope = {"root_path": root_path, "client": list(client), "server": ["testserver", 80]}
    application = _Application(app, servers, scope)
    failure: Exception | None = None
    with anyio.CancelScope() as limit:
        if timeout is not None:
            limit.deadline = anyio.current_time() + timeout
        async with life.around() as state_now, own, servers, anyio.create_task_group() as group:
            group.start_soon(application.run, state_now)
            try:
                async with connect(f"ws://testserver{path}", transport=own, **options) as ws:
                    yield ws
            except Exception as error:
                failure = error
            application.session.opening.peer_left()
    if limit.cancelled_caught:
        raise TimeoutError(f"the block and the application did not end within {timeout} s")
    raised = application.error or life.error
    if raised is not None and (failure is None or isinstance(failure, WebSocketError)):
        raise raised
    if failure is not None:
        if raised is not None:
            failure.add_note(f"The application raised {raised!r}.")
        raise failure


class _Application:
    """Runs an application with one client.

    Attributes:
        session: its connection.
        error: what it raised.
    """

    def __init__(self, app: Any, stream: MemoryStream, scope: dict[str, Any]) -> None:
        from wsstream.asgi.session import Session
        from wsstream.driver.options import ConnectionOptions
        from wsstream.transports.anyio_stream import StreamTransport

        self._app = app
        self._scope = scope
        self._transport = StreamTransport(stream)
        options = ConnectionOptions(max_message_size=2**24)  # uvicorn's default
        self.session: Session = Session(self._transport, tuple(scope["client"]), options)
        self.error: Exception | None = None

    async def run(self, state: Mapping[str, Any]) -> None:
        """Run it for one client; it gets a copy of the lifespan's `state`, as from a server."""
        self._scope["state"] = dict(state)
        from wsstream.errors import HandshakeError
        from wsstream.opening.handshake_server import RequestRejected

        try:
            while not self.session.opening.advance():
                await self._transport.wait_readable()
        except RequestRejected as rejected:
            await self.session.opening.reject(rejected)
        except (HandshakeError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._transport.close()
        else:
            await self._run()

    async def _run(self) -> None:
        from wsstream.asgi.scope import websocket_scope

        assert self.session.opening.request is not None
        try:
            await self.session.run(
                self._app, websocket_scope(self.session.opening.request, scheme="ws", **self._scope)
            )
        except Exception as error:
            if not self.session.says_client_left(error):
                self.error = error
