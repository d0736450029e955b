"""What is asked of the event loop has to be there in its callbacks too, however the loop was started."""

from __future__ import annotations

import asyncio  # noqa: TID251 - started by its own functions, not by anyio's
import contextvars
import gc
import signal
import socket
import weakref
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import anyio
import pytest

from wsstream.transports.eventloop import event_loop

try:
    import trio  # noqa: TID251 - as a guest
    import trio.testing  # noqa: TID251
except ModuleNotFoundError:
    trio = None

needs_trio = pytest.mark.skipif(trio is None, reason="trio is not installed")

Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]


def _uvloop_run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return pytest.importorskip("uvloop").run(main())


def _runner_run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(main())


# `anyio.run` would tell anyio's functions, and so callbacks too, which library runs; these do not.
PLAIN = [
    pytest.param(lambda main: asyncio.run(main()), id="asyncio.run"),
    pytest.param(_runner_run, id="asyncio.Runner"),
    pytest.param(_uvloop_run, id="uvloop.run"),
]


@pytest.mark.parametrize("run", PLAIN)
def test_a_callback_can_ask_for_the_event_loop_where_anyio_cannot_tell(run: Run) -> None:
    pytest.importorskip("sniffio", reason="without it anyio takes every loop for asyncio's")

    async def main() -> tuple[bool, object]:
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[tuple[bool, object]] = loop.create_future()

        def callback() -> None:
            try:
                anyio.get_cancelled_exc_class()
            except RuntimeError:  # which is why the library may not ask anyio here
                asked.set_result((False, event_loop().callbacks()))
            else:
                asked.set_result((True, None))

        loop.call_soon(callback, context=contextvars.Context())
        anyio_knows, found = await asked
        return anyio_knows, found is loop

    assert run(main) == (False, True)


@pytest.mark.parametrize("run", PLAIN)
@pytest.mark.parametrize("wait", ["wait_readable", "wait_writable"])
def test_a_callback_can_close_a_socket_for_which_a_task_waits(
    run: Run, wait: str, sockets: tuple[socket.socket, socket.socket]
) -> None:
    sock = sockets[0]

    def fill() -> None:
        try:
            while sock.send(bytes(65536)):
                pass
        except BlockingIOError:
            pass

    async def main() -> None:
        if wait == "wait_writable":
            fill()
        loop = asyncio.get_running_loop()

        def close() -> None:
            event_loop().notify_closing(sock)
            sock.close()

        loop.call_later(0.01, close, context=contextvars.Context())
        async with asyncio.timeout(5):
            with pytest.raises(anyio.ClosedResourceError):
                await getattr(event_loop(), wait)(sock)

    run(main)


@pytest.mark.heavy
@pytest.mark.parametrize("run", PLAIN)
def test_the_alarms_of_a_loop_are_one_object_and_end_with_it(run: Run) -> None:
    loops: list[weakref.ref[Any]] = []

    class Sleeper:
        def __init__(self) -> None:
            self.woken = anyio.Event()
            self.loop = asyncio.get_running_loop()

        def on_time(self) -> None:
            self.woken.set()

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        alarms, soon, never = event_loop().alarms(), Sleeper(), Sleeper()
        assert event_loop().alarms() is alarms
        alarms.set(anyio.current_time() + 0.01, soon)
        alarms.set(anyio.current_time() + 60, never)
        with anyio.fail_after(5):
            await soon.woken.wait()
        assert not never.woken.is_set()

    run(main)
    run(main)
    gc.collect()
    assert [loop() for loop in loops] == [None, None]


@needs_trio
def test_trio_as_a_guest_of_asyncio_is_told_from_its_host() -> None:
    async def host() -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()

        async def guest() -> object:
            await trio.lowlevel.checkpoint()
            return event_loop() is not asyncio_loop

        asyncio_loop = event_loop()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda outcome: ended.set_result(outcome.unwrap()),
            host_uses_signal_set_wakeup_fd=True,
        )
        return await ended, event_loop().callbacks() is loop

    assert asyncio.run(host()) == (True, True)


