from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from wsstream.cli.progress import choose_progress

pty = pytest.importorskip("pty")

Run = Callable[..., subprocess.CompletedProcess[str]]
OnTerminal = Callable[..., str]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def stderr_on_terminal(environment: dict[str, str]) -> OnTerminal:
    """Run ``wsstream demo`` with stderr on a terminal; returns what was written there."""

    def run(*arguments: str) -> str:
        terminal, end = pty.openpty()
        command = [sys.executable, "-m", "wsstream", "demo", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, env=environment) as process:
            os.close(end)
            written = b"".join(iter(lambda: _read(terminal), b""))
            os.close(terminal)
            assert process.stdout is not None
            assert b"\x1b" not in process.stdout.read()
        assert process.returncode == 0
        return written.decode()

    return run


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the other end is closed
        return b""


@pytest.mark.heavy
def test_on_a_terminal_bars_are_drawn_and_the_cursor_comes_back(stderr_on_terminal: OnTerminal) -> None:
    pytest.importorskip("rich")
    written = stderr_on_terminal("--size", "8M")
    assert "\x1b[?25l" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert _COLOUR.search(written)
    assert written.count("100%") >= 2


@pytest.mark.heavy
def test_no_color_is_honoured(stderr_on_terminal: OnTerminal, environment: dict[str, str]) -> None:
    environment["NO_COLOR"] = "1"
    written = stderr_on_terminal("--size", "1M")
    assert "100%" in written
    assert not _COLOUR.search(written)


@pytest.mark.heavy
def test_a_dumb_terminal_gets_plain_lines(
    stderr_on_terminal: OnTerminal, environment: dict[str, str]
) -> None:
    environment["TERM"] = "dumb"
    written = stderr_on_terminal("--size", "1M")
    assert "\x1b" not in written
    assert "up 100 %, down 100 %" in written


@pytest.mark.heavy
def test_without_rich_a_terminal_gets_plain_lines(
    stderr_on_terminal: OnTerminal, module_path: os.PathLike[str]
) -> None:
    with open(os.path.join(module_path, "rich.py"), "w") as file:
        file.write("raise ImportError")
    written = stderr_on_terminal("--size", "1M")
    assert "\x1b" not in written
    assert "up 100 %, down 100 %" in written


@pytest.mark.heavy
def test_in_a_pipe_there_are_few_plain_lines(run: Run) -> None:
    lines = run("demo", "--size", "1M").stderr.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"made-up data to ws://127\.0\.0\.1:\d+ and back, 1\.0 MiB", lines[0])
    assert re.fullmatch(r"up 100 %, down 100 %, [\d.]+ MiB/s", lines[1])


@pytest.mark.heavy
def test_quiet_says_nothing_on_stderr(run: Run) -> None:
    done = run("demo", "--size", "1M", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert "verdict" in done.stdout


def test_shares_of_nothing_are_told_as_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    progress = choose_progress(quiet=False, bars=False)
    progress.begin("nothing", 0)
    progress.show(0, 0)
    progress.end()
    assert "up 0 B, down 0 B" in capsys.readouterr().err


def test_lines_that_cannot_be_written_do_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    progress = choose_progress(quiet=False, bars=False)
    progress.begin("data", 1)
    progress.show(1, 1)
