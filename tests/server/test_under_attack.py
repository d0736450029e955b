"""A good client's latency while others take handshakes, descriptors and places: figures, and wide bounds."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import pytest
from kit import processes

from wsstream import HandshakeRejected, connect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs the addresses of 127.0.0.0/8"),
]

_PROGRAM = Path(__file__).parent / "programs" / "limited.py"
_BOUND = 3.0  # seconds: on a busy machine; an attack that succeeds takes for ever
_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"

Attack = Callable[[int, ExitStack], Awaitable[str]]


def _socket(port: int, stack: ExitStack) -> socket.socket:
    """A client's socket from another address than the good client's."""
    sock = stack.enter_context(socket.socket())
    sock.bind(("127.0.0.9", 0))
    sock.settimeout(5)
    sock.connect(("127.0.0.1", port))
    return sock


async def slow_loris(port: int, stack: ExitStack) -> str:
    """Begins 500 requests and sends a byte of each again and again."""
    socks = [_socket(port, stack) for _ in range(500)]
    dropped = 0
    for _ in range(20):
        for sock in list(socks):
            try:
                sock.send(b"G")
            except OSError:
                dropped += 1
                socks.remove(sock)
        await anyio.sleep(0.05)
    return f"{dropped} of 500 dropped"


async def exhaustion(port: int, stack: ExitStack) -> str:
    """Takes all the descriptors that the server may have, and more."""
    socks = [_socket(port, stack) for _ in range(300)]
    await anyio.sleep(3)
    return f"{len(socks)} sockets open"


async def many_connections(port: int, stack: ExitStack) -> str:
    """Asks for 200 WebSockets from one address."""
    statuses: list[int | None] = []
    opened = 0
    for _ in range(200):
        stream = await anyio.connect_tcp("127.0.0.1", port, local_host="127.0.0.9")
        try:
            connecting = connect(f"ws://127.0.0.1:{port}/", transport=stream)
            await connecting.__aenter__()
            opened += 1
        except HandshakeRejected as error:
            statuses.append(error.status)
    assert (opened, set(statuses)) == (5, {429})
    return f"{opened} opened, {len(statuses)} got 429"


class Good:
    """A client that stays, and new ones that come: how long each echo, and each coming, takes."""

    def __init__(self, port: int) -> None:
        self._url = f"ws://127.0.0.1:{port}/"
        self.echoes: list[float] = []
        self.openings: list[float] = []

    async def run(self) -> None:
        async with connect(self._url) as ws:
            while True:
                start = time.perf_counter()
                await ws.send("x")
                await ws.receive()
                self.echoes.append(time.perf_counter() - start)
                await anyio.sleep(0.01)

    async def come(self) -> None:
        while True:
            start = time.perf_counter()
            async with connect(self._url, open_timeout=30) as ws:
                await ws.send("x")
                await ws.receive()
            self.openings.append(time.perf_counter() - start)
            await anyio.sleep(0.05)


def _shown(times: list[float]) -> str:
    late = sorted(times)[int(len(times) * 0.99)]
    return f"{len(times)}, median {median(times) * 1e3:.2f} ms, 99 % {late * 1e3:.1f} ms"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("attack", "descriptors"),
    [(slow_loris, None), (exhaustion, 64), (many_connections, None)],
    ids=["slow-loris", "descriptors", "places"],
)
def test_a_good_client_is_served_meanwhile(
    attack: Attack, descriptors: int | None, backend: str, tmp_path: Path
) -> None:
    arguments: list[Any] = [backend] if descriptors is None else [backend, str(descriptors)]

    async def measure(port: int) -> tuple[Good, Good, str]:
        before, during = Good(port), Good(port)
        with anyio.move_on_after(1):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(before.run)
                tasks.start_soon(before.come)
        with ExitStack() as stack:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(during.run)
                await anyio.sleep(0.2)
                said = await _begin(tasks, attack, port, stack, during)
                tasks.cancel_scope.cancel()
        return before, during, said

    with (
        (tmp_path / "stderr").open("w+") as log,
        subprocess.Popen(
            [sys.executable, str(_PROGRAM), *arguments],
            env=processes.environment(measured=False),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            before, during, said = anyio.run(measure, int(process.stdout.readline()))
            busy = _cpu_seconds(process.pid)
        finally:
            process.kill()
        log.seek(0)
        lines = log.read().splitlines()
    print(f"{backend}, before: echoes {_shown(before.echoes)}; openings {_shown(before.openings)}")
    print(f"{backend}, {attack.__name__} ({said}): echoes {_shown(during.echoes)}; "
          f"openings {_shown(during.openings)}; {busy:.2f} s of CPU in all")  # fmt: skip
    assert max(median(during.echoes), max(during.openings)) < _BOUND
    assert [line for line in lines if "cannot accept" not in line] == []
    assert len(lines) == (descriptors is not None)


async def _begin(tasks: Any, attack: Attack, port: int, stack: ExitStack, good: Good) -> str:
    tasks.start_soon(good.come)
    said = await attack(port, stack)
    while len(good.openings) < 3:
        await anyio.sleep(0.05)
    return said


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
