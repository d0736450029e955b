"""A test module for pytest-asyncio, which enters a fixture in one task and leaves it in another."""

import pytest
import pytest_asyncio

from wsstream import connect, serve


async def echo(ws):
    async for message in ws:
        await ws.send(message)


@pytest_asyncio.fixture
async def server():
    async with serve(echo, "127.0.0.1") as server:
        yield server
    assert not server.connections


@pytest_asyncio.fixture
async def ws(server):
    async with connect(server.url) as ws:
        yield ws
    assert ws.close_info.clean


@pytest.mark.asyncio
async def test_echo(ws):
    await ws.send("hello")
    assert await ws.receive() == "hello"
