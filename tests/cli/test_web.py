"""``wsstream serve files --web`` and ``wsstream demo --web``: the page, and who may connect."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import pytest

import wsstream
from wsstream.cli.slow_disk import Disk, SlowRoot
from wsstream.files import SUBPROTOCOL, serve_files, upload

Command = Callable[..., subprocess.CompletedProcess[bytes]]
Spawn = Callable[..., subprocess.Popen[bytes]]

pytestmark = pytest.mark.slow

CONTROL = "wsstream.demo.v1"
TOKEN = "t0ken-of-the-tests"


@pytest.fixture
def web(spawn: Spawn) -> Callable[..., tuple[subprocess.Popen[bytes], str]]:
    """``web("demo")``: start a server with ``--web``; returns it and the URL of its page."""

    def start(*arguments: str) -> tuple[subprocess.Popen[bytes], str]:
        process = spawn(*arguments, "--web")
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline().decode())
        assert found is not None
        return process, found[0]

    return start


def get(url: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.headers["content-type"], response.read()


def handshake(url: str, subprotocol: str, **options: Any) -> int:
    """The status of the answer to a request for a WebSocket."""

    async def main() -> int:
        try:
            async with wsstream.connect(
                url.replace("http", "ws"), subprotocols=[subprotocol], **options
            ) as ws:
                return 101 if ws.subprotocol == subprotocol else 0
        except wsstream.HandshakeRejected as error:
            return error.status

    return anyio.run(main)


def test_the_page_and_the_files_have_one_address(web: Any, tmp_path: Path, command: Command) -> None:
    (tmp_path / "a.txt").write_text("a")
    process, url = web("serve", "files", str(tmp_path), "--bind", ":0", "--origin", "https://friend.example")
    kind, page = get(url)
    assert kind.startswith("text/html")
    assert b"wsstream" in page
    assert json.loads(get(f"{url}settings.json")[1]) == {"control": None, "login": False}
    assert get(f"{url}healthz")[1] == b"ok\n"
    for origin, status in (
        (None, 101),
        (url.rstrip("/"), 101),
        ("https://friend.example", 101),
        ("http://elsewhere.example", 403),
        ("null", 403),
    ):
        assert handshake(url, SUBPROTOCOL, origin=origin) == status, origin
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_with_a_token_the_page_logs_in_and_programs_send_it(spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "served").mkdir()
    options = ("--web", "--token-file", str(tmp_path / "token"), "--bind", ":0", "-v")
    process = spawn("serve", "files", str(tmp_path / "served"), *options)
    assert process.stderr is not None
    lines = [process.stderr.readline().decode()]
    url = re.findall(r"http://\S+", lines[0])[0]
    assert get(url)[0].startswith("text/html")
    assert json.loads(get(f"{url}settings.json")[1]) == {"control": None, "login": True}
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"{url}session", headers=bearer, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        cookie = response.headers["set-cookie"].partition(";")[0]
    for headers, status in (
        ({}, 401),
        (bearer, 101),
        ({"Cookie": cookie}, 101),
        ({"Authorization": "Bearer other"}, 401),
        ({"Cookie": f"{cookie}0"}, 401),
    ):
        for target in (url, f"{url}elsewhere"):
            assert handshake(target, SUBPROTOCOL, headers=headers) == status, headers
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    said = "".join(lines) + process.stderr.read().decode()
    assert "/elsewhere" in said
    assert TOKEN not in said
    assert cookie.partition("=")[2] not in said


@pytest.mark.parametrize("option", ["--json", "--raw", "--tls", "README.md"])
def test_options_of_the_other_demo_do_not_go_with_the_page(command: Command, option: str) -> None:
    done = command("demo", "--web", option)
    assert done.returncode == 2
    assert b"--web does not go with" in done.stderr


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_demo_is_for_its_own_page(web: Any, backend: str) -> None:
    process, url = web("demo", "--backend", backend)
    assert json.loads(get(f"{url}settings.json")[1]) == {"control": CONTROL, "login": False}
    for origin, status in ((None, 101), (url.rstrip("/"), 101), ("http://elsewhere.example", 403)):
        assert handshake(url, SUBPROTOCOL, origin=origin) == status, origin
        assert handshake(url, CONTROL, origin=origin) == status, origin
    rebound = {"headers": {"Host": "elsewhere.example"}, "origin": "http://elsewhere.example"}
    assert handshake(url, SUBPROTOCOL, **rebound) == 421
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_the_demos_disk_is_as_slow_as_the_page_says(web: Any, tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(2 << 20))
    _, url = web("demo")
    url = url.replace("http", "ws")

    async def main() -> None:
        async with wsstream.connect(url, subprotocols=[CONTROL]) as control:
            await control.send('{"disk": 2097152}')
            await anyio.sleep(0.3)
            began = monotonic()
            await upload(url, file, name="slow.bin")
            assert monotonic() - began > 0.9
            await control.send('{"disk": null}')
            await anyio.sleep(0.3)
            await control.send("not a rate")
            await control.wait_closed()
            assert control.close_info is not None
            assert control.close_info.code == 1008

    anyio.run(main)


# -- the slow disk, in this process ----------------------------------------------------------------


def test_a_disk_takes_its_time_until_it_is_told_otherwise() -> None:
    disk = Disk()
    began = monotonic()
    disk.wait(1 << 30)
    assert monotonic() - began < 1
    disk.rate = 1_000_000
    began = monotonic()
    disk.wait(100_000)
    assert monotonic() - began >= 0.09


@pytest.mark.anyio
async def test_files_on_a_slow_disk_arrive(tmp_path: Path) -> None:
    disk = Disk()
    disk.rate = 4 << 20
    folder = tmp_path / "served"
    folder.mkdir()
    content = bytes(range(256)) * 4096  # 1 MiB
    (tmp_path / "file.bin").write_bytes(content)
    with SlowRoot(str(folder), disk) as root:
        handler = serve_files(root, allow=["put"])
        async with wsstream.serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
            began = monotonic()
            await upload(server.url, tmp_path / "file.bin")
            assert monotonic() - began >= 0.2
    assert (folder / "file.bin").read_bytes() == content
