"""The command line in processes of their own, for tests that stop, kill and measure them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from kit.processes import environment

__all__ = ["CommandLine", "peak_memory"]

_TIMEOUT = 50  # seconds


class CommandLine:
    """Starts commands; leaving the block kills those that still run.

    Args:
        folder: for what they write to stderr, and for `patch`.
        patch: Python code that each process runs before its command, to make a disk slow or a pause short.
    """

    def __init__(self, folder: Path, patch: str = "") -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(patch)
        self._folder = folder
        self._environment = environment(folder, measured=False)
        self._stack = ExitStack()
        self._started = 0

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command; its stdout and stderr go to the file that `stderr` reads."""
        self._started += 1
        with self._log(self._started).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "wsstream", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command to its end; its exit status, and what it wrote."""
        process = self.start(*arguments)
        return process.wait(_TIMEOUT), self.stderr()

    def wait_for(self, text: str) -> None:
        """Wait until the command that was started last has written `text`."""
        deadline = time.monotonic() + _TIMEOUT
        while text not in self.stderr():
            assert time.monotonic() < deadline, self.stderr()
            time.sleep(0.01)

    def stderr(self) -> str:
        """What the command that was started last has written."""
        return self._log(self._started).read_text(errors="replace")

    def _log(self, number: int) -> Path:
        return self._folder / f"{number}.log"

    def __enter__(self) -> CommandLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def peak_memory(process: subprocess.Popen[bytes]) -> int:
    """The most memory that a process which runs has had resident, in bytes. Linux only."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) * 1024
