"""What becomes of a connection, and of the others, when a handler ends: each is on its own."""

from __future__ import annotations

import asyncio  # noqa: TID251 - tasks that are cancelled by themselves
import contextvars
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from kit.endpoints import check_echo, echo
from kit.waiting import until

from wsstream import (
    CloseInfo,
    ConnectionBroken,
    HandshakeRejected,
    Request,
    Server,
    WebSocketError,
    WebSocketStream,
    connect,
    serve,
)
from wsstream.server import handlers

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


@asynccontextmanager
async def _one_of_two(
    bad: Callable[[WebSocketStream], Awaitable[object]], **options: Any
) -> AsyncIterator[tuple[Server, WebSocketStream]]:
    """A server whose clients of ``/bad`` get this handler; another one has to fare well to the end."""

    async with serve(
        lambda ws: (bad if ws.request.path == "/bad" else echo)(ws), "127.0.0.1", **options
    ) as server:
        async with connect(server.url) as good:
            await check_echo(good)
            yield server, good
            await check_echo(good)
            assert server.connections
        await until(lambda: not server.connections)


async def _end_of(ws: WebSocketStream) -> CloseInfo | None:
    async for _ in ws:
        pass
    return ws.close_info


def _louder_than_info(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno > logging.INFO]


# -- how a handler ends -----------------------------------------------------------------------


async def test_a_handler_that_fails_is_logged_with_its_connection_and_answered_with_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ids: list[str] = []

    async def handler(ws: WebSocketStream) -> None:
        ids.append(ws.id)
        if await ws.receive() == "fail":
            raise ZeroDivisionError("secret")
        await echo(ws)

    async with serve(handler, "127.0.0.1") as server, connect(server.url) as other:
        await other.send("first")
        async with connect(server.url) as ws:
            await ws.send("fail")
            assert [message async for message in ws] == []
            assert ws.close_info == CloseInfo(1011, "", True)
        (record,) = _louder_than_info(caplog)
        assert (record.name, record.levelname) == ("wsstream.server", "ERROR")
        assert f"connection {ids[1]} " in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError
        await check_echo(other)  # nobody else is hurt


async def test_a_handler_closes_with_the_code_of_its_websocket_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(ws: WebSocketStream) -> None:
        raise WebSocketError("not logged in", code=4401, reason="log in first")

    async with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        assert [message async for message in ws] == []
        assert ws.close_info == CloseInfo(4401, "log in first", True)
        await until(lambda: not server.connections)
    assert _louder_than_info(caplog) == []


async def test_a_client_that_vanishes_is_no_error_of_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    async with serve(echo, "127.0.0.1") as server:
        async with connect(server.url) as ws:
            await check_echo(ws)
            ws.abort()
        await until(lambda: not server.connections)
    assert _louder_than_info(caplog) == []


async def test_a_handler_that_returns_closes_with_1000() -> None:
    async def handler(ws: WebSocketStream) -> None:
        await ws.send("bye")

    async with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        assert [message async for message in ws] == ["bye"]
        assert ws.close_info == CloseInfo(1000, "", True)


