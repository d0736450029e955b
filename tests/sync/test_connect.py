"""Opening connections, once and again and again."""

from __future__ import annotations

import socket
import threading

import pytest
from sync.conftest import echo, until

from wsstream import Backoff, ClosedLocally, ConnectionBroken, HandshakeRejected, InvalidURL, Target
from wsstream.sync import WebSocketStream, connect, reconnect, serve


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_arguments_are_checked_before_anything_is_opened() -> None:
    with pytest.raises(InvalidURL):
        connect("ftp://localhost/")
    with pytest.raises(TypeError, match="transport is an asynchronous stream"):
        connect("ws://localhost/", transport=None)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        connect("ws://localhost/", nothing=1)  # type: ignore[call-arg]


def test_what_prevents_a_connection_is_raised_on_entering(echo_url: str) -> None:
    with pytest.raises(OSError, match="refused"), connect(f"ws://127.0.0.1:{closed_port()}/"):
        pass
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(TimeoutError), connect(url, open_timeout=0.05):
            pass
    block = connect(echo_url)
    with block as ws:
        assert repr(block).startswith("<connect: <WebSocketStream")
        assert ws.url == f"{echo_url}/"
    with pytest.raises(RuntimeError, match="entered before"), block:
        pass


def test_how_the_block_is_left_decides_the_code() -> None:
    codes: list[int] = []

    def handler(ws: WebSocketStream) -> None:
        assert list(ws) == []
        assert ws.close_info is not None
        codes.append(ws.close_info.code)

    with serve(handler, "127.0.0.1") as server:
        with connect(server.url):
            pass
        with pytest.raises(LookupError), connect(server.url):
            raise LookupError
        with connect(server.url) as ws, ws:
            ws.close(4000, "enough")
        with connect(server.url) as ws:
            ws.begin_close(4001)
            assert ws.wait_closed().code == 4001
        with connect(server.url) as ws:
            ws.readable.close(4002)
        with connect(server.url) as ws:
            ws.writable.abort(4003)
            ws.wait_closed()
        until(lambda: len(codes) == 6)
    assert codes == [1000, 1011, 4000, 4001, 4002, 4003]


def test_wrong_codes_are_refused_before_anything_is_done(echo_url: str) -> None:
    with connect(echo_url) as ws:
        for close in (ws.close, ws.begin_close, ws.readable.close, ws.writable.close, ws.writable.abort):
            with pytest.raises(ValueError, match="a close code must be in"):
                close(1005)
        assert ws.state == "open"


def test_after_the_end_calls_raise_and_closing_does_nothing(echo_url: str) -> None:
    with connect(echo_url) as ws:
        ws.send("x")
        ws.abort()
        until(lambda: ws.state == "closed")
        for call in (
            ws.receive,
            lambda: ws.send("y"),
            ws.ping,
            ws.writable.drain,
            lambda: ws.send(bytes(1 << 20)),
        ):
            with pytest.raises(ClosedLocally):
                call()
        ws.close()
        assert ws.wait_closed().code == 1006
        assert "closed" in repr(ws)


# -- reconnect -------------------------------------------------------------------------------------


def test_a_connection_follows_each_that_has_ended() -> None:
    def feed(ws: WebSocketStream) -> None:
        first = int(ws.receive())
        for number in range(first, first + 2):
            ws.send(str(number))
        ws.writable.drain()
        ws.abort()

    seen: list[str | bytes] = []
    with serve(feed, "127.0.0.1") as server:
        for ws in reconnect(server.url, delays=Backoff(initial=0.001)):
            try:
                with ws:
                    ws.send(str(len(seen)))
                    seen.extend(ws)
            except ConnectionBroken:
                if len(seen) >= 6:
                    break
    assert seen == [str(number) for number in range(6)]


def test_what_was_accepted_leaves_before_the_loop_closes() -> None:
    got: list[list[str | bytes]] = []  # in the order in which the handlers begin
    ended: list[WebSocketStream] = []

    def handler(ws: WebSocketStream) -> None:
        got.append(mine := [])
        mine.extend(ws)
        ended.append(ws)

    with serve(handler, "127.0.0.1") as server:
        for number, ws in enumerate(reconnect(server.url, delays=[0.0, 0.0])):
            if number == 2:
                ws.close()
                break
            for _ in range(100):
                ws.send("x")
        until(lambda: len(ended) == 3)
    assert got == [["x"] * 100, ["x"] * 100, []]


def test_the_attempts_end_with_the_delays_or_an_error_that_does_not_change(echo_url: str) -> None:
    with pytest.raises(OSError, match="refused"):
        list(reconnect(f"ws://127.0.0.1:{closed_port()}/", delays=[0.0]))
    asked: list[Exception] = []

    def retry(error: Exception) -> bool:
        asked.append(error)
        return False

    with (
        serve(echo, "127.0.0.1", origins=["https://only.example"]) as server,
        pytest.raises(HandshakeRejected),
    ):
        next(reconnect(server.url, retry=retry))
    assert len(asked) == 1


def test_a_function_that_returns_urls_may_block(echo_url: str) -> None:
    threads: list[int] = []

    def next_url() -> Target:
        threads.append(threading.get_ident())
        threading.Event().wait(0.01)
        return Target(echo_url, subprotocols=())

    connections = reconnect(next_url, delays=[0.0])
    with next(connections) as ws:
        ws.send("x")
        assert ws.receive() == "x"
    assert "reconnect" in repr(connections)
    assert threading.get_ident() not in threads
    with pytest.raises(ClosedLocally):
        list(connections)

    async def asynchronous() -> str:
        return echo_url

    with pytest.raises(TypeError, match="a plain function, got an async one"):
        reconnect(asynchronous)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="url must be a str or a function"):
        reconnect(5)  # type: ignore[arg-type]
