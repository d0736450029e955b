"""`serve` and `accept`: their options, shutting down, and what becomes of handlers that fail."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSStream

from wsstream import (
    CloseInfo,
    HandshakeError,
    HandshakeRejected,
    Request,
    Response,
    Server,
    WebSocketError,
    WebSocketStream,
    accept,
    connect,
    serve,
)
from wsstream.testing import RawPeer, memory_pair, virtual_clock

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_clock(request.param, idle=0.01)


@pytest.fixture(scope="module")
def tls() -> SimpleNamespace:
    """A server's and a client's context that trust each other."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return SimpleNamespace(server=server, client=client)


_HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


async def _echo(ws: WebSocketStream) -> None:
    async for message in ws:
        await ws.send(message)


async def _check_echo(ws: WebSocketStream) -> None:
    await ws.send("there and back")
    assert await ws.receive() == "there and back"


async def _until(condition: Callable[[], object]) -> None:
    while not condition():
        await anyio.sleep(0.1)


def _request(*lines: str, path: str = "/", method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: a", *lines, "", ""]).encode()


async def _http(server: Server, *lines: str, **request: str) -> tuple[int, bytes, bytes]:
    """Send a request over a plain socket; status, head and body of the answer."""
    async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.send(_request(*lines, **request))
        return await _answer(stream)


async def _answer(stream: ByteStream) -> tuple[int, bytes, bytes]:
    data = b""
    try:
        while True:
            data += await stream.receive()
    except anyio.EndOfStream:
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), head, body


# -- process_request -------------------------------------------------------------------------


@pytest.fixture(params=["sync", "async"])
def as_hook(request: pytest.FixtureRequest) -> Callable[[Callable[[Request], Any]], Any]:
    """Make a `process_request` of a function, in both ways that are allowed."""

    def as_hook(function: Callable[[Request], Any]) -> Any:
        async def hook(request: Request) -> Any:
            await anyio.sleep(1)
            return function(request)

        return function if request.param == "sync" else hook

    return as_hook


async def test_process_request_answers_a_health_check(as_hook: Callable[..., Any]) -> None:
    def hook(request: Request) -> Response | None:
        return Response(200, {"X-Check": "1"}, "OK\n") if request.path == "/healthz" else None

    async with serve(_echo, "127.0.0.1", process_request=as_hook(hook)) as server:
        status, head, body = await _http(server, path="/healthz?verbose")
        assert (status, body) == (200, b"OK\n")
        for field in (b"X-Check: 1", b"Content-Length: 3", b"Connection: close"):
            assert field.lower() in head.lower()
        status, head, body = await _http(server, path="/healthz", method="HEAD")
        assert (status, body) == (200, b"")
        assert b"content-length: 3" in head.lower()
        async with connect(server.url) as ws:
            await _check_echo(ws)


@pytest.mark.parametrize(
    ("status", "field"),
    [(401, ("WWW-Authenticate", "Basic")), (403, ("X-Why", "no")), (302, ("Location", "https://a.example/"))],
)
async def test_process_request_refuses_a_handshake(
    as_hook: Callable[..., Any], status: int, field: tuple[str, str]
) -> None:
    called: list[WebSocketStream] = []

    async def handler(ws: WebSocketStream) -> None:
        called.append(ws)

    hook = as_hook(lambda request: Response(status, [field], "no"))
    async with serve(handler, "127.0.0.1", process_request=hook) as server:
        with pytest.raises(HandshakeRejected) as caught:
            async with connect(server.url):
                pytest.fail("entered")
        assert (caught.value.status, caught.value.body) == (status, b"no")
        assert (field[0].lower(), field[1]) in caught.value.headers
    assert called == []


async def test_process_request_sees_the_request_and_hands_state_to_the_handler(
    as_hook: Callable[..., Any],
) -> None:
    seen: list[Request] = []

    def hook(request: Request) -> None:
        request.state.user = "ada"
        seen.append(request)

    async def handler(ws: WebSocketStream) -> None:
        assert ws.request is seen[0]
        await ws.send(ws.request.state.user)
        await ws.send(ws.url)

    async with serve(handler, "127.0.0.1", process_request=as_hook(hook)) as server:
        headers = {"Cookie": "a=1; b=2", "X-Extra": "yes"}
        async with connect(f"{server.url}/chat?q=1", headers=headers, subprotocols=[]) as ws:
            assert await ws.receive() == "ada"
            assert await ws.receive() == f"{server.url}/chat?q=1"
    request = seen[0]
    assert (request.method, request.path, request.query) == ("GET", "/chat", "q=1")
    assert (request.headers["x-extra"], request.cookies) == ("yes", {"a": "1", "b": "2"})
    assert isinstance(request.peer, tuple)
    assert request.peer[0] == "127.0.0.1"


