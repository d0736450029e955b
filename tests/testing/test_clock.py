"""Virtual time on both backends."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import pytest
from anyio import wait_all_tasks_blocked

from wsstream.testing import memory_pair, virtual_clock

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict]:
    return virtual_clock(request.param)


@pytest.fixture
def quick() -> Iterator[None]:
    """The test takes less than a second of real time."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 1


@pytest.mark.usefixtures("quick")
async def test_a_minute_passes_at_once() -> None:
    start = anyio.current_time()
    await anyio.sleep(60)
    assert anyio.current_time() - start == 60


@pytest.mark.usefixtures("quick")
async def test_days_pass_at_once() -> None:
    start = anyio.current_time()
    await anyio.sleep(10 * 86400)
    assert anyio.current_time() - start == 10 * 86400


async def test_time_stands_still_while_a_task_can_go_on() -> None:
    start = anyio.current_time()
    with anyio.fail_after(0.001):
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
    assert anyio.current_time() == start


async def test_time_does_not_follow_the_real_clock() -> None:
    start = anyio.current_time()
    time.sleep(0.01)
    await anyio.lowlevel.checkpoint()
    assert anyio.current_time() == start


@pytest.mark.usefixtures("quick")
async def test_tasks_wake_in_the_order_of_their_deadlines() -> None:
    woken = []

    async def sleeper(seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, anyio.current_time() - start))

    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        for seconds in (30, 0.1, 7, 3600, 7.5):
            group.start_soon(sleeper, seconds)
    assert woken == [(seconds, pytest.approx(seconds)) for seconds in (0.1, 7, 7.5, 30, 3600)]


@pytest.mark.usefixtures("quick")
async def test_timeouts_follow_it() -> None:
    start = anyio.current_time()
    with pytest.raises(TimeoutError), anyio.fail_after(5):
        await anyio.sleep_forever()
    with anyio.move_on_after(3) as scope:
        await anyio.sleep(4)
    assert scope.cancelled_caught
    assert anyio.current_time() - start == 8


@pytest.mark.usefixtures("quick")
async def test_a_task_that_sleeps_forever_is_no_time_to_jump_to() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        group.start_soon(anyio.sleep, math.inf)
        await anyio.sleep(1)
        assert anyio.current_time() < 86400
        group.cancel_scope.cancel()


@pytest.mark.usefixtures("quick")
async def test_many_timers_that_were_cancelled_do_not_hold_it_up() -> None:
    start = anyio.current_time()
    for _ in range(200):
        with anyio.fail_after(100):
            await anyio.sleep(0.25)
    assert anyio.current_time() - start == 50


@pytest.mark.usefixtures("quick")
async def test_a_memory_stream_is_served_before_a_timeout() -> None:
    a, b = memory_pair()

    async def echo() -> None:
        async for data in b:
            await anyio.sleep(0.9)
            await b.send(data)

    async with anyio.create_task_group() as group:
        group.start_soon(echo)
        for _ in range(20):
            with anyio.fail_after(1):
                await a.send(b"x")
                await a.receive()
        await a.aclose()


@pytest.mark.usefixtures("quick")
async def test_sockets_within_the_event_loop_are_served_before_a_timeout() -> None:
    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            for _ in range(20):
                with anyio.fail_after(1):
                    await stream.send(b"x" * 1000)
                    assert await stream.receive() == b"x" * 1000
        group.cancel_scope.cancel()


async def test_without_a_deadline_it_waits_for_a_thread_in_earnest() -> None:
    start = anyio.current_time()
    await anyio.to_thread.run_sync(time.sleep, 0.05)
    assert anyio.current_time() == start


async def test_without_a_deadline_it_waits_for_a_socket_in_earnest() -> None:
    reader, writer = socket.socketpair()
    with (
        reader,
        writer,
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import os, sys, time; time.sleep(0.05); os.write(int(sys.argv[1]), b'x')",
                str(writer.fileno()),
            ],
            pass_fds=[writer.fileno()],
        ) as process,
    ):
        await anyio.wait_readable(reader)
        assert reader.recv(1) == b"x"
        assert process.wait() == 0


