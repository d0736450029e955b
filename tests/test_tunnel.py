"""TCP through a WebSocket, over sockets, with the two ends of the example, which people will copy."""

from __future__ import annotations

import hashlib
import logging
import runpy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from wsstream import Server, serve
from wsstream.testing import reset_stream

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]

EXAMPLE = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "examples" / "tcp_tunnel.py")))
PART = bytes(range(256)) * 4096  # 1 MiB


class Tunnel:
    def __init__(self, server: Server, entrance: int) -> None:
        self.server = server
        self._entrance = entrance

    async def connect(self) -> SocketStream:
        return await anyio.connect_tcp("127.0.0.1", self._entrance)


@asynccontextmanager
async def tunnel(target: Callable[[SocketStream], Awaitable[None]] | None) -> AsyncIterator[Tunnel]:
    """A tunnel to a server of `target`, or to a port where nobody listens."""
    exit_, entrance = [await anyio.create_tcp_listener(local_host="127.0.0.1") for _ in range(2)]
    ports = [each.extra(SocketAttribute.local_port) for each in (exit_, entrance)]
    serving = serve(partial(EXAMPLE.leave, ports[0]), "127.0.0.1")
    async with exit_, entrance, serving as server, anyio.create_task_group() as tasks:
        if target is None:
            await exit_.aclose()
        else:
            tasks.start_soon(exit_.serve, target)
        tasks.start_soon(entrance.serve, partial(EXAMPLE.enter, server.url))
        yield Tunnel(server, ports[1])
        await until(lambda: not server.connections)  # nothing is left open
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.01)


async def how_it_ends(stream: SocketStream) -> str:
    try:
        async for _ in stream:
            pass
    except anyio.BrokenResourceError:
        return "reset"
    return "end"


async def echo(stream: SocketStream) -> None:
    """Answers when all has come."""
    async with stream:
        received = [chunk async for chunk in stream]
        for chunk in received:
            await stream.send(chunk)


async def test_a_request_that_ends_gets_an_answer_that_ends() -> None:
    async with tunnel(echo) as there, await there.connect() as client:
        for _ in range(3):
            await client.send(PART)
        await client.send_eof()
        digest = hashlib.sha256()
        async for chunk in client:
            digest.update(chunk)
    assert digest.digest() == hashlib.sha256(PART * 3).digest()


async def test_an_aborted_client_is_a_reset_for_the_target_and_nothing_for_the_listener(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ends: list[str] = []
    started = anyio.Event()

    async def target(stream: SocketStream) -> None:
        async with stream:
            first = await stream.receive()
            if first == b"hello":
                await stream.send(b"hello to you")
                return
            started.set()
            ends.append(await how_it_ends(stream))

    async def upload(client: SocketStream) -> None:
        try:
            while True:
                await client.send(PART)
        except anyio.ClosedResourceError:
            pass

    caplog.set_level(logging.INFO, "wsstream")
    async with tunnel(target) as there:
        for _ in range(3):
            client = await there.connect()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(upload, client)
                await started.wait()
                await reset_stream(client)
            await until(lambda: ends)
            assert ends.pop() == "reset"
            started = anyio.Event()
            async with await there.connect() as client:
                await client.send(b"hello")
                assert await client.receive() == b"hello to you"
    assert capsys.readouterr().out.count("the connection broke: BrokenResourceError") == 3
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_a_target_that_crashes_in_its_answer_is_a_reset_for_the_client() -> None:
    async def target(stream: SocketStream) -> None:
        await stream.send(b"x" * 1000)
        await stream.receive()
        await reset_stream(stream)

    async with tunnel(target) as there, await there.connect() as client:
        assert await client.receive(1000)
        await client.send(b"go on")
        assert await how_it_ends(client) == "reset"


async def test_a_tunnel_that_crashes_is_a_reset_for_both() -> None:
    ends = []

    async def target(stream: SocketStream) -> None:
        async with stream:
            await stream.send(b"hello")
            ends.append(await how_it_ends(stream))

    async with tunnel(target) as there, await there.connect() as client:
        assert await client.receive() == b"hello"
        for ws in there.server.connections:
            ws.abort()
        assert await how_it_ends(client) == "reset"
        await until(lambda: ends)
    assert ends == ["reset"]


async def test_without_a_target_the_client_is_reset_and_the_listener_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with tunnel(None) as there:
        for _ in range(2):
            async with await there.connect() as client:
                assert await how_it_ends(client) == "reset"
    assert capsys.readouterr().out.count("the target cannot be reached") == 2
