"""Lines of JSON between the process that leads a run and the processes that it measures with."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent


class Failed(Exception):
    """A measurement that must not be believed."""


class Child:
    """A process that is told what to do by lines of JSON, and answers each with one.

    Args:
        core: to stay on.
        under: a command line that runs another one, such as that of a profiler.
    """

    def __init__(
        self, script: str, *arguments: str, core: int | None = None, under: Sequence[str] = ()
    ) -> None:
        self.name = " ".join([script, *arguments])
        pin = [] if core is None else ["--core", str(core)]
        self._process = subprocess.Popen(
            [*under, sys.executable, str(HERE / script), *arguments, *pin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": "0"},  # two runs of one program do the same
        )
        self.pid = self._process.pid
        self._pending = b""

    def tell(self, do: str, **values: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **values}).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self, within: float = 120) -> dict[str, Any]:
        """The next answer. Raises `Failed` if there is none, or if it tells of an error."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + within
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise Failed(f"{self.name}: no answer within {within} s")
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                raise Failed(f"{self.name} ended with {self._process.wait()}")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        values: dict[str, Any] = json.loads(line)
        if "error" in values:
            raise Failed(f"{self.name}: {values['error']}")
        return values

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        self.tell(do, **values)
        return self.answer()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if exc is not None:
            self._process.kill()
        self._process.stdin.close()
        try:
            self._process.wait(60)  # a profiler writes its results
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def reply(**values: Any) -> None:
    """Answer the leading process."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def pin(arguments: Sequence[str]) -> None:
    """Stay on the core that `--core` names, where the system can do that."""
    if "--core" in arguments and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(arguments[arguments.index("--core") + 1])})


def allow_descriptors(wanted: int = 0) -> None:
    """Allow as many open files as the system does. Raises `Failed` if that is less than `wanted`."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if wanted > most != resource.RLIM_INFINITY:
        raise Failed(f"{wanted} open files are needed and {most} are allowed: raise the limit (ulimit -Hn)")
