"""``wsstream bridge`` as people run it: every kind of end, half-close, and connections that fail."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from kit.scripted import Scripted

from wsstream import connect

pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[bytes]]
Spawn = Callable[..., subprocess.Popen[bytes]]
ListenWith = Callable[..., str]

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER


@pytest.fixture
def target() -> Iterator[int]:
    """The port of a server that answers, when its input has ended, with its size and then with the input."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            data = b"".join(iter(lambda: connection.recv(65536), b""))
            connection.sendall(b"%d " % len(data) + data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def exchange(address: tuple[str, int] | str, data: bytes) -> bytes:
    """Send data, end the direction, and read to the end."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(10)
        connection.connect(address)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def port_of(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


DATA = bytes(range(256)) * 2000  # half a MiB
ANSWER = b"%d " % len(DATA) + DATA


@backends
def test_the_end_of_a_direction_passes_through_and_the_other_goes_on(
    command: Command, listen_with: ListenWith, target: int, tmp_path: Path, backend: str
) -> None:
    url = listen_with("bridge", "ws-listen::0/in", f"tcp:127.0.0.1:{target}", "--backend", backend)
    assert url.endswith("/in")
    done = command("bridge", "stdio", url, "--backend", backend, input=DATA)
    assert (done.returncode, done.stdout, done.stderr) == (0, ANSWER, b"")
    done = command("bridge", url, "stdio", "--backend", backend, input=b"")
    assert (done.returncode, done.stdout) == (0, b"0 ")

    entrance = listen_with("bridge", "tcp-listen:0", url, "--backend", backend)
    for _ in range(3):
        assert exchange(("127.0.0.1", port_of(entrance)), DATA) == ANSWER
    path = str(tmp_path / "socket")
    assert listen_with("bridge", url, f"unix-listen:{path}", "--backend", backend) == path
    assert exchange(path, DATA) == ANSWER
    done = command("bridge", f"unix:{path}", "stdio", "--backend", backend, input=DATA)
    assert (done.returncode, done.stdout) == (0, ANSWER)


@backends
@pytest.mark.parametrize("listens_for", ["websockets", "tcp"])
def test_a_client_that_is_aborted_does_not_end_the_listener(
    command: Command, spawn: Spawn, listen_with: ListenWith, target: int, listens_for: str, backend: str
) -> None:
    process = spawn("bridge", "ws-listen:0", f"tcp:127.0.0.1:{target}", "--backend", backend)
    url = process.stderr.readline().decode().split()[-1]
    if listens_for == "websockets":
        for number in (signal.SIGKILL, signal.SIGINT):
            client = spawn("bridge", "stdio", url)
            client.stdin.write(b"x" * 100_000)
            client.stdin.flush()
            time.sleep(0.7)
            client.send_signal(number)
            client.wait(5)
        assert command("bridge", "stdio", url, input=b"x").stdout == b"1 x"
        assert process.poll() is None
    else:
        entrance = spawn("bridge", "tcp-listen:0", url, "--backend", backend)
        address = ("127.0.0.1", port_of(entrance.stderr.readline().decode()))
        for _ in range(3):
            with socket.create_connection(address) as connection:
                connection.sendall(b"x")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        assert exchange(address, b"x") == b"1 x"
        assert entrance.poll() is None


@backends
def test_a_reset_arrives_as_a_reset_and_never_as_an_end(spawn: Spawn, backend: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = listener.getsockname()[1]
        exit_ = spawn("bridge", "ws-listen:0", f"tcp:127.0.0.1:{target}", "--backend", backend)
        url = exit_.stderr.readline().decode().split()[-1]
        entrance = spawn("bridge", "tcp-listen:0", url, "--backend", backend)
        port = port_of(entrance.stderr.readline().decode())
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(10)
            server, _ = listener.accept()
            server.sendall(b"half an ans")
            assert client.recv(100) == b"half an ans"
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            server.close()
            with pytest.raises(ConnectionResetError):
                client.recv(100)


# -- other implementations -----------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_client_of_websockify_is_served_without_a_mark(listen_with: ListenWith, target: int) -> None:
    url = await anyio.to_thread.run_sync(listen_with, "bridge", "ws-listen:0", f"tcp:127.0.0.1:{target}")
    for offered in (["binary"], []):
        async with connect(url, subprotocols=offered) as ws:
            assert ws.subprotocol == "".join(offered)
            await ws.send(b"")  # no end: that is a mark between two ends of wsstream only
            await ws.send(b"x")
            with anyio.move_on_after(0.3) as waiting:
                await ws.receive()
            assert waiting.cancelled_caught


def test_a_server_of_websockify_is_spoken_to_without_a_mark(command: Command, scripted: Scripted) -> None:
    # It chooses "binary", and sends back what comes. The end of stdin then closes the connection.
    done = command("bridge", "stdio", f"{scripted.url}/echo7", input=b"abc")
    assert done.returncode == 0
    assert scripted.end_of("/echo7") == (1000, "")


def test_binary_is_offered_first_as_websockify_does_not_strip_blanks(spawn: Spawn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        spawn("bridge", "stdio", f"ws://127.0.0.1:{listener.getsockname()[1]}")
        with listener.accept()[0] as connection:
            request = connection.recv(4096).decode()
    assert "\r\nSec-WebSocket-Protocol: binary, wsstream.pipe.v1\r\n" in request


# -- exit statuses -------------------------------------------------------------------------------

EXITS = {
    "dead": (["stdio", "ws://127.0.0.1:1"], 3, "could not connect"),
    "dead TCP": (["stdio", "tcp:127.0.0.1:1"], 3, "could not connect"),
    "dead Unix socket": (["stdio", "unix:/nonexistent"], 3, "could not connect"),
    "refused": (["stdio", "SERVER/refuse"], 5, "status 403"),
    "closed with 1008": (["stdio", "SERVER/code1008"], 7, "1008"),
    "vanished": (["stdio", "SERVER/vanish"], 6, "no Close frame"),
    "no end": (["stdio", "nonsense"], 2, "no end of a bridge"),
    "no port": (["stdio", "tcp:host"], 2, "HOST:PORT"),
    "two listeners": (["tcp-listen:0", "ws-listen:0"], 2, "one end may listen"),
    "stdio twice": (["stdio", "stdio"], 2, "one end may listen"),
}


@pytest.mark.parametrize("case", EXITS)
def test_exit_status(spawn: Spawn, scripted: Scripted, case: str) -> None:
    arguments, status, problem = EXITS[case]
    # stdin stays open: without half-close, its end would be the end of the connection
    process = spawn("bridge", *[each.replace("SERVER", scripted.url) for each in arguments])
    error = process.stderr.read().decode()
    assert process.wait(5) == status, error
    assert problem in error


def test_the_port_that_text_names_is_shown_and_the_listener_ends_in_order(spawn: Spawn, target: int) -> None:
    process = spawn("bridge", "tcp-listen::0", f"tcp:127.0.0.1:{target}", "--json")
    event = json.loads(process.stderr.readline())
    assert event["event"] == "listening"
    assert exchange(("127.0.0.1", port_of(event["address"])), b"x") == b"1 x"
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0


@backends
def test_a_target_that_cannot_be_reached_is_told_to_the_client(
    command: Command, listen_with: ListenWith, backend: str
) -> None:
    url = listen_with("bridge", "ws-listen:0", "tcp:127.0.0.1:1", "--backend", backend)
    for _ in range(2):  # and the listener goes on
        done = command("bridge", "stdio", url, "--backend", backend, input=b"x")
        assert done.returncode == 7
        assert b"1014" in done.stderr


@backends
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.heavy_after_first
def test_the_first_signal_closes_with_1001(
    spawn: Spawn, scripted: Scripted, backend: str, number: signal.Signals
) -> None:
    path = f"/flood{number}{backend == 'trio':d}"
    process = spawn("bridge", "stdio", scripted.url + path, "--backend", backend)
    process.stdout.read(1)
    threading.Thread(target=process.stdout.read, daemon=True).start()
    process.send_signal(number)
    assert process.wait(5) == 128 + number
    assert scripted.end_of(path) == (1001, f"interrupted by {number.name}")


@backends
def test_once_serves_one_connection(command: Command, spawn: Spawn, target: int, backend: str) -> None:
    for listener in ("ws-listen:0", "tcp-listen:0"):
        process = spawn("bridge", listener, f"tcp:127.0.0.1:{target}", "--once", "--backend", backend)
        where = process.stderr.readline().decode().split()[-1]
        other = where if where.startswith("ws:") else f"tcp:{where}"
        assert command("bridge", "stdio", other, input=b"x").stdout == b"1 x"
        assert process.wait(5) == 0


@backends
def test_stdio_can_wait_for_a_connection(command: Command, spawn: Spawn, backend: str) -> None:
    process = spawn("bridge", "ws-listen:0", "stdio", "--backend", backend)
    url = process.stderr.readline().decode().split()[-1]
    process.stdin.write(b"question")
    process.stdin.close()
    done = command("bridge", "stdio", url, input=b"answer")
    assert (done.returncode, done.stdout) == (0, b"question")
    assert process.stdout.read() == b"answer"
    assert process.wait(5) == 0


@backends
def test_a_reader_that_stops_stops_the_sender(spawn: Spawn, scripted: Scripted, backend: str) -> None:
    before = scripted.sent
    process = spawn("bridge", "stdio", f"{scripted.url}/flood", "--backend", backend)
    process.stdout.read(1)
    sent = -1
    while sent != (sent := scripted.sent):
        time.sleep(0.7)
    assert 0 < sent - before < 24 << 20
