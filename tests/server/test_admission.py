"""Taking in clients: more than a server takes, silent ones, and those that do not behave or vanish."""

from __future__ import annotations

import logging
import os
import resource
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint
from kit.endpoints import check_echo, echo
from kit.leaks import nothing_left, open_sockets
from kit.waiting import until

from wsstream import (
    CloseInfo,
    HandshakeError,
    HandshakeRejected,
    Request,
    Response,
    Server,
    WebSocketError,
    WebSocketStream,
    connect,
    serve,
)
from wsstream.testing import RateStream, RawPeer, reset_stream

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]


async def _stream(server: Server) -> ByteStream:
    return await anyio.connect_tcp("127.0.0.1", server.port)


async def _all_of(stream: ByteStream) -> bytes:
    """What comes until the end of the stream."""
    data = b""
    try:
        while True:
            data += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return data


def _status(answer: bytes) -> int:
    return int(answer.split()[1])


# -- max_connections -------------------------------------------------------------------------


async def test_one_connection_too_many_gets_503_with_retry_after() -> None:
    async with (
        serve(echo, "127.0.0.1", max_connections=2) as server,
        connect(server.url) as first,
        connect(server.url) as second,
    ):
        with pytest.raises(HandshakeRejected) as caught:
            async with connect(server.url):
                pytest.fail("entered")
        assert caught.value.status == 503
        assert dict(caught.value.headers)["retry-after"].isdigit()
        await check_echo(first)
        await second.aclose()
        await until(lambda: len(server.connections) == 1)
        async with connect(server.url) as third:
            await check_echo(third)


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("how", ["vanishes", "garbage", "handler-fails"])
async def test_any_end_of_a_connection_frees_its_place(how: str) -> None:
    async def handler(ws: WebSocketStream) -> None:
        await ws.receive()
        if how == "handler-fails":
            raise WebSocketError(code=3000)

    async with serve(handler, "127.0.0.1", max_connections=1) as server:
        for _ in range(3):
            async with await _stream(server) as stream:
                if how == "garbage":
                    await stream.send(b"\x00\r\n\r\n")
                else:
                    peer = await RawPeer.as_client(stream)
                    await peer.text("x")
                    if how == "vanishes":
                        await reset_stream(stream)
                await anyio.sleep(2)
            await anyio.sleep(1)
        async with connect(server.url) as ws:
            await ws.send("x")


async def test_the_limit_holds_when_all_clients_come_at_once() -> None:
    started = 0

    async def hold(request: Request) -> None:
        nonlocal started
        started += 1
        await anyio.sleep_forever()

    for _ in range(8):  # who comes first is a matter of chance on Trio
        started = 0
        async with serve(echo, "127.0.0.1", max_connections=5, process_request=hold) as server:
            with ExitStack() as stack:
                address = ("127.0.0.1", server.port)
                clients = [stack.enter_context(socket.create_connection(address)) for _ in range(12)]
                for client in clients:
                    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await anyio.sleep(0.5)
                answers = [_received(client) for client in clients]
        assert started == answers.count(None) == 5
        assert [_status(answer) for answer in answers if answer] == [503] * 7


def _received(client: socket.socket) -> bytes | None:
    """What is there; ``b""`` at the end of the stream, ``None`` if nothing is."""
    client.setblocking(False)
    try:
        return client.recv(65536)
    except BlockingIOError:
        return None


async def test_requests_in_process_request_count_as_connections() -> None:
    looking = anyio.Event()

    async def hold(request: Request) -> None:
        if request.path == "/slow":
            looking.set()
            await anyio.sleep_forever()

    async with serve(echo, "127.0.0.1", max_connections=1, process_request=hold) as server:
        async with await _stream(server) as slow:
            await slow.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            await looking.wait()
            with pytest.raises(HandshakeRejected):
                async with connect(server.url):
                    pytest.fail("entered")
        async with await _stream(server) as slow:
            await slow.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            assert _status(await _all_of(slow)) == 503  # the place is taken until open_timeout
        await anyio.sleep(10)
        async with connect(server.url) as ws:
            await check_echo(ws)


async def test_an_answered_request_takes_no_place() -> None:
    """Not even while its client still has to read the answer."""
    hook = lambda request: Response(200) if request.path == "/healthz" else None  # noqa: E731
    async with (
        serve(echo, "127.0.0.1", max_connections=1, process_request=hook) as server,
        await _stream(server) as stream,
    ):
        await stream.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert _status(await stream.receive()) == 200
        async with connect(server.url) as ws:
            await check_echo(ws)