@pytest.mark.parametrize("wrong", ["raises", 404, "text", b"bytes", (200, {}, b""), False])
async def test_a_process_request_that_fails_is_answered_with_500_and_logged(
    as_hook: Callable[..., Any], wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(request: Request) -> Any:
        if wrong == "raises":
            raise ZeroDivisionError("secret")
        return wrong

    async with serve(_echo, "127.0.0.1", process_request=as_hook(hook)) as server:
        status, _, body = await _http(server, path="/x")
        assert status == 500
        assert b"secret" not in body
        (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert (record.name, record.levelname) == ("wsstream.server", "ERROR")
        assert "/x" in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[0] is (ZeroDivisionError if wrong == "raises" else TypeError)


async def test_a_process_request_that_hangs_is_cancelled_after_the_open_timeout() -> None:
    cancelled: list[float] = []

    async def hook(request: Request) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(anyio.current_time() - start)

    async with serve(_echo, "127.0.0.1", process_request=hook, open_timeout=3) as server:
        start = anyio.current_time()
        with pytest.raises(HandshakeError):
            async with connect(server.url):
                pytest.fail("entered")
        assert 3 <= cancelled[0] < 4


# -- origins and subprotocols ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("origins", "origin", "admitted"),
    [
        (None, None, True),
        (None, "https://any.example", True),
        (["https://a.example"], "https://a.example", True),
        (["https://a.example"], "https://A.example", True),
        (["https://a.example"], "https://b.example", False),
        (["https://a.example"], "http://a.example", False),
        (["https://a.example"], "https://a.example:8443", False),
        (["https://a.example"], None, False),
        (["https://a.example", None], None, True),
        ([], "https://a.example", False),
    ],
)
async def test_origins_decide_who_is_let_in(
    origins: list[str | None] | None, origin: str | None, admitted: bool
) -> None:
    async with serve(_echo, "127.0.0.1", origins=origins) as server:
        if admitted:
            async with connect(server.url, origin=origin) as ws:
                await _check_echo(ws)
                assert ws.request.origin == origin
        else:
            with pytest.raises(HandshakeRejected) as caught:
                async with connect(server.url, origin=origin):
                    pytest.fail("entered")
            assert caught.value.status == 403


def test_origins_that_are_one_str_are_refused() -> None:
    with pytest.raises(TypeError):
        serve(_echo, origins="https://a.example")
    with pytest.raises(TypeError):
        accept(memory_pair()[0], origins="https://a.example")


@pytest.mark.parametrize(
    ("supported", "offered", "chosen"),
    [([], [], ""), (["a"], [], ""), (["b", "a"], ["a", "b"], "b"), (["x", "a"], ["a", "b"], "a")],
)
async def test_the_server_chooses_the_subprotocol_that_it_prefers(
    supported: list[str], offered: list[str], chosen: str
) -> None:
    async def handler(ws: WebSocketStream) -> None:
        await ws.send(ws.subprotocol)

    async with (
        serve(handler, "127.0.0.1", subprotocols=supported) as server,
        connect(server.url, subprotocols=offered) as ws,
    ):
        assert (await ws.receive(), ws.subprotocol) == (chosen, chosen)


# -- the handler -----------------------------------------------------------------------------


async def test_a_handler_that_fails_is_logged_with_its_connection_and_answered_with_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ids: list[str] = []

    async def handler(ws: WebSocketStream) -> None:
        ids.append(ws.id)
        if await ws.receive() == "fail":
            raise ZeroDivisionError("secret")
        await _echo(ws)

    async with serve(handler, "127.0.0.1") as server, connect(server.url) as other:
        await other.send("first")
        async with connect(server.url) as ws:
            await ws.send("fail")
            assert [message async for message in ws] == []
            assert ws.close_info == CloseInfo(1011, "", True)
        (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert (record.name, record.levelname) == ("wsstream.server", "ERROR")
        assert f"connection {ids[1]}" in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError
        await _check_echo(other)  # nobody else is hurt


async def test_a_handler_closes_with_the_code_of_its_websocket_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(ws: WebSocketStream) -> None:
        raise WebSocketError("not logged in", code=4401, reason="log in first")

    async with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        assert [message async for message in ws] == []
        assert ws.close_info == CloseInfo(4401, "log in first", True)
        await _until(lambda: not server.connections)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_a_client_that_vanishes_is_no_error_of_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    async with serve(_echo, "127.0.0.1") as server:
        async with connect(server.url) as ws:
            await _check_echo(ws)
            ws.abort()
        await _until(lambda: not server.connections)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_a_handler_that_returns_closes_with_1000() -> None:
    async def handler(ws: WebSocketStream) -> None:
        await ws.send("bye")

    async with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        assert [message async for message in ws] == ["bye"]
        assert ws.close_info == CloseInfo(1000, "", True)


async def test_a_server_logs_connections_at_info_and_nothing_louder(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(_echo, "127.0.0.1") as server:
        async with connect(server.url) as ws:
            (other,) = server.connections
            await _check_echo(ws)
        assert (await _http(server))[0] == 426
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(b"\x16\x03\x01")
        await anyio.sleep(1)
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert {record.name for record in caplog.records} == {"wsstream.server"}
    messages = [r.getMessage() for r in caplog.records if f"connection {other.id}:" in r.getMessage()]
    assert len(messages) == 2
    assert "open" in messages[0]
    assert "1000" in messages[1]


# -- what a server tells ---------------------------------------------------------------------


async def test_connections_are_those_that_are_open() -> None:
    async with serve(_echo, "127.0.0.1") as server:
        assert server.connections == set()
        async with connect(server.url) as one, connect(server.url + "/two") as two:
            await _check_echo(one)
            await _check_echo(two)
            assert sorted(ws.request.path for ws in server.connections) == ["/", "/two"]
            await one.aclose()
            await _until(lambda: len(server.connections) == 1)
        await _until(lambda: not server.connections)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", None])
async def test_port_and_url_lead_to_the_server(host: str | None, tls: SimpleNamespace) -> None:
    async with serve(_echo, host) as server:
        assert 0 < server.port < 65536
        assert server.url.startswith("ws://")
        assert server.url.endswith(f":{server.port}")
        async with connect(server.url, open_timeout=None) as ws:  # names are resolved in real time
            await _check_echo(ws)
    async with serve(_echo, "127.0.0.1", ssl=tls.server) as server:
        assert server.url == f"wss://127.0.0.1:{server.port}"
        async with connect(server.url, ssl=tls.client) as ws:
            await _check_echo(ws)
            (other,) = server.connections
            assert other.url == f"{server.url}/"


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    async with serve(_echo, "127.0.0.1") as server:
        with pytest.raises(OSError) as caught:
            async with serve(_echo, "127.0.0.1", server.port):
                pytest.fail("entered")
        assert caught.value.errno == errno.EADDRINUSE


async def test_a_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with serve(_echo, path=path) as server:
        assert (server.port, server.url) == (0, f"ws+unix:{path}")
        async with connect("ws://localhost/", transport=await anyio.connect_unix(path)) as ws:
            await _check_echo(ws)
        assert path.is_socket()
    assert not path.exists()


async def test_listeners_may_be_given_and_are_closed_at_the_end() -> None:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [listener.getsockname()[1] for listener in listeners]
    async with serve(_echo, listeners=iter(listeners)) as server:
        assert server.port == ports[0]
        for port in ports:
            async with connect(f"ws://127.0.0.1:{port}/") as ws:
                await _check_echo(ws)
    assert [listener.fileno() for listener in listeners] == [-1, -1]


@pytest.mark.parametrize(
    "options",
    [
        {"host": "127.0.0.1", "path": "/tmp/x"},
        {"port": 80, "path": "/tmp/x"},
        {"host": "127.0.0.1", "listeners": []},
        {"path": "/tmp/x", "listeners": []},
        {"listeners": []},
        {"max_connections": 0},
        {"max_connections": -1},
        {"shutdown_timeout": -1},
        {"open_timeout": -1},
    ],
    ids=str,
)
async def test_a_wrong_value_is_refused_before_anything_listens(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        serve(_echo, **options)


@pytest.mark.parametrize(
    "options", [{"max_connections": "5"}, {"max_connections": True}, {"shutdown_timeout": "1"}], ids=str
)
async def test_a_wrong_type_is_refused_before_anything_listens(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        serve(_echo, "127.0.0.1", **options)


@pytest.mark.parametrize("value", [5, True, "deflate"])
async def test_compression_is_a_deflate_or_none(value: Any) -> None:
    with pytest.raises(TypeError, match="compression"):
        serve(_echo, compression=value)
    with pytest.raises(TypeError, match="compression"):
        accept(memory_pair()[0], compression=value)


# -- accept ----------------------------------------------------------------------------------


async def _accepted(stream: ByteStream, **options: Any) -> None:
    async with accept(stream, **options) as ws:
        await _echo(ws)


async def test_accept_serves_over_a_memory_pair() -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_accepted, theirs)
        async with connect("ws://a/", transport=ours) as ws:
            await _check_echo(ws)
    assert ws.close_info == CloseInfo(1000, "", True)
    for stream in (ours, theirs):
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")


async def test_accept_serves_over_a_tls_stream(tls: SimpleNamespace) -> None:
    ours, theirs = memory_pair()

    async def server() -> None:
        stream = await TLSStream.wrap(
            theirs, server_side=True, ssl_context=tls.server, standard_compatible=False
        )
        async with accept(stream) as ws:
            assert ws.url == "wss://localhost/chat"
            await _echo(ws)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server)
        async with connect("wss://localhost/chat", ssl=tls.client, transport=ours) as ws:
            await _check_echo(ws)
    assert ws.close_info == CloseInfo(1000, "", True)


async def test_accept_raises_what_it_refused_after_it_has_answered() -> None:
    ours, theirs = memory_pair()

    async def client() -> None:
        async with ours:
            await ours.send(_request("Upgrade: websocket", "Connection: Upgrade"))
            assert (await _answer(ours))[0] == 426

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client)
        with pytest.raises(HandshakeError):
            async with accept(theirs):
                pytest.fail("entered")
    with pytest.raises(anyio.ClosedResourceError):
        await theirs.send(b"x")


@pytest.mark.parametrize("hold", ["silent", "gone", "reset"])
async def test_accept_gives_up_a_client_that_does_not_ask(hold: str) -> None:
    ours, theirs = memory_pair()
    if hold == "gone":
        await ours.aclose()
    elif hold == "reset":
        ours.reset()
    start = anyio.current_time()
    with pytest.raises(TimeoutError if hold == "silent" else HandshakeError):
        async with accept(theirs, open_timeout=4):
            pytest.fail("entered")
    assert anyio.current_time() - start == pytest.approx(4 if hold == "silent" else 0, abs=0.2)
    with pytest.raises(anyio.ClosedResourceError):
        await theirs.send(b"x")


async def test_accept_leaves_like_connect() -> None:
    ours, theirs = memory_pair()
    error = WebSocketError(code=3333)
    infos: list[CloseInfo | None] = []

    async def client() -> None:
        async with connect("ws://a/", transport=ours) as ws:
            assert [message async for message in ws] == []
            infos.append(ws.close_info)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client)
        with pytest.raises(WebSocketError) as caught:
            async with accept(theirs):
                raise error
    assert caught.value is error
    assert infos == [CloseInfo(3333, "", True)]


async def test_accept_takes_frames_that_came_with_the_request() -> None:
    ours, theirs = memory_pair()
    peer = RawPeer(ours, "client")
    await ours.send(_request(*_HANDSHAKE))
    await peer.text("early")
    async with accept(theirs, close_timeout=0) as ws:
        assert await ws.receive() == "early"


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
            await _until(lambda: len(server.connections) == 3)
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
        await _until(lambda: server.connections)
        start = anyio.current_time()
    assert len(cancelled) == 1
    assert timeout <= cancelled[0] < timeout + 0.5
    assert infos == [CloseInfo(1001, "", True)]


async def test_handshakes_in_progress_are_dropped_at_shutdown() -> None:
    async with serve(_echo, "127.0.0.1", open_timeout=100, shutdown_timeout=100) as server:
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
async def test_a_client_of_the_last_moment_does_not_delay_the_shutdown(moment: int, asks: bool) -> None:
    """However far the server has got with it when the block is left."""
    with socket.socket() as sock:
        async with serve(
            _echo, "127.0.0.1", open_timeout=100, shutdown_timeout=100, close_timeout=1
        ) as server:
            await anyio.sleep(1)
            start = anyio.current_time()
            sock.connect(("127.0.0.1", server.port))
            if asks:
                sock.send(_request(*_HANDSHAKE))
            for _ in range(moment):
                await checkpoint()
        assert anyio.current_time() - start < 1.5


async def test_nobody_is_accepted_after_close_but_the_others_go_on() -> None:
    async with serve(_echo, "127.0.0.1") as server, anyio.create_task_group() as tasks:
        done = anyio.Event()

        async def wait() -> None:
            await server.wait_closed()
            done.set()

        tasks.start_soon(wait)
        async with connect(server.url) as ws:
            await _check_echo(ws)
            assert not done.is_set()
            url = server.url
            server.close()
            await done.wait()
            await _check_echo(ws)
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
            async with serve(_echo, "127.0.0.1") as server:
                tasks.start_soon(client)
                await _until(lambda: server.connections)
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
            await _until(lambda: server.connections)
    assert scope.cancelled_caught
    assert cancelled == [pytest.approx(5)]
    assert anyio.current_time() <= 5.5
    async with streams[0]:
        assert (await peer.read_frame()).close_code == 1001
