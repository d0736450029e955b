"""Through real reverse proxies, configured as the documentation says: who the client is, and files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.tls import TLSStream
from kit.programs import free_port
from kit.reverse_proxies import PROXIES, running

from wsstream import HandshakeRejected, WebSocketStream, connect, serve
from wsstream.files import download, serve_files, upload
from wsstream.files.storage.partial import Partial

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.time_limit(120)]

CLIENT = "127.0.0.2"  # unlike the proxies, which connect from 127.0.0.1
FORGED = "198.51.100.7"
TRUSTED: dict[str, Any] = {"trusted_proxies": ["127.0.0.1"]}
PINGS: dict[str, Any] = {"ping_interval": 1, "ping_timeout": 20}
# Four seconds in place of the hour of the documentation.
IMPATIENT = {
    "nginx": {
        "proxy_read_timeout 1h": "proxy_read_timeout 4s",
        "proxy_send_timeout 1h": "proxy_send_timeout 4s",
        "send_timeout       1h": "send_timeout 4s",
    },
    "haproxy": {"timeout tunnel      1h": "timeout tunnel 4s"},
}

proxies = pytest.mark.parametrize("program", sorted(PROXIES))
# Half of the pairs: each takes its time.
impatient_proxies = pytest.mark.parametrize(
    ("program", "anyio_backend"), [("nginx", "asyncio"), ("haproxy", "trio")]
)


async def say_who(ws: WebSocketStream) -> None:
    request = ws.request
    await ws.send(f"{request.client} {request.scheme} {request.host}")


async def ask(port: int, trusting: ssl.SSLContext, headers: dict[str, str], **options: Any) -> str | bytes:
    """What `say_who` says through the proxy on `port` to a client that connects from `CLIENT`."""
    sock = socket.create_connection(("127.0.0.1", port), source_address=(CLIENT, 0))
    stream = await anyio.abc.SocketStream.from_socket(sock)
    secure = await TLSStream.wrap(stream, hostname="127.0.0.1", ssl_context=trusting)
    async with connect(f"ws://127.0.0.1:{port}/a", transport=secure, headers=headers, **options) as ws:
        return await ws.receive()


@proxies
async def test_the_server_knows_the_client_whatever_it_makes_up(
    program: str, proxy_folder: Path, trusting: ssl.SSLContext
) -> None:
    async with serve(say_who, "127.0.0.1", **TRUSTED) as server:
        with running(program, proxy_folder, server.port) as proxy:
            truth = f"{CLIENT} https 127.0.0.1:{proxy.port}"
            forged = {
                "Forwarded": f"for={FORGED};proto=http;host=evil.example",
                "X-Forwarded-For": f"{FORGED}, 127.0.0.1",
                "X-Forwarded-Proto": "http",
                "X-Forwarded-Host": "evil.example",
                "X-Real-IP": FORGED,
            }
            assert await ask(proxy.port, trusting, {}) == truth
            assert await ask(proxy.port, trusting, forged) == truth
            for name, value in forged.items():
                assert await ask(proxy.port, trusting, {name: value}) == truth
            origin = f"https://127.0.0.1:{proxy.port}"
            assert await ask(proxy.port, trusting, {}, origin=origin) == truth


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("secure", [False, True])
async def test_haproxy_speaks_the_proxy_protocol(
    version: str, secure: bool, proxy_folder: Path, trusting: ssl.SSLContext, server_tls: ssl.SSLContext
) -> None:
    own_tls = server_tls if secure else None
    async with serve(say_who, "127.0.0.1", ssl=own_tls, proxy_protocol=True, **TRUSTED) as server:
        line = f"server one 127.0.0.1:{server.port}"
        how = f" {version}{' ssl verify none' if secure else ''}"
        with running("haproxy", proxy_folder, server.port, {line: line + how}) as proxy:
            # The peer is the client itself then, who is not trusted: only the header is believed.
            scheme = "https" if secure else "http"
            for headers in ({}, {"X-Forwarded-For": FORGED, "X-Forwarded-Proto": "gopher"}):
                answer = await ask(proxy.port, trusting, headers)
                assert answer == f"{CLIENT} {scheme} 127.0.0.1:{proxy.port}"


# -- files, with proxies that cut a connection after 4 seconds of silence --------------------------


HELLO = {
    "t": "hello",
    "v": 1,
    "agent": "idle",
    "max_segment": 262144,
    "hashes": ["sha256"],
    "ops": [],
    "max_size": None,
    "resume": True,
}


class Slow:
    """Storage whose writes take a while."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.first = 0.0  # seconds, for the first write to each file
        self.each = 0.0  # seconds, for the others
        seen: set[Partial] = set()
        write = Partial.write

        def slow_write(part: Partial, chunks: Any) -> Any:
            time.sleep(self.each if part in seen else self.first or self.each)
            seen.add(part)
            return write(part, chunks)

        patch.setattr(Partial, "write", slow_write)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(os.urandom(1 << 20) * 24)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Files:
    """A server of files behind a proxy, and how to reach it through the proxy."""

    def __init__(self, folder: Path, proxy: Any, trusting: ssl.SSLContext) -> None:
        self.folder = folder
        self.proxy = proxy
        self.count = 0  # of connections
        self.url = f"wss://127.0.0.1:{proxy.port}/"
        self.options: dict[str, Any] = {"ssl": trusting, "delays": [0.5] * 20, **PINGS}

    async def both_ways(self, source: Path, copy: Path) -> None:
        """Send `source`, and receive it as `copy`."""
        await upload(self.url, source, **self.options)
        assert digest(self.folder / source.name) == digest(source)
        await download(self.url + source.name, copy, **self.options)
        assert digest(copy) == digest(source)