async def test_a_signal_wakes_it() -> None:
    async with anyio.create_task_group() as group:
        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            pid = os.getpid()
            code = f"import os, signal, time; time.sleep(0.1); os.kill({pid}, signal.SIGUSR1)"
            process = subprocess.Popen([sys.executable, "-c", code])
            async for number in signals:
                assert number == signal.SIGUSR1
                break
        assert process.wait() == 0
        group.cancel_scope.cancel()


async def test_wait_all_tasks_blocked_works_and_jumps_over_no_long_timer() -> None:
    a, b = memory_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(b.receive)
        group.start_soon(anyio.sleep, 1)
        start = anyio.current_time()
        await wait_all_tasks_blocked()
        assert b.statistics().tasks_waiting_receive == 1
        assert anyio.current_time() - start < 1
        await a.send(b"x")


BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
def test_anyio_run_takes_it_and_time_starts_at_zero(backend: str) -> None:
    async def main() -> tuple[float, float]:
        start = anyio.current_time()
        await anyio.sleep(60)
        return start, anyio.current_time()

    name, options = virtual_clock(backend)
    assert anyio.run(main, backend=name, backend_options=options) == (0, 60)


@BACKENDS
def test_with_idle_work_in_a_thread_is_waited_for(backend: str) -> None:
    async def main() -> float:
        with anyio.fail_after(3600):
            await anyio.to_thread.run_sync(time.sleep, 0.05)
        with anyio.fail_after(3600):
            await anyio.getaddrinfo("127.0.0.1", 80)
        return anyio.current_time()

    name, options = virtual_clock(backend, idle=5)
    assert anyio.run(main, backend=name, backend_options=options) == 0


@BACKENDS
def test_the_threads_of_name_resolution_end_without_a_warning(backend: str) -> None:
    async def main() -> None:
        await anyio.getaddrinfo("localhost", 80)

    name, options = virtual_clock(backend)
    anyio.run(main, backend=name, backend_options=options)


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=30
    )


def test_a_deadlock_on_asyncio_is_an_error() -> None:
    result = run_script(
        "import anyio\n"
        "from wsstream.testing import DeadlockError, memory_pair, virtual_clock\n"
        "async def main():\n"
        "    a, b = memory_pair()\n"
        "    await a.receive()\n"
        "name, options = virtual_clock('asyncio')\n"
        "try:\n"
        "    anyio.run(main, backend=name, backend_options=options)\n"
        "except DeadlockError as error:\n"
        "    print('found:', error)\n"
    )
    assert (result.stdout, result.stderr) == (
        "found: all tasks wait for one another: nothing can wake any of them\n",
        "",
    )


def test_a_deadlock_is_found_when_the_last_thread_has_ended() -> None:
    result = run_script(
        "import anyio, threading, time\n"
        "from wsstream.testing import DeadlockError, virtual_clock\n"
        "async def main():\n"
        "    threading.Thread(target=time.sleep, args=(0.2,)).start()\n"
        "    await anyio.sleep_forever()\n"
        "name, options = virtual_clock('asyncio')\n"
        "try:\n"
        "    anyio.run(main, backend=name, backend_options=options)\n"
        "except DeadlockError as error:\n"
        "    print('found')\n"
    )
    assert (result.stdout, result.stderr) == ("found\n", "")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_other_backend_is_not_imported(backend: str) -> None:
    other = {"asyncio": "trio", "trio": "asyncio"}[backend]
    script = (
        "import sys\n"
        "from wsstream.testing import virtual_clock\n"
        f"virtual_clock({backend!r})\n"
        f"print({other!r} in sys.modules)"
    )
    assert run_script(script).stdout == "False\n"


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="curio"):
        virtual_clock("curio")
    with pytest.raises(ValueError, match="negative"):
        virtual_clock(idle=-1)