# -- max_handshakes --------------------------------------------------------------------------


async def test_silent_clients_take_no_place_of_connections() -> None:
    async with serve(echo, "127.0.0.1", max_connections=100) as server:
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            await anyio.sleep(0.5)
            async with connect(server.url) as ws:
                await check_echo(ws)


@pytest.mark.parametrize("said", [b"", b"GET / HT"], ids=["silent", "half-a-head"])
async def test_the_oldest_of_too_many_opening_handshakes_is_dropped(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(echo, "127.0.0.1", max_handshakes=3) as server:
        with ExitStack() as stack:
            clients = []
            for _ in range(5):
                clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port))))
                clients[-1].sendall(said)
                await anyio.sleep(0.2)
            assert [_received(client) for client in clients] == [b"", b"", None, None, None]
            names = ["{}:{}".format(*client.getsockname()) for client in clients[:2]]
            async with connect(server.url) as ws:
                await check_echo(ws)
                assert [_received(client) for client in clients[2:]] == [b"", None, None]
    lines = [line for line in caplog.messages if "more than 3 opening handshakes" in line]
    assert [line.partition(": ")[0] for line in lines[:2]] == names


async def test_a_request_in_process_request_is_not_a_pending_handshake() -> None:
    seen: list[str] = []

    async def look(request: Request) -> None:
        seen.append(request.path)
        await anyio.sleep(2)

    options: dict[str, Any] = {"max_handshakes": 1, "process_request": look}
    async with serve(echo, "127.0.0.1", **options) as server, anyio.create_task_group() as tasks:

        async def client(path: str) -> None:
            async with connect(server.url + path) as ws:
                await check_echo(ws)

        for number in range(3):
            tasks.start_soon(client, f"/{number}")
            await until(lambda number=number: len(seen) > number)  # type: ignore[misc]
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                await anyio.sleep(0.1)
    assert seen == ["/0", "/1", "/2"]


async def test_rejected_clients_that_stay_count_as_pending_handshakes() -> None:
    async with serve(echo, "127.0.0.1", max_handshakes=3) as server:
        before, start = len(open_sockets()), anyio.current_time()
        async with AsyncExitStack() as stack:
            for number in range(1, 11):
                stream = await stack.enter_async_context(await _stream(server))
                await stream.send(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert _status(await stream.receive()) == 405
                await checkpoint()
                assert len(open_sockets()) - before <= number + 3
            assert anyio.current_time() - start < 1  # they were not just given up meanwhile


async def test_silent_tls_clients_are_dropped_in_their_turn(tls: SimpleNamespace) -> None:
    async with serve(echo, "127.0.0.1", ssl=tls.server, max_handshakes=2) as server:
        with ExitStack() as stack:
            clients = []
            for said in (b"", b"\x16\x03\x01\x02\x00\x01", b""):
                clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port))))
                clients[-1].sendall(said)
                await anyio.sleep(0.2)
            assert [_received(client) for client in clients] == [b"", None, None]
            async with connect(server.url, ssl=tls.client) as ws:
                await check_echo(ws)


@pytest.mark.parametrize("limit", ["max_handshakes", "max_connections"])
async def test_none_means_no_limit(limit: str) -> None:
    async with serve(echo, "127.0.0.1", **{limit: None}) as server, connect(server.url) as ws:
        await check_echo(ws)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who is silent")
