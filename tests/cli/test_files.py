"""``wsstream send``, ``receive`` and ``serve files`` as people run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme
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
def folder(tmp_path: Path) -> Path:
    """The folder of the server."""
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


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
    (module_path / "sitecustomize.py").write_text(
        "import time\n"
        "from wsstream.files.storage.partial import Partial\n"
        "write = Partial.write\n"
        "def write_slowly(self, chunks):\n"
        "    time.sleep(sum(map(len, chunks)) / 5_000_000)\n"
        "    write(self, chunks)\n"
        "Partial.write = write_slowly\n"
    )


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
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_signal_ends_waiting_for_stdin(spawn: Spawn, serve: ListenWith, folder: Path, backend: str) -> None:
    process = spawn("send", "-", serve() + "piped", "--json", "--backend", backend)
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"begun")
    process.stdin.flush()
    for line in process.stderr:
        if json.loads(line).get("phase") == "sending":
            break
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
        "may not put": (["send", str(small), reading], 10),
        "larger than the server takes": (["send", str(large), url], 10),
        "a name that is not UTF-8": (["send", latin, url], 10),
        "no such file there": (["receive", url + "none", there], 10),
        "larger than wanted": (["receive", url + "old", there, "--max-size", "2"], 10),
        "another file": (["receive", url + "old", there, "--expect", DIGEST], 9),
        "it exists here": (["receive", url + "old", there], 10),
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