async def test_a_server_logs_connections_at_info_and_nothing_louder(
    caplog: pytest.LogCaptureFixture, http: Any
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(echo, "127.0.0.1") as server:
        async with connect(server.url) as ws:
            (other,) = server.connections
            await check_echo(ws)
        assert (await http.get(server))[0] == 426
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(b"\x16\x03\x01")
        await anyio.sleep(1)
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert {record.name for record in caplog.records} == {"wsstream.server"}
    (message,) = [r.getMessage() for r in caplog.records if f"connection {other.id} " in r.getMessage()]
    assert "closed with 1000 after " in message


@pytest.mark.heavy_after_first(each=("hostile",))
async def test_an_exception_of_a_handler_ends_only_its_own_connection(
    hostile: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def bad(ws: WebSocketStream) -> None:
        await ws.receive()
        raise hostile.make()

    async with _one_of_two(bad) as (server, _), connect(f"{server.url}/bad") as ws:
        caplog.clear()
        (other,) = (each for each in server.connections if each.request.path == "/bad")
        await ws.send("go")
        assert (await _end_of(ws)) == CloseInfo(hostile.code, ws.close_info.reason, True)
        await until(lambda: len(server.connections) == 1)
        lines = [line for line in caplog.text.splitlines() if "wsstream.server" in line]
    assert [line.split()[0] for line in lines] == (["ERROR", "INFO"] if hostile.failed else ["INFO"])
    assert all(f"connection {other.id} (" in line and " /bad)" in line for line in lines)


@pytest.mark.parametrize("returns", [None, 5, "text"])
async def test_a_handler_that_is_not_async_is_named_as_the_cause(
    returns: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with _one_of_two(lambda ws: returns) as (server, _), connect(f"{server.url}/bad") as ws:
        assert await _end_of(ws) == CloseInfo(1011, "", True)
    (record,) = _louder_than_info(caplog)
    kind = None if returns is None else type(returns).__name__
    assert str(record.exc_info[1]) == f'the handler returned {kind}: is it "async def"?'


@pytest.mark.parametrize(
    ("said", "code", "level"), [("4001", 4001, logging.INFO), ("x", 1011, logging.ERROR)]
)
async def test_a_task_group_in_a_handler_changes_nothing(
    said: str, code: int, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def ticker(ws: WebSocketStream) -> None:
        async def tick() -> None:
            while True:
                await ws.send("tick")
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            raise WebSocketError(code=int(await ws.receive()), reason="wish")

    caplog.set_level(logging.INFO)
    async with _one_of_two(ticker) as (server, _):
        async with connect(f"{server.url}/bad") as ws:
            await ws.receive()
        await until(lambda: len(server.connections) == 1)
        assert _louder_than_info(caplog) == []  # a client that leaves is no failure
        async with connect(f"{server.url}/bad") as ws:
            await ws.send(said)
            info = await _end_of(ws)
    assert info == CloseInfo(code, "wish" if code == 4001 else "", True)
    assert max(record.levelno for record in caplog.records) == level


async def test_a_task_group_that_a_handler_leaves_open_affects_no_other_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As an asynchronous generator does that has one and is not read to its end."""
    groups: list[anyio.abc.TaskGroup] = []

    async def bad(ws: WebSocketStream) -> None:
        groups.append(anyio.create_task_group())
        await groups[0].__aenter__()
        groups[0].start_soon(anyio.sleep_forever)

    async with _one_of_two(bad) as (server, _), connect(f"{server.url}/bad") as ws:
        assert await _end_of(ws) == CloseInfo(1000, "", True)
    groups[0].cancel_scope.cancel()
    assert [record.levelname for record in _louder_than_info(caplog)] == ["ERROR"]


async def test_a_cancel_scope_that_a_handler_leaves_open_affects_no_other_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def bad(ws: WebSocketStream) -> None:
        anyio.CancelScope().__enter__()

    async with _one_of_two(bad) as (server, _), connect(f"{server.url}/bad") as ws:
        assert await _end_of(ws) == CloseInfo(1000, "", True)
    assert [record.levelname for record in _louder_than_info(caplog)] == ["ERROR"]


async def test_logging_that_raises_ends_no_connection(capsys: pytest.CaptureFixture[str]) -> None:
    def without_request_id(record: logging.LogRecord) -> bool:
        raise KeyError("request_id")

    async def bad(ws: WebSocketStream) -> None:
        await ws.send("open")
        raise ZeroDivisionError

    logger = logging.getLogger("wsstream.server")
    logger.setLevel(logging.INFO)
    logger.addFilter(without_request_id)
    try:
        async with _one_of_two(bad) as (server, _), connect(f"{server.url}/bad") as ws:
            assert await ws.receive() == "open"
            assert await _end_of(ws) == CloseInfo(1011, "", True)
    finally:
        logger.removeFilter(without_request_id)
        logger.setLevel(logging.NOTSET)
    assert "request_id" in capsys.readouterr().err


async def test_handlers_see_the_context_variables_of_the_task_that_entered_the_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def handler(ws: WebSocketStream) -> None:
        await ws.send(variable.get())
        variable.set("a handler's own")
        await ws.wait_closed()

    variable.set("of the block")
    async with serve(handler, "127.0.0.1") as server:
        variable.set("too late")
        async with connect(server.url) as first, connect(server.url) as second:
            assert await first.receive() == await second.receive() == "of the block"


# -- cancellations that are not the server's ---------------------------------------------------


async def _await_a_cancelled_task() -> None:
    task = asyncio.create_task(asyncio.sleep(3600))
    asyncio.get_running_loop().call_later(0.1, task.cancel)
    await task


async def _cancel_the_running_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def _be_cancelled_by_a_neighbour() -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.1, task.cancel)
    await anyio.sleep_forever()


async def _raise_a_cancellation() -> None:
    raise asyncio.CancelledError


async def _raise_a_group_of_cancellations() -> None:
    raise BaseExceptionGroup("cancelled", [asyncio.CancelledError(), asyncio.CancelledError()])


NOBODYS = pytest.mark.parametrize(
    "be_cancelled",
    [
        _await_a_cancelled_task,
        _cancel_the_running_task,
        _be_cancelled_by_a_neighbour,
        _raise_a_cancellation,
        _raise_a_group_of_cancellations,
    ],
)


@on_asyncio
@NOBODYS
@pytest.mark.parametrize("closed", [False, True])
async def test_a_cancellation_without_a_cancelled_scope_is_a_failure_of_only_the_handler(
    be_cancelled: Callable[[], Awaitable[None]], closed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def bad(ws: WebSocketStream) -> None:
        await ws.receive()
        await be_cancelled()

    async with _one_of_two(bad) as (server, _), connect(f"{server.url}/bad") as ws:
        if closed:
            server.close()
        await ws.send("go")
        assert await _end_of(ws) == CloseInfo(1001, "", True)
        await until(lambda: len(server.connections) == 1)
    (record,) = _louder_than_info(caplog)
    assert record.levelname == "ERROR"
    assert "cancelled by something other than the server" in record.getMessage()
    assert record.exc_info is not None


@on_asyncio
@NOBODYS
async def test_a_cancellation_without_a_cancelled_scope_is_a_failure_of_only_process_request(
    be_cancelled: Callable[[], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    async def hook(request: Request) -> None:
        if request.path == "/bad":
            await be_cancelled()

    async with _one_of_two(echo, process_request=hook) as (server, _):
        with pytest.raises(HandshakeRejected) as caught:
            async with connect(f"{server.url}/bad"):
                pytest.fail("entered")
        assert caught.value.status == 500
    (record,) = _louder_than_info(caplog)
    assert "process_request failed" in record.getMessage()


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_a_cancellation_that_is_raised_again_later_is_a_failure_of_only_the_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Trio raises none where no scope was cancelled; but one can be kept."""

    async def bad(ws: WebSocketStream) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await checkpoint()
            except BaseException as error:
                kept = error
        raise kept

    async with _one_of_two(bad) as (server, _), connect(f"{server.url}/bad") as ws:
        assert await _end_of(ws) == CloseInfo(1001, "", True)
        await until(lambda: len(server.connections) == 1)
    assert [record.levelname for record in _louder_than_info(caplog)] == ["ERROR"]


@pytest.mark.heavy_after_first
@on_asyncio
@pytest.mark.parametrize("tls_on", [False, True])
@pytest.mark.parametrize("turns", range(12))
async def test_a_connection_whose_task_is_cancelled_at_any_moment_leaves_nothing(
    turns: int, tls_on: bool, tls: Any, http: Any
) -> None:
    """Also before its first step: the place and the socket are free again."""
    options = {"ssl": tls.server} if tls_on else {}
    async with serve(echo, "127.0.0.1", max_connections=1, **options) as server:
        before = asyncio.all_tasks()
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(http.opening)
            while not (begun := asyncio.all_tasks() - before):
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in begun:
                task.cancel()
            await anyio.sleep(1)
            sock.setblocking(False)
            with suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass  # until the end of the stream
        await until(lambda: not server.connections)
        async with connect(server.url, **({"ssl": tls.client} if tls_on else {})) as ws:
            await check_echo(ws)
        start = anyio.current_time()
    assert anyio.current_time() - start < 1


@on_asyncio
@pytest.mark.parametrize("turns", range(3))
async def test_a_server_whose_listening_task_is_cancelled_is_closed(turns: int) -> None:
    before = asyncio.all_tasks()
    async with serve(echo, "127.0.0.1") as server:
        (listening,) = asyncio.all_tasks() - before
        for _ in range(turns):
            await asyncio.sleep(0)
        listening.cancel()
        with anyio.fail_after(1):
            await server.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            async with connect(server.url):
                pytest.fail("entered")


# -- cancellations that are the server's -------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3])
async def test_cancelling_any_scope_around_the_block_ends_the_server(
    depth: int, caplog: pytest.LogCaptureFixture
) -> None:
    infos: list[CloseInfo | None] = []

    async def handler(ws: WebSocketStream) -> None:
        with anyio.CancelScope(), anyio.CancelScope():
            await anyio.sleep_forever()

    async def client(url: str) -> None:
        async with connect(url) as ws:
            infos.append(await _end_of(ws))

    async def run(depth: int) -> None:
        if depth:
            with anyio.CancelScope():
                await run(depth - 1)
        else:
            async with serve(handler, "127.0.0.1") as server:
                clients.start_soon(client, server.url)
                await until(lambda: server.connections)
                outer.cancel()
                await server.wait_closed()

    async with anyio.create_task_group() as clients:
        with anyio.CancelScope() as outer:
            await run(depth)
        assert outer.cancelled_caught
    assert infos == [CloseInfo(1001, "", True)]
    assert _louder_than_info(caplog) == []


@on_asyncio
async def test_cancelling_the_task_of_the_block_ends_the_server(caplog: pytest.LogCaptureFixture) -> None:
    servers: list[Server] = []

    async def run() -> None:
        async with serve(lambda ws: anyio.sleep_forever(), "127.0.0.1") as server:
            servers.append(server)
            await asyncio.sleep(3600)

    task = asyncio.create_task(run())
    await until(lambda: servers)
    async with connect(servers[0].url) as ws:
        await until(lambda: servers[0].connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert servers[0].connections == set()
        assert await _end_of(ws) == CloseInfo(1001, "", True)
    assert _louder_than_info(caplog) == []


@on_asyncio
@pytest.mark.parametrize("turns", range(4))
async def test_the_end_of_a_program_that_cancels_all_tasks_is_quiet(
    turns: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As `asyncio.run` does when its main task has ended before the others."""
    caplog.set_level(logging.INFO)
    ours = asyncio.current_task()
    others = asyncio.all_tasks()

    async def run() -> None:
        async with serve(lambda ws: anyio.sleep_forever(), "127.0.0.1") as server:
            servers.append(server)
            await asyncio.sleep(3600)

    async def client() -> None:
        async with connect(servers[0].url, close_timeout=0) as ws:
            await ws.wait_closed()

    servers: list[Server] = []
    tasks = [asyncio.create_task(run())]
    await until(lambda: servers)
    tasks += [asyncio.create_task(client()) for _ in range(5)]
    await until(lambda: len(servers[0].connections) == 5)
    start = anyio.current_time()
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - others:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    while asyncio.all_tasks() - others - {ours}:
        await asyncio.sleep(0)
    assert anyio.current_time() - start < 1
    assert servers[0].connections == set()
    assert _louder_than_info(caplog) == []


def test_a_program_that_ends_without_leaving_the_block_is_quiet(
    anyio_backend_name: str, http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    clients: list[socket.socket] = []
    serving = serve(lambda ws: anyio.sleep_forever(), "127.0.0.1")

    async def main() -> None:
        server = await serving.__aenter__()
        for said in (http.opening, b""):
            clients.append(socket.create_connection(("127.0.0.1", server.port)))
            clients[-1].sendall(said)
        await until(lambda: server.connections)

    anyio.run(main, backend=anyio_backend_name)
    for client in clients:
        with client:
            client.settimeout(5)
            while client.recv(4096):
                pass  # until the end of the stream
    assert _louder_than_info(caplog) == []


# -- mistakes of the library -------------------------------------------------------------------


@pytest.mark.parametrize("place", ["leave", "judge"])
async def test_a_bug_in_the_library_ends_only_one_connection(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = getattr(handlers, place)

    def mistake(*arguments: Any) -> Any:
        if mistakes:
            raise mistakes.pop()
        return real(*arguments)

    async def bad(ws: WebSocketStream) -> None:
        mistakes.append(RuntimeError("a mistake"))
        raise ValueError

    mistakes: list[Exception] = []
    monkeypatch.setattr(handlers, place, mistake)
    async with _one_of_two(bad) as (server, _), connect(f"{server.url}/bad") as ws:
        with pytest.raises(ConnectionBroken):
            await ws.receive()
    assert "the connection's task failed" in caplog.records[-1].getMessage()


# -- what ends the program ---------------------------------------------------------------------


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["handler", "group", "process_request"])
def test_an_exit_that_a_handler_raises_ends_the_program(
    anyio_backend_name: str, kind: type[BaseException], place: str, http: Any
) -> None:
    def end() -> None:
        raise BaseExceptionGroup("both", [ValueError(), kind(3)]) if place == "group" else kind(3)

    async def handler(ws: WebSocketStream) -> None:
        if ws.request.path == "/bad":
            end()
        await ws.wait_closed()

    def hook(request: Request) -> None:
        if place == "process_request" and request.path == "/bad":
            end()

    clients: list[socket.socket] = []

    async def main() -> None:
        async with serve(handler, "127.0.0.1", process_request=hook) as server:
            for path in (b"/", b"/bad"):
                clients.append(socket.create_connection(("127.0.0.1", server.port)))
                clients[-1].sendall(http.opening.replace(b"/", path, 1))
                await until(lambda: server.connections)
            await server.wait_closed()
            pytest.fail("the server was only closed")

    with pytest.raises(kind) as caught:
        anyio.run(main, backend=anyio_backend_name)
    assert caught.value.args == (3,) or kind is KeyboardInterrupt
    ends = []
    for client in clients:
        with client:
            client.settimeout(5)
            ends.append(b"".join(iter(lambda client=client: client.recv(4096), b"")))
    good, bad = ends
    assert good.endswith(b"\x88\x02\x03\xe9")  # Close 1001
    assert bad.endswith(b"\x88\x02\x03\xe9") if place != "process_request" else bad == b""