async def test_without_descriptors_silent_handshakes_make_room(caplog: pytest.LogCaptureFixture) -> None:
    """Silent clients cannot keep others out by taking all the descriptors that the system has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serve(echo, "127.0.0.1") as server:
        with ExitStack() as stack:
            silent = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(5)
            ]
            silent[0].send(b"G")  # the oldest is not
            await anyio.sleep(0.1)
            time.sleep(0.3)  # by the kernel's clock
            ours = stack.enter_context(socket.socket())
            used = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
            try:
                with ExitStack() as full:
                    with suppress(OSError):
                        while True:
                            full.enter_context(open(os.devnull))
                    ours.connect(("127.0.0.1", server.port))
                    ours.sendall((_UPGRADE + _VERSION + _KEY + "\r\n").encode())
                    start = anyio.current_time()
                    await until(lambda: server.connections)
                    assert anyio.current_time() - start < 2
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert [_received(client) for client in silent] == [None, b"", None, None, None]
    (record,) = [each for each in caplog.records if each.levelno > logging.INFO]
    assert "cannot accept connections" in record.getMessage()


# -- clients that do not behave --------------------------------------------------------------


_UPGRADE = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
_KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
_VERSION = "Sec-WebSocket-Version: 13\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        pytest.param("\x00\x01\x02\r\n\r\n", 400, b"", id="garbage"),
        pytest.param("EHLO mail.example\r\n\r\n", 400, b"", id="smtp"),
        pytest.param("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, b"", id="no-field"),
        pytest.param("GET / HTTP/1.1\r\n\r\n", 400, b"", id="no-host"),
        pytest.param("GET / HTTP/1.0\r\nHost: a\r\n\r\n", 505, b"", id="http-1.0"),
        pytest.param("POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405, b"allow: get", id="post"),
        pytest.param("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405, b"allow: get", id="connect"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426, b"upgrade: websocket", id="no-upgrade"),
        pytest.param(_UPGRADE + _KEY + "\r\n", 426, b"sec-websocket-version: 13", id="no-version"),
        pytest.param(
            _UPGRADE + _KEY + "Sec-WebSocket-Version: 12\r\n\r\n",
            426,
            b"sec-websocket-version: 13",
            id="wrong-version",
        ),
        pytest.param(_UPGRADE + _VERSION + "\r\n", 400, b"", id="no-key"),
        pytest.param(_UPGRADE + _VERSION + "Sec-WebSocket-Key: c2hvcnQ=\r\n\r\n", 400, b"", id="short-key"),
        pytest.param(_UPGRADE + _VERSION + _KEY + _KEY + "\r\n", 400, b"", id="two-keys"),
        pytest.param(
            _UPGRADE + _VERSION + _KEY + "Sec-WebSocket-Protocol: a b\r\n\r\n", 400, b"", id="no-token"
        ),
        pytest.param(
            _UPGRADE + _VERSION + _KEY + "Content-Length: 5\r\n\r\nhello", 400, b"", id="with-a-body"
        ),
        pytest.param("GET / HTTP/1.1\r\nX: " + "x" * (1 << 20), 431, b"", id="head-of-1-mib"),
    ],
)
async def test_a_request_that_opens_no_websocket_is_answered_with_its_fault(
    request_: str, status: int, field: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(echo, "127.0.0.1") as server:
        async with await _stream(server) as stream, anyio.create_task_group() as tasks:
            tasks.start_soon(_send, stream, request_.encode("latin-1"))
            answer = await _all_of(stream)
            tasks.cancel_scope.cancel()
        assert _status(answer) == status
        assert field in answer.lower()
        assert b"connection: close" in answer.lower()
        async with connect(server.url) as ws:
            await check_echo(ws)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def _send(stream: ByteStream, data: bytes) -> None:
    try:
        await stream.send(data)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass


async def test_an_endless_head_is_rejected() -> None:
    """A client that sends 64 MiB of a head gets rid of no more than a few buffers of it."""
    sent = 0

    async with serve(echo, "127.0.0.1") as server, await _stream(server) as stream:
        with pytest.raises((anyio.BrokenResourceError, anyio.ClosedResourceError)):
            await stream.send(b"GET / HTTP/1.1\r\nX: ")
            for _ in range(1024):
                await stream.send(b"x" * 65536)
                sent += 65536
    assert sent < 16 << 20


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("timeout", [10, 25])
async def test_a_head_that_drips_is_given_up_after_the_open_timeout(timeout: float) -> None:
    async with serve(echo, "127.0.0.1", open_timeout=timeout) as server, await _stream(server) as stream:
        start = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_send, RateStream(stream, send=1), _UPGRADE.encode())
            assert await _all_of(stream) == b""
            tasks.cancel_scope.cancel()
        assert timeout <= anyio.current_time() - start < timeout + 2


async def test_a_rejected_client_that_reads_nothing_and_goes_on_sending_is_dropped() -> None:
    async with serve(echo, "127.0.0.1") as server, await _stream(server) as stream:
        start = anyio.current_time()
        with pytest.raises((anyio.BrokenResourceError, anyio.ClosedResourceError)):
            await stream.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
            while True:
                await stream.send(b"x" * 1000)
                await anyio.sleep(0.1)
        assert anyio.current_time() - start < 3


async def test_a_rejected_client_that_is_still_sending_reads_the_response_and_no_reset() -> None:
    async with serve(echo, "127.0.0.1") as server, await _stream(server) as stream:
        await stream.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n")
        await stream.send(b"x" * 200_000)
        answer = b""
        with pytest.raises(anyio.EndOfStream):
            while True:
                answer += await stream.receive()
                await stream.send(b"x" * 100)
        assert _status(answer) == 405


async def test_plain_http_on_a_tls_port_is_logged_at_info(
    tls: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(echo, "127.0.0.1", ssl=tls.server) as server:
        async with await _stream(server) as stream:
            await stream.send(_UPGRADE.encode() + b"\r\n")
            assert b"HTTP" not in await _all_of(stream)
        with pytest.raises(ssl.SSLCertVerificationError):  # a client that does not trust the server
            async with connect(server.url):
                pytest.fail("entered")
        await anyio.sleep(1)
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert len(caplog.records) == 2


# -- clients that vanish ---------------------------------------------------------------------


async def _after_nothing(stream: ByteStream) -> None: ...


async def _after_half_a_head(stream: ByteStream) -> None:
    await stream.send(_UPGRADE.encode())


async def _after_the_head(stream: ByteStream) -> None:
    await stream.send((_UPGRADE + _VERSION + _KEY + "\r\n").encode())


async def _while_open(stream: ByteStream) -> None:
    await RawPeer.as_client(stream)


async def _inside_a_frame(stream: ByteStream) -> None:
    peer = await RawPeer.as_client(stream)
    await peer.send(b"\x81\xfe\xff\xff1234half")


async def _while_much_comes(stream: ByteStream) -> None:
    peer = await RawPeer.as_client(stream)
    await peer.text("flood")
    await peer.read_frame()


async def _while_closing(stream: ByteStream) -> None:
    peer = await RawPeer.as_client(stream)
    await peer.text("close")
    assert (await peer.read_frame()).kind == "close"


@pytest.mark.heavy_after_first
@pytest.mark.parametrize(
    "vanish", [pytest.param(lambda s: s.aclose(), id="fin"), pytest.param(reset_stream, id="rst")]
)
@pytest.mark.parametrize(
    "when",
    [
        _after_nothing,
        _after_half_a_head,
        _after_the_head,
        _while_open,
        _inside_a_frame,
        _while_much_comes,
        _while_closing,
    ],
)
async def test_a_vanished_client_leaves_nothing_behind(
    when: Callable[[ByteStream], Awaitable[None]],
    vanish: Callable[[ByteStream], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(ws: WebSocketStream) -> None:
        async for message in ws:
            if message == "flood":
                while True:
                    await ws.send(bytes(100_000))
            elif message == "close":
                return

    async with serve(handler, "127.0.0.1") as server:
        with nothing_left():
            stream = await _stream(server)
            await when(stream)
            await anyio.sleep(1)
            await vanish(stream)
            await anyio.sleep(1)
        assert server.connections == set()
        async with connect(server.url) as ws:
            await ws.send("close")
            assert await ws.wait_closed() == CloseInfo(1000, "", True)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "vanish", [pytest.param(lambda s: s.aclose(), id="fin"), pytest.param(reset_stream, id="rst")]
)
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_client_that_vanishes_in_the_tls_handshake_leaves_nothing_behind(
    tls: SimpleNamespace,
    vanish: Callable[[ByteStream], Awaitable[None]],
    said: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve(echo, "127.0.0.1", ssl=tls.server) as server:
        with nothing_left():
            stream = await _stream(server)
            if said:
                await stream.send(said)
            await anyio.sleep(1)
            await vanish(stream)
            await anyio.sleep(1)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_silent_tls_client_is_given_up_after_the_open_timeout(tls: SimpleNamespace) -> None:
    options: dict[str, Any] = {"ssl": tls.server, "open_timeout": 3}
    async with serve(echo, "127.0.0.1", **options) as server, await _stream(server) as stream:
        start = anyio.current_time()
        assert await _all_of(stream) == b""
        assert 3 <= anyio.current_time() - start < 4


@pytest.mark.heavy_after_first
async def test_a_client_that_does_not_answer_close_is_dropped() -> None:
    ended: list[float] = []

    async def handler(ws: WebSocketStream) -> None:
        await ws.aclose(1000)
        ended.append(anyio.current_time() - start)

    async with serve(handler, "127.0.0.1", close_timeout=4) as server, await _stream(server) as stream:
        start = anyio.current_time()
        await RawPeer.as_client(stream)
        await until(lambda: ended)
        assert 4 <= ended[0] < 4.5


async def test_a_handshake_error_leaves_no_connection_behind() -> None:
    async with serve(echo, "127.0.0.1", subprotocols=["a"]) as server:
        with nothing_left():
            with pytest.raises(HandshakeError):
                async with connect(server.url, subprotocols=["b"]):
                    pytest.fail("entered")
            await anyio.sleep(2)
        assert server.connections == set()
