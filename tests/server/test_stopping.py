"""How a server stops: by a signal, and drained."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from kit.endpoints import check_echo, echo, fail_to_connect, stay_open
from kit.waiting import until

from wsstream import (
    ClosedLocally,
    CloseInfo,
    HandshakeRejected,
    Request,
    Response,
    Server,
    WebSocketStream,
    connect,
    serve,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]

signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def handlers_of_signals() -> Iterator[None]:
    """After the test, whoever had the signals has them again."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def _end_of(ws: WebSocketStream) -> CloseInfo | None:
    async for _ in ws:
        pass
    return ws.close_info


# -- serve_forever ---------------------------------------------------------------------------


@signals
async def test_a_signal_closes_with_1001_and_waits_for_the_handlers(number: signal.Signals) -> None:
    ended: list[str] = []

    async def handler(ws: WebSocketStream) -> None:
        try:
            await echo(ws)
        finally:
            await anyio.sleep(2)
            ended.append("handler")

    async with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        await check_echo(ws)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve_forever)
            await until(lambda: signal.getsignal(signal.SIGINT).__module__ == "wsstream.transports.signals")
            signal.raise_signal(number)
            assert await _end_of(ws) == CloseInfo(1001, "", True)
            assert ended == []
        assert ended == ["handler"]
        assert not server.listening


async def test_handlers_that_do_not_end_are_cancelled_after_the_shutdown_timeout() -> None:
    async def handler(ws: WebSocketStream) -> None:
        await anyio.sleep_forever()

    async with serve(handler, "127.0.0.1", shutdown_timeout=3) as server, connect(server.url):
        await until(lambda: server.connections)
        start = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve_forever)
            await anyio.sleep(0.1)
            signal.raise_signal(signal.SIGTERM)
        assert 3 <= anyio.current_time() - start < 4
        assert not server.connections


async def test_a_second_signal_cancels_the_handlers_at_once() -> None:
    ended: list[float] = []

    async def handler(ws: WebSocketStream) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(anyio.current_time())

    async with serve(handler, "127.0.0.1", shutdown_timeout=None) as server, connect(server.url):
        await until(lambda: server.connections)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve_forever)
            await anyio.sleep(0.1)
            signal.raise_signal(signal.SIGTERM)
            await anyio.sleep(5)
            assert ended == []
            second = anyio.current_time()
            signal.raise_signal(signal.SIGINT)
        assert ended[0] - second < 0.5


async def test_it_returns_when_the_server_is_closed_and_leaves_the_connections_open() -> None:
    async with serve(echo, "127.0.0.1") as server, connect(server.url) as ws:
        await check_echo(ws)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve_forever)
            await anyio.sleep(0.1)
            server.close()
        await check_echo(ws)


async def test_one_signal_stops_several_servers() -> None:
    async with (
        serve(echo, "127.0.0.1") as one,
        serve(echo, "127.0.0.1") as other,
        connect(one.url) as ws,
        connect(other.url) as second,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(one.serve_forever)
        tasks.start_soon(other.serve_forever)
        await anyio.sleep(0.1)
        signal.raise_signal(signal.SIGTERM)
        assert await _end_of(ws) == await _end_of(second) == CloseInfo(1001, "", True)


async def test_if_cancelled_the_server_goes_on() -> None:
    async with serve(echo, "127.0.0.1") as server, connect(server.url) as ws:
        with anyio.move_on_after(1):
            await server.serve_forever()
        await check_echo(ws)
        assert server.ready


async def test_what_is_to_be_done_first_is_done_first() -> None:
    async with (
        serve(stay_open, "127.0.0.1") as server,
        connect(server.url) as ws,
        anyio.create_task_group() as tasks,
    ):

        async def serve_forever() -> None:
            await server.serve_forever(stop=lambda: server.drain(spread=1))

        tasks.start_soon(serve_forever)
        await anyio.sleep(0.1)
        signal.raise_signal(signal.SIGTERM)
        assert await _end_of(ws) == CloseInfo(1012, "", True)


async def test_an_exception_of_what_is_to_be_done_first_is_raised() -> None:
    async def stop() -> None:
        raise ZeroDivisionError

    async def interrupt() -> None:
        await anyio.sleep(0.1)
        signal.raise_signal(signal.SIGINT)

    async with serve(echo, "127.0.0.1") as server, anyio.create_task_group() as tasks:
        tasks.start_soon(interrupt)
        with pytest.raises(ZeroDivisionError):
            await server.serve_forever(stop=stop)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_in_another_thread_no_signal_comes_and_close_ends_it() -> None:
    servers: list[Server] = []

    async def main() -> None:
        async with serve(echo, "127.0.0.1") as server:
            servers.append(server)
            with anyio.move_on_after(0.5) as limit:
                await server.serve_forever()
            assert limit.cancelled_caught
            server.close()
            await server.serve_forever()

    thread = threading.Thread(target=anyio.run, args=[main])
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    assert not servers[0].listening


# -- readiness -------------------------------------------------------------------------------


async def test_listening_and_ready_say_what_a_server_is_good_for() -> None:
    serving = serve(echo, "127.0.0.1")
    async with serving as server:
        assert (server.listening, server.ready) == (True, True)
        async with connect(server.url) as ws:
            await check_echo(ws)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.drain)
                await anyio.lowlevel.checkpoint()
                await until(lambda: not server.ready, pause=0.01)
                assert server.listening
                await _end_of(ws)
        assert (server.listening, server.ready) == (False, False)


# -- drain -----------------------------------------------------------------------------------


async def _open_many(stack: AsyncExitStack, server: Server, count: int) -> list[WebSocketStream]:
    return [await stack.enter_async_context(connect(server.url)) for _ in range(count)]


