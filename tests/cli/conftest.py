"""Running the command line as a user does: in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import wsstream

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]

_ROOT = str(Path(wsstream.__file__).parents[1])
_TIMEOUT = 30  # seconds


@pytest.fixture
def module_path(tmp_path: Path) -> Path:
    """A directory that the processes of `run` and `start` search first for modules."""
    path = tmp_path / "modules"
    path.mkdir()
    return path


@pytest.fixture
def environment(module_path: Path) -> dict[str, str]:
    """The environment of these processes; may be changed."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    paths = [str(module_path), _ROOT, os.environ.get("PYTHONPATH", "")]
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "TERM": "xterm-256color"}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """``run("demo", "--json")``: run to the end; `flags` are the interpreter's."""

    def run(
        *arguments: str, stdout: int = subprocess.PIPE, flags: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *flags, "-m", "wsstream", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )

    return run


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Start]:
    """``start("demo")``: start and go on."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "wsstream", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with process:
            process.send_signal(signal.SIGKILL)


@pytest.fixture
def break_server(module_path: Path) -> Callable[[str], None]:
    """Run some code in the demo's second process, and only there, before it begins."""

    def break_server(code: str) -> None:
        (module_path / "sitecustomize.py").write_text(
            "import sys\nif 'wsstream.cli.demo_server' in sys.orig_argv:\n"
            + textwrap.indent(textwrap.dedent(code), "    ")
        )

    return break_server
