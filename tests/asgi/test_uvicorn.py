"""`UvicornProtocol` under real uvicorn: backpressure, memory, TLS, settings, shutdown, logging."""

from __future__ import annotations

import logging
import re
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trustme
from kit.asgi import uvicorn_server
from kit.processes import environment
from kit.tls import client_context

from wsstream import Deflate, FlowControl, StreamEnded, connect
from wsstream.asgi import ClientDisconnected, UvicornProtocol, streams
from wsstream.asgi.uvicorn import options_of

pytestmark = pytest.mark.anyio
EXAMPLES = Path(__file__).parents[2] / "examples"
LOOPS = ["asyncio", "uvloop"]
ACCEPT = {"type": "websocket.accept"}
SMALL = FlowControl(receive_high_water=4096, receive_low_water=1024)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def serving(
    app: Any, authority: trustme.CA | None, folder: Path, **options: Any
) -> Iterator[tuple[Any, str]]:
    """uvicorn, over TLS if there is an authority."""
    if authority is not None:
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(folder / "key")
        certificate.cert_chain_pems[0].write_to_path(folder / "chain")
        options |= {"ssl_certfile": str(folder / "chain"), "ssl_keyfile": str(folder / "key")}
    with uvicorn_server(app, **options) as made:
        yield made


def trusting(authority: trustme.CA | None) -> ssl.SSLContext | None:
    return None if authority is None else client_context(authority)


async def count_bytes(scope: Any, receive: Any, send: Any) -> None:
    """Reads messages in chunks, and answers each with its size."""
    async with streams(scope, receive, send) as ws:
        async for message in ws.readable.messages():
            size = 0
            async for chunk in message:
                size += len(chunk)
            await ws.send(str(size))


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


@pytest.mark.heavy_after_first(each=("tls",))
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
async def test_messages_of_any_size_pass(loop: str, tls: bool, authority: trustme.CA, tmp_path: Path) -> None:
    trusted = authority if tls else None
    with serving(count_bytes, trusted, tmp_path, loop=loop) as (_, url):
        async with connect(url, ssl=trusting(trusted)) as ws:
            async with ws.writable.message("binary") as out:
                for _ in range(40):
                    await out.send(bytes(1 << 19))
            assert await ws.receive() == str(40 << 19), "above ws_max_size, which is for whole messages"
            await ws.send("")
            assert await ws.receive() == "0"
        assert ws.close_info is not None
        assert ws.close_info.code == 1000


@pytest.mark.heavy_after_first(each=("tls",))
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
async def test_a_client_that_does_not_read_stops_the_sender_and_then_gets_everything(
    loop: str, tls: bool, authority: trustme.CA, tmp_path: Path
) -> None:
    sent = SimpleNamespace(count=0)
    message = bytes(1 << 16)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(2000):  # 125 MiB
            await send({"type": "websocket.send", "bytes": message})
            sent.count += 1

    trusted = authority if tls else None
    with serving(app, trusted, tmp_path, loop=loop) as (_, url):
        async with connect(url, ssl=trusting(trusted), flow=SMALL) as ws:
            before = -1
            with anyio.fail_after(30):
                while sent.count != before:  # until it stands still
                    before = sent.count
                    await anyio.sleep(0.3)
            assert 0 < sent.count < 1000, "the sender did not wait"
            received = 0
            async for data in ws:
                assert data == message
                received += 1
        assert received == 2000


