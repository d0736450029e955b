"""`asgi_connect` runs the lifespan of an application around the block, as servers do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from wsstream.testing import asgi_connect

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]
COMPLETE = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


class Scripted:
    """An application whose lifespan sends and raises what it is told to, and whose WebSockets echo."""

    def __init__(self, *script: dict[str, Any] | Exception) -> None:
        self.script = script
        self.heard: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in self.script:
                self.heard.append((await receive())["type"])
                if isinstance(step, Exception):
                    raise step
                await send(step)
        else:
            await send({"type": "websocket.accept"})
            self.heard.append("websocket")
            while (await receive())["type"] != "websocket.disconnect":
                pass
            self.heard.append("disconnect")


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
async def test_startup_comes_before_the_block_and_shutdown_after_it(framework: Any) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
        events.append("startup")
        yield {"database": "open"}
        events.append("shutdown")

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.database)
        await websocket.receive()  # disconnect
        events.append("disconnect")

    app = framework(lifespan=lifespan, routes=[WebSocketRoute("/", endpoint)])
    async with asgi_connect(app) as ws:
        assert events == ["startup"]
        assert await ws.receive() == "open"
    assert events == ["startup", "disconnect", "shutdown"]


async def test_an_error_of_startup_is_raised_and_the_block_never_runs() -> None:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        raise LookupError("no database")
        yield

    with pytest.raises(LookupError, match="no database"):
        async with asgi_connect(Starlette(lifespan=lifespan)):
            raise AssertionError


async def test_startup_that_is_said_to_have_failed_is_raised() -> None:
    app = Scripted({"type": "lifespan.startup.failed", "message": "no database"}, STOPPED)
    with pytest.raises(RuntimeError, match=r"^lifespan.startup.failed: no database$"):
        async with asgi_connect(app):
            raise AssertionError


@pytest.mark.parametrize(
    ("last", "error"),
    [
        ({"type": "lifespan.shutdown.failed", "message": "lost"}, "^lifespan.shutdown.failed: lost$"),
        (KeyError("own"), "own"),
        ({"type": "websocket.accept"}, "'websocket.accept' is not what a lifespan can send now"),
    ],
    ids=["failed", "raised", "not known"],
)
async def test_an_error_of_shutdown_is_raised_after_the_block(last: Any, error: str) -> None:
    app = Scripted(COMPLETE, last)
    with pytest.raises((RuntimeError, KeyError), match=error):
        async with asgi_connect(app):
            pass
    assert app.heard == ["lifespan.startup", "websocket", "disconnect", "lifespan.shutdown"]


async def test_what_the_block_raises_comes_before_an_error_of_shutdown() -> None:
    with pytest.raises(AssertionError, match="the test's") as raised:
        async with asgi_connect(Scripted(COMPLETE, KeyError("own"))):
            raise AssertionError("the test's")
    assert raised.value.__notes__ == ["The application raised KeyError('own')."]


@pytest.mark.parametrize("script", [(), (TypeError("scope"),), (COMPLETE,), (COMPLETE, STOPPED)])
async def test_an_application_without_a_lifespan_or_with_a_half_one_works(script: Any) -> None:
    app = Scripted(*script)
    async with asgi_connect(app) as ws:
        await ws.send("x")
    assert app.heard[-1] == ("lifespan.shutdown" if STOPPED in script else "disconnect")


@pytest.mark.parametrize(
    ("script", "error"), [((), RuntimeError), ((TypeError("scope"),), TypeError)], ids=["silent", "raises"]
)
async def test_with_on_an_application_must_answer(script: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        async with asgi_connect(Scripted(*script), lifespan="on"):
            raise AssertionError


async def test_a_startup_that_hangs_ends_with_the_timeout() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError):
        async with asgi_connect(app, timeout=5):
            raise AssertionError


async def test_other_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="lifespan must be one of auto, on, off, got 'yes'"):
        async with asgi_connect(Scripted(), lifespan="yes"):  # type: ignore[arg-type]
            raise AssertionError
