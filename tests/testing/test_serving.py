"""`serving`: a server in memory that behaves as `serve` does."""

from __future__ import annotations

import anyio
import pytest

from wsstream import HandshakeRejected, WebSocketStream, serve
from wsstream.testing import serving

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def echo(ws: WebSocketStream) -> None:
    async for message in ws:
        await ws.send(message)


async def test_connections_come_and_go() -> None:
    async with serving(echo) as server:
        async with server.connect("/a?b=1") as one, server.connect(client=("192.0.2.1", 7)) as two:
            await one.send("1")
            await two.send("2")
            assert (await one.receive(), await two.receive()) == ("1", "2")
            assert {ws.request.resource for ws in server.connections} == {"/a?b=1", "/"}
            assert {ws.request.peer for ws in server.connections} == {("127.0.0.1", 50000), ("192.0.2.1", 7)}
            assert repr(server) == "<MemoryServer, connections: 2>"
        await anyio.sleep(1)
        assert not server.connections


async def test_leaving_closes_with_1001_and_waits_for_the_handlers() -> None:
    ended = []

    async def handler(ws: WebSocketStream) -> None:
        await ws.wait_closed()
        await anyio.sleep(3)
        ended.append(anyio.current_time())

    async with anyio.create_task_group() as group:
        opened = anyio.Event()

        async def client() -> None:
            async with server.connect() as ws:
                opened.set()
                assert (await ws.wait_closed()).code == 1001

        async with serving(handler) as server:
            group.start_soon(client)
            await opened.wait()
            before = anyio.current_time()
        assert ended == [pytest.approx(before + 3, abs=0.1)]


async def test_leaving_cancels_a_handler_after_shutdown_timeout() -> None:
    async with serving(lambda ws: anyio.sleep_forever(), shutdown_timeout=5) as server, server.connect():
        before = anyio.current_time()
    assert anyio.current_time() - before < 20


async def test_the_limits_hold_and_failures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(ws: WebSocketStream) -> None:
        raise ZeroDivisionError

    async with serving(fail, max_connections=1) as server:
        async with server.connect() as ws:
            assert (await ws.wait_closed()).code == 1011
        assert "ZeroDivisionError" in caplog.text

    async with serving(echo, max_connections=1) as server, server.connect():
        with pytest.raises(HandshakeRejected, match="503"):
            async with server.connect():
                pass


async def test_after_the_block_nobody_connects() -> None:
    async with serving(echo) as server:
        pass
    with pytest.raises(anyio.ClosedResourceError):
        async with server.connect():
            pass


async def test_it_does_not_listen() -> None:
    with pytest.raises(TypeError, match="a server in memory does not listen: it takes no port"):
        async with serving(echo, port=80):
            pass
    with pytest.raises(ValueError, match="listeners must not be empty"):
        serve(echo, listeners=[])
