"""`streams` and `from_scope` in Starlette, in FastAPI, under uvicorn and under hypercorn."""

from __future__ import annotations

import hashlib
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kit.asgi import hypercorn_server, uvicorn_server
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from wsstream import WebSocketError, connect
from wsstream.asgi import from_scope, streams
from wsstream.testing import asgi_connect

pytestmark = pytest.mark.anyio
EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_upload.py"


async def echo(websocket: Any) -> None:
    """An endpoint of Starlette."""
    if websocket.path_params["accepts"] == "yes":
        await websocket.accept()
    async with from_scope(websocket) as ws:
        async for message in ws:
            if message == "close":
                await ws.aclose(4000, "as asked")
            elif message == "chunks":
                async with ws.writable.message("text") as out:
                    for _ in range(100):
                        await out.send("ä" * 1000)
            else:
                await ws.send(message)


APP = Starlette(routes=[WebSocketRoute("/{accepts}", echo)])


@contextmanager
def running(server: str) -> Iterator[str]:
    if server == "hypercorn":
        with hypercorn_server(APP) as url:
            yield url
    else:
        with uvicorn_server(APP, ws=server) as (_, url):
            yield url


@pytest.mark.heavy_after_first
@pytest.mark.parametrize(
    "server", ["hypercorn", "websockets-sansio", "wsproto", "wsstream.asgi:UvicornProtocol"]
)
async def test_the_streams_run_under_any_server(server: str) -> None:
    with running(server) as url:
        for path in ("/yes", "/no"):
            async with connect(url + path, max_message_size=None) as ws:
                for message in ("text ä", b"\x00\xff", "", b"", "x" * 300_000, bytes(300_000)):
                    await ws.send(message)
                    assert await ws.receive() == message
                await ws.send("chunks")
                assert await ws.receive() == "ä" * 100_000
                await ws.send("close")
                info = await ws.wait_closed()
                assert (info.code, info.reason) == (4000, "as asked")


async def test_the_example_with_fastapi_takes_streams_and_plain_endpoints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = bytes(range(256)) * 100_000
    with uvicorn_server(runpy.run_path(str(EXAMPLE))["app"]) as (_, url):
        async with connect(f"{url}/upload") as ws:
            await ws.send(data)
            assert await ws.receive() == f"{len(data)} {hashlib.sha256(data).hexdigest()}"
        async with connect(f"{url}/echo") as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
            await ws.aclose(4001)
    assert "closed with 4001" in capsys.readouterr().out


@pytest.mark.virtual_time
async def test_a_block_closes_as_connect_does() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        async with streams(scope, receive, send):
            raise WebSocketError(code=4005, reason="enough")

    with pytest.raises(WebSocketError, match="enough"):
        async with asgi_connect(fails) as ws:
            info = await ws.wait_closed()
            assert (info.code, info.reason) == (4005, "enough")


@pytest.mark.virtual_time
async def test_a_message_in_chunks_has_a_limit() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        limited = from_scope(scope, receive, send, max_message_size=1000)
        async with limited as ws, ws.writable.message("binary") as out:
            for _ in range(100):
                await out.send(bytes(1000))

    with pytest.raises(WebSocketError):
        async with asgi_connect(app) as ws:
            await ws.wait_closed()


async def test_the_streams_need_this_server() -> None:
    async def nothing(*args: Any) -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="--ws wsstream"):
        async with streams({"extensions": {}}, nothing, nothing):
            pass
    for wrong in (5, None, {}):
        with pytest.raises(TypeError, match="a WebSocket of Starlette, or scope, receive and send"):
            streams(wrong)
    with pytest.raises(ValueError, match="max_message_size"):
        from_scope({}, nothing, nothing, max_message_size=-1)