@asynccontextmanager
async def files_behind(program: str, folder: Path, trusting: ssl.SSLContext) -> AsyncIterator[Files]:
    root = folder / "root"
    root.mkdir(exist_ok=True)
    handler = serve_files(root, allow=["get", "list", "put"])

    async def counted(ws: WebSocketStream) -> None:
        files.count += 1
        await handler(ws)

    async with serve(counted, "127.0.0.1", subprotocols=handler.subprotocols, **TRUSTED, **PINGS) as server:
        with running(program, folder, server.port, IMPATIENT[program]) as proxy:
            files = Files(root, proxy, trusting)
            yield files


@impatient_proxies
async def test_files_arrive_though_the_receiver_pauses_for_longer_than_the_timeouts(
    program: str, proxy_folder: Path, trusting: ssl.SSLContext, source: Path, slow: Slow
) -> None:
    slow.first = 10
    copy = proxy_folder / "copy.bin"
    async with files_behind(program, proxy_folder, trusting) as files:
        shutil.copy(source, files.folder / "other.bin")
        async with anyio.create_task_group() as group:
            group.start_soon(stay_idle, files)
            group.start_soon(partial(upload, files.url, source, **files.options))
            await download(files.url + "other.bin", copy, **files.options)
        assert digest(files.folder / source.name) == digest(copy) == digest(source)
        assert files.count == 3, "a connection was cut"


async def stay_idle(files: Files) -> None:
    """A connection on which only Pings pass lives on."""
    options: dict[str, Any] = {"ssl": files.options["ssl"], **PINGS}
    async with connect(files.url, subprotocols=["wsstream.file.v1"], **options) as ws:
        assert isinstance(await ws.receive(), str)  # the server's hello
        await ws.send(json.dumps(HELLO))
        await anyio.sleep(9)
        assert ws.close_info is None


@impatient_proxies
async def test_a_reload_of_the_proxy_in_the_middle(
    program: str, proxy_folder: Path, trusting: ssl.SSLContext, source: Path, slow: Slow
) -> None:
    slow.each = 0.05
    async with files_behind(program, proxy_folder, trusting) as files, anyio.create_task_group() as group:
        group.start_soon(files.both_ways, source, proxy_folder / "copy.bin")
        for _ in range(3):
            await anyio.sleep(0.7)
            files.proxy.reload()


@impatient_proxies
async def test_a_server_that_is_started_again_in_the_middle(
    program: str, proxy_folder: Path, trusting: ssl.SSLContext, source: Path, slow: Slow
) -> None:
    slow.each = 0.1
    root, port = proxy_folder / "root", free_port()
    root.mkdir()
    handler = serve_files(root, allow=["get", "list", "put"])

    async def run_and_stop() -> None:
        while True:
            async with serve(handler, "127.0.0.1", port, shutdown_timeout=1, **TRUSTED, **PINGS):
                await anyio.sleep(1.5)

    with running(program, proxy_folder, port, IMPATIENT[program]) as proxy:
        files = Files(root, proxy, trusting)
        async with anyio.create_task_group() as group:
            group.start_soon(run_and_stop)
            await anyio.sleep(0.3)
            await files.both_ways(source, proxy_folder / "copy.bin")
            group.cancel_scope.cancel()


@pytest.mark.parametrize("program", sorted(IMPATIENT))
async def test_without_a_server_the_client_sees_the_answer_of_the_proxy(
    program: str, proxy_folder: Path, trusting: ssl.SSLContext
) -> None:
    with running(program, proxy_folder, free_port()) as proxy, pytest.raises(HandshakeRejected) as caught:
        async with connect(f"wss://127.0.0.1:{proxy.port}/", ssl=trusting):
            pass
    assert caught.value.status == {"nginx": 502, "haproxy": 503}[program]
