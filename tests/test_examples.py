"""Every example runs as a newcomer would run it, on both backends, and says what it should."""

from __future__ import annotations

import ast
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from kit.processes import environment, run_program, run_pytest, server

import wsstream.sync

EXAMPLES = Path(__file__).parents[1] / "examples"
BACKENDS = ["asyncio", "trio"]

SAYS = {
    "consumer_loop.py": r"handled update 19\nthe feed ended: CloseInfo\(code=1000, reason='', clean=True\)",
    "stream_large_message.py": r"sent: +(3145728 bytes, \w{64})\nreceived: +\1",
    "backpressure.py": r"reading is paused; now it reads\n(server: .*\n)*client: 200 MiB read",
    "mcp_session.py": r"^adder \['add'\]\n$",
    "pipe_sockets.py": r"HELLO THROUGH TWO SOCKETS\n(.*saw: .*code=4000, reason='enough', clean=True.\n){2}",
    "reconnect.py": r"^(update \d\n){4}lost: .*\n(update \d\n){4}lost: .*\nupdate 8\nupdate 9\n$",
    "chat.py": r"^bob: bob is here\nbob: ann is here\n$",
    "live_feed.py": r"^price 1\nprice 2\nprice 3\n$",
    "collaborative_edit.py": r"^(ann|bob): the quick red fox sleeps\n(ann|bob): the quick red fox sleeps\n$",
    "game_loop.py": r"^connection \d+: too slow for the feed.*\nsaw \d\d? of 300 .* ann bob eve\n$",
    "tcp_tunnel.py": r"^1000000 bytes\n$",
}
WITHOUT_ASYNC = {"sync_download.py", "sync_server.py"}


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SAYS)
def test_example_says_what_it_should(name: str, backend: str) -> None:
    size = ["3"] if name == "stream_large_message.py" else []
    output = run_program(str(EXAMPLES / name), *size, backend)
    assert re.search(SAYS[name], output), output


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("backend", BACKENDS)
def test_echo_client_and_echo_server_talk(backend: str) -> None:
    with server(str(EXAMPLES / "echo_server.py"), "0", backend) as url:
        output = run_program(str(EXAMPLES / "echo_client.py"), url, backend)
    assert output.startswith("hello\nwörld\nb'\\x00\\x01\\x02'\nround trip: ")
    assert output.endswith("CloseInfo(code=1000, reason='', clean=True)\n")


def test_the_download_without_async_saves_all_of_it() -> None:
    assert run_program(str(EXAMPLES / "sync_download.py")) == "67108864 bytes in disk.img\n"


@pytest.mark.heavy
def test_the_chat_without_async_tells_the_others() -> None:
    with (
        server(str(EXAMPLES / "sync_server.py"), "0") as url,
        wsstream.sync.connect(url) as first,
        wsstream.sync.connect(url) as second,
    ):
        first.ping()  # both have their handlers
        second.send("hello")
        assert first.receive(timeout=30) == "hello"


@pytest.mark.heavy_after_first
@pytest.mark.skipif(sys.platform != "linux", reason="there SO_REUSEPORT does not share out connections")
@pytest.mark.parametrize("backend", BACKENDS)
def test_several_processes_serve_one_port_until_a_signal(backend: str) -> None:
    with socket.socket() as kept:  # without listening, so that nobody else gets the port
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        command = [sys.executable, str(EXAMPLES / "several_processes.py"), str(port), backend]
        with subprocess.Popen(
            command,
            env=environment(measured=False),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                lines = [process.stdout.readline().split() for _ in range(2)]
                assert len({line[1] for line in lines}) == 2
                assert {line[3] for line in lines} == {f"ws://127.0.0.1:{port}"}
                output = run_program(str(EXAMPLES / "echo_client.py"), lines[0][3], backend)
                assert "CloseInfo(code=1000" in output
                process.send_signal(signal.SIGTERM)
                assert process.communicate(timeout=20) == ("", "")
                assert process.returncode == 0
            finally:
                process.kill()


@pytest.mark.heavy
def test_the_testing_example_passes() -> None:
    pytest.importorskip("trio")  # it runs on both
    assert "2 passed" in run_pytest(EXAMPLES, str(EXAMPLES / "testing_your_app.py"))


# `fastapi_upload.py` is run by tests/asgi/test_streams.py and test_uvicorn.py.


def test_every_example_is_executed_here_and_is_short() -> None:
    covered = {
        *SAYS,
        *WITHOUT_ASYNC,
        "echo_server.py",
        "echo_client.py",
        "testing_your_app.py",
        "several_processes.py",
        "fastapi_upload.py",
    }
    files = sorted(EXAMPLES.glob("*.py"))
    assert {file.name for file in files} == covered
    for file in files:
        source = file.read_text()
        assert ast.get_docstring(ast.parse(source)), file.name
        lines = [line for line in source.splitlines() if line.strip()]
        longest = 140 if file.name == "collaborative_edit.py" else 40  # both ends of an application
        assert 15 <= len(lines) <= longest, (file.name, len(lines))
