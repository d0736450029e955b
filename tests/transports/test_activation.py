"""The sockets that systemd passes on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from kit import processes

import wsstream
from wsstream.transports import activation

_PROGRAM = """
import json, os, sys, anyio, wsstream

os.environ["LISTEN_PID"] = str(os.getpid())

async def echo(ws):
    async for message in ws:
        await ws.send(message)

async def main():
    sockets = wsstream.listen_fds()
    names = [sock.name for sock in sockets]
    async with wsstream.serve(echo, listeners=sockets) as server, wsstream.connect(server.url) as ws:
        await ws.send("hello")
        left = [name for name in os.environ if name.startswith("LISTEN_")]
        inheritable = [sock.get_inheritable() for sock in sockets]
        again = wsstream.listen_fds()
        print(json.dumps([names, server.url, await ws.receive(), left, inheritable, again]))

anyio.run(main, backend=sys.argv[1])
"""


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Descriptors that were passed to this process: those of a listening socket, and what a test appends."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    return []


def _listen(monkeypatch: pytest.MonkeyPatch, sock: socket.socket) -> int:
    number = os.dup(sock.fileno())
    monkeypatch.setattr(activation, "_FIRST", number)
    return number


@pytest.mark.usefixtures("passed")
def test_a_listening_socket_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = _listen(monkeypatch, listener)
        os.set_inheritable(number, True)
        (taken,) = wsstream.listen_fds()
        with taken:
            assert (taken.fileno(), taken.name) == (number, "")
            assert taken.getsockname() == listener.getsockname()
            assert not taken.get_inheritable()
            assert repr(taken).startswith("<ActivatedSocket '' ('127.0.0.1', ")
        assert wsstream.listen_fds() == []
        assert not any(name.startswith("LISTEN_") for name in os.environ)


@pytest.mark.usefixtures("passed")
def test_it_has_the_name_that_its_unit_gives_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LISTEN_FDNAMES", "chat:unused")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "chat"))
        listener.listen()
        _listen(monkeypatch, listener)
        (taken,) = wsstream.listen_fds()
        with taken:
            assert (taken.name, taken.family) == ("chat", socket.AF_UNIX)


@pytest.mark.usefixtures("passed")
@pytest.mark.parametrize(
    ("name", "value"),
    [("LISTEN_PID", "1"), ("LISTEN_PID", None), ("LISTEN_FDS", None), ("LISTEN_FDS", "0")],
    ids=["other-process", "no-process", "no-number", "none"],
)
def test_what_is_not_for_this_process_is_left(
    name: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    assert wsstream.listen_fds() == []
    assert "LISTEN_PID" not in os.environ


@pytest.mark.usefixtures("passed")
@pytest.mark.parametrize("name", ["LISTEN_FDS", "LISTEN_PID"])
@pytest.mark.parametrize("value", ["one", "-1", "\u0661"])
def test_a_number_that_is_none_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"the environment variable {name} must be a number"):
        wsstream.listen_fds()


@pytest.mark.usefixtures("passed")
@pytest.mark.parametrize("what", ["connected", "datagrams", "file", "closed"])
def test_a_descriptor_that_does_not_listen_is_refused(
    what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, other = socket.socketpair()
    with one, other, socket.socket(type=socket.SOCK_DGRAM) as datagrams, open(tmp_path / "f", "w") as file:
        number = {"connected": one, "datagrams": datagrams, "file": file}.get(what)
        first = 999_999 if number is None else number.fileno()
        monkeypatch.setattr(activation, "_FIRST", first)
        text = "which is not open" if number is None else "must be a listening stream socket"
        with pytest.raises(ValueError, match=text):
            wsstream.listen_fds()
        if number is not None:
            os.fstat(first)  # nobody has closed it


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_program_serves_what_it_was_given(backend: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()

        def take_places() -> None:
            os.dup2(number, 3)
            os.set_inheritable(3, True)

        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, backend],
            env={**processes.environment(measured=False), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "chat"},
            preexec_fn=take_places,
            close_fds=False,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        port = listener.getsockname()[1]
    assert done.stderr == ""
    assert json.loads(done.stdout) == [["chat"], f"ws://127.0.0.1:{port}", "hello", [], [False], []]
