"""Ctrl-C in every wait: it comes through, and leaves what the contract of the call says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import processes
from sync.conftest import interrupted, until

from wsstream import Backoff, ConnectionBroken, ConnectionClosed, FlowControl
from wsstream.sync import Server, WebSocketStream, connect, reconnect, serve

FLOW = FlowControl(receive_high_water=64 * 1024, send_high_water=32 * 1024)


class Lazy:
    """A server whose handlers read when they are told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.got: list[str | bytes] = []
        self.errors: list[Exception] = []

    def __call__(self, ws: WebSocketStream) -> None:
        self.go_on.wait()
        try:
            self.got.extend(ws)
        except ConnectionBroken as error:
            self.errors.append(error)


@pytest.fixture
def lazy() -> Iterator[Lazy]:
    handler = Lazy()
    yield handler
    handler.go_on.set()


@pytest.fixture
def server(lazy: Lazy) -> Iterator[Server]:
    with serve(lazy, "127.0.0.1", flow=FLOW, shutdown_timeout=1, close_timeout=1) as server:
        yield server
        lazy.go_on.set()


@pytest.fixture
def silent() -> Iterator[str]:
    """A URL where something listens that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"


def fill(ws: WebSocketStream) -> int:
    """Send until there is no room; returns the number of messages."""
    count = 0
    try:
        while True:
            ws.send(bytes(1000), timeout=0.2)
            count += 1
    except TimeoutError:
        return count


def test_receive(echo_url: str) -> None:
    with connect(echo_url) as ws:
        with interrupted():
            ws.receive()
        ws.send("nothing is lost")
        assert ws.receive() == "nothing is lost"


def test_iterating(echo_url: str) -> None:
    with connect(echo_url) as ws:
        with interrupted():
            list(ws)
        ws.send("x")
        assert next(ws.readable) == "x"


def test_entering_a_message(echo_url: str) -> None:
    with connect(echo_url) as ws:
        with interrupted(), ws.readable.message():
            pass
        ws.send("x")
        assert next(ws.readable.messages()).read() == b"x"


def test_reading_a_message() -> None:
    def half(ws: WebSocketStream) -> None:
        with ws.writable.message() as writer:
            writer.send(b"first")
            writer.flush()
            ws.receive()
            writer.send(b"second")

    with serve(half, "127.0.0.1") as server, connect(server.url) as ws, ws.readable.message() as reader:
        assert reader.read(100) == b"first"
        with interrupted():
            reader.read(100)
        ws.send("go on")
        assert reader.read() == b"second"


def test_send_that_waits_for_room(server: Server, lazy: Lazy) -> None:
    with connect(server.url, flow=FLOW) as ws:
        accepted = fill(ws)
        with interrupted():
            ws.send(bytes(1001))
        assert ws.state == "open"
        lazy.go_on.set()
        ws.send("last")
        ws.close()
        until(lambda: len(lazy.got) == accepted + 1)
    assert lazy.got[-1] == "last"


def test_send_of_a_large_message(server: Server, lazy: Lazy) -> None:
    with connect(server.url, flow=FLOW) as ws:
        accepted = fill(ws)
        with interrupted():
            ws.send(bytes(1 << 20))
        lazy.go_on.set()
        ws.send("last")
        ws.close()
        until(lambda: lazy.got[-1:] == ["last"])
    assert len(lazy.got) in (accepted + 1, accepted + 2), "it is sent as a whole or not at all"
    assert {len(message) for message in lazy.got[:-1]} <= {1000, 1 << 20}


def test_send_that_waits_for_another_threads_message(echo_url: str) -> None:
    begun, end = threading.Event(), threading.Event()

    def send_in_chunks() -> None:
        with ws.writable.message("text") as writer:
            begun.set()
            end.wait()
            writer.send("whole")

    with connect(echo_url) as ws:
        thread = threading.Thread(target=send_in_chunks)
        thread.start()
        begun.wait()
        with interrupted():
            ws.send("x")
        with interrupted(), ws.writable.message():
            pass
        end.set()
        thread.join()
        ws.send("y")
        assert [ws.receive(), ws.receive()] == ["whole", "y"]


def test_a_chunk(server: Server, lazy: Lazy) -> None:
    with connect(server.url, flow=FLOW) as ws:
        with interrupted(), ws.writable.message() as writer:
            while True:
                writer.write(bytes(10_000))
        lazy.go_on.set()
        with pytest.raises(ConnectionBroken, match="1011"):
            ws.wait_closed()
    until(lambda: lazy.errors)
    assert lazy.got == [], "the message was aborted"


def test_send_file(server: Server, lazy: Lazy, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(32 << 20))
    with connect(server.url, flow=FLOW) as ws:
        with interrupted():
            ws.writable.send_file(tmp_path / "file")
        lazy.go_on.set()
        with pytest.raises(ConnectionBroken, match="1011"):
            ws.wait_closed()
    until(lambda: lazy.errors)
    assert lazy.got == []


def test_drain_and_wait_closed_and_ping(server: Server, lazy: Lazy) -> None:
    with connect(server.url, flow=FLOW, close_timeout=0.1) as ws:
        fill(ws)
        for wait in (ws.writable.drain, ws.wait_closed, ws.ping):
            with interrupted():
                wait()
            assert ws.state == "open"


def test_close_drops_tcp(server: Server) -> None:
    with connect(server.url, flow=FLOW, close_timeout=60) as ws:
        fill(ws)
        with interrupted():
            ws.close()
        assert ws.state == "closed"
        assert ws.close_info is not None
        assert ws.close_info.code == 1006


def test_connect_leaves_nothing(silent: str) -> None:
    with interrupted(), connect(silent, open_timeout=None):
        pass


def test_the_block_of_connect_closes_with_1001() -> None:
    ended = threading.Event()
    codes: list[int] = []

    def handler(ws: WebSocketStream) -> None:
        try:
            ws.receive()
        except ConnectionClosed as error:
            codes.append(error.info.code)
        ended.set()

    with serve(handler, "127.0.0.1") as server:
        with interrupted(), connect(server.url) as ws:
            ws.receive()
        ended.wait()
    assert codes == [1001]


def test_the_delay_of_reconnect(silent: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    connections = reconnect(f"ws://127.0.0.1:{port}/", delays=Backoff(initial=30))
    with interrupted():
        next(connections)
    with interrupted():  # it may be asked again, and still waits
        next(connections)
    with interrupted():
        next(reconnect(silent, open_timeout=None))


def test_serving() -> None:
    handler = Lazy()
    with serve(handler, "127.0.0.1", shutdown_timeout=60) as server, connect(server.url) as ws:
        with interrupted():
            server.wait_closed()
        assert len(server.connections) == 1
        with interrupted():
            server.shutdown()
        handler.go_on.set()
        assert ws.wait_closed().code == 1001


def test_leaving_the_block_of_serve_does_not_wait_for_handlers_after_it() -> None:
    handler = Lazy()
    block = serve(handler, "127.0.0.1", shutdown_timeout=60)
    server = block.__enter__()
    with connect(server.url) as ws:
        with interrupted():
            block.__exit__(None, None, None)
        handler.go_on.set()
        assert ws.wait_closed().code == 1001


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_forever_returns_at_a_signal(number: signal.Signals) -> None:
    usual = signal.getsignal(number)
    seen: list[bool] = []
    with serve(lambda ws: list(ws), "127.0.0.1") as server, connect(server.url) as ws:
        ws.ping()
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        server.serve_forever(stop=lambda: seen.append(server.listening))
        assert ws.wait_closed().code == 1001
        assert not server.listening
    assert seen == [True]
    assert signal.getsignal(number) is usual


def test_a_second_signal_drops_what_is_left() -> None:
    handler = Lazy()
    with serve(handler, "127.0.0.1", shutdown_timeout=60) as server, connect(server.url) as ws:
        ws.ping()

        def stop() -> None:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()

        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        server.serve_forever(stop=stop)
        handler.go_on.set()
        assert ws.wait_closed().code == 1001


PROGRAM = """
import signal, sys, threading, time
from wsstream.sync import connect, serve

def handler(ws):
    for message in ws:
        ws.send(message)

def tell_when_signals_are_taken():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0.01)
    print("waiting", flush=True)

with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
    try:
        if sys.argv[1] == "serve_forever":
            threading.Thread(target=tell_when_signals_are_taken).start()
            server.serve_forever()
        else:
            print("waiting", flush=True)
            ws.receive()
    except KeyboardInterrupt:
        print("interrupted", ws.state, flush=True)
print("left", ws.close_info.code)
"""


@pytest.mark.heavy_after_first
@pytest.mark.parametrize(
    ("wait", "says"), [("receive", "interrupted open\nleft 1000\n"), ("serve_forever", "left 1001\n")]
)
def test_a_program_is_interrupted_from_outside(wait: str, says: str) -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, wait]
    with subprocess.Popen(
        command, env=processes.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, says, "")
