"""The event loop behind the threads: one, started late, ended with the program, not inherited by a fork."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
import warnings

import pytest
from kit import processes
from sync.conftest import until

from wsstream.sync import WebSocketStream, connect, serve
from wsstream.sync.background import background
from wsstream.sync.call import Call


def loops() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "wsstream event loop"]


def test_all_connections_share_one_daemon_thread(echo_url: str) -> None:
    with connect(echo_url) as first, connect(echo_url) as second:
        first.send("x")
        assert [thread.daemon for thread in loops()] == [True]
        assert first.receive() == "x"
        assert second.state == "open"


def test_importing_starts_nothing() -> None:
    program = "import threading, wsstream.sync; print(threading.active_count())"
    assert processes.run_program("-c", program) == "1\n"


def test_a_result_that_comes_with_the_timeout_is_not_lost() -> None:
    loop = background()

    async def slow() -> str:
        time.sleep(0.2)
        return "done"

    assert loop.call(slow, 0.05) == "done"


def test_an_exception_keeps_the_callers_line(echo_url: str) -> None:
    with connect(echo_url) as ws:
        ws.close()
        try:
            ws.receive()  # this line
        except Exception:
            text = traceback.format_exc()
    assert "ws.receive()  # this line" in text
    assert "wsstream.ClosedLocally: the connection was closed on this side" in text


def test_the_event_loops_own_thread_must_not_wait() -> None:
    loop = background()

    async def inside() -> None:
        loop.call(inside)

    with pytest.raises(RuntimeError, match="in the event loop's thread"):
        loop.call(inside)


def test_what_ends_a_program_does_not_end_the_event_loop() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        background().call(leave)
    assert loops()[0].is_alive()


def test_an_attempt_that_fails_is_raised() -> None:
    async def never() -> None:
        raise AssertionError

    def attempt() -> bool:
        raise LookupError

    with pytest.raises(LookupError):
        background().call(never, attempt=attempt)


def test_a_call_whose_event_loop_has_ended_says_so() -> None:
    async def never() -> None: ...

    call = Call(never)
    call.end()
    with pytest.raises(RuntimeError, match="the event loop has ended"):
        call.wait(background().spawn, lambda callback: None, None)


def test_a_forgotten_connection_is_dropped_with_a_warning() -> None:
    ended = threading.Event()

    def handler(ws: WebSocketStream) -> None:
        try:
            ws.receive()
        finally:
            ended.set()

    with serve(handler, "127.0.0.1") as server:
        ws = connect(server.url).__enter__()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del ws
            gc.collect()
        assert [str(warning.message).partition(" ")[2] for warning in caught] == [
            f"{str(caught[0].message).split()[1]} was not closed"
        ]
        assert caught[0].category is ResourceWarning
        ended.wait()


EXIT = """
import threading
from wsstream import ClosedLocally
from wsstream.sync import connect, serve

def handler(ws):
    for message in ws:
        ws.send(message)

block = serve(handler, "127.0.0.1")
server = block.__enter__()
ws = connect(server.url).__enter__()
ws.send("x")
print(ws.receive())

def wait():
    try:
        ws.receive()
    except (ClosedLocally, RuntimeError):  # it waited, or the program ended before it could
        pass

threading.Thread(target=wait, daemon=True).start()
"""


def test_a_program_ends_with_open_connections() -> None:
    started = time.monotonic()
    assert processes.run_program("-c", EXIT) == "x\n"
    assert time.monotonic() - started < 20


def test_a_peer_sees_1001_when_the_program_ends() -> None:
    codes: list[int] = []

    def handler(ws: WebSocketStream) -> None:
        assert list(ws) == ["sent", "last"]
        assert ws.close_info is not None
        codes.append(ws.close_info.code)

    program = (
        "import sys; from wsstream.sync import connect; ws = connect(sys.argv[1]).__enter__(); "
        "ws.send('sent'); ws.send('last')"
    )
    with serve(handler, "127.0.0.1") as server:
        assert processes.run_program("-c", program, server.url) == ""
        until(lambda: codes)
    assert codes == [1001]


FORK = """
import os, sys
from wsstream.sync import connect, serve

def handler(ws):
    for message in ws:
        ws.send(message)

with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
    if os.fork() == 0:
        large = bytes(1 << 20)
        for call in (ws.receive, lambda: ws.send("x"), lambda: ws.send(large), ws.ping, ws.wait_closed):
            try:
                call()
            except RuntimeError as error:
                assert "before os.fork()" in str(error), error
            else:
                raise AssertionError
        ws.close()  # does nothing: it is the parent's
        ws.abort()
        with connect(server.url) as own:  # a child has an event loop of its own
            own.send("child")
            print(own.receive(), flush=True)
        sys.exit(0)  # leaves the parent's blocks, too
    _, status = os.wait()
    ws.send("parent")
    print(ws.receive(), status, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_cannot_use_the_connection_and_does_not_harm_it() -> None:
    arguments = ["-W", "ignore::DeprecationWarning"] if sys.version_info >= (3, 12) else []
    assert processes.run_program(*arguments, "-c", FORK) == "child\nparent 0\n"


@pytest.mark.heavy
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_works_where_an_event_loop_runs(backend: str) -> None:
    """As in a cell of a notebook."""
    program = f"""
import anyio
from wsstream.sync import connect, serve

async def main():
    with serve(lambda ws: ws.send(ws.receive().upper()), "127.0.0.1") as server, connect(server.url) as ws:
        ws.send("x")
        print(ws.receive())

anyio.run(main, backend={backend!r})
"""
    assert processes.run_program("-c", program) == "X\n"


@pytest.mark.heavy
def test_uvloop_as_the_policy_of_the_program() -> None:
    pytest.importorskip("uvloop")
    program = """
import asyncio, uvloop
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
from wsstream.sync import connect, serve
with serve(lambda ws: ws.send(ws.receive().upper()), "127.0.0.1") as server, connect(server.url) as ws:
    ws.send("x")
    print(ws.receive())
"""
    assert processes.run_program("-W", "ignore::DeprecationWarning", "-c", program) == "X\n"


def test_signals_still_reach_the_main_thread(echo_url: str) -> None:
    seen: list[int] = []
    usual = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with connect(echo_url) as ws:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            threading.Timer(0.2, ws.send, ("go on",)).start()
            assert ws.receive() == "go on"  # a handler that returns does not end the wait
    finally:
        signal.signal(signal.SIGUSR1, usual)
    assert seen == [signal.SIGUSR1]
