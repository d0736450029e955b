"""The two engines, with steps that are plain functions: when each step is called, and how it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from math import inf
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from wsstream.codec.speedups import FrameBatch, ReadStep, UnreadQueue
from wsstream.driver.callbacks import CallbackEngine
from wsstream.driver.engine import Engine, Next, Output
from wsstream.driver.tasks import TaskEngine
from wsstream.transports.eventloop import event_loop
from wsstream.transports.sockets import SocketTransport

pytestmark = pytest.mark.anyio


def new_read_step(transport: SocketTransport) -> ReadStep:
    """One that is not open, and so leaves every step to the engine."""
    return ReadStep(UnreadQueue(), FrameBatch(), False, False, transport.receive, memoryview(bytearray(100)))


class Recorder:
    """Steps that do what the test says, and are written down."""

    def __init__(self, transport: SocketTransport) -> None:
        self.transport = transport
        self.called: list[str] = []
        self.answers: list[Next] = []
        self.output = Output.NOTHING
        self.deadline = inf
        self.error: Exception | None = None
        self.finished = anyio.Event()
        self.engine: Engine | None = None

    def read(self) -> Next:
        self.called.append("read")
        if self.error is not None:
            raise self.error
        if self.answers:
            return self.answers.pop(0)
        self.transport.recv_into(memoryview(bytearray(100)))
        return Next.WAIT

    def write(self) -> None:
        self.called.append("write")
        self.output = Output.NOTHING

    def tick(self) -> None:
        self.called.append("tick")
        self.deadline = inf

    def reading_failed(self, error: Exception) -> None:
        self.called.append(f"reading failed: {error}")
        self.stop()

    def writing_failed(self, error: Exception) -> None:
        self.called.append(f"writing failed: {error}")

    def stopped(self) -> None:
        self.stop()

    async def release(self) -> None:
        self.called.append("release")

    def finish(self) -> None:
        self.finished.set()

    def stop(self) -> None:
        engine, self.engine = self.engine, None
        if engine is not None:
            self.transport.close()
            engine.stop()

    def took(self, *names: str) -> bool:
        """Whether these steps were taken since the last look."""
        called, self.called = [name for name in self.called if name != "tick"], []
        return called == list(names)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture(params=["tasks", "callbacks"])
def make(request: pytest.FixtureRequest, sockets: tuple[socket.socket, socket.socket]) -> Any:
    def make() -> tuple[Recorder, Engine]:
        transport = SocketTransport(sockets[0])
        steps = Recorder(transport)
        loop = event_loop().callbacks()
        if request.param == "tasks":
            engine: Engine = TaskEngine(steps, transport, "test")
        elif loop is None:
            pytest.skip("this event loop does not call back")
        else:
            read_step = new_read_step(transport)
            engine = CallbackEngine(steps, transport, event_loop(), read_step)
            assert engine.watch()
            assert read_step.watched
        steps.engine = engine
        engine.start()
        return steps, engine

    return make


async def settled() -> None:
    await anyio.sleep(0.005)
    await wait_all_tasks_blocked()


async def test_what_arrives_is_read_once_and_then_waited_for(make: Any, sockets: Any) -> None:
    steps, _ = make()
    await settled()
    steps.called.clear()
    for _ in range(3):
        sockets[1].send(b"x")
        await settled()
        assert steps.took("read")
    steps.stop()


async def test_bytes_that_were_left_are_decoded_without_the_transport(make: Any, sockets: Any) -> None:
    steps, engine = make()
    await settled()
    steps.called.clear()
    steps.answers = [Next.DECODE, Next.DECODE, Next.WAIT]
    engine.decode_soon()
    await settled()
    assert steps.took("read", "read", "read")
    steps.stop()


async def test_while_reading_sleeps_nothing_is_read_and_then_it_goes_on(make: Any, sockets: Any) -> None:
    steps, engine = make()
    await settled()
    steps.called.clear()
    steps.answers = [Next.SLEEP, Next.SLEEP]
    sockets[1].send(b"x")
    await settled()
    assert steps.took("read")
    sockets[1].send(b"y")
    await settled()
    assert steps.took()
    steps.answers.clear()
    engine.resume_reading()
    await settled()
    assert steps.took("read")
    steps.stop()


async def test_output_is_written_when_the_transport_takes_it(make: Any) -> None:
    steps, engine = make()
    await settled()
    steps.called.clear()
    for output in (Output.BLOCKED, Output.BLOCKED):
        steps.output = output
        engine.write_soon()
        await settled()
        assert steps.took("write")
    steps.stop()


async def test_the_clock_is_looked_at_in_time_also_if_the_deadline_becomes_earlier(make: Any) -> None:
    steps, engine = make()
    await settled()
    steps.called.clear()
    now = event_loop().clock()
    engine.wake_at(now() + 60)
    engine.wake_at(now() + 0.01)
    engine.wake_at(now() + 60)
    with anyio.fail_after(5):
        while "tick" not in steps.called:
            await anyio.sleep(0.005)
    steps.stop()


async def test_when_it_stops_nothing_is_called_any_more_and_nothing_is_left(make: Any, sockets: Any) -> None:
    steps, engine = make()
    await settled()
    engine.wake_at(event_loop().clock()() + 0.02)
    steps.stop()
    with anyio.fail_after(5):
        await steps.finished.wait()
    steps.called.clear()
    engine.decode_soon()
    await anyio.sleep(0.05)
    assert steps.called == []


async def test_a_mistake_in_the_clocks_step_is_told_and_raised_nowhere(make: Any) -> None:
    steps, engine = make()
    await settled()

    def tick() -> None:
        raise ZeroDivisionError("a mistake")

    steps.tick = tick
    engine.wake_at(event_loop().clock()())
    with anyio.fail_after(5):
        await steps.finished.wait()
    assert "reading failed: a mistake" in steps.called


async def test_a_receiving_task_that_took_a_step_is_left_the_next_one(make: Any, sockets: Any) -> None:
    steps, engine = make()
    await settled()
    steps.called.clear()
    sockets[1].send(b"x")
    engine.step_was_taken(Next.READ)
    await anyio.lowlevel.checkpoint()
    engine.step_is_over()
    await settled()
    assert steps.took("read"), "later, and not in the turn of the receiving task"
    steps.stop()


def test_a_connection_that_is_left_open_ends_with_trios_run(sockets: Any) -> None:
    pytest.importorskip("trio")
    left: list[Recorder] = []

    async def main() -> None:
        left.append(steps := Recorder(SocketTransport(sockets[0])))
        if event_loop().callbacks() is None:
            pytest.skip("this event loop does not call back")
        engine = CallbackEngine(steps, steps.transport, event_loop(), new_read_step(steps.transport))
        assert engine.watch()
        steps.engine = engine
        engine.start()
        await settled()

    anyio.run(main, backend="trio")
    assert left[0].finished.is_set()
    assert sockets[0].fileno() < 0
