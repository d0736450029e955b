"""`serve`: its options, what it tells, and shutting down."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSStream
from kit.endpoints import check_echo, echo
from kit.waiting import until

from wsstream import (
    CloseInfo,
    Server,
    WebSocketError,
    WebSocketStream,
    connect,
    serve,
)
from wsstream.testing import RawPeer
from wsstream.transports.base import NOTSENT

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]


# -- what a server tells ---------------------------------------------------------------------


async def test_connections_are_those_that_are_open() -> None:
    async with serve(echo, "127.0.0.1") as server:
        assert server.connections == set()
        async with connect(server.url) as one, connect(server.url + "/two") as two:
            await check_echo(one)
            await check_echo(two)
            assert sorted(ws.request.path for ws in server.connections) == ["/", "/two"]
            await one.aclose()
            await until(lambda: len(server.connections) == 1)
        await until(lambda: not server.connections)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", None])
async def test_port_and_url_lead_to_the_server(host: str | None, tls: SimpleNamespace) -> None:
    async with serve(echo, host) as server:
        assert 0 < server.port < 65536
        assert server.url.startswith("ws://")
        assert server.url.endswith(f":{server.port}")
        async with connect(server.url, open_timeout=None) as ws:  # names are resolved in real time
            await check_echo(ws)
    async with serve(echo, "127.0.0.1", ssl=tls.server) as server:
        assert server.url == f"wss://127.0.0.1:{server.port}"
        async with connect(server.url, ssl=tls.client) as ws:
            await check_echo(ws)
            (other,) = server.connections
            assert other.url == f"{server.url}/"


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    async with serve(echo, "127.0.0.1") as server:
        with pytest.raises(OSError) as caught:
            async with serve(echo, "127.0.0.1", server.port):
                pytest.fail("entered")
        assert caught.value.errno == errno.EADDRINUSE


async def test_a_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with serve(echo, path=path) as server:
        assert (server.port, server.url) == (0, f"ws+unix:{path}")
        async with connect("ws://localhost/", transport=await anyio.connect_unix(path)) as ws:
            await check_echo(ws)
        assert path.is_socket()
    assert not path.exists()


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT")
async def test_two_servers_share_a_port_if_both_ask_for_it() -> None:
    async with (
        serve(echo, "127.0.0.1", reuse_port=True) as one,
        serve(echo, "127.0.0.1", one.port, reuse_port=True) as other,
    ):
        assert one.port == other.port
        one.close()
        async with connect(other.url) as ws:
            await check_echo(ws)
        with pytest.raises(OSError):
            async with serve(echo, "127.0.0.1", one.port):
                pytest.fail("listens")


async def test_a_system_that_cannot_share_a_port_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(OSError, match="SO_REUSEPORT"):
        async with serve(echo, "127.0.0.1", reuse_port=True):
            pytest.fail("listens")


@pytest.mark.parametrize("given", [False, True])
async def test_connections_send_without_delay_and_hold_little_unsent(given: bool) -> None:
    async def tell_options(ws: WebSocketStream) -> None:
        sock = ws.extra(SocketAttribute.raw_socket)
        lowat = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        unsent = NOTSENT if lowat is None else sock.getsockopt(socket.IPPROTO_TCP, lowat)
        await ws.send(f"{sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)} {unsent}")

    where: dict[str, Any] = {"host": "127.0.0.1"}
    if given:
        where = {"listeners": [socket.create_server(("127.0.0.1", 0))]}
    async with serve(tell_options, **where) as server, connect(server.url) as ws:
        assert await ws.receive() == f"1 {NOTSENT}"


async def test_listeners_may_be_given_and_are_closed_at_the_end() -> None:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [listener.getsockname()[1] for listener in listeners]
    async with serve(echo, listeners=iter(listeners)) as server:
        assert server.port == ports[0]
        for port in ports:
            async with connect(f"ws://127.0.0.1:{port}/") as ws:
                await check_echo(ws)
    assert [listener.fileno() for listener in listeners] == [-1, -1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"host": "127.0.0.1", "path": "/tmp/x"}, ValueError, "either host and port, or path, or listeners"),
        ({"port": 80, "path": "/tmp/x"}, ValueError, "either host and port, or path, or listeners"),
        ({"host": "127.0.0.1", "listeners": []}, ValueError, "either host and port, or path, or listeners"),
        ({"path": "/tmp/x", "listeners": []}, ValueError, "either host and port, or path, or listeners"),
        ({"listeners": []}, ValueError, "listeners must not be empty"),
        ({"path": "/tmp/x", "reuse_port": True}, ValueError, "reuse_port needs a host or a port"),
        ({"listeners": [1], "reuse_port": True}, ValueError, "reuse_port needs a host or a port"),
        ({"reuse_port": 1}, TypeError, "reuse_port must be a bool, got int"),
        ({"max_connections": 0}, ValueError, "max_connections must be at least 1 or None, got 0"),
        ({"max_connections": -1}, ValueError, "max_connections must be at least 1 or None, got -1"),
        ({"max_connections": "5"}, TypeError, "max_connections must be an int or None, got str"),
        ({"max_connections": True}, TypeError, "max_connections must be an int or None, got bool"),
        ({"max_handshakes": 0}, ValueError, "max_handshakes must be at least 1 or None, got 0"),
        ({"max_handshakes": 1.5}, TypeError, "max_handshakes must be an int or None, got float"),
        ({"shutdown_timeout": -1}, ValueError, "shutdown_timeout must not be negative, got -1"),
        ({"shutdown_timeout": "1"}, TypeError, "shutdown_timeout must be a number or None, got str"),
        ({"open_timeout": -1}, ValueError, "open_timeout must not be negative, got -1"),
        ({"ssl": True}, TypeError, "ssl must be an ssl.SSLContext or None, got bool"),
        ({"ssl": "server.pem"}, TypeError, "ssl must be an ssl.SSLContext or None, got str"),
        ({"handler": None}, TypeError, "handler must be an async function, got NoneType"),
        ({"handler": 5}, TypeError, "handler must be an async function, got int"),
        ({"handler": "handler"}, TypeError, "handler must be an async function, got str"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_rejected_before_anything_listens(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        serve(**{"handler": echo, **options})


# -- shutting down ---------------------------------------------------------------------------


async def test_leaving_the_block_closes_with_1001_and_waits_for_the_handlers() -> None:
    ended: list[float] = []

    async def handler(ws: WebSocketStream) -> None:
        try:
            async for _ in ws:
                pass
        except WebSocketError:
            await anyio.sleep(3)
            ended.append(anyio.current_time())

    infos: list[CloseInfo | None] = []

    async def client() -> None:
        async with connect(server.url) as ws:
            assert [message async for message in ws] == []
            infos.append(ws.close_info)

    async with anyio.create_task_group() as tasks:
        async with serve(handler, "127.0.0.1") as server:
            for _ in range(3):
                tasks.start_soon(client)
            await until(lambda: len(server.connections) == 3)
            start = anyio.current_time()
        assert len(ended) == 3
        assert 3 <= anyio.current_time() - start < 4
        assert server.connections == set()
    assert infos == [CloseInfo(1001, "", True)] * 3


@pytest.mark.parametrize("timeout", [2, 0])
async def test_handlers_that_do_not_end_are_cancelled_after_the_shutdown_timeout(timeout: float) -> None:
    cancelled: list[float] = []
    infos: list[CloseInfo | None] = []

    async def handler(ws: WebSocketStream) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(anyio.current_time() - start)

    async def client() -> None:
        async with connect(server.url) as ws:
            assert [message async for message in ws] == []
            infos.append(ws.close_info)

    async with (
        anyio.create_task_group() as tasks,
        serve(handler, "127.0.0.1", shutdown_timeout=timeout) as server,
    ):
        tasks.start_soon(client)
        await until(lambda: server.connections)
        start = anyio.current_time()
    assert len(cancelled) == 1
    assert timeout <= cancelled[0] < timeout + 0.5
    assert infos == [CloseInfo(1001, "", True)]


async def _is_stuck(ws: WebSocketStream) -> None:
    await anyio.sleep_forever()


async def _has_blocked_output(ws: WebSocketStream) -> None:
    while True:
        await ws.send(bytes(1 << 20))


async def _waits(ws: WebSocketStream) -> None:
    await ws.wait_closed()


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("tls_on", [False, True])
@pytest.mark.parametrize("handler", [echo, _waits, _is_stuck, _has_blocked_output])
@pytest.mark.parametrize("timeout", [0, 3, 10])
async def test_mute_clients_do_not_delay_the_shutdown_beyond_its_timeout(
    timeout: float, handler: Any, tls_on: bool, tls: SimpleNamespace, http: Any
) -> None:
    async with AsyncExitStack() as stack:
        async with serve(
            handler, "127.0.0.1", ssl=tls.server if tls_on else None, shutdown_timeout=timeout
        ) as server:
            for _ in range(5):
                stream: ByteStream = await anyio.connect_tcp("127.0.0.1", server.port)
                if tls_on:
                    stream = await TLSStream.wrap(
                        stream, ssl_context=tls.client, hostname="127.0.0.1", standard_compatible=False
                    )
                stack.push_async_callback(anyio.aclose_forcefully, stream)
                await stream.send(http.opening)
            await until(lambda: len(server.connections) == 5)
            connections = list(server.connections)
            start = anyio.current_time()
        assert anyio.current_time() - start <= timeout + 0.1
        assert server.connections == set()
        assert {ws.state for ws in connections} == {"closed"}


async def test_handshakes_in_progress_are_dropped_at_shutdown() -> None:
    async with serve(echo, "127.0.0.1", open_timeout=100, shutdown_timeout=100) as server:
        streams = [await anyio.connect_tcp("127.0.0.1", server.port) for _ in range(3)]
        await streams[1].send(b"GET / HT")
        await anyio.sleep(1)
        start = anyio.current_time()
    assert anyio.current_time() - start < 1
    for stream in streams:
        async with stream:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("moment", range(6))
async def test_a_client_of_the_last_moment_does_not_delay_the_shutdown(
    moment: int, asks: bool, http: Any
) -> None:
    """However far the server has got with it when the block is left."""
    with socket.socket() as sock:
        async with serve(
            echo, "127.0.0.1", open_timeout=100, shutdown_timeout=100, close_timeout=1
        ) as server:
            await anyio.sleep(1)
            start = anyio.current_time()
            sock.connect(("127.0.0.1", server.port))
            if asks:
                sock.send(http.opening)
            for _ in range(moment):
                await checkpoint()
        assert anyio.current_time() - start < 1.5


async def test_nobody_is_accepted_after_close_but_the_others_go_on() -> None:
    async with serve(echo, "127.0.0.1") as server, anyio.create_task_group() as tasks:
        done = anyio.Event()

        async def wait() -> None:
            await server.wait_closed()
            done.set()

        tasks.start_soon(wait)
        async with connect(server.url) as ws:
            await check_echo(ws)
            assert not done.is_set()
            url = server.url
            server.close()
            await done.wait()
            await check_echo(ws)
            with pytest.raises(ConnectionRefusedError):
                async with connect(url):
                    pytest.fail("entered")


async def test_an_exception_of_the_body_arrives_as_itself() -> None:
    error = ValueError("mine")
    infos: list[CloseInfo | None] = []

    async def client() -> None:
        async with connect(server.url) as ws:
            assert [message async for message in ws] == []
            infos.append(ws.close_info)

    async with anyio.create_task_group() as tasks:
        with pytest.raises(ValueError) as caught:
            async with serve(echo, "127.0.0.1") as server:
                tasks.start_soon(client)
                await until(lambda: server.connections)
                raise error
    assert caught.value is error
    assert infos == [CloseInfo(1001, "", True)]


async def test_a_block_that_is_cancelled_cancels_the_handlers_and_says_1001() -> None:
    infos: list[CloseInfo | None] = []

    async def handler(ws: WebSocketStream) -> None:
        await anyio.sleep_forever()

    async def client() -> None:
        async with connect(server.url) as ws:
            assert [message async for message in ws] == []
            infos.append(ws.close_info)

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(5) as scope:
            async with serve(handler, "127.0.0.1") as server:
                tasks.start_soon(client)
                await server.wait_closed()
        assert scope.cancelled_caught
        assert anyio.current_time() <= 5.5
    assert infos == [CloseInfo(1001, "", True)]


async def test_a_shutdown_that_is_cancelled_cancels_the_handlers_at_once() -> None:
    cancelled: list[float] = []
    streams: list[ByteStream] = []

    async def handler(ws: WebSocketStream) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(anyio.current_time())

    with anyio.move_on_after(5) as scope:
        async with serve(handler, "127.0.0.1", shutdown_timeout=100) as server:
            streams.append(await anyio.connect_tcp("127.0.0.1", server.port))
            peer = await RawPeer.as_client(streams[0])
            await until(lambda: server.connections)
    assert scope.cancelled_caught
    assert cancelled == [pytest.approx(5)]
    assert anyio.current_time() <= 5.5
    async with streams[0]:
        assert (await peer.read_frame()).close_code == 1001


# -- entering and leaving --------------------------------------------------------------------


async def test_a_server_is_entered_in_one_task_and_left_in_another() -> None:
    serving = serve(echo, "127.0.0.1")
    servers: list[Server] = []

    async def enter() -> None:
        with anyio.CancelScope():  # which ends before the server does
            servers.append(await serving.__aenter__())

    async def use() -> None:
        async with connect(servers[0].url) as ws:
            await check_echo(ws)

    async def leave() -> None:
        with anyio.fail_after(5):
            await serving.__aexit__(None, None, None)

    for step in (enter, use, leave):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(step)
    with pytest.raises(ConnectionRefusedError):
        await use()


@pytest.mark.parametrize("left_by", [KeyboardInterrupt, SystemExit, pytest.fail.Exception])
async def test_a_block_that_is_left_by_what_ends_the_program_cancels_the_handlers(
    left_by: type[BaseException],
) -> None:
    infos: list[CloseInfo | None] = []

    async def client() -> None:
        async with connect(server.url) as ws:
            assert [message async for message in ws] == []
            infos.append(ws.close_info)

    async with anyio.create_task_group() as tasks:
        with pytest.raises(left_by):
            async with serve(lambda ws: anyio.sleep_forever(), "127.0.0.1") as server:
                tasks.start_soon(client)
                await until(lambda: server.connections)
                start = anyio.current_time()
                raise left_by
        assert anyio.current_time() - start < 0.5
        assert server.connections == set()
    assert infos == [CloseInfo(1001, "", True)]


async def test_a_block_in_a_coroutine_that_is_closed_ends_without_waiting() -> None:
    servers: list[Server] = []

    async def run() -> None:
        async with serve(lambda ws: anyio.sleep_forever(), "127.0.0.1") as server:
            servers.append(server)
            while True:
                await anyio.sleep(0.1)

    class Closed:
        def __await__(self) -> Any:
            coroutine, value = run(), None
            while not servers or not servers[0].connections:
                value = yield coroutine.send(value)
            coroutine.close()

    async def client() -> None:
        await until(lambda: servers)
        async with connect(servers[0].url) as ws:
            assert [message async for message in ws] == []
            assert ws.close_info == CloseInfo(1001, "", True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client)
        await Closed()
    await until(lambda: not servers[0].connections)


def test_serve_may_be_called_where_no_event_loop_runs(anyio_backend_name: str) -> None:
    serving = serve(echo, "127.0.0.1")

    async def main() -> None:
        async with serving as server, connect(server.url) as ws:
            await check_echo(ws)

    anyio.run(main, backend=anyio_backend_name)


_PROGRAM = """
import signal, sys, anyio, wsstream

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background

