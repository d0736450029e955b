"""A server whose handlers run in threads."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import ssl
import threading
from pathlib import Path

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute
from sync.conftest import echo, until

from wsstream import (
    Accept,
    ClosedLocally,
    ConnectionBroken,
    FlowControl,
    HandshakeRejected,
    Request,
    Response,
    StreamEnded,
)
from wsstream.sync import Server, WebSocketStream, connect, serve


def test_each_connection_has_a_thread_and_all_serve_at_once() -> None:
    barrier = threading.Barrier(10, timeout=30)
    threads: set[int] = set()

    def handler(ws: WebSocketStream) -> None:
        threads.add(threading.get_ident())
        barrier.wait()
        echo(ws)

    def client() -> None:
        with connect(server.url) as ws:
            ws.send("x")
            answers.append(ws.receive())

    answers: list[str | bytes] = []
    with serve(handler, "127.0.0.1") as server:
        clients = [threading.Thread(target=client) for _ in range(10)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
    assert answers == ["x"] * 10
    assert len(threads) == 10


def test_the_number_of_threads_is_bounded() -> None:
    with serve(echo, "127.0.0.1", max_connections=2) as server, connect(server.url), connect(server.url):
        with pytest.raises(HandshakeRejected) as caught, connect(server.url):
            pass
        assert caught.value.status == 503
        assert len(server.connections) == 2
        assert all(isinstance(ws, WebSocketStream) for ws in server.connections)


def test_what_a_handler_ends_with_decides_the_code(caplog: pytest.LogCaptureFixture) -> None:
    def handler(ws: WebSocketStream) -> None:
        if ws.request.target == "/fails":
            raise LookupError("a mistake")
        ws.send("last words")

    with serve(handler, "127.0.0.1") as server:
        codes = []
        for path in ("/", "/fails"):
            with connect(server.url + path) as ws:
                codes.append(ws.wait_closed().code)
    assert codes == [1000, 1011]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info is not None
    assert str(errors[0].exc_info[1]) == "a mistake"


def test_what_a_handler_sent_leaves_before_close() -> None:
    def handler(ws: WebSocketStream) -> None:
        for number in range(500):
            ws.send(str(number))

    with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        assert list(ws) == [str(number) for number in range(500)]


def test_leaving_closes_connections_with_1001_and_waits_for_their_handlers() -> None:
    ended: list[str] = []

    def handler(ws: WebSocketStream) -> None:
        ws.send("ready")
        try:
            ws.receive()
        except ClosedLocally:
            ended.append("told")

    with serve(handler, "127.0.0.1") as server:
        ws = connect(server.url).__enter__()
        assert ws.receive() == "ready"
    assert ended == ["told"]
    with pytest.raises(StreamEnded) as caught:
        ws.receive()
    assert caught.value.info.code == 1001
    ws.close()


@pytest.mark.heavy
def test_what_a_blocked_handler_was_told_is_accepted_leaves_before_the_servers_close() -> None:
    accepted: list[int] = []
    full = threading.Event()

    def handler(ws: WebSocketStream) -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                ws.send(bytes(1000), timeout=0.3)
                accepted.append(1000)
        full.set()
        ws.wait_closed()

    flow = FlowControl(receive_high_water=64 * 1024, send_high_water=32 * 1024)
    with serve(handler, "127.0.0.1", flow=flow) as server, connect(server.url, flow=flow) as ws:
        full.wait()
        assert next(iter(server.connections)).statistics().send_buffered > 32 * 1024
        threading.Thread(target=server.shutdown).start()
        until(lambda: not server.listening)
        assert [len(message) for message in ws] == accepted
        assert ws.close_info is not None
        assert ws.close_info.code == 1001


def test_a_handler_that_does_not_end_is_left_behind() -> None:
    go_on = threading.Event()
    errors: list[Exception] = []

    def handler(ws: WebSocketStream) -> None:
        go_on.wait()
        try:
            ws.send("too late")
        except ClosedLocally as error:
            errors.append(error)

    with serve(handler, "127.0.0.1", shutdown_timeout=0.1) as server:
        ws = connect(server.url).__enter__()
        until(lambda: server.connections)
    ws.close()
    go_on.set()
    until(lambda: errors)


def test_shutdown_from_another_thread_ends_serve_forever() -> None:
    with serve(echo, "127.0.0.1") as server, connect(server.url) as ws:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        server.shutdown()
        serving.join()
        assert ws.wait_closed().code == 1001
        assert repr(server).endswith("connections: 0, closed>")


def test_shutdown_by_a_handler_does_not_wait_for_itself() -> None:
    servers: list[Server] = []

    def handler(ws: WebSocketStream) -> None:
        ws.receive()
        servers[0].shutdown()
        ws.wait_closed()

    with serve(handler, "127.0.0.1") as server:
        servers.append(server)
        with connect(server.url) as ws:
            ws.send("stop")
            server.serve_forever()
            assert ws.wait_closed().code == 1001


@pytest.mark.parametrize("way", ["wait_closed", "leaving"])
def test_what_ends_a_program_stops_the_server(way: str) -> None:
    def handler(ws: WebSocketStream) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit), serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        with pytest.raises((StreamEnded, ConnectionBroken)):
            ws.receive()
        until(lambda: repr(server).endswith("closed>"))
        if way == "wait_closed":
            server.wait_closed()
    with serve(echo, "127.0.0.1") as another, connect(another.url) as ws:  # the event loop has survived
        ws.send("x")
        assert ws.receive() == "x"


def test_close_leaves_the_connections_open() -> None:
    with serve(echo, "127.0.0.1") as server, connect(server.url) as ws:
        with pytest.raises(TimeoutError):
            server.wait_closed(timeout=0.01)
        server.close()
        server.wait_closed()
        ws.send("x")
        assert ws.receive() == "x"


def test_handlers_see_the_context_of_the_thread_that_serves() -> None:
    name = contextvars.ContextVar("name", default="none")
    name.set("served")
    with serve(lambda ws: ws.send(name.get()), "127.0.0.1") as server, connect(server.url) as ws:
        assert ws.receive() == "served"
    name.set("none")


def test_process_request_may_block_and_decides() -> None:
    threads: set[int] = set()

    def decide(request: Request) -> Response | Accept | None:
        threads.add(threading.get_ident())
        threading.Event().wait(0.01)
        match request.path:
            case "/healthz":
                return Response(200, body="fine\n")
            case "/who":
                return Accept(state="somebody")
        return None

    def handler(ws: WebSocketStream) -> None:
        ws.send(str(ws.request.state))

    with serve(handler, "127.0.0.1", process_request=decide) as server:
        with pytest.raises(HandshakeRejected) as caught, connect(server.url + "/healthz"):
            pass
        assert (caught.value.status, caught.value.body) == (200, b"fine\n")
        with connect(server.url + "/who") as ws:
            assert ws.receive() == "somebody"
        with connect(server.url):
            pass
    assert threading.get_ident() not in threads


def test_tls_and_typed_attributes(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    with (
        serve(echo, "127.0.0.1", ssl=server_tls, subprotocols=["a"]) as server,
        connect(server.url, ssl=client_tls, subprotocols=["b", "a"]) as ws,
    ):
        assert ws.subprotocol == "a"
        assert ws.extra(SocketAttribute.remote_address)[1] == server.port
        assert str(ws.extra(TLSAttribute.tls_version)).startswith("TLSv1")
        assert SocketAttribute.local_address in ws.extra_attributes
        for message in ("x", bytes(1 << 20), "y"):
            ws.send(message)
        assert [len(ws.receive()) for _ in range(3)] == [1, 1 << 20, 1]
        assert ws.response.status == 101
        assert 0 <= ws.ping() < 30


def test_a_typed_attribute_that_is_not_known(echo_url: str) -> None:
    with connect(echo_url) as ws:
        assert ws.extra(TLSAttribute.cipher, None) is None
        with pytest.raises(anyio.TypedAttributeLookupError):
            ws.extra(TLSAttribute.cipher)


def test_drain_sends_clients_away_one_by_one_after_what_was_sent() -> None:
    handled = threading.Event()

    def handler(ws: WebSocketStream) -> None:
        for number in range(100):
            ws.send(str(number))
        handled.set()
        ws.wait_closed()

    with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        handled.wait()
        assert (server.listening, server.ready) == (True, True)
        with pytest.raises(ValueError, match="spread must not be longer than timeout"):
            server.drain(timeout=1, spread=2)
        server.drain(timeout=30, spread=0)
        assert (server.listening, server.ready) == (False, False)
        assert list(ws) == [str(number) for number in range(100)]
        assert ws.close_info is not None
        assert ws.close_info.code == 1012


def test_another_certificate_for_those_who_come(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, authority: trustme.CA, tmp_path: Path
) -> None:
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    fresh = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(fresh)
    with serve(echo, "127.0.0.1", ssl=fresh) as server:
        server.reload_certificate(tmp_path / "both.pem")
        with connect(server.url, ssl=client_tls) as ws:
            ws.send("x")
            assert ws.receive() == "x"
        with pytest.raises(FileNotFoundError):
            server.reload_certificate(tmp_path / "none.pem")
    with serve(echo, "127.0.0.1") as server, pytest.raises(ValueError, match="started with ssl"):
        server.reload_certificate(tmp_path / "both.pem")


def test_a_unix_socket(tmp_path: Path) -> None:
    with serve(echo, path=tmp_path / "socket") as server, connect(server.url) as ws:
        assert server.port == 0
        ws.send("x")
        assert ws.receive() == "x"


async def async_handler(ws: object) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"handler": async_handler}, TypeError, "handler must be a plain function, got an async one"),
        ({"process_request": async_handler}, TypeError, "process_request must be a plain function"),
        ({"handler": 5}, TypeError, "handler must be a function, got int"),
        ({"process_request": 5}, TypeError, "process_request must be a function or None, got int"),
        ({"max_connections": 0}, ValueError, "max_connections must be at least 1"),
        ({"nothing": 0}, TypeError, "unexpected keyword argument 'nothing'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments_are_errors_at_once(
    arguments: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        serve(**{"handler": echo, **arguments})  # type: ignore[arg-type]


def test_an_address_in_use() -> None:
    with (
        serve(echo, "127.0.0.1") as server,
        pytest.raises(OSError, match="in use"),
        serve(echo, "127.0.0.1", server.port),
    ):
        pass


@pytest.mark.anyio
async def test_async_statements_are_told_what_to_use() -> None:
    for block in (serve(echo), connect("ws://localhost/")):
        with pytest.raises(TypeError, match='use "with '):
            async with block:  # type: ignore[attr-defined]
                pass
        with pytest.raises(TypeError, match='use "with '):
            list(block)  # type: ignore[call-overload]
    block = serve(echo, "127.0.0.1")
    with block:
        pass
    with pytest.raises(RuntimeError, match="this serve\\(\\) was entered before"), block:
        pass
