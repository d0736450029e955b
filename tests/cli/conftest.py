"""Running the command line as a user does: in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from kit import processes

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]

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
    variables = processes.environment(module_path)
    colours = ("NO_COLOR", "FORCE_COLOR")
    return {k: v for k, v in variables.items() if k not in colours} | {"TERM": "xterm-256color"}


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
