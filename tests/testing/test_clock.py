"""Virtual time on both backends."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from textwrap import dedent

import anyio
import anyio.lowlevel
import pytest
from anyio import wait_all_tasks_blocked
from kit.versions import TRIO_TAKES_OPTIONS

from wsstream.testing import memory_pair, virtual_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


@pytest.fixture
async def quick() -> AsyncIterator[None]:
    """Real time passes at most half as fast as virtual time."""
    real, virtual = time.monotonic(), anyio.current_time()
    yield
    assert time.monotonic() - real < (anyio.current_time() - virtual) / 2


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
        await anyio.sleep(60)
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


_TRIO = pytest.param(
    "trio",
    marks=pytest.mark.skipif(
        not TRIO_TAKES_OPTIONS, reason="anyio.run gives Trio no options before anyio 4.14"
    ),
)
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", _TRIO])


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


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own, as threads that other tests left behind would count."""
    command = [sys.executable, "-W", "error", "-c", dedent(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def run_main(backend: str, main: str) -> tuple[str, str]:
    """Run an ``async def main()`` in virtual time; give what it printed, and its errors."""
    script = """
        import os, signal, socket, subprocess, sys, threading, time
        import anyio
        from wsstream.testing import DeadlockError, memory_pair, virtual_clock
        {main}
        name, options = virtual_clock(sys.argv[1])
        try:
            anyio.run(main, backend=name, backend_options=options)
        except DeadlockError as error:
            print("deadlock:", error)
    """
    result = run_script(dedent(script).replace("{main}", dedent(main)), backend)
    return result.stdout, result.stderr


@pytest.mark.heavy_after_first
@BACKENDS
def test_without_a_deadline_it_waits_for_a_socket_in_earnest(backend: str) -> None:
    main = """
        async def main():
            reader, writer = socket.socketpair()
            code = "import os, sys, time; time.sleep(0.1); os.write(int(sys.argv[1]), b'x')"
            command = [sys.executable, "-c", code, str(writer.fileno())]
            with reader, writer, subprocess.Popen(command, pass_fds=[writer.fileno()]):
                await anyio.wait_readable(reader)
                print(reader.recv(1))
    """
    assert run_main(backend, main) == ("b'x'\n", "")


@pytest.mark.heavy
@BACKENDS
def test_without_a_deadline_it_waits_for_a_signal_in_earnest(backend: str) -> None:
    main = """
        async def main():
            code = "import os, signal, time; time.sleep(0.1); os.kill(os.getppid(), signal.SIGUSR1)"
            with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
                with subprocess.Popen([sys.executable, "-c", code]):
                    async for number in signals:
                        print(number.name)
                        return
    """
    assert run_main(backend, main) == ("SIGUSR1\n", "")


@pytest.mark.heavy
def test_a_deadlock_on_asyncio_is_an_error() -> None:
    main = """
        async def main():
            a, b = memory_pair()
            await a.receive()
    """
    expected = "deadlock: all tasks wait for one another: nothing can wake any of them\n"
    assert run_main("asyncio", main) == (expected, "")


@pytest.mark.heavy
def test_a_deadlock_is_found_when_the_last_thread_has_ended() -> None:
    main = """
        async def main():
            threading.Thread(target=time.sleep, args=(0.2,)).start()
            await anyio.sleep_forever()
    """
    stdout, stderr = run_main("asyncio", main)
    assert (stdout[:9], stderr) == ("deadlock:", "")


@pytest.mark.heavy
def test_a_thread_that_ends_as_soon_as_it_has_woken_the_loop_makes_no_deadlock() -> None:
    main = """
        async def main():
            import asyncio
            woken, count = anyio.Event(), threading.active_count
            wake = asyncio.get_running_loop().call_soon_threadsafe
            thread = threading.Thread(target=wake, args=(woken.set,))

            def count_when_it_has_just_ended():
                if thread.ident is None:
                    thread.start()
                    thread.join()
                return count()

            threading.active_count = count_when_it_has_just_ended
            await woken.wait()
            print("woken")
    """
    assert run_main("asyncio", main) == ("woken\n", "")


@pytest.mark.heavy
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
