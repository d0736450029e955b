from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from kit import processes

import wsstream
from wsstream.cli import main

Run = Callable[..., subprocess.CompletedProcess[str]]

_HEAVY = {
    *("anyio", "asyncio", "h11", "json", "logging", "prompt_toolkit", "rich", "shtab", "ssl", "subprocess"),
    *("trio", "trustme", "typing", "uvloop"),
}


def test_version_goes_to_stdout(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"wsstream {wsstream.__version__}\n", "")


def test_verbose_version_tells_what_it_runs_on(run: Run) -> None:
    lines = dict(line.split(" ", 1) for line in run("--version", "-v").stdout.splitlines())
    assert lines.keys() >= {"wsstream", "anyio", "trio", "uvloop", "rich", "trustme"}
    assert lines["CPython" if sys.implementation.name == "cpython" else "PyPy"] == sys.version.split()[0]


COMMANDS = ("demo", "send", "receive", "serve", "serve files", "connect", "echo", "bridge")
HELP = [["--help"], *([*name.split(), "--help"] for name in COMMANDS)]


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_goes_to_stdout(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: wsstream")


@pytest.mark.parametrize("arguments", [["--version"], *HELP], ids=" ".join)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from wsstream.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command,
        env=processes.environment(measured=False),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    modules = set(done.stderr.split())
    assert "wsstream.cli" in modules
    assert not modules & _HEAVY


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["--help", "--version"])
def test_help_and_version_take_60_ms_more_than_the_interpreter(arguments: str) -> None:
    environment = processes.environment(measured=False)
    code = "import sys; from wsstream.cli import main; sys.exit(main())"

    def fastest(*command: str) -> float:
        times = []
        for _ in range(15):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-I", *command], env=environment, capture_output=True, check=True)
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest("-c", code, arguments) - fastest("-c", "pass") < 0.06


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_commands_and_their_options(run: Run, shell: str) -> None:
    done = run("--print-completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word in done.stdout for word in ("bridge", "connect", "framing", "min-free", "wsstream"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_takes_the_completion(run: Run) -> None:
    script = run("--print-completion", "bash").stdout
    ask = 'COMP_WORDS=(wsstream con) COMP_CWORD=1; _shtab_wsstream; printf "%s\n" "${COMPREPLY[@]}"'
    command = ["bash", "-c", f"{script}\n{ask}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.split() == ["connect"]


def test_a_missing_shtab_is_named_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 2
    assert "pip install 'wsstream[cli]'" in capsys.readouterr().err


def test_without_a_command_the_help_goes_to_stderr(run: Run) -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "COMMAND" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["demo", "--nonsense"],
        ["demo", "--size", "huge"],
        ["demo", "--size", "1M", "FILE"],
        ["demo", "--backend", "curio"],
        ["demo", "-q", "-v"],
        ["demo", "FILE", "FILE"],
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "error:" in output.err


@pytest.mark.parametrize(
    ("package", "arguments", "advice"),
    [
        ("trustme", ["--tls"], "pip install 'wsstream[cli]'"),
        ("trio", ["--backend", "trio"], "pip install 'wsstream[trio]'"),
    ],
)
def test_a_missing_package_is_named_with_how_to_get_it(
    package: str,
    arguments: list[str],
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what import then finds is: nothing
    assert main(["demo", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert package in output.err
    assert advice in output.err