@pytest.mark.heavy_after_first(each=("tls",))
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
async def test_an_application_that_does_not_read_stops_the_client(
    loop: str, tls: bool, authority: trustme.CA, tmp_path: Path
) -> None:
    go_on = anyio.Event()
    portal: list[Callable[[], object]] = []
    total = SimpleNamespace(bytes=0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        event = anyio.Event()
        portal.append(anyio.lowlevel.current_token().native_token.call_soon_threadsafe)
        portal.append(event.set)
        await event.wait()
        while (message := await receive())["type"] == "websocket.receive":
            total.bytes += len(message["bytes"])

    trusted = authority if tls else None
    with serving(app, trusted, tmp_path, loop=loop) as (_, url):
        async with connect(url, ssl=trusting(trusted)) as ws, anyio.create_task_group() as group:
            count = 0

            async def upload() -> None:
                nonlocal count
                for _ in range(1000):
                    await ws.send(bytes(1 << 16))
                    count += 1
                go_on.set()

            group.start_soon(upload)
            before = -1
            with anyio.fail_after(30):
                while count != before or not portal:
                    before = count
                    await anyio.sleep(0.3)
            assert count < 500, "the client did not wait"
            portal[0](portal[1])  # type: ignore[call-arg]
            await go_on.wait()
    assert total.bytes == 1000 << 16


@pytest.mark.heavy
@pytest.mark.parametrize("loop", LOOPS)
async def test_a_slow_reader_lives_and_a_peer_that_is_gone_does_not(loop: str, tmp_path: Path) -> None:
    """Pings come each 0.1 s, and their Pongs wait behind what the application has not read."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await anyio.sleep(1.5)
        size = 0
        while (message := await receive())["type"] == "websocket.receive":
            size += len(message["bytes"])
            if size == 40 << 16:
                await send({"type": "websocket.send", "text": str(size)})

    options = {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.2}
    with serving(app, None, tmp_path, loop=loop, **options) as (_, url):
        async with connect(url) as ws:
            for _ in range(40):
                await ws.send(bytes(1 << 16))
            assert await ws.receive() == str(40 << 16)
        host, _, port = url.removeprefix("ws://").partition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(HANDSHAKE)
            with anyio.fail_after(20):
                async for _ in stream:  # Pings, which get no answer
                    pass


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_the_scope_tells_of_the_request(http: str, tmp_path: Path) -> None:
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({**ACCEPT, "subprotocol": "two"})
        await receive()  # connect
        await receive()
        await send({"type": "websocket.send", "text": "x"})
        await receive()

    with serving(app, None, tmp_path, http=http, root_path="/mounted") as (_, url):
        fields = {"X-Latin": "caf\xe9"}
        async with connect(f"{url}/a%20b/%C3%A9?q=%20", headers=fields, subprotocols=["one", "two"]) as ws:
            await ws.send("x")
            assert await ws.receive() == "x"
    (scope,) = scopes
    assert scope["type"] == "websocket"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert (scope["path"], scope["root_path"]) == ("/mounted/a b/\xe9", "/mounted")
    assert (scope["raw_path"], scope["query_string"]) == (b"/mounted/a%20b/%C3%A9", b"q=%20")
    assert (scope["scheme"], scope["http_version"]) == ("ws", "1.1")
    assert scope["subprotocols"] == ["one", "two"]
    assert (b"x-latin", b"caf\xe9") in scope["headers"]
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
    assert f"ws://127.0.0.1:{scope['server'][1]}" == url
    assert {"websocket.http.response", "wsstream"} <= set(scope["extensions"])
    assert scope["state"] == {}


@pytest.mark.heavy_after_first
async def test_the_access_log_has_a_line_for_each_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> int | None:
        if scope["path"] == "/denied":
            await send({"type": "websocket.close"})
        elif scope["path"] == "/value":
            await send(ACCEPT)
            return 5
        elif scope["path"] == "/fails":
            raise KeyError("own")
        elif scope["path"] != "/silent":
            await echo(scope, receive, send)
        return None

    with caplog.at_level(logging.INFO), serving(app, None, tmp_path) as (_, url):
        for path in ("/open?a=1", "/denied", "/fails", "/silent", "/value"):
            try:
                async with connect(url + path):
                    pass
            except Exception:
                pass
    lines = [re.sub(r"\S+:\d+", "ADDRESS", record.getMessage()) for record in caplog.records]
    for line in (
        'ADDRESS - "WebSocket /open?a=1" [accepted]',
        'ADDRESS - "WebSocket /denied" 403',
        "Exception in ASGI application\n",
        "ASGI callable returned without completing handshake.",
        "ASGI callable should return None, but returned '5'.",
    ):
        assert lines.count(line) == 1, line
    assert not [line for line in lines if "500" in line]


@pytest.mark.heavy
async def test_shutting_down_closes_with_1012_and_waits_for_the_application(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/late":
            seen.append((await receive())["code"])
            return
        await send(ACCEPT)
        seen.append((await receive())["code"])
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "late"})
        await anyio.sleep(0.3)
        seen.append("ended")

    statuses: list[int] = []

    async def late(url: str) -> None:
        try:
            async with connect(url + "/late"):
                pass
        except Exception as error:
            statuses.append(error.status)  # type: ignore[attr-defined]

    with serving(app, None, tmp_path) as (server, url):
        async with connect(url) as ws, anyio.create_task_group() as group:
            group.start_soon(late, url)
            while len(server.server_state.tasks) < 2:
                await anyio.sleep(0.01)
            server.should_exit = True
            assert (await ws.wait_closed()).code == 1012
    assert sorted(map(str, seen)) == ["1006", "1012", "ended"]
    assert statuses == [500]


@pytest.mark.heavy_after_first
async def test_an_application_that_stays_at_shutdown_is_cancelled_after_its_client_has_seen_1012(
    tmp_path: Path,
) -> None:
    cancelled: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()  # disconnect, as uvicorn shuts down
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    with serving(app, None, tmp_path, timeout_graceful_shutdown=1) as (server, url):
        async with connect(url) as ws:
            server.should_exit = True
            assert (await ws.wait_closed()).code == 1012
            assert not cancelled
    assert cancelled


@pytest.mark.heavy_after_first
async def test_a_client_that_drops_tcp_before_the_answer_is_told_as_1006(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(await receive())
        try:
            await send(ACCEPT)
        except OSError as error:
            seen.append(type(error))

    with serving(app, None, tmp_path) as (server, url):
        host, _, port = url.removeprefix("ws://").partition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(HANDSHAKE)
            while not server.server_state.tasks:
                await anyio.sleep(0.01)
        with anyio.fail_after(20):
            while len(seen) < 2:
                await anyio.sleep(0.01)
    assert seen == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}, ClientDisconnected]


@pytest.mark.heavy
async def test_compression_and_limits_are_those_of_uvicorn(tmp_path: Path) -> None:
    with serving(echo, None, tmp_path, ws_max_size=1000) as (_, url):
        async with connect(url, compression=Deflate()) as ws:
            assert ws.extensions.startswith("permessage-deflate")
            await ws.send("x" * 1000)
            assert await ws.receive() == "x" * 1000
            await ws.send("x" * 1001)
            with pytest.raises(StreamEnded) as broken:
                while True:
                    await ws.receive()
            assert broken.value.code == 1009
    with serving(echo, None, tmp_path, ws_per_message_deflate=False) as (_, url):
        async with connect(url, compression=Deflate()) as ws:
            assert ws.extensions == ""


def test_the_settings_of_uvicorn_are_options_of_the_connection() -> None:
    config = SimpleNamespace(
        ws_max_size=5, ws_ping_interval=0, ws_ping_timeout=None, ws_per_message_deflate=False
    )
    options = options_of(config)
    assert (options.max_message_size, options.compression) == (5, None)
    assert (options.ping_interval, options.ping_timeout) == (None, None)
    assert UvicornProtocol.__module__ == "wsstream.asgi.uvicorn"


# -- a process of its own --------------------------------------------------------------------------


@contextmanager
def uvicorn_process(*arguments: str) -> Iterator[tuple[int, str]]:
    """uvicorn's command line with ``examples/fastapi_upload.py``: its process and the URL."""
    command = [sys.executable, "-m", "uvicorn", "fastapi_upload:app", "--port", "0"]
    flag = ["--ws", "wsstream.asgi:UvicornProtocol"]
    own = environment(EXAMPLES, measured=False)
    with Popen([*command, *flag, *arguments], env=own, stderr=PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"running on http://(\S+)", line):
                    yield process.pid, f"ws://{found[1]}"
                    break
        finally:
            process.kill()


def peak_memory(pid: int) -> int:
    """The most bytes that a process has had in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("loop", LOOPS)
async def test_one_message_of_256_mib_into_a_fastapi_endpoint_takes_no_memory(loop: str) -> None:
    size = 256 << 20
    with uvicorn_process("--loop", loop) as (pid, url):
        async with connect(f"{url}/upload") as ws:
            await ws.send(bytes(1 << 22))
            await ws.receive()
        before = peak_memory(pid)
        async with connect(f"{url}/upload") as ws:
            async with ws.writable.message("binary", size=size) as out:  # in one frame
                for _ in range(size >> 20):
                    await out.send(bytes(1 << 20))
            answer = await ws.receive()
            assert isinstance(answer, str)
            assert answer.split()[0] == str(size)
        grown = peak_memory(pid) - before
    assert grown < 16 << 20, f"{grown >> 20} MiB more"
