"""`kill -9` of either end at any moment: the same command line, repeated, brings the file over.

What was sent is read on the wire, by a relay between the two processes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from kit.command_line import CommandLine
from kit.file_relay import Attempt, FileRelay
from kit.programs import free_port

pytestmark = [pytest.mark.slow, pytest.mark.time_limit(240)]

KILLS = 10  # of each end
MOST = 1 << 20  # bytes of the file between the start of a connection and the kill
SIZE = 2 * KILLS * MOST + MOST
RATE = 40e6  # bytes a second
UNLIMITED = 1e12

SYNC_OFTEN = """
from wsstream.files import receiver
receiver._SYNC_BYTES, receiver._SYNC_SECONDS, receiver._POLL = 64 << 10, 0.01, 0.005
"""


class Disk:
    """The folder of the receiver, as others see it."""

    def __init__(self, folder: Path, name: str, digest: str) -> None:
        self.durable = 0  # the most that a record has told
        self.seen = False  # under its name
        self.early: list[str] = []  # what was seen and should not have been
        self.tails = 0  # killed receivers that left bytes after the durable ones
        self._folder = folder
        self._target = folder / name
        self._digest = digest

    def look(self, ended: bool) -> None:
        """Look for the file under its name: nothing is there before its end, and nothing but all of it."""
        if self._target.exists() and not self.seen:
            self.seen = True
            if not ended:
                self.early.append("the file was seen before its end had been sent")
            if sha256(self._target.read_bytes()).hexdigest() != self._digest:
                self.early.append("the file was seen before it was complete")
        self.durable = max(self.durable, self.record())

    def record(self) -> int:
        """What the record says is durable now; 0 without a record."""
        for path in self._folder.glob(".wsstream-*.json"):
            try:
                durable: int = json.loads(path.read_text())["durable"]
            except FileNotFoundError:  # it was committed
                continue
            return durable
        return 0

    def part_size(self) -> int:
        return sum(path.stat().st_size for path in self._folder.glob(".wsstream-*.part"))

    def was_killed(self) -> None:
        """The process that wrote here is dead."""
        self.tails += self.part_size() > self.record()

    def accepted(self, attempt: Attempt) -> None:
        """The receiver asks for the bytes from an offset on: those that are durable, and no others."""
        durable = self.record()
        assert attempt.offset == durable
        assert attempt.offset >= self.durable, "what had been durable is asked for again"
        assert self.part_size() == durable, "bytes after the durable ones were kept"

    @contextmanager
    def watched(self, relay: FileRelay) -> Iterator[None]:
        """Look all the time."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.002):
                ended = any(attempt.ended for attempt in relay.attempts)
                self.look(ended or any(attempt.ended for attempt in relay.attempts))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class Ends:
    """The server and the client, each with one command line."""

    def __init__(self, line: CommandLine, server: list[str], client: list[str]) -> None:
        self._line = line
        self._arguments = {"server": server, "client": client}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start those that do not run."""
        for end, arguments in self._arguments.items():
            process = self._running.get(end)
            if process is None or process.poll() is not None:
                self._running[end] = self._line.start(*arguments)

    def kill(self, end: str) -> None:
        """Kill one of them. A client that has lost its server ends by itself: it must not try again."""
        process = self._running[end]
        assert process.poll() is None, f"the {end} has ended: {self._line.stderr()}"
        process.send_signal(signal.SIGKILL)
        process.wait()
        if end == "server":
            assert self._running["client"].wait(30) in (3, 6), self._line.stderr()

    def wait(self) -> None:
        """Wait until the client has ended as it should."""
        assert self._running["client"].wait(60) == 0, self._line.stderr()


@pytest.mark.parametrize("command", ["send", "receive"])
def test_20_kills_of_either_end_cost_nothing_that_was_durable(tmp_path: Path, command: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    served, own = tmp_path / "served", tmp_path / "own"
    served.mkdir()
    own.mkdir()
    content = os.urandom(SIZE)
    sender, receiver = ("client", "server") if command == "send" else ("server", "client")
    source, target = (own, served) if command == "send" else (served, own)
    (source / "file.bin").write_bytes(content)
    disk = Disk(target, "file.bin", sha256(content).hexdigest())
    port = free_port()
    with (
        CommandLine(tmp_path / "modules", SYNC_OFTEN) as line,
        FileRelay(port, RATE, disk.accepted) as relay,
        disk.watched(relay),
    ):
        url = f"ws://127.0.0.1:{relay.port}/"
        client = ["send", str(own / "file.bin"), url]
        if command == "receive":
            client = ["receive", url + "file.bin", str(own)]
        ends = Ends(
            line,
            ["serve", "files", str(served), "--bind", f"127.0.0.1:{port}", "--allow", "get,put"],
            [*client, "--retry", "0"],
        )
        victims = [sender, receiver] * KILLS
        moments.shuffle(victims)
        for number, victim in enumerate(victims, 1):
            size, pause = moments.randrange(MOST), moments.uniform(0, 0.02)
            print(f"{number}: {victim} after {size} bytes and {pause:.3f} s")
            ends.start()
            assert relay.wait_for(lambda: len(relay.attempts) == number, 30), line.stderr()  # noqa: B023 - now
            attempt = relay.attempts[-1]
            assert relay.wait_for(lambda: len(attempt.data) >= size, 30), line.stderr()  # noqa: B023 - now
            time.sleep(pause)
            ends.kill(victim)
            if victim == receiver:
                disk.was_killed()
        assert not disk.seen
        relay.rate = UNLIMITED
        ends.start()
        ends.wait()
    assert (target / "file.bin").read_bytes() == content
    assert disk.early == []
    assert os.listdir(target) == ["file.bin"]
    accepted = [attempt for attempt in relay.attempts if attempt.offset is not None]
    for attempt in accepted:
        assert attempt.offset is not None
        assert attempt.data == content[attempt.offset : attempt.offset + len(attempt.data)]
    assert len({attempt.offset for attempt in accepted}) > KILLS, "most of them went on further"
    assert disk.tails, "no killed receiver had anything to lose"
