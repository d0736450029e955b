"""Clients that have yet to send their request: on asyncio they have no task, and share one timer."""

from __future__ import annotations

import asyncio  # noqa: TID251 - its tasks are counted
import logging
import socket
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from kit.endpoints import check_echo, echo
from kit.waiting import until

from wsstream import Request, connect, serve
from wsstream.testing import RawPeer
from wsstream.transports.sockets import SocketTransport

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


@on_asyncio
async def test_a_client_gets_its_task_when_its_request_is_complete(http: Any) -> None:
    async with serve(echo, "127.0.0.1") as server:
        before = asyncio.all_tasks()
        with ExitStack() as stack:
            address = ("127.0.0.1", server.port)
            clients = [stack.enter_context(socket.create_connection(address)) for _ in range(40)]
            for client in clients:
                client.send(http.opening[:-1])
            await anyio.sleep(1)
            assert asyncio.all_tasks() == before
            clients[0].send(http.opening[-1:])
            await until(lambda: server.connections)
            assert len(asyncio.all_tasks() - before) == 1


async def test_each_client_has_the_whole_open_timeout(caplog: pytest.LogCaptureFixture, http: Any) -> None:
    caplog.set_level(logging.INFO)
    ends: list[float] = []

    async def client(number: int) -> None:
        await anyio.sleep(number)
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(http.opening[:40])
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
            ends.append(anyio.current_time() - start)

    async with serve(echo, "127.0.0.1", open_timeout=5) as server, anyio.create_task_group() as clients:
        start = anyio.current_time()
        for number in range(4):
            clients.start_soon(client, number)
        await anyio.sleep(2.5)
        async with connect(server.url) as ws:  # one that leaves the others behind
            await check_echo(ws)
    assert ends == pytest.approx([5, 6, 7, 8], abs=0.3)
    lines = [line for line in caplog.messages if "open_timeout" in line]
    assert len(lines) == 4
    assert all(
        line.endswith("after open_timeout, 5 s, still waiting for the client's request") for line in lines
    )


@pytest.mark.heavy
async def test_a_request_that_comes_in_pieces_opens_a_connection(http: Any) -> None:
    async with (
        serve(echo, "127.0.0.1") as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        for byte in http.opening:
            await stream.send(bytes([byte]))
            await anyio.sleep(0.001)
        assert (await stream.receive()).startswith(b"HTTP/1.1 101 ")


async def test_frames_behind_the_request_are_not_lost(http: Any) -> None:
    async with (
        serve(echo, "127.0.0.1") as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        await stream.send(http.opening + b"\x81\x82\0\0\0\0hi")
        data = b""
        while not data.endswith(b"\x81\x02hi"):
            data += await stream.receive()


async def test_handshakes_that_are_pending_go_on_when_the_server_listens_no_more(http: Any) -> None:
    async with (
        serve(echo, "127.0.0.1") as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        await anyio.sleep(1)
        server.close()
        peer = await RawPeer.as_client(stream)
        await peer.text("x")
        assert (await peer.read_frame()).payload == b"x"


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 50])
async def test_a_response_that_is_not_taken_at_once_is_sent_in_parts(
    size: int, hooked: bool, monkeypatch: pytest.MonkeyPatch, http: Any
) -> None:
    real, calls = SocketTransport.send, 0

    def send(self: SocketTransport, buffers: Any) -> int:
        """Nothing at first and every other time, then `size` bytes."""
        nonlocal calls
        calls += 1
        if calls > 10:
            return real(self, buffers)
        return real(self, [buffers[0][:size]]) if size and calls % 2 == 0 else 0

    async def hook(request: Request) -> None: ...

    monkeypatch.setattr(SocketTransport, "send", send)
    async with serve(echo, "127.0.0.1", process_request=hook if hooked else None) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.setblocking(False)
            client.send(http.opening)
            await until(lambda: server.connections)
            lines = client.recv(4096).split(b"\r\n")
    assert calls > 4
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
    assert lines[3] == b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert lines[4:] == [b"", b""]