def test_without_an_event_loop_the_error_says_so() -> None:
    with pytest.raises(RuntimeError, match="no event loop is running in this thread"):
        event_loop()


@pytest.mark.anyio
@pytest.mark.also_on_uvloop
class TestSockets:
    async def test_two_tasks_cannot_wait_for_the_same(
        self, sockets: tuple[socket.socket, socket.socket]
    ) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(event_loop().wait_readable, sockets[0])
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await event_loop().wait_readable(sockets[0])
            sockets[1].send(b"x")

    async def test_a_cancelled_wait_can_be_repeated(
        self, sockets: tuple[socket.socket, socket.socket]
    ) -> None:
        with anyio.move_on_after(0.01) as scope:
            await event_loop().wait_readable(sockets[0])
        assert scope.cancelled_caught
        sockets[1].send(b"x")
        with anyio.fail_after(5):
            await event_loop().wait_readable(sockets[0])


@pytest.mark.anyio
@pytest.mark.also_on_uvloop
class TestSpawn:
    async def test_the_end_is_told_once_when_the_task_returns(self) -> None:
        over = []
        event_loop().spawn(anyio.lowlevel.checkpoint, "returns", lambda: over.append("over"))
        assert over == []
        with anyio.fail_after(5):
            while not over:
                await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        assert over == ["over"]

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])  # a task of trio cannot be cancelled alone
    @pytest.mark.parametrize("turns", range(4))
    async def test_the_end_is_told_once_when_the_task_is_cancelled(
        self, anyio_backend: str, turns: int
    ) -> None:
        over, begun = [], []

        async def task() -> None:
            begun.append(True)
            await anyio.sleep_forever()

        event_loop().spawn(task, "cancelled", lambda: over.append("over"))
        for _ in range(turns):
            await asyncio.sleep(0)
        (running,) = (task for task in asyncio.all_tasks() if task.get_name() == "cancelled")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0)
        assert over == ["over"]
        assert begun == [True][:turns]

    async def test_a_task_sees_the_variables_of_its_context(self) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
        variable.set("given")
        context, seen = contextvars.copy_context(), []
        variable.set("later")

        async def task() -> None:
            seen.append(variable.get())
            variable.set("its own")

        over = anyio.Event()
        event_loop().spawn(task, "context", over.set, context)
        await over.wait()
        assert seen == ["given"]
        assert variable.get() == "later"
        assert context[variable] == "its own"


@pytest.mark.parametrize("run", PLAIN)
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_program_ends_asyncios_loop(run: Run, kind: type[BaseException]) -> None:
    over = []

    async def main() -> None:
        event_loop().spawn(partial(_raise, kind), "ends the program", lambda: over.append("over"))
        await asyncio.sleep(30)

    with pytest.raises(kind):
        run(main)
    assert over == ["over"]


@needs_trio
def test_an_exit_in_a_task_does_not_crash_the_run_of_trio() -> None:
    async def main() -> None:
        over = trio.Event()
        event_loop().spawn(partial(_raise, SystemExit), "exits", over.set)
        await over.wait()

    trio.run(main)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C is ignored in what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@needs_trio
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_in_a_task_is_passed_on_to_trios_main_task() -> None:
    over = []

    async def main() -> None:
        interrupted = partial(_raise, KeyboardInterrupt)
        event_loop().spawn(interrupted, "is interrupted", lambda: over.append("over"))
        await trio.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert over == ["over"]


@needs_trio
def test_a_nursery_that_was_left_open_does_not_crash_the_run_of_trio() -> None:
    cancelled = []

    async def forgotten() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append("forgotten")

    async def task() -> None:
        nursery = await trio.open_nursery().__aenter__()
        nursery.start_soon(forgotten)
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        over = trio.Event()
        event_loop().spawn(task, "leaves a nursery open", over.set)
        await over.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert cancelled == ["forgotten"]

    trio.run(main)


async def _raise(kind: type[BaseException]) -> None:
    await anyio.lowlevel.checkpoint()
    raise kind
