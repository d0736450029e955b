"""``wsstream send``, ``receive`` and ``serve files`` as people run them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import pytest
import trustme
from kit.disks import slow_disk_code
from kit.terminal import Terminal

Command = Callable[..., subprocess.CompletedProcess[bytes]]
Spawn = Callable[..., subprocess.Popen[bytes]]
ListenWith = Callable[..., str]

CONTENT = os.urandom(1009) * 6000  # nearly 6 MiB
DIGEST = sha256(CONTENT).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file to send."""
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def serve(listen_with: ListenWith, folder: Path) -> ListenWith:
    """``serve("--max-size", "1M")``: serve `folder`, allow all but to overwrite; returns the URL."""

    def start(*arguments: str) -> str:
        return listen_with(
            "serve", "files", str(folder), "--bind", ":0", "--allow", "get,list,put", *arguments
        )

    return start


@pytest.fixture
def slow_disk(module_path: Path) -> None:
    """In all processes, 5 MiB take a second, so that a test can come between."""
    (module_path / "sitecustomize.py").write_text(slow_disk_code(5_000_000))


def begin_sending(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Write something to `send -`, and wait until that is sent; returns stdin and stderr."""
    stdin, stderr = process.stdin, process.stderr
    assert stdin is not None
    assert stderr is not None
    stdin.write(b"begun")
    stdin.flush()
    for line in stderr:
        if json.loads(line).get("phase") == "sending":
            break
    return stdin, stderr


def events(stderr: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines()]


def wait_for_progress(process: subprocess.Popen[bytes], least: int) -> None:
    """Wait until `least` bytes have arrived, and some have not. The command has ``--json``."""
    assert process.stderr is not None
    for line in process.stderr:
        event = json.loads(line)
        if event["event"] == "progress" and event["acknowledged"] >= least:
            assert event["acknowledged"] < event["size"]
            return
    pytest.fail("it ended before")


def wait_for_record(folder: Path) -> None:
    """Wait until the server has noticed the end of a sender, and has put what came on its disk."""
    for _ in range(1000):
        records = [json.loads(path.read_text()) for path in folder.glob(".wsstream-*.json")]
        if any(record["durable"] > 0 for record in records):
            return
        time.sleep(0.01)
    pytest.fail("nothing is on the disk")


# -- files there and back ------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize(("server", "client"), [("asyncio", "trio"), ("trio", "asyncio")])
def test_a_file_there_and_back(
    command: Command, spawn: Spawn, folder: Path, path: Path, tmp_path: Path, server: str, client: str
) -> None:
    arguments = ["serve", "files", str(folder), "--bind", ":0", "--allow", "get,put", "--backend", server]
    process = spawn(*arguments)
    assert process.stderr is not None
    url = process.stderr.readline().decode().split()[-1]

    sent = command("send", str(path), url, "--backend", client)
    assert (sent.returncode, sent.stdout) == (0, b""), sent.stderr
    assert (folder / "file.bin").read_bytes() == CONTENT
    lines = sent.stderr.decode().splitlines()
    assert lines[0].startswith("file.bin: 5.8 MiB, blake3 ")
    assert lines[1].startswith("1 file, 5.8 MiB, in ")
    assert lines[1].endswith(" MiB/s")

    got = tmp_path / "got.bin"
    done = command("receive", url + "file.bin", str(got), "--expect", DIGEST, "--backend", client)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert got.read_bytes() == CONTENT

    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    log = process.stderr.read().decode().splitlines()
    assert log == ["received file.bin, 5.8 MiB", "sent file.bin, 5.8 MiB"]


@pytest.mark.slow
def test_a_folder_there_and_back(command: Command, serve: ListenWith, folder: Path, tmp_path: Path) -> None:
    below = tmp_path / "photos" / "2026"
    below.mkdir(parents=True)
    (below / "ä.jpg").write_bytes(b"picture")
    (tmp_path / "photos" / "empty").write_bytes(b"")
    url = serve()
    sent = command("send", str(tmp_path / "photos"), url, "--json")
    assert sent.returncode == 0, sent.stderr
    files = [event for event in events(sent.stderr) if event["event"] == "file"]
    assert [(file["name"], file["size"]) for file in files] == [("photos/empty", 0), ("photos/2026/ä.jpg", 7)]
    assert (folder / "photos" / "2026" / "ä.jpg").read_bytes() == b"picture"
    (tmp_path / "copy").mkdir()
    done = command("receive", url + "photos/", str(tmp_path / "copy"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy" / "photos" / "2026" / "ä.jpg").read_bytes() == b"picture"
    assert (tmp_path / "copy" / "photos" / "empty").read_bytes() == b""
    again = command("receive", url + "photos/", str(tmp_path / "copy"), "--on-exist", "skip")
    assert (again.returncode, again.stderr) == (0, b"nothing to do: the files are there\n")


@pytest.mark.slow
def test_stdin_is_sent_under_a_name(command: Command, serve: ListenWith, folder: Path) -> None:
    done = command("send", "-", serve(), "--name", "piped", input=CONTENT)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert (folder / "piped").read_bytes() == CONTENT


@pytest.mark.slow
def test_stdin_that_is_a_file_has_a_size(serve: ListenWith, spawn: Spawn, path: Path, folder: Path) -> None:
    with path.open("rb") as file:
        file.seek(1009)
        sending = spawn("send", "-", serve() + "piped", "--json", stdin=file.fileno())
        _, stderr = sending.communicate(timeout=30)
    assert {event["size"] for event in events(stderr) if event["event"] == "progress"} == {
        len(CONTENT) - 1009
    }
    assert (folder / "piped").read_bytes() == CONTENT[1009:]


@pytest.mark.slow
def test_an_existing_name_leaves_stdin_alone(command: Command, serve: ListenWith, folder: Path) -> None:
    (folder / "piped").write_bytes(b"old")
    url = serve() + "piped"
    assert command("send", "-", url, input=b"new").returncode == 10
    assert command("send", "-", url, "--on-exist", "skip", input=b"new").returncode == 0
    assert (folder / "piped").read_bytes() == b"old"
    assert not list(folder.glob(".wsstream-*"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_lost_server_ends_sending_stdin_with_6(
    spawn: Spawn, folder: Path, path: Path, backend: str
) -> None:
    server = spawn("serve", "files", str(folder), "--bind", ":0", "--allow", "put")
    assert server.stderr is not None
    url = server.stderr.readline().decode().split()[-1]
    process = spawn("send", "-", url + "piped", "--json", "--limit-rate", "1M", "--backend", backend)
    stdin, stderr = begin_sending(process)
    server.kill()
    stdin.write(CONTENT[:1000])
    stdin.close()
    *_, last = stderr
    assert process.wait(20) == 6
    assert "stdin was read in part, and cannot be read again: begin anew." in json.loads(last)["message"]


# -- to stdout -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_file_goes_to_stdout_and_nothing_else(
    command: Command, serve: ListenWith, folder: Path, backend: str
) -> None:
    (folder / "file.bin").write_bytes(CONTENT)
    (folder / "empty").write_bytes(b"")
    url = serve()
    done = command("receive", url + "file.bin", "-", "--expect", DIGEST, "--backend", backend)
    assert (done.returncode, done.stdout == CONTENT) == (0, True), done.stderr
    assert done.stderr.splitlines()[1].startswith(b"1 file, 5.8 MiB, in ")
    empty = command("receive", url + "empty", "-", "--backend", backend)
    assert (empty.returncode, empty.stdout) == (0, b"")
    other = command("receive", url + "file.bin", "-", "--expect", "0" * 64, "--backend", backend)
    assert other.returncode == 9
    assert DIGEST.encode() in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_exit_status_of_stdout(
    spawn: Spawn, command: Command, serve: ListenWith, folder: Path, dead: str, backend: str
) -> None:
    (folder / "file.bin").write_bytes(CONTENT)
    url = serve()
    on = ["--backend", backend]
    assert command("receive", url, "-", *on).returncode == 2
    assert command("receive", dead + "/file.bin", "-", *on).returncode == 3
    assert command("receive", url + "none", "-", *on).returncode == 10
    assert command("receive", url + "file.bin", "-", "--max-size", "1k", *on).returncode == 10
    with open("/dev/full", "wb") as full:
        process = spawn("receive", url + "file.bin", "-", *on, stdout=full.fileno())
        assert process.wait(20) == 11
    process = spawn("receive", url + "file.bin", "-", *on)
    assert process.stdout is not None
    assert process.stdout.read(10) == CONTENT[:10]
    process.stdout.close()
    assert process.wait(20) == 11
    assert process.stderr is not None
    assert process.stderr.read() == b"wsstream receive: standard output: Broken pipe\n"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_stdout_goes_on_after_a_lost_server_with_no_byte_twice(
    spawn: Spawn, folder: Path, backend: str
) -> None:
    (folder / "file.bin").write_bytes(CONTENT)

    def start(bind: str) -> tuple[subprocess.Popen[bytes], str]:
        server = spawn("serve", "files", str(folder), "--bind", bind)
        assert server.stderr is not None
        return server, server.stderr.readline().decode().split()[-1]

    server, url = start(":0")
    process = spawn("receive", url + "file.bin", "-", "--limit-rate", "2M", "--backend", backend)
    assert process.stdout is not None
    received = process.stdout.read(1 << 20)
    server.kill()
    server.wait(10)
    start(url.removeprefix("ws://").rstrip("/"))
    received += process.stdout.read()
    assert process.wait(20) == 0
    assert received == CONTENT


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_slow_reader_of_stdout_holds_the_server_back_and_a_signal_ends_it(
    spawn: Spawn, serve: ListenWith, folder: Path, backend: str
) -> None:
    with (folder / "large").open("wb") as file:
        file.truncate(200 << 20)
    process = spawn("receive", serve() + "large", "-", "--json", "--backend", backend)
    assert process.stderr is not None
    time.sleep(2)  # stdout is a pipe that nobody reads
    peak = 0
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            peak = int(line.split()[1]) << 10
    assert 0 < peak < 80 << 20
    process.send_signal(signal.SIGTERM)
    *_, last = events(process.stderr.read())
    assert process.wait(10) == 128 + signal.SIGTERM
    assert last["message"] == "interrupted by SIGTERM"


@pytest.mark.slow
def test_128_mib_through_pipes_take_less_than_80_mib(
    program: list[str], environment: dict[str, str], serve: ListenWith, folder: Path, tmp_path: Path
) -> None:
    """As a shell would: ``cat | send -``, then ``receive - | sha256sum``, each with its peak memory."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        for _ in range(32):
            file.write(os.urandom(4 << 20))
    code = "import runpy, sys; from wsstream.cli import main; status = main(sys.argv[1:]); "
    code += (
        "from wsstream.cli.memory import peak_memory; print(peak_memory(), file=sys.stderr); sys.exit(status)"
    )
    measured = f"\"{sys.executable}\" -c '{code}'"
    url = serve() + "piped"
    shell = f'cat "{large}" | {measured} send - {url} -q && {measured} receive {url} - -q | sha256sum'
    done = subprocess.run(shell, shell=True, env=environment, capture_output=True, timeout=60, check=True)
    with large.open("rb") as file:
        assert done.stdout.split()[0].decode() == hashlib.file_digest(file, "sha256").hexdigest()
    peaks = [int(line) for line in done.stderr.split()]
    assert len(peaks) == 2
    assert max(peaks) < 80 << 20


# -- waiting for stdin ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_signal_ends_waiting_for_stdin(spawn: Spawn, serve: ListenWith, folder: Path, backend: str) -> None:
    process = spawn("send", "-", serve() + "piped", "--json", "--backend", backend)
    begin_sending(process)
    time.sleep(0.1)  # it reads again
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    assert not (folder / "piped").exists()


@pytest.mark.slow
def test_a_token_and_tls(
    command: Command, serve: ListenWith, folder: Path, path: Path, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    (tmp_path / "token").write_text("t0ken")
    url = serve("--cert", str(tmp_path / "server.pem"), "--token-file", str(tmp_path / "token"))
    assert url.startswith("wss://")
    trust = ["--cafile", str(tmp_path / "ca.pem")]
    assert command("send", str(path), url).returncode == 4
    refused = command("send", str(path), url, *trust)
    assert (refused.returncode, b"status 401" in refused.stderr) == (5, True)
    done = command("send", str(path), url, *trust, "--token-file", str(tmp_path / "token"))
    assert done.returncode == 0, done.stderr
    assert (folder / "file.bin").read_bytes() == CONTENT


# -- interruptions -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("slow_disk")
def test_after_kill_9_of_the_sender_the_same_command_finishes(
    command: Command, spawn: Spawn, serve: ListenWith, folder: Path, path: Path
) -> None:
    arguments = ["send", str(path), serve(), "--json"]
    process = spawn(*arguments)
    wait_for_progress(process, 2 << 20)
    process.kill()
    process.wait(10)
    wait_for_record(folder)
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    (file,) = (event for event in events(done.stderr) if event["event"] == "file")
    assert 0 < file["sent"] <= len(CONTENT) - (2 << 20)
    assert (folder / "file.bin").read_bytes() == CONTENT


@pytest.mark.slow
@pytest.mark.usefixtures("slow_disk")
@pytest.mark.parametrize(
    ("what", "backend"), [("send", "asyncio"), ("send", "trio"), ("receive", "asyncio"), ("receive", "trio")]
)
def test_after_a_signal_the_same_command_finishes(
    command: Command,
    spawn: Spawn,
    serve: ListenWith,
    folder: Path,
    path: Path,
    tmp_path: Path,
    what: str,
    backend: str,
) -> None:
    url = serve()
    if what == "send":
        arguments, target = ["send", str(path), url], folder / "file.bin"
    else:
        (folder / "served.bin").write_bytes(CONTENT)
        arguments, target = ["receive", url + "served.bin", str(tmp_path)], tmp_path / "served.bin"
    arguments += ["--json", "--backend", backend]
    process = spawn(*arguments)
    wait_for_progress(process, 1 << 20)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    *_, last = process.stderr
    assert process.wait(10) == 12
    wait_for_record(target.parent)
    assert json.loads(last)["message"] == "interrupted by SIGINT; the same command goes on where it stopped"
    assert not target.exists()
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    (file,) = (event for event in events(done.stderr) if event["event"] == "file")
    assert 0 < file["sent"] < len(CONTENT)
    assert target.read_bytes() == CONTENT


# -- the other side connects ---------------------------------------------------------------------


def url_of(process: subprocess.Popen[bytes]) -> str:
    """Where a command with ``--json`` listens."""
    assert process.stderr is not None
    return str(json.loads(process.stderr.readline())["url"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_receiver_that_listens(
    command: Command, spawn: Spawn, path: Path, folder: Path, backend: str
) -> None:
    (folder / "old").write_bytes(b"old")
    receiver = spawn("receive", "ws-listen:0", str(folder), "--json", "--backend", backend)
    url = url_of(receiver)
    assert command("send", str(path), url + "old").returncode == 10, "and the receiver waits on"
    done = command("send", str(path), url + "new")
    assert done.returncode == 0, done.stderr
    _, stderr = receiver.communicate(timeout=20)
    assert receiver.returncode == 0, stderr
    (file,) = (event for event in events(stderr) if event["event"] == "file")
    assert (file["name"], file["size"]) == ("new", len(CONTENT))
    assert (folder / "new").read_bytes() == CONTENT


@pytest.mark.slow
@pytest.mark.usefixtures("slow_disk")
def test_a_receiver_that_listens_gets_the_rest_from_a_sender_that_was_killed(
    command: Command, spawn: Spawn, path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    receiver = spawn("receive", "ws-listen:0", str(target), "--json")
    url = url_of(receiver)
    sender = spawn("send", str(path), url, "--json")
    wait_for_progress(sender, 1 << 20)
    sender.kill()
    sender.wait()
    wait_for_record(tmp_path)
    done = command("send", str(path), url, "--json")
    assert done.returncode == 0, done.stderr
    (file,) = (event for event in events(done.stderr) if event["event"] == "file")
    assert file["sent"] < len(CONTENT)
    _, stderr = receiver.communicate(timeout=20)
    assert receiver.returncode == 0, stderr
    assert target.read_bytes() == CONTENT


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sender_that_listens(
    command: Command, spawn: Spawn, path: Path, folder: Path, tmp_path: Path, backend: str
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    link = tmp_path / "link"
    link.symlink_to(path)
    (folder / "a").mkdir()
    (folder / "a" / "b").write_bytes(CONTENT)
    for sent, asked, got in ((link, "file.bin", "file.bin"), (folder, "", "a/b")):
        target = tmp_path / f"to {sent.name}"
        target.mkdir()
        sender = spawn("send", str(sent), "ws-listen:0", "--json", "--backend", backend)
        url = url_of(sender)
        assert command("receive", f"{url}{asked or '/../secret'}/", str(target)).returncode == 10
        done = command("receive", url + asked, str(target))
        assert done.returncode == 0, done.stderr
        _, stderr = sender.communicate(timeout=20)
        assert sender.returncode == 0, stderr
        assert [each for each in target.rglob("*") if each.is_file()] == [target / got]
        assert (target / got).read_bytes() == CONTENT


# -- what does not work ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_exit_status_says_what_was_wrong(
    command: Command, serve: ListenWith, listen_with: ListenWith, folder: Path, tmp_path: Path, dead: str
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    latin = os.fsdecode(os.fsencode(tmp_path) + b"/\xe4")
    Path(latin).write_bytes(b"")
    small.write_bytes(b"small")
    large.write_bytes(bytes(2 << 20))
    (folder / "old").write_bytes(b"old")
    url, reading = serve("--max-size", "1M"), listen_with("serve", "files", str(folder), "--bind", ":0")
    alone = listen_with("serve", "files", str(folder), "--bind", ":0", "--path", "/files")
    alone = alone.removesuffix("files")
    there = str(tmp_path / "old")
    cases: dict[str, tuple[list[str], int]] = {
        "two files, one name": (["send", str(small), str(large), url + "x"], 2),
        "stdin without a name": (["send", "-", url], 2),
        "what to expect of a folder": (["receive", url, "--expect", DIGEST], 2),
        "no such operation": (["serve", "files", str(folder), "--allow", "get,all"], 2),
        "nothing to serve": (["serve"], 2),
        "nobody listens": (["send", str(small), dead], 3),
        "the file exists": (["send", str(small), url + "old"], 10),
        "and it is skipped": (["send", str(small), url + "old", "--on-exist", "skip"], 0),
        "the server replaces no file": (["send", str(small), url + "old", "--on-exist", "overwrite"], 10),
        "both are kept": (["send", str(small), url + "old", "--on-exist", "rename"], 0),
        "may not put": (["send", str(small), reading], 10),
        "larger than the server takes": (["send", str(large), url], 10),
        "a name that is not UTF-8": (["send", latin, url], 10),
        "no such file there": (["receive", url + "none", there], 10),
        "larger than wanted": (["receive", url + "old", there, "--max-size", "2"], 10),
        "another file": (["receive", url + "old", there, "--expect", DIGEST], 9),
        "which was not stored": (["receive", url + "old", there], 0),
        "a rate below 1k": (["receive", url + "old", there, "--limit-rate", "5"], 2),
        "another path than the server's": (["receive", alone + "old", there], 5),
        "the server's path": (["receive", alone + "files", there + "2", "--name", "old"], 0),
        "it is here already": (["receive", url + "old", there], 0),
        "another one is here": (["receive", url + "old", str(small)], 10),
        "it exists here, and is the other file": (
            ["receive", url + "old", there, "--on-exist", "skip", "--expect", DIGEST],
            9,
        ),
        "overwritten": (["receive", url + "old", there, "--on-exist", "overwrite"], 0),
        "no such file here": (["send", str(tmp_path / "none"), url], 11),
        "no such folder here": (["receive", url + "old", str(tmp_path / "no" / "folder")], 11),
        "no folder for a folder": (["receive", url, str(tmp_path / "no")], 11),
        "no folder to serve": (["serve", "files", str(tmp_path / "none")], 11),
    }
    for case, (arguments, status) in cases.items():
        done = command(*arguments)
        assert (done.returncode, done.stdout) == (status, b""), (case, done.stderr)
        assert b"Traceback" not in done.stderr, case


# -- what is shown -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("slow_disk")
def test_a_terminal_shows_one_line_and_then_the_report(
    terminal: Callable[..., Terminal], serve: ListenWith, path: Path
) -> None:
    screen = terminal("send", str(path), serve())
    assert screen.wait() == 0
    for part in (b"file.bin", b" %", b"MiB/s", b"0:00:0", b"sending", b"credit ", b"#"):
        assert part in screen.shown, part
    assert b"1 file, 5.8 MiB" in screen.shown
    assert b"\x1b[2Kfile.bin: 5.8 MiB, blake3 " in screen.shown, "the report takes the place of the line"
