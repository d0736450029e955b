"""Running the command line as a user does: in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from kit import processes
from kit.scripted import Scripted, scripted_server, silent_server
from kit.terminal import Terminal

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
def folder(tmp_path: Path) -> Path:
    """The folder of a server of files."""
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


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


# -- commands with payload: bytes, the installed program -------------------------------------------


Command = Callable[..., subprocess.CompletedProcess[bytes]]
Spawn = Callable[..., subprocess.Popen[bytes]]
OnTerminal = Callable[..., Terminal]


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The installed program."""
    installed = Path(sys.executable).with_name("wsstream")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "wsstream"]


@pytest.fixture
def command(program: list[str], environment: dict[str, str]) -> Command:
    """``command("connect", url, input=b"...")``: run to the end."""

    def run(*arguments: str, input: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*program, *arguments],
            input=input,
            capture_output=True,
            env=environment | variables,
            timeout=_TIMEOUT,
            check=False,
        )

    return run


@pytest.fixture
def spawn(program: list[str], environment: dict[str, str]) -> Iterator[Spawn]:
    """``spawn("echo")``: start and go on; its stdin, stdout and stderr are pipes."""
    with ExitStack() as stack:

        def start(*arguments: str, **options: int) -> subprocess.Popen[bytes]:
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
            process = subprocess.Popen([*program, *arguments], env=environment, **pipes)  # type: ignore[call-overload]
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def listen_with(spawn: Spawn) -> Callable[..., str]:
    """``listen_with("echo")``: start a server; returns what it says that it listens on."""

    def start(*arguments: str) -> str:
        process = spawn(*arguments)
        assert process.stderr is not None
        return process.stderr.readline().decode().removeprefix("listening on ").strip()

    return start


@pytest.fixture
def terminal(program: list[str], environment: dict[str, str]) -> Iterator[OnTerminal]:
    """``terminal("connect", url)``: run on a terminal."""
    with ExitStack() as stack:

        def start(*arguments: str) -> Terminal:
            running = Terminal([*program, *arguments], environment)
            stack.callback(running.close)
            return running

        yield start


@pytest.fixture(scope="session")
def scripted() -> Iterator[Scripted]:
    """A server with a behaviour for each path."""
    with scripted_server() as server:
        yield server


@pytest.fixture(scope="session")
def silent() -> Iterator[str]:
    """The URL of a server that opens a WebSocket and then does nothing."""
    with silent_server() as url:
        yield url


@pytest.fixture
def dead() -> str:
    """A URL where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{unused.getsockname()[1]}"
