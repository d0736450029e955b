"""A new process takes the place of an old one: every client comes back, and nothing acknowledged is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest
from kit import processes
from kit.waiting import until

from wsstream import Backoff, CloseCode, ConnectionClosed, reconnect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="there SO_REUSEPORT does not share out connections"),
]

_PROGRAM = Path(__file__).parent / "programs" / "acknowledging.py"
_CLIENTS = 200
_BACK = 10  # seconds until all have to be back


@contextmanager
def _server(port: int, file: Path, backend: str, code: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The program, and the port on which it listens by now."""
    command = [sys.executable, str(_PROGRAM), str(port), str(file), backend, str(code)]
    with subprocess.Popen(
        command, env=processes.environment(measured=False), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


class Client:
    """Sends numbered messages, each again until it is acknowledged, over one connection after another."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.acknowledged: list[str] = []
        self.opened: list[float] = []
        self.lost: list[float] = []

    async def run(self, url: str) -> None:
        number = 0
        # The server spreads the closings itself, so after 1012 there is nothing to wait for.
        async for ws in reconnect(url, delays=Backoff(initial=0.5, maximum=1), pauses={1012: (0, 0)}):
            self.opened.append(time.monotonic())
            try:
                while True:
                    message = f"{self.name}:{number}"
                    await ws.send(message)
                    assert await ws.receive() == message
                    self.acknowledged.append(message)
                    number += 1
                    await anyio.sleep(0.2)
            except ConnectionClosed:
                self.lost.append(time.monotonic())


@pytest.mark.parametrize(
    ("backend", "code"),
    [
        ("asyncio", CloseCode.SERVICE_RESTART),
        ("trio", CloseCode.SERVICE_RESTART),
        ("asyncio", CloseCode.GOING_AWAY),
    ],
)
def test_all_are_back_within_ten_seconds_and_nothing_acknowledged_is_lost(
    backend: str, code: int, tmp_path: Path
) -> None:
    clients = [Client(name) for name in range(_CLIENTS)]
    handled = tmp_path / "handled"

    async def run() -> float:
        with ExitStack() as stack, _server(0, handled, backend, code) as (old, port):
            async with anyio.create_task_group() as tasks:
                for client in clients:
                    tasks.start_soon(client.run, f"ws://127.0.0.1:{port}/")
                await until(lambda: all(client.acknowledged for client in clients))
                # Only now, as the system would give it some of the clients.
                stack.enter_context(_server(port, handled, backend, code))
                start = time.monotonic()
                old.send_signal(signal.SIGTERM)
                await until(lambda: all(len(client.opened) > 1 for client in clients))
                await anyio.sleep(0.5)
                tasks.cancel_scope.cancel()
            assert old.wait(20) == 0
            return start

    start = anyio.run(run)
    back = [client.opened[1] - start for client in clients]
    lost = [client.lost[0] - start for client in clients]
    halves = _each_half_second(back)
    print(f"{backend}, {code}: sent away after {min(lost):.2f} to {max(lost):.2f} s")
    print(f"back until {max(back):.2f} s, in each half second: {halves}")
    assert max(back) < _BACK
    assert max(halves) < _CLIENTS / 3  # even would be 20 to 25
    kept = set(handled.read_text().split())
    acknowledged = {message for client in clients for message in client.acknowledged}
    assert acknowledged <= kept
    assert len(acknowledged) > 2 * _CLIENTS


def _each_half_second(times: list[float]) -> list[int]:
    counts = Counter(int(moment * 2) for moment in times)
    return [counts[index] for index in range(max(counts) + 1)]