async def busy(ws):
    while True:
        sum(range(10_000))
        await anyio.sleep(0)

async def busy_child(ws):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy, ws)

async def main():
    async with wsstream.serve({handler}, "127.0.0.1") as server:
        print(server.port, flush=True)
        await {body}

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("body", ["server.wait_closed()", "anyio.sleep_forever()"])
@pytest.mark.parametrize("handler", ["busy", "busy_child"])
def test_ctrl_c_ends_a_server_at_once_even_with_a_busy_handler(
    body: str, handler: str, anyio_backend_name: str, http: Any
) -> None:
    command = [sys.executable, "-c", _PROGRAM.format(body=body, handler=handler), anyio_backend_name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as client:
                client.settimeout(5)
                client.sendall(http.opening)
                assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
                time.sleep(0.1)  # it is busy now
                process.send_signal(signal.SIGINT)
                _, stderr = process.communicate(timeout=5)
                assert client.recv(4096) == b"\x88\x02\x03\xe9"  # Close 1001
        except BaseException:
            process.kill()  # or leaving the block would wait for it
            raise
    assert stderr.endswith("KeyboardInterrupt\n")
    assert process.returncode == -signal.SIGINT


# -- a server that cannot go on --------------------------------------------------------------


@asynccontextmanager
async def _serve_on_a_socket_that_fails() -> AsyncIterator[tuple[Server, WebSocketStream]]:
    """A server that has to stop listen while a client is connected."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with serve(echo, listeners=[listener]) as server, connect(server.url) as ws:
            await check_echo(ws)
            listener.shutdown(socket.SHUT_RDWR)  # accept() fails from now on
            yield server, ws


async def test_a_server_that_cannot_accept_is_closed_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(OSError) as caught:
        async with _serve_on_a_socket_that_fails() as (server, ws):
            try:
                await server.wait_closed()
            finally:
                await check_echo(ws)  # what is open goes on
    assert caught.value.errno == errno.EINVAL
    (record,) = [r for r in caplog.records if r.levelno > logging.INFO]
    assert record.levelname == "ERROR"
    assert "stops listen" in record.getMessage()


async def test_leaving_raises_what_closed_the_server_if_nothing_else_did() -> None:
    with pytest.raises(OSError) as caught:
        async with _serve_on_a_socket_that_fails() as (_, ws):
            await anyio.sleep(1)
            await check_echo(ws)
    assert caught.value.errno == errno.EINVAL


async def test_what_closed_the_server_is_raised_once() -> None:
    async with _serve_on_a_socket_that_fails() as (server, ws):
        with pytest.raises(OSError):
            await server.wait_closed()
        await check_echo(ws)


async def test_an_exception_of_the_body_goes_before_what_closed_the_server() -> None:
    with pytest.raises(ZeroDivisionError):
        async with _serve_on_a_socket_that_fails():
            await anyio.sleep(1)
            raise ZeroDivisionError
