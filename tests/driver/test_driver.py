"""However a step, a callback, a task or the transport fails: the connection ends, and everybody is told."""

from __future__ import annotations

import asyncio  # noqa: TID251 - anybody can cancel its tasks
import logging
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anyio
import pytest

import wsstream
from wsstream.codec.decoder import MAX_STEPS
from wsstream.codec.events import Event
from wsstream.protocol.connection import Connection
from wsstream.testing import frames
from wsstream.transports.base import Transport
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.tls import TLSTransport

pytestmark = pytest.mark.anyio


async def _hold(ws: wsstream.WebSocketStream) -> None:
    async for _ in ws:
        pass


@pytest.fixture(scope="module")
def contexts(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server and for its clients."""
    return server_tls, client_tls


@pytest.fixture(params=["ws", "wss"])
def tls(
    request: pytest.FixtureRequest, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Without TLS asyncio calls the driver back, with it the driver has tasks."""
    return contexts if request.param == "wss" else (None, None)


def _transport(ws: wsstream.WebSocketStream) -> Transport:
    return ws._driver.transport


def _errors(caplog: pytest.LogCaptureFixture) -> Iterator[logging.LogRecord]:
    return (record for record in caplog.records if record.levelno >= logging.ERROR)


async def test_a_connection_ends_though_its_transport_cannot_be_closed(
    tls: tuple[ssl.SSLContext | None, ssl.SSLContext | None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with wsstream.serve(_hold, "127.0.0.1", ssl=tls[0]) as server:
        with anyio.fail_after(5):
            async with wsstream.connect(server.url, ssl=tls[1], close_timeout=1) as ws:
                close = type(_transport(ws)).close

                def fail(transport: Transport) -> None:
                    close(transport)
                    if transport is _transport(ws):
                        raise OSError("the disk of the network is full")

                monkeypatch.setattr(type(_transport(ws)), "close", fail)
            assert ws.state == "closed"
            assert ws.close_info == (1000, "", True)
    (record,) = _errors(caplog)
    assert record.getMessage() == f"connection {ws.id}: the transport could not be closed"


@pytest.mark.parametrize("step", ["receive", "send_directly"])
async def test_a_mistake_in_a_step_ends_the_connection_alone(
    step: str,
    tls: tuple[ssl.SSLContext | None, ssl.SSLContext | None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Found by a callback or by a task of the driver, or by the call that took the step itself."""
    mistake = ZeroDivisionError("a mistake of the library")
    failing: list[Transport] = []
    transports = TLSTransport if tls[0] is not None else SocketTransport
    step = "send" if tls[0] is not None and step == "send_directly" else step
    real = getattr(transports, step)

    def fail_or(call: Callable[..., object], transport: Transport, *arguments: object) -> object:
        if transport in failing:
            raise mistake
        return call(*arguments)

    if isinstance(real, property):
        assert real.fget is not None
        patch: object = property(lambda self: partial(fail_or, real.fget(self), self))
    else:
        patch = lambda self, *arguments: fail_or(partial(real, self), self, *arguments)  # noqa: E731
    monkeypatch.setattr(transports, step, patch)
    monkeypatch.setattr(transports, "fileno", None)  # or the compiled codec makes the calls itself
    async with (
        wsstream.serve(_hold, "127.0.0.1", ssl=tls[0]) as server,
        anyio.create_task_group() as group,
        wsstream.connect(server.url, ssl=tls[1], close_timeout=1) as ws,
    ):

        async def end() -> None:
            with pytest.raises(wsstream.ConnectionBroken) as caught:
                await ws.wait_closed()
            assert caught.value.__cause__ is mistake

        group.start_soon(end)
        failing.append(_transport(ws))
        (theirs,) = server.connections
        with anyio.fail_after(5):
            await theirs.send("read, and it may be answered")
            with pytest.raises(wsstream.ConnectionBroken):
                while True:
                    await ws.send(await ws.receive())
    (record,) = _errors(caplog)
    assert record.getMessage() == f"connection {ws.id}: dropped, wsstream failed"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # nobody can cancel a single system task of trio
@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("role", ["reader", "writer"])
@pytest.mark.parametrize("kind", ["tls", "stream"])
async def test_a_cancelled_task_of_the_driver_ends_its_connection(
    kind: str, role: str, turns: int, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """As "cancel all tasks" does it, from before the task's first step on."""
    async with anyio.create_task_group() as group:
        async with wsstream.serve(_hold, "127.0.0.1", ssl=contexts[0] if kind == "tls" else None) as server:
            options = {"ssl": contexts[1]} if kind == "tls" else {}
            if kind == "stream":
                options["transport"] = await anyio.connect_tcp("127.0.0.1", server.port)
            connecting = wsstream.connect(server.url, close_timeout=1, **options)
            with anyio.fail_after(5):
                async with connecting as ws:
                    if role == "writer":
                        await anyio.wait_all_tasks_blocked()
                        group.start_soon(_send_until_it_ends, ws)
                    for _ in range(turns + 2 * (role == "writer")):
                        await asyncio.sleep(0)
                    for task in asyncio.all_tasks():
                        if task.get_name() == f"wsstream {role} {ws.id}":
                            task.cancel()
                            break
                    else:
                        pytest.skip("the task is not there yet")
                    with pytest.raises(wsstream.ConnectionBroken):
                        await ws.wait_closed()
            assert ws.state == "closed"
        group.cancel_scope.cancel()


async def _send_until_it_ends(ws: wsstream.WebSocketStream) -> None:
    with pytest.raises(wsstream.ConnectionBroken):
        while True:
            await ws.send(bytes(1 << 20))


# -- one step takes little time, whatever the peer sends -----------------------------------------------


FLOODS = {
    "pings": frames.ping(mask=frames.EXAMPLE_KEY) * 20_000,
    "pongs": frames.pong(mask=frames.EXAMPLE_KEY) * 20_000,
    "empty fragments": frames.continuation(fin=False, mask=frames.EXAMPLE_KEY) * 20_000,
    "fragments": frames.continuation(b"x", fin=False, mask=frames.EXAMPLE_KEY) * 20_000,
}
for name in ("empty fragments", "fragments"):
    FLOODS[name] = frames.text(fin=False, mask=frames.EXAMPLE_KEY) + FLOODS[name]


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("flood_of", FLOODS)
async def test_a_flood_of_tiny_frames_is_handled_a_few_at_a_time(
    flood_of: str,
    tls: tuple[ssl.SSLContext | None, ssl.SSLContext | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted, not timed: the frames that are handled one by one between two turns of another task."""
    turn = 0
    handled: dict[int, int] = {}
    receive = Connection.receive

    def counting(connection: Connection, *arguments: Any, **options: Any) -> list[Event]:
        events = receive(connection, *arguments, **options)
        if not connection.client:
            handled[turn] = handled.get(turn, 0) + connection.steps
        return events

    monkeypatch.setattr(Connection, "receive", counting)

    async def skip_all(ws: wsstream.WebSocketStream) -> None:
        async for _ in ws.readable.messages():
            pass

    async with (
        wsstream.serve(skip_all, "127.0.0.1", ssl=tls[0], shutdown_timeout=1) as server,
        wsstream.connect(server.url, ssl=tls[1]) as ws,
    ):
        flood = FLOODS[flood_of]
        sent = 0
        with anyio.fail_after(30):
            while sum(handled.values()) < 20_000:
                if sent < len(flood):
                    sent += _transport(ws).send([memoryview(flood)[sent:]])
                turn += 1
                await anyio.lowlevel.checkpoint()
        most = max(handled.values())
        ws.abort()
    # Trio's order of tasks is random: between two turns of one task, another may have two.
    assert most <= 4 * MAX_STEPS, "two steps of the driver, and two of the call that receives"
