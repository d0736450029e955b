"""SIGINT and SIGTERM at a server under load, in a process of its own, however its event loop was started."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from kit import processes

from wsstream import ConnectionClosed, connect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot be told to stop"),
]

_PROGRAM = Path(__file__).parent / "programs" / "stopping.py"
_CLIENTS = 30
_SHUTDOWN = 5  # seconds, the program's shutdown_timeout
STARTS = ["asyncio.run", "uvloop.run", "trio.run", "anyio.run"]

by_signal = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


class Load:
    """Clients that send and receive as fast as they can, until the server ends that."""

    def __init__(self, process: subprocess.Popen[str], number: signal.Signals) -> None:
        assert process.stdout is not None
        self.url = process.stdout.readline().strip()
        self.codes: list[int] = []
        self.echoes = 0
        self._process = process
        self._number = number

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(_CLIENTS):
                tasks.start_soon(self._client)
            while self.echoes < 20 * _CLIENTS:
                await anyio.sleep(0.01)
            self.start = time.monotonic()
            self._process.send_signal(self._number)

    async def _client(self) -> None:
        async with connect(self.url) as ws:
            try:
                while True:
                    await ws.send(bytes(1000))
                    await ws.receive()
                    self.echoes += 1
            except ConnectionClosed as error:
                self.codes.append(error.info.code)


def _stop(how: str, body: str, number: signal.Signals) -> tuple[Load, subprocess.Popen[str], str, str, float]:
    if how != "anyio.run":
        pytest.importorskip(how.partition(".")[0])
    with subprocess.Popen(
        [sys.executable, str(_PROGRAM), how, body],
        env=processes.environment(measured=False),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            load = Load(process, number)
            anyio.run(load.run)
            stdout, stderr = process.communicate(timeout=30)
            took = time.monotonic() - load.start
        finally:
            process.kill()
    counts = json.loads(stdout)
    assert counts == {"began": _CLIENTS, "ended": _CLIENTS}
    print(f"{how} {body} {number.name}: {load.echoes} echoes, ended in {took:.2f} s")
    return load, process, stdout, stderr, took


@by_signal
@pytest.mark.parametrize("how", STARTS)
def test_serve_forever_ends_quietly_with_1001(how: str, number: signal.Signals) -> None:
    load, process, _, stderr, took = _stop(how, "serve_forever", number)
    assert load.codes == [1001] * _CLIENTS
    assert (process.returncode, stderr) == (0, "")
    assert took < _SHUTDOWN


@pytest.mark.parametrize("how", STARTS)
def test_it_drains_first_where_it_is_told_to(how: str) -> None:
    load, process, _, stderr, _ = _stop(how, "drain", signal.SIGTERM)
    assert load.codes == [1012] * _CLIENTS
    assert (process.returncode, stderr) == (0, "")


@by_signal
@pytest.mark.parametrize("how", STARTS)
def test_without_it_both_signals_are_ctrl_c(how: str, number: signal.Signals) -> None:
    load, process, _, stderr, took = _stop(how, "wait_closed", number)
    assert load.codes == [1001] * _CLIENTS
    assert process.returncode == -signal.SIGINT
    assert stderr.endswith("KeyboardInterrupt\n")
    assert took < _SHUTDOWN
