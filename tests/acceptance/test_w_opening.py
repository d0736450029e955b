"""W1–3, W37, W38: opening a connection, and leaving nothing behind when that comes to nothing."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, TaskStatus
from kit.endpoints import echo
from kit.leaks import nothing_left

from wsstream import HandshakeError, HandshakeRejected, Request, Response, WebSocketStream
from wsstream.testing import FrameReader, RawPeer

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]


async def test_w1_connecting_in_a_cancelled_scope_is_cancelled_and_makes_no_connection(net: Any) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        with nothing_left(), anyio.CancelScope() as scope:
            scope.cancel()
            async with net.connect(f"{net.scheme}://127.0.0.1:{port}/"):
                pytest.fail("entered")
        assert scope.cancelled_caught
        with pytest.raises(BlockingIOError):  # not even the kernel has seen one
            listener.listeners[0].extra(SocketAttribute.raw_socket).accept()


async def test_w2_cancelling_during_the_handshake_leaves_at_once_and_leaves_nothing(net: Any) -> None:
    heads: list[bytes] = []
    ends: list[float] = []

    async def peer(stream: ByteStream) -> None:
        async with stream:
            heads.append(await FrameReader(stream).read_head())
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
            ends.append(anyio.current_time())

    async def visit(seconds: float) -> None:
        with anyio.move_on_after(seconds) as scope:
            async with net.connect(url):
                pytest.fail("entered")
        assert scope.cancelled_caught

    async with net.raw_server(peer) as url:
        await visit(0.1)  # makes what is made only once
        await anyio.sleep(1)
        with nothing_left():
            start = anyio.current_time()
            await visit(0.5)
            assert anyio.current_time() - start < 0.7
            await anyio.sleep(1)  # for the peer to close its end too
        assert [head.split()[0] for head in heads] == [b"GET", b"GET"]
        assert len(ends) == 2
        assert ends[1] - start < 0.7


async def test_w2_our_server_that_waits_sees_the_client_go(net: Any) -> None:
    asked = anyio.Event()

    async def wait(request: Request) -> None:
        asked.set()
        await anyio.sleep(2)

    async with net.serve(echo, process_request=wait) as server:
        with nothing_left():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_open_and_wait, net, server)
                await asked.wait()
                start = anyio.current_time()
                tasks.cancel_scope.cancel()
            assert anyio.current_time() - start < 0.5
            await anyio.sleep(4)
        assert server.connections == set()


async def _open_and_wait(net: Any, server: Any) -> None:
    async with net.connect(server):
        pytest.fail("entered")


async def test_w3_a_scope_that_covered_only_the_entering_may_be_cancelled_later(net: Any) -> None:
    async with net.serve(echo) as server, AsyncExitStack() as stack:
        with anyio.CancelScope() as scope:
            ws = await stack.enter_async_context(net.connect(server))
        scope.cancel()
        await anyio.sleep(1)
        await ws.send("still")
        assert await ws.receive() == "still"
        await ws.send(bytes(1 << 19))
        assert len(await ws.receive()) == 1 << 19
    assert ws.close_info is not None
    assert ws.close_info.clean


async def test_w3_a_deadline_for_the_entering_does_not_end_the_connection(net: Any) -> None:
    async with net.serve(echo) as server, AsyncExitStack() as stack:
        with anyio.fail_after(5):
            ws = await stack.enter_async_context(net.connect(server))
        await anyio.sleep(10)
        await ws.send("still")
        assert await ws.receive() == "still"


async def test_w3_a_connection_can_be_started_in_a_task_group(net: Any) -> None:
    async def hold(*, task_status: TaskStatus[WebSocketStream]) -> None:
        async with net.connect(server) as ws:
            task_status.started(ws)
            await leave.wait()

    leave = anyio.Event()
    async with net.serve(echo) as server, anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            ws = await tasks.start(hold)
        scope.cancel()
        await anyio.sleep(1)
        await ws.send("still")
        assert await ws.receive() == "still"
        leave.set()


async def test_w37_the_subprotocol_that_the_server_chose_is_reported(net: Any) -> None:
    async with (
        net.serve(echo, subprotocols=["c", "b"]) as server,
        net.connect(server, subprotocols=["a", "b", "c"]) as ws,
    ):
        assert ws.subprotocol == "c"
        assert ws.request.subprotocols == ("a", "b", "c")


@pytest.mark.parametrize("chosen", [None, "foreign", "A", "a, b", ""])
async def test_w37_none_or_a_foreign_subprotocol_is_a_handshake_error(net: Any, chosen: str | None) -> None:
    async def peer(stream: ByteStream) -> None:
        async with stream:
            await RawPeer.as_server(stream, subprotocol=chosen)
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()

    async with net.raw_server(peer) as url:
        with pytest.raises(HandshakeError, match="subprotocol"):
            async with net.connect(url, subprotocols=["a", "b"]):
                pytest.fail("entered")


async def test_w37_a_subprotocol_that_nobody_asked_for_is_a_handshake_error(net: Any) -> None:
    async def peer(stream: ByteStream) -> None:
        async with stream:
            await RawPeer.as_server(stream, subprotocol="a")

    async with net.raw_server(peer) as url:
        with pytest.raises(HandshakeError, match="subprotocol"):
            async with net.connect(url):
                pytest.fail("entered")


async def test_w38_http_404_is_rejected_with_status_headers_and_body(net: Any) -> None:
    def refuse(request: Request) -> Response:
        return Response(404, {"X-Reason": "gone"}, f"no {request.path} here")

    async with net.serve(echo, process_request=refuse) as server:
        with pytest.raises(HandshakeRejected) as caught, nothing_left():
            async with net.connect(server.url + "/chat?x=1"):
                pytest.fail("entered")
        error = caught.value
        assert (error.status, error.body) == (404, b"no /chat here")
        assert ("x-reason", "gone") in error.headers
        assert isinstance(error, HandshakeError)


async def test_w38_the_body_of_a_rejection_is_cut_after_1024_bytes(net: Any) -> None:
    def refuse(request: Request) -> Response:
        return Response(404, body=b"x" * 100_000)

    async with net.serve(echo, process_request=refuse) as server:
        with pytest.raises(HandshakeRejected) as caught:
            async with net.connect(server):
                pytest.fail("entered")
        assert caught.value.body == b"x" * 1024
