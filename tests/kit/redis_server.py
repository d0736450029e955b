"""A Redis server of the system's, on a Unix socket."""

from __future__ import annotations

import gc
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kit.programs import find_program

__all__ = ["UNCLOSED", "RedisServer", "redis_server"]

UNCLOSED = "ignore:Unclosed <MemoryObject:ResourceWarning"
"""coredis leaves streams of anyio unclosed: for ``pytest.mark.filterwarnings``."""


class RedisServer:
    """One server that can be stopped, started and lose what it has.

    Attributes:
        url: for clients.
    """

    def __init__(self, folder: Path) -> None:
        self._program = find_program("redis-server")
        self._folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with what it saved when it was stopped."""
        self._process = subprocess.Popen(
            [
                self._program, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder),
                "--save", "3600 1", "--appendonly", "no", "--loglevel", "warning",
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while self._ask() != b"+PONG":
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def _ask(self) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(100).strip()
            except OSError:
                return b""

    def stop(self, *, lose: bool = False) -> None:
        """Stop it: it saves what it has, or with `lose` keeps what it saved before."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if lose else signal.SIGTERM)
            self._process.wait(30)
            self._process = None

    def save(self) -> None:
        """Save what it has now."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(self.socket))
            client.sendall(b"SAVE\r\n")
            assert client.recv(100).strip() == b"+OK"


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A server that runs while the block does, and is empty at first."""
    with TemporaryDirectory(prefix="wsstream-redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop(lose=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # coredis leaves streams of anyio unclosed
                gc.collect()
