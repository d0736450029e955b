"""One session of an ASGI server, in memory: how it opens, and how the server and the client end it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from wsstream import HandshakeError, HandshakeRejected, connect
from wsstream.asgi import ClientDisconnected
from wsstream.asgi.opening import MAX_DENIAL, Stage
from wsstream.asgi.session import Session
from wsstream.driver.options import ConnectionOptions
from wsstream.testing import memory_pair
from wsstream.transports.anyio_stream import StreamTransport

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]
ACCEPT = {"type": "websocket.accept"}
Application = Callable[[Any, Any, Any], Awaitable[None]]


class Serving:
    """A session that runs an application, and the client's end of the connection."""

    def __init__(self, app: Application) -> None:
        self.own, theirs = memory_pair()
        self.transport = StreamTransport(theirs)
        self.session = Session(self.transport, ("127.0.0.1", 1), ConnectionOptions())
        self.scope = anyio.CancelScope()
        self._app = app

    async def run(self) -> None:
        with self.scope:
            while not self.session.opening.advance():
                await self.transport.wait_readable()
            await self.session.run(self._app, {"extensions": {}})

    def connect(self) -> Any:
        return connect("ws://server/", transport=self.own)


@asynccontextmanager
async def serving(app: Application) -> AsyncIterator[Serving]:
    server = Serving(app)
    async with server.own, anyio.create_task_group() as group:
        group.start_soon(server.run)
        yield server
        server.session.opening.peer_left()


async def idle(scope: Any, receive: Any, send: Any) -> None:
    await send(ACCEPT)
    await anyio.sleep_forever()


async def test_a_session_that_is_cancelled_closes_with_1001() -> None:
    async with serving(idle) as server, server.connect() as ws:
        server.scope.cancel()
        assert (await ws.wait_closed()).code == 1001


class Scripted:
    """An application that sends what it is told to, and notes what it receives."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages
        self.told: list[Any] = []
        self.go_on = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.go_on.wait()
        for message in self.messages:
            await send(message)
        while not self.told or self.told[-1]["type"] != "websocket.disconnect":
            self.told.append(await receive())


DISCONNECTED_AT_RESTART = [
    {"type": "websocket.connect"},
    {"type": "websocket.disconnect", "code": 1012, "reason": ""},
]


async def test_a_restart_closes_with_1012_and_tells_the_application() -> None:
    app = Scripted(ACCEPT)
    app.go_on.set()
    async with serving(app) as server, server.connect() as ws:
        assert server.session.restart() is None
        assert (await ws.wait_closed()).code == 1012
    assert app.told == DISCONNECTED_AT_RESTART


async def test_an_application_that_accepts_while_the_server_restarts_is_closed_with_1012() -> None:
    app = Scripted(ACCEPT)
    async with serving(app) as server, anyio.create_task_group() as group:
        group.start_soon(_see_1012, server)
        while server.session.opening.request is None:
            await anyio.sleep(0.1)
        assert server.session.restart() is not None
        app.go_on.set()
    assert app.told == DISCONNECTED_AT_RESTART


async def _see_1012(server: Serving) -> None:
    async with server.connect() as ws:
        assert (await ws.wait_closed()).code == 1012


async def test_a_request_that_waits_at_a_restart_is_answered_with_500() -> None:
    app = Scripted()

    async def restart(server: Serving) -> None:
        while server.session.opening.request is None:
            await anyio.sleep(0.1)
        respond = server.session.restart()
        assert respond is not None
        await respond()
        app.go_on.set()

    async with serving(app) as server, anyio.create_task_group() as group:
        group.start_soon(restart, server)
        with pytest.raises(HandshakeRejected) as rejected:
            async with server.connect():
                raise AssertionError
    assert rejected.value.status == 500


async def test_a_restart_before_the_request_drops_the_connection() -> None:
    server = Serving(idle)
    assert server.session.restart() is None
    with pytest.raises((HandshakeError, OSError, anyio.BrokenResourceError)):
        async with server.connect():
            raise AssertionError


async def test_a_client_that_left_is_told_as_1006_and_what_is_sent_then_raises() -> None:
    app, errors = Scripted(), []

    async def send_late(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        try:
            await send(ACCEPT)
        except OSError as error:
            errors.append(type(error))

    async with serving(send_late) as server:
        server.session.opening.peer_left()
        app.go_on.set()
        await server.session.run(send_late, {"extensions": {}})
        server.scope.cancel()
    assert app.told[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    assert errors == [ClientDisconnected]


async def test_the_body_of_a_denial_is_bounded() -> None:
    body = {"type": "websocket.http.response.body", "body": bytes(MAX_DENIAL), "more_body": True}
    app = Scripted({"type": "websocket.http.response.start", "status": 503}, body, {**body, "body": b"x"})
    app.go_on.set()
    server = Serving(app)
    with pytest.raises(HandshakeRejected) as rejected:
        async with server.own, anyio.create_task_group() as group:
            failed: list[BaseException] = []

            async def run() -> None:
                try:
                    await server.run()
                except RuntimeError as error:
                    failed.append(error)

            group.start_soon(run)
            try:
                async with server.connect():
                    raise AssertionError
            except HandshakeRejected as error:
                caught = error
        raise caught
    assert rejected.value.status == 500
    assert "a body of more than 1048576 bytes" in str(failed[0])
    assert server.session.opening.stage is Stage.DONE
