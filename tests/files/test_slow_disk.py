"""A receiver whose disk takes 1 MB/s, and a file of 10 GiB: neither end takes more memory for it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from kit.command_line import CommandLine, peak_memory
from kit.disks import slow_disk_code
from kit.programs import free_port

pytestmark = [pytest.mark.slow, pytest.mark.time_limit(180)]

MB, MIB = 10**6, 1 << 20
SIZE = 10 << 30
ENOUGH = 6 * MB  # bytes: six seconds of this disk, in which the window adapts to it

SLOW_DISK = slow_disk_code(MB)


@pytest.mark.parametrize("command", ["send", "receive"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_both_ends_take_less_than_80_mib(tmp_path: Path, command: str, backend: str) -> None:
    served, own = tmp_path / "served", tmp_path / "own"
    served.mkdir()
    own.mkdir()
    source, target = (own, served) if command == "send" else (served, own)
    with (source / "file.bin").open("wb") as file:
        file.truncate(SIZE)
    port = free_port()
    url = f"ws://127.0.0.1:{port}/"
    with CommandLine(tmp_path / "modules", SLOW_DISK) as line:
        server = line.start(
            "serve", "files", str(served), "--bind", f"127.0.0.1:{port}", "--allow", "get,put"
        )
        line.wait_for("listening")
        what = [str(own / "file.bin"), url] if command == "send" else [url + "file.bin", str(own)]
        client = line.start(command, *what, "--json", "--backend", backend)
        deadline = time.monotonic() + 60
        while _part_size(target) < ENOUGH:
            assert client.poll() is None, line.stderr()
            assert time.monotonic() < deadline, line.stderr()
            time.sleep(0.05)
        memory = [peak_memory(server), peak_memory(client)]
        print([f"{each / MIB:.1f} MiB" for each in memory])
        client.send_signal(signal.SIGINT)
        assert client.wait(30) == 12, line.stderr()
        events = [json.loads(text) for text in line.stderr().splitlines()]
    assert max(memory) < 80 * MIB
    assert not (target / "file.bin").exists()
    (record,) = target.glob(".wsstream-*.json")
    assert json.loads(record.read_text())["size"] == SIZE
    ahead = [event["credit_used"] for event in events if event["event"] == "progress"]
    assert max(ahead) <= 4 * MB, "what is on the way is what the disk takes in a few seconds"


def _part_size(folder: Path) -> int:
    return max((path.stat().st_size for path in folder.glob(".wsstream-*.part")), default=0)