@pytest.mark.heavy
async def test_connections_are_closed_one_by_one_over_the_time() -> None:
    times: list[float] = []

    async def note_end(ws: WebSocketStream) -> None:
        assert await _end_of(ws) == CloseInfo(1012, "", True)
        times.append(anyio.current_time())

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(stay_open, "127.0.0.1"))
        opened = await _open_many(stack, server, 40)
        async with anyio.create_task_group() as tasks:
            for ws in opened:
                tasks.start_soon(note_end, ws)
            start = anyio.current_time()
            await server.drain(timeout=30, spread=20)
            assert anyio.current_time() - start < 21
        assert not server.listening
    # Each part of the time has its one: never more than two within one part, nobody waits for two and more.
    gaps = [later - earlier for earlier, later in itertools.pairwise([start, *times, start + 20])]
    assert len(times) == 40
    assert max(gaps) <= 2 * 0.5 + 0.2
    assert sum(start <= time < start + 10 for time in times) in range(18, 23)
    assert len({round(gap, 3) for gap in gaps}) > 10  # with jitter


@pytest.mark.heavy
async def test_the_order_is_another_than_that_of_coming() -> None:
    order: list[int] = []

    async def note_end(index: int, ws: WebSocketStream) -> None:
        await _end_of(ws)
        order.append(index)

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(stay_open, "127.0.0.1"))
        async with anyio.create_task_group() as tasks:
            for index, ws in enumerate(await _open_many(stack, server, 20)):
                tasks.start_soon(note_end, index, ws)
            await server.drain(spread=10)
    assert sorted(order) == list(range(20)) != order


async def test_while_draining_handshakes_get_503_and_other_requests_the_applications_answer(
    http: Any,
) -> None:
    def answer(request: Request) -> Response | None:
        if request.path == "/ready":
            return Response(200 if server.ready else 503)
        return None

    async with serve(stay_open, "127.0.0.1", process_request=answer) as server, connect(server.url):
        assert (await http.get(server, path="/ready"))[0] == 200
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.drain)
            await until(lambda: not server.ready, pause=0.01)
            with pytest.raises(HandshakeRejected) as caught:
                await fail_to_connect(server.url)
            assert (caught.value.status, dict(caught.value.headers)["retry-after"]) == (503, "1")
            assert b"about to stop" in caught.value.body
            status, head, _ = await http.get(server, path="/ready")
            assert (status, b"retry-after" in head.lower()) == (503, False)


async def test_what_is_left_after_the_timeout_is_dropped_and_its_handler_cancelled() -> None:
    ended: list[str] = []

    async def handler(ws: WebSocketStream) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(ws.id)

    async with serve(handler, "127.0.0.1") as server, connect(server.url):
        await until(lambda: server.connections)
        start = anyio.current_time()
        await server.drain(timeout=5, spread=1)
        assert 5 <= anyio.current_time() - start < 6
        await until(lambda: not server.connections)
        assert len(ended) == 1


@pytest.mark.heavy
async def test_what_was_acknowledged_is_not_lost() -> None:
    """Acknowledged means handled: all acknowledgements that were sent before the Close arrive before it."""
    handled: list[str] = []
    acknowledged: list[str] = []

    async def handler(ws: WebSocketStream) -> None:
        async for message in ws:
            assert isinstance(message, str)
            await anyio.sleep(0.05)
            handled.append(message)
            try:
                await ws.send(message)
            except ClosedLocally:
                handled.remove(message)  # rolled back: nobody was told
                raise

    async def send(ws: WebSocketStream) -> None:
        for index in range(1000):
            await ws.send(str(index))

    async with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, ws)
            tasks.start_soon(server.drain)
            async for message in ws:
                acknowledged.append(str(message))
            tasks.cancel_scope.cancel()
        await until(lambda: not server.connections)
    assert acknowledged == handled
    assert 0 < len(handled) < 1000


async def test_a_request_that_was_admitted_before_opens_and_is_closed_at_once() -> None:
    go = anyio.Event()
    asked = anyio.Event()

    async def wait(request: Request) -> None:
        asked.set()
        await go.wait()

    async with (
        serve(stay_open, "127.0.0.1", process_request=wait) as server,
        anyio.create_task_group() as tasks,
    ):

        async def client() -> None:
            async with connect(server.url) as ws:
                assert await _end_of(ws) == CloseInfo(1012, "", True)

        tasks.start_soon(client)
        await asked.wait()
        tasks.start_soon(server.drain)
        await anyio.sleep(1)
        assert server.listening  # it waits for this client
        go.set()


async def test_a_server_without_clients_is_drained_at_once() -> None:
    async with serve(echo, "127.0.0.1") as server:
        start = anyio.current_time()
        await server.drain()
        assert anyio.current_time() == start
        assert not server.listening


async def test_if_cancelled_it_may_be_called_again() -> None:
    async with serve(stay_open, "127.0.0.1") as server, connect(server.url) as ws:
        with anyio.move_on_after(0):
            await server.drain(spread=10)
        assert server.listening
        assert not server.ready
        await until(lambda: server.connections)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.drain)
            assert await _end_of(ws) == CloseInfo(1012, "", True)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"spread": 31}, ValueError, "spread must not be longer than timeout, got 31 and 30"),
        ({"spread": float("inf"), "timeout": None}, ValueError, "spread must be finite"),
        ({"timeout": "1"}, TypeError, "timeout must be a number or None"),
        ({"code": 1006}, ValueError, "1006"),
    ],
    ids=["spread", "endless", "timeout", "code"],
)
async def test_a_wrong_argument_is_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    async with serve(echo, "127.0.0.1") as server:
        with pytest.raises(error, match=text):
            await server.drain(**options)
        assert server.ready
