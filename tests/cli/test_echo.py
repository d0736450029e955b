"""``wsstream echo`` as people run it, and what all servers of the command line have in common."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

import wsstream

pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[bytes]]
Spawn = Callable[..., subprocess.Popen[bytes]]
ListenWith = Callable[..., str]

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def get(url: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url.replace("ws:", "http:"), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


# -- behaviour -----------------------------------------------------------------------------------

BEHAVIOUR = {
    # arguments of echo, of connect, stdin: status and stdout of connect
    "message": ([], [], b"a\nb", 0, b"a\nb\n"),
    "discard": (["--mode", "discard"], [], b"a\nb", 0, b""),
    "flood": (["--mode", "flood", "--size", "2"], ["-n", "3", "--framing", "raw"], b"", 0, b"\0" * 6),
    "close after one": (["--close-after", "1:1008"], ["-w", "5s"], b"a\nb", 7, b"a\n"),
    "close after one, normally": (["--close-after", "1"], ["-w", "5s"], b"a\nb", 0, b"a\n"),
    "close at once": (["--close-after", "0:4000"], [], b"", 7, b""),
    "close in a flood": (
        ["--mode", "flood", "--size", "1", "--close-after", "2"],
        ["--framing", "raw", "-w", "5s"],
        b"",
        0,
        b"\0\0",
    ),
    "drop after one": (["--drop-after", "1"], ["-w", "5s"], b"a\nb", 6, None),
    "stall": (["--stall"], ["--timeout", "1s", "-w", "5s"], b"a", 8, b""),
    "compress": (["--compress"], ["--compress"], b"a" * 5000, 0, b"a" * 5000 + b"\n"),
}


@backends
@pytest.mark.heavy_after_first(each=("case",))
@pytest.mark.parametrize("case", BEHAVIOUR)
def test_behaviour(command: Command, listen_with: ListenWith, case: str, backend: str) -> None:
    arguments, connect, data, status, output = BEHAVIOUR[case]
    url = listen_with("echo", "--bind", ":0", "--backend", backend, *arguments)
    done = command("connect", url, *connect, input=data)
    assert done.returncode == status, done.stderr
    assert output is None or done.stdout == output


@backends
def test_delay_and_rate_take_their_time(command: Command, listen_with: ListenWith, backend: str) -> None:
    url = listen_with("echo", "--bind", ":0", "--backend", backend, "--delay", "600ms", "--rate", "10k")
    start = time.monotonic()
    done = command("connect", url, "-w", "5s", "-n", "1", input=b"x" * 10_000)
    assert done.stdout == b"x" * 10_000 + b"\n"
    assert time.monotonic() - start > 0.6 + 0.8


@pytest.mark.parametrize(
    "arguments",
    [
        ["--close-after", "1:1005"],
        ["--bind", "nonsense"],
        ["--key", "x"],
        ["--trusted-proxy", "a.example"],
        ["--proxy-protocol"],
        ["--origin", "a.example"],
        ["--allow-host", "a b"],
    ],
)
def test_wrong_usage(command: Command, arguments: list[str]) -> None:
    assert command("echo", *arguments).returncode == 2


# -- what all servers have in common -------------------------------------------------------------


@backends
def test_every_address_is_reported_with_its_real_port_and_is_on_loopback(
    command: Command, spawn: Spawn, tmp_path: Path, backend: str
) -> None:
    path = tmp_path / "socket"
    process = spawn(
        "echo", "--bind", ":0", "--bind", "127.0.0.1:0", "--bind", f"unix:{path}", "--backend", backend
    )
    urls = [process.stderr.readline().decode().split()[-1] for _ in range(3)]
    assert all(url.startswith("ws://127.0.0.1:") and not url.endswith(":0/") for url in urls[:2])
    assert urls[0] != urls[1]
    assert urls[2].startswith("ws+unix:")
    for arguments in ([urls[0]], [urls[1]], [urls[2]], ["ws://any/", "--unix", str(path)]):
        assert command("connect", *arguments, input=b"hello").stdout == b"hello\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert not path.exists()


def test_events_are_objects_with_json(spawn: Spawn) -> None:
    event = json.loads(spawn("echo", "--bind", ":0", "--json").stderr.readline())
    assert event["event"] == "listening"
    assert event["url"].startswith("ws://127.0.0.1:")


def test_health_paths_and_tokens(command: Command, listen_with: ListenWith, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken")
    url = listen_with("echo", "--bind", ":0", "--path", "/here", "--token-file", str(token))
    assert url.endswith("/here")
    assert get(url.replace("/here", "/healthz")) == (200, b"ok\n")
    assert get(url.replace("/here", "/there"))[0] == 404
    assert get(url)[0] == 401
    refused = command("connect", url)
    assert (refused.returncode, b"status 401" in refused.stderr) == (5, True)
    assert command("connect", url, WSSTREAM_TOKEN="wrong").returncode == 5
    assert command("connect", url, WSSTREAM_TOKEN="t0ken", input=b"x").stdout == b"x\n"
    assert command("connect", url, "--token-file", str(token), input=b"x").stdout == b"x\n"


def test_a_server_that_drains_sends_its_clients_away_one_by_one(spawn: Spawn) -> None:
    process = spawn("echo", "--bind", ":0", "--drain", "2s")
    assert process.stderr is not None
    url = process.stderr.readline().decode().removeprefix("listening on ").strip()
    ends: list[tuple[float, int]] = []

    async def stay(*, task_status: Any) -> None:
        async with wsstream.connect(url) as ws:
            task_status.started()
            info = await ws.wait_closed()
            ends.append((time.monotonic(), info.code))

    async def main() -> tuple[int, bytes]:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                await tasks.start(stay)
            process.send_signal(signal.SIGTERM)
            while not ends:
                await anyio.sleep(0.01)
            with pytest.raises(wsstream.HandshakeRejected, match="503"):
                await wsstream.connect(url).__aenter__()
            return await anyio.to_thread.run_sync(get, url.rstrip("/") + "/healthz")

    assert anyio.run(main) == (503, b"about to stop\n")
    assert process.wait(10) == 0
    assert [code for _, code in ends] == [1012] * 10
    assert ends[-1][0] - ends[0][0] > 1  # even is 1.6 at least


def test_draining_must_end(command: Command) -> None:
    done = command("echo", "--bind", ":0", "--drain", "none")
    assert done.returncode == 2
    assert b"--drain must have an end" in done.stderr


def test_web_pages_are_let_in_only_if_their_origin_is(command: Command, listen_with: ListenWith) -> None:
    url = listen_with("echo", "--bind", ":0", "--origin", "http://good.example")
    assert command("connect", url, "--origin", "http://good.example").returncode == 0
    assert command("connect", url, "--origin", "http://bad.example").returncode == 5
    assert command("connect", url).returncode == 0
    everybody = listen_with("echo", "--bind", ":0", "--origin", "*")
    assert command("connect", everybody, "--origin", "http://bad.example").returncode == 0


def test_a_request_for_another_host_is_refused(listen_with: ListenWith) -> None:
    """On loopback, so that a page whose name leads here (DNS rebinding) gets nothing."""
    health = listen_with("echo", "--bind", ":0").rstrip("/") + "/healthz"
    assert get(health, Host="localhost:80") == (200, b"ok\n")
    assert get(health, Host="rebound.example")[0] == 421
    for name in ("*", "rebound.example"):
        health = listen_with("echo", "--bind", ":0", "--allow-host", name).rstrip("/") + "/healthz"
        assert get(health, Host="rebound.example")[0] == 200


def test_a_trusted_proxy_says_for_whom_it_asks(command: Command, listen_with: ListenWith) -> None:
    url = listen_with("echo", "--bind", ":0", "--trusted-proxy", "127.0.0.1")
    said = ["-H", "X-Forwarded-Host: a.example", "--origin", "https://a.example"]
    assert command("connect", url, *said).returncode == 0
    assert command("connect", listen_with("echo", "--bind", ":0"), *said).returncode == 5
    proxied = listen_with("echo", "--bind", ":0", "--trusted-proxy", "127.0.0.0/8", "--proxy-protocol")
    host, port = urllib.parse.urlsplit(proxied).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 127.0.0.1 5 80\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
    assert command("connect", proxied).returncode == 3


def test_one_connection_too_many_is_refused(command: Command, spawn: Spawn, listen_with: ListenWith) -> None:
    url = listen_with("echo", "--bind", ":0", "--max-connections", "1")
    first = spawn("connect", url, "--json")
    assert b"open" in first.stderr.readline()
    refused = command("connect", url)
    assert (refused.returncode, b"503" in refused.stderr) == (5, True)


def test_tls(command: Command, listen_with: ListenWith, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    files = ["--cert", str(tmp_path / "cert"), "--key", str(tmp_path / "key")]
    url = listen_with("echo", "--bind", ":0", *files)
    assert url.startswith("wss:")
    assert command("connect", url, input=b"x").returncode == 4
    assert command("connect", url, "--cafile", str(tmp_path / "ca"), input=b"x").stdout == b"x\n"
    assert command("connect", url, "--insecure", *files, input=b"x").stdout == b"x\n"
    done = command("connect", url.replace("wss", "ws"), input=b"x")
    assert done.returncode in (3, 6)
    with pytest.raises(ssl.SSLError):
        ssl.create_default_context().load_cert_chain(tmp_path / "ca")


@backends
def test_once_ends_after_one_connection(command: Command, spawn: Spawn, backend: str) -> None:
    process = spawn("echo", "--bind", ":0", "--once", "--backend", backend)
    url = process.stderr.readline().decode().split()[-1]
    assert command("connect", url, input=b"x").stdout == b"x\n"
    assert process.wait(5) == 0


@backends
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.heavy_after_first
def test_the_first_signal_closes_all_connections_with_1001(
    spawn: Spawn, backend: str, number: signal.Signals
) -> None:
    process = spawn("echo", "--bind", ":0", "--backend", backend)
    url = process.stderr.readline().decode().split()[-1]
    clients = [spawn("connect", url, "--json") for _ in range(2)]
    for client in clients:
        assert b"open" in client.stderr.readline()
    process.send_signal(number)
    for client in clients:
        assert json.loads(client.stderr.readline())["code"] == 1001
        assert client.wait(5) == 0
    assert process.wait(5) == 0


@backends
def test_the_second_signal_ends_a_server_at_once(spawn: Spawn, backend: str) -> None:
    process = spawn("echo", "--bind", ":0", "--backend", backend)
    url = process.stderr.readline().decode().split()[-1]
    client = spawn("connect", url, "--json")
    assert b"open" in client.stderr.readline()
    client.send_signal(signal.SIGSTOP)  # answers no Close
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.7)
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130


def test_an_address_in_use_is_a_failure(command: Command, listen_with: ListenWith) -> None:
    port = listen_with("echo", "--bind", ":0").rstrip("/").rpartition(":")[2]
    done = command("echo", "--bind", f":{port}")
    assert done.returncode == 3
    assert b"cannot listen" in done.stderr


# -- what a service manager needs ----------------------------------------------------------------


@pytest.mark.heavy_after_first
@backends
def test_sighup_loads_the_certificate_again(
    spawn: Spawn, tmp_path: Path, authority: trustme.CA, client_tls: ssl.SSLContext, backend: str
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def write_certificate() -> None:
        made = authority.issue_cert("127.0.0.1")
        made.cert_chain_pems[0].write_to_path(cert)
        made.private_key_pem.write_to_path(key)

    def serial() -> str:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            client_tls.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            return str(tls.getpeercert()["serialNumber"])

    write_certificate()
    process = spawn(
        "echo", "--bind", "127.0.0.1:0", "--cert", str(cert), "--key", str(key), "--backend", backend
    )
    port = int(process.stderr.readline().decode().rstrip("/\n").rpartition(":")[2])
    before = serial()
    write_certificate()
    assert serial() == before
    process.send_signal(signal.SIGHUP)
    assert b"certificate loaded again" in process.stderr.readline()
    after = serial()
    assert after != before
    key.write_text("")
    process.send_signal(signal.SIGHUP)
    assert b"the certificate stays as it was" in process.stderr.readline()
    assert serial() == after


@pytest.mark.parametrize(("bind", "works"), [("systemd", True), ("systemd:chat", True), ("systemd:x", False)])
def test_sockets_of_systemd_are_served(bind: str, works: bool, environment: dict[str, str]) -> None:
    program = (
        "import os, runpy; os.environ['LISTEN_PID'] = str(os.getpid());"
        "runpy.run_module('wsstream', run_name='__main__')"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number, port = listener.fileno(), listener.getsockname()[1]

        def pass_on() -> None:
            os.dup2(number, 3)
            os.set_inheritable(3, True)

        with subprocess.Popen(
            [sys.executable, "-c", program, "echo", "--bind", bind],
            env={**environment, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "chat"},
            preexec_fn=pass_on,
            close_fds=False,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                assert process.stderr is not None
                line = process.stderr.readline()
                if works:
                    assert f"127.0.0.1:{port}/".encode() in line
                    assert get(f"ws://127.0.0.1:{port}/healthz") == (200, b"ok\n")
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(10) == 0
                else:
                    assert b"systemd has passed no such socket" in line
                    assert process.wait(10) == 3
            finally:
                process.kill()


def test_without_systemd_there_is_no_socket_to_serve(command: Command) -> None:
    done = command("echo", "--bind", "systemd")
    assert done.returncode == 3
    assert b"systemd has passed no such socket" in done.stderr


def test_an_address_may_have_a_limit_of_its_own(
    spawn: Spawn, command: Command, listen_with: ListenWith
) -> None:
    url = listen_with("echo", "--bind", ":0", "--max-connections-per-client", "1")
    client = spawn("connect", url, "--json")
    assert b"open" in client.stderr.readline()
    done = command("connect", url)
    assert done.returncode == 5
    assert b"429" in done.stderr
