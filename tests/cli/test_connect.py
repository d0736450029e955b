"""``wsstream connect`` as people run it: what it writes, when it ends, and with which status."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.scripted import Scripted
from kit.terminal import Terminal

pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[bytes]]
Spawn = Callable[..., subprocess.Popen[bytes]]
OnTerminal = Callable[..., Terminal]

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])
SECOND = pytest.mark.heavy_after_first(each=("case",))


# -- exit statuses, in a pipe --------------------------------------------------------------------

EXITS = {
    # path, further arguments, stdin: status, stdout, what stderr has
    "echo": (["/echo"], b"one\ntwo", 0, b"one\ntwo\n", ""),
    "nothing to send": (["/echo"], b"", 0, b"", ""),
    "closed with 1000": (["/code1000"], None, 0, b"before\n", ""),
    "closed with 1001": (["/code1001"], None, 0, b"before\n", ""),
    "closed without a code": (["/code"], None, 0, b"before\n", ""),
    "closed with 1008": (["/code1008"], None, 7, b"before\n", "close code 1008: 'go \\x1b[2J away'"),
    "closed with 4409": (["/code4409"], None, 7, b"before\n", "close code 4409"),
    "failed": (["/error"], None, 7, b"", "close code 1011: 'broken'"),
    "vanished": (["/vanish"], None, 6, b"before\n", "no Close frame"),
    "refused": (["/refuse"], b"x", 5, b"", "status 403"),
    "refused, with the body": (["/refuse"], b"x", 5, b"", "no entry for \\x1b[31myou\nask somebody"),
    "a proxy answered": (["/gateway"], b"x", 5, b"", "came from a proxy, nginx"),
    "timeout": (["/stall", "--timeout", "300ms"], None, 8, b"", "--timeout ran out"),
    "too large": (
        ["/echo", "--framing", "len", "--max-message", "3"],
        b"\0\0\0\x04data",
        10,
        b"",
        "--max-message",
    ),
    "not UTF-8": (["/echo"], b"\xff\n", 11, b"", "use --binary"),
    "not UTF-8, late": (["/echo"], b"a" * 100_000 + b"\xff", 11, None, "use --binary"),
    "no JSON": (["/echo", "--framing", "json"], b'{"text": 5}\n', 11, b"", "base64"),
    "cut off": (["/echo", "--framing", "len"], b"\0\0\0\x09data", 11, b"", "ends inside a message"),
    "no file": (["/echo", "--token-file", "/nonexistent"], b"", 11, b"", "/nonexistent"),
    "no authorities": (["/echo", "--cafile", "/nonexistent"], b"", 11, b"", "/nonexistent"),
    "TLS for ws": (["/echo", "-k"], b"", 2, b"", "the URL is ws"),
    "no field": (["/echo", "-H", "nonsense"], b"", 2, b"", "'NAME: VALUE'"),
    "no such subprotocol": (["/echo", "-s", "other"], b"", 3, b"", "subprotocol"),
}


@backends
@SECOND
@pytest.mark.parametrize("case", EXITS)
def test_status_and_output_in_a_pipe(
    spawn: Spawn, command: Command, scripted: Scripted, case: str, backend: str
) -> None:
    (path, *arguments), data, status, output, problem = EXITS[case]
    arguments = ["connect", scripted.url + path, "--backend", backend, *arguments]
    if data is None:  # stdin stays open: the command has to end by itself
        process = spawn(*arguments)
        out, err = process.stdout.read(), process.stderr.read()
        code = process.wait(5)
    else:
        done = command(*arguments, input=data)
        code, out, err = done.returncode, done.stdout, done.stderr
    assert code == status, err
    assert output is None or out == output
    assert problem in err.decode()
    assert b"\x1b" not in err
    assert (err == b"") is (problem == "")


@backends
@SECOND
@pytest.mark.parametrize("case", ["ws", "wss"])
def test_a_server_that_is_not_there(
    command: Command, dead: str, scripted: Scripted, case: str, backend: str
) -> None:
    if case == "ws":
        done = command("connect", dead, "--backend", backend)
        assert (done.returncode, done.stdout) == (3, b"")
        assert b"could not connect" in done.stderr
    else:
        done = command("connect", scripted.url.replace("ws:", "wss:"), "--backend", backend)
        assert (done.returncode, done.stdout) == (4, b"")
        assert b"TLS" in done.stderr


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "ws://", "ws://host:99999/"])
def test_a_wrong_url_is_wrong_usage(command: Command, url: str) -> None:
    done = command("connect", url)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"wsstream connect: ")


def test_failures_are_events_with_json(command: Command, scripted: Scripted) -> None:
    done = command("connect", f"{scripted.url}/code1008", "--json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [each["event"] for each in events] == ["open", "error"]
    assert events[-1]["status"] == done.returncode == 7


# -- the end of the input ------------------------------------------------------------------------


@backends
def test_answers_that_come_late_are_written(command: Command, scripted: Scripted, backend: str) -> None:
    arguments = ["connect", f"{scripted.url}/slow", "--backend", backend]
    assert command(*arguments, "-w", "5s", "-n", "2", input=b"a\nb\n").stdout == b"a\nb\n"
    assert scripted.end_of("/slow") == (1000, "")


def test_with_no_wait_for_the_end_it_ends_when_the_peer_does(command: Command, scripted: Scripted) -> None:
    done = command("connect", f"{scripted.url}/code1000", "-w", "none")
    assert (done.returncode, done.stdout) == (0, b"before\n")


def test_what_is_piped_in_before_the_connection_is_open_is_not_lost(
    command: Command, scripted: Scripted
) -> None:
    assert command("connect", f"{scripted.url}/late", input=b"early").stdout == b"early\n"


def test_it_ends_after_the_number_of_messages_that_is_asked_for(spawn: Spawn, scripted: Scripted) -> None:
    process = spawn("connect", f"{scripted.url}/count", "-n", "3")
    assert process.stdout.read() == b"0\n1\n2\n"
    assert process.wait(5) == 0
    assert scripted.end_of("/count") == (1000, "")


@pytest.mark.parametrize("path", ["/code1000", "/begun"])
def test_a_message_that_the_peer_does_not_take_to_its_end_is_a_failure(
    spawn: Spawn, scripted: Scripted, path: str
) -> None:
    process = spawn("connect", f"{scripted.url}{path}", "--whole")
    process.stdin.write(b"the beginning")
    process.stdin.flush()
    assert process.wait(5) == 7
    assert b"before the message was complete" in process.stderr.read()


# -- messages ------------------------------------------------------------------------------------

DATA = bytes(range(256)) * 3
FRAMINGS = {
    "lines": ([], b"a\n\nlast", b"a\n\nlast\n"),
    "lines, binary": (["--binary"], b"\xff\n\x00", b"\xff\n\x00\n"),
    "raw": (["--framing", "raw"], DATA, DATA),
    "whole": (["--whole"], DATA, DATA),
    "whole, text": (["--whole", "--text"], "ä\n€".encode(), "ä\n€".encode()),
    "len": (["--framing", "len"], b"\0\0\0\x02hi\0\0\0\0\0\0\x00\x01x", b"\0\0\0\x02hi\0\0\0\0\0\0\x00\x01x"),
}


@pytest.mark.parametrize("case", FRAMINGS)
def test_what_a_framing_sends_comes_back_in_it(command: Command, scripted: Scripted, case: str) -> None:
    arguments, data, output = FRAMINGS[case]
    done = command("connect", f"{scripted.url}/echo", *arguments, input=data)
    assert (done.returncode, done.stdout) == (0, output), done.stderr


def test_json_has_kind_and_payload(command: Command, scripted: Scripted) -> None:
    objects = [{"text": 'a\n"€" \x1b'}, {"binary": base64.b64encode(DATA).decode()}, {"text": ""}]
    lines = "\n".join(map(json.dumps, objects)).encode()
    done = command("connect", f"{scripted.url}/echo", "--framing", "json", input=lines + b"\n\n")
    assert [json.loads(line) for line in done.stdout.splitlines()] == objects


@pytest.mark.parametrize("size", [65_535, 65_536, 300_000])
def test_a_long_line_is_one_message(command: Command, scripted: Scripted, size: int) -> None:
    data = b"\n".join([b"a", b"x" * size, b"b", b"y" * size])
    done = command("connect", f"{scripted.url}/sizes", input=data)
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        [b"text", str(each).encode()] for each in (1, size, 1, size)
    ]


@backends
@pytest.mark.heavy
@pytest.mark.parametrize("framing", ["--framing=lines", "--whole"])
def test_a_large_message_takes_no_memory_in_either_direction(
    program: list[str], environment: dict[str, str], scripted: Scripted, framing: str, backend: str
) -> None:
    peaks = []
    for mebibytes in (1, 128):
        shell = f'head -c {mebibytes}M /dev/zero | tr "\\0" x | "$@" | wc -c'
        arguments = [*program, "connect", "-q", f"{scripted.url}/echo", framing, "--backend", backend]
        time_it = ["/usr/bin/env", "python3", "-c", _MEASURE, *arguments]
        done = subprocess.run(
            ["bash", "-c", shell, "-", *time_it], env=environment, capture_output=True, timeout=50, check=True
        )
        assert int(done.stdout) - (framing == "--framing=lines") == mebibytes << 20
        peaks.append(int(done.stderr.split()[-1]))
    assert peaks[1] < peaks[0] + 8 * 1024, peaks  # KiB


_MEASURE = (
    "import os, resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)"
)


@backends
def test_a_slow_reader_of_stdout_slows_the_peer(spawn: Spawn, scripted: Scripted, backend: str) -> None:
    before = scripted.sent
    process = spawn("connect", f"{scripted.url}/flood", "--framing", "raw", "--backend", backend)
    process.stdout.read(1)
    sent = _when_steady(lambda: scripted.sent)
    assert 0 < sent - before < 24 << 20  # what sockets, the pipe and the buffers of both ends hold
    process.send_signal(signal.SIGINT)
    process.stdout.close()


def _when_steady(look: Callable[[], int]) -> int:
    value = -1
    while value != (value := look()):
        time.sleep(0.7)
    return value


# -- secrets and options -------------------------------------------------------------------------


def test_secrets_come_from_files_and_the_environment_and_are_not_shown(
    command: Command, scripted: Scripted, tmp_path: Path
) -> None:
    fields, token = tmp_path / "fields", tmp_path / "token"
    fields.write_text("X-Test: from the file\n\nCookie: c00kie\n")
    token.write_text("t0ken\n")
    arguments = [
        "connect",
        f"{scripted.url}/fields",
        "-H",
        f"@{fields}",
        "-vv",
        "-s",
        "chat",
        "--origin",
        "http://a",
    ]
    done = command(*arguments, "--token-file", str(token), WSSTREAM_TOKEN="0ther")
    shown = done.stdout.decode().split("\n")
    assert shown[:3] == ["authorization=Bearer t0ken", "x-test=from the file", "origin=http://a"]
    assert shown[4] == "sec-websocket-protocol=chat"
    assert not any(secret in done.stderr for secret in (b"t0ken", b"0ther", b"c00kie"))
    done = command(*arguments, WSSTREAM_TOKEN="0ther")
    assert done.stdout.startswith(b"authorization=Bearer 0ther\n")
    done = command(*arguments, "-H", "Authorization: Basic x", WSSTREAM_TOKEN="0ther")
    assert done.stdout.startswith(b"authorization=Basic x\n")


@backends
def test_another_route_can_be_chosen(command: Command, scripted: Scripted, backend: str) -> None:
    address = scripted.url.removeprefix("ws://")
    done = command("connect", "ws://feed.example/fields", "--connect-to", address, "--backend", backend)
    assert b"host=feed.example\n" in done.stdout


# -- signals -------------------------------------------------------------------------------------


@backends
@pytest.mark.heavy_after_first
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_closes_with_1001(
    spawn: Spawn, scripted: Scripted, backend: str, number: signal.Signals, status: int
) -> None:
    path = f"/count{number}{backend == 'trio':d}"
    process = spawn("connect", scripted.url + path, "--backend", backend)
    process.stdout.readline()
    process.send_signal(number)
    assert process.wait(5) == status
    assert scripted.end_of(path) == (1001, f"interrupted by {number.name}")
    assert process.stderr.read() == f"wsstream connect: interrupted by {number.name}\n".encode()


@backends
def test_the_second_signal_ends_at_once(spawn: Spawn, silent: str, backend: str) -> None:
    process = spawn("connect", silent, "--backend", backend, "-v", "--json")
    assert b"open" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # the peer does not answer the Close
        process.wait(1)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 143
    assert time.monotonic() - start < 2


def test_close_timeout_bounds_the_time_after_a_signal(spawn: Spawn, silent: str) -> None:
    process = spawn("connect", silent, "--close-timeout", "300ms", "--json")
    assert b"open" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130


# -- on a terminal -------------------------------------------------------------------------------


@pytest.fixture(params=["prompt_toolkit", "plain"])
def editing(module_path: Path, request: pytest.FixtureRequest) -> str:
    """What edits lines: prompt_toolkit, or the terminal where that is not installed."""
    if request.param == "plain":
        (module_path / "prompt_toolkit.py").write_text("raise ImportError('as if it were not installed')")
    return request.param


@backends
@pytest.mark.usefixtures("editing")
@pytest.mark.heavy_after_first(each=("editing",))
def test_a_conversation(terminal: OnTerminal, scripted: Scripted, tmp_path: Path, backend: str) -> None:
    (tmp_path / "file").write_bytes(b"in the file")
    screen = terminal("connect", f"{scripted.url}/echo", "--backend", backend)
    screen.wait_for(b"connected")
    for typed, shown in (
        ("hello\n", b"< hello"),
        ("//slash\n", b"< /slash"),
        ("/ping\n", b"pong after"),
        (f"/file {tmp_path}/file\n", b"< in the file"),
        ("/nonsense\n", b"/close [CODE [REASON]]"),
        ("/close 99\n", b"a close code must be"),
    ):
        screen.type(typed.replace("\n", "\r") if typed else typed)
        screen.wait_for(shown)
    screen.type("/close 4000 bye\r")
    assert screen.wait() == 0
    assert scripted.end_of("/echo") == (4000, "bye")


@backends
@pytest.mark.heavy_after_first(each=("editing",))
def test_on_a_terminal_what_a_peer_sent_is_escaped_and_the_end_of_input_closes(
    terminal: OnTerminal, scripted: Scripted, backend: str, editing: str
) -> None:
    screen = terminal("connect", f"{scripted.url}/evil", "--backend", backend)
    screen.wait_for(b"bytes\\xff")
    assert screen.press_until_end("\x04") == 0
    assert b"\\x1b[2Jtext\\x07" in screen.shown
    assert b"\x1b[2Jtext" not in screen.shown
    assert b"\\x1b[31mbytes" in screen.shown


@backends
@pytest.mark.usefixtures("editing")
@pytest.mark.heavy_after_first(each=("editing",))
@pytest.mark.parametrize(("path", "status"), [("/code1000", 0), ("/code1008", 7), ("/vanish", 6)])
def test_on_a_terminal_it_ends_when_the_peer_does(
    terminal: OnTerminal, scripted: Scripted, backend: str, path: str, status: int
) -> None:
    assert terminal("connect", scripted.url + path, "--backend", backend).wait() == status


@backends
@pytest.mark.usefixtures("editing")
@pytest.mark.heavy_after_first(each=("editing",))
def test_on_a_terminal_ctrl_c_closes_with_1001(
    terminal: OnTerminal, scripted: Scripted, backend: str, editing: str
) -> None:
    path = f"/echo{editing == 'plain':d}{backend == 'trio':d}"
    screen = terminal("connect", scripted.url + path, "--backend", backend)
    screen.type("hello\r")
    screen.wait_for(b"< hello")
    screen.type("\x03")
    assert screen.wait() == 130
    assert scripted.end_of(path)[0] == 1001


@pytest.mark.parametrize("where", ["dead", "refuse"])
def test_on_a_terminal_a_failure_to_connect_has_its_status(
    terminal: OnTerminal, scripted: Scripted, dead: str, where: str
) -> None:
    screen = terminal("connect", dead if where == "dead" else f"{scripted.url}/refuse")
    assert screen.wait() == (3 if where == "dead" else 5)
    assert b"\x1b" not in screen.shown


def test_a_closed_stdout_is_a_failure_of_local_output(spawn: Spawn, scripted: Scripted) -> None:
    process = spawn("connect", f"{scripted.url}/count")
    process.stdout.close()
    assert process.wait(5) == 11
    assert b"standard output: Broken pipe" in process.stderr.read()


@backends
def test_files_and_devices_serve_as_stdin_and_stdout(
    program: list[str], environment: dict[str, str], scripted: Scripted, tmp_path: Path, backend: str
) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(os.urandom(1 << 20))
    arguments = [*program, "connect", f"{scripted.url}/echo", "--whole", "--backend", backend]
    with source.open("rb") as stdin, target.open("wb") as stdout:
        subprocess.run(arguments, stdin=stdin, stdout=stdout, env=environment, timeout=20, check=True)
    assert target.read_bytes() == source.read_bytes()
    subprocess.run(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment, check=True
    )
    shell = '"$@" <&- >&-'  # both are closed
    subprocess.run(["bash", "-c", shell, "-", *arguments], env=environment, timeout=20, check=True)
