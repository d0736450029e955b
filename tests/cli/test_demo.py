"""The demo as a user runs it: two processes, loopback, real signals."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import blake3
import pytest

from wsstream.cli.demo_data import MadeUpSource
from wsstream.files.protocol.digests import new_digest

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]
BreakServer = Callable[[str], None]

_LIMIT = 60 << 20  # bytes of peak memory for each process
_TLS = 15 << 20  # more for the one that makes a certificate

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def _digest_of_made_up(size: int, kind: str) -> str:
    digest = new_digest(kind)
    with MadeUpSource(size) as source:
        while chunk := source.read():
            digest.update(chunk)
    return digest.hexdigest()


@pytest.mark.heavy
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("loop", ["asyncio", "asyncio (uvloop)", "trio"])
@pytest.mark.parametrize("raw", [False, True], ids=["file", "raw"])
def test_what_was_sent_comes_back_as_it_was_and_neither_process_grows(
    run: Run, module_path: Path, loop: str, tls: bool, raw: bool
) -> None:
    if loop == "asyncio":
        (module_path / "uvloop.py").write_text("raise ImportError('as if it were not installed')")
    elif loop == "asyncio (uvloop)":
        pytest.importorskip("uvloop")
    size = 8 << 20
    arguments = ["--size", "8M", "--backend", loop.split()[0], *["--tls"] * tls, *["--raw"] * raw]
    done = run("demo", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    digest = _digest_of_made_up(size, result["hash"])
    assert result["ok"] is True
    assert result["bytes"] == {"sent": size, "passed": size, "received": size}
    assert result["digests"] == {"sent": digest, "passed": digest, "received": digest}
    assert result["backend"] == loop
    assert (result["tls"] or "").startswith("TLSv1" if tls else "")
    assert bool(result["tls"]) is tls
    limit = _LIMIT + tls * _TLS
    assert all(0 < peak < limit for peak in result["peak_memory"].values())
    assert all(rate > 0 for rate in result["mib_per_second"].values())


@pytest.mark.slow
@backends
def test_a_gibibyte_takes_no_more_memory_than_a_little(run: Run, backend: str) -> None:
    options = ["--json", "-q", "--raw", "--backend", backend]
    peaks = [json.loads(run("demo", "--size", size, *options).stdout)["peak_memory"] for size in ("8M", "1G")]
    assert all(peaks[1][who] < min(_LIMIT, peaks[0][who] + (6 << 20)) for who in ("client", "server"))


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("raw", [False, True], ids=["file", "raw"])
@backends
def test_a_file_comes_back_and_the_table_tells_its_digest(
    run: Run, tmp_path: Path, backend: str, raw: bool
) -> None:
    path, data = tmp_path / "file", os.urandom((3 << 20) + 17)
    path.write_bytes(data)
    done = run("demo", str(path), "--backend", backend, *["--raw"] * raw)
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    assert f"{len(data)} bytes" in done.stdout
    assert (hashlib.sha256(data) if raw else blake3.blake3(data)).hexdigest() in done.stdout
    assert "verdict      ok" in done.stdout


@pytest.mark.heavy
@pytest.mark.parametrize("raw", [False, True], ids=["file", "raw"])
def test_an_empty_file_comes_back_empty(run: Run, tmp_path: Path, raw: bool) -> None:
    (tmp_path / "empty").touch()
    done = run("demo", "--json", str(tmp_path / "empty"), *["--raw"] * raw)
    result = json.loads(done.stdout)
    assert (done.returncode, result["ok"]) == (0, True)
    assert result["bytes"] == {"sent": 0, "passed": 0, "received": 0}
    assert result["digests"]["passed"] == new_digest(result["hash"]).hexdigest()


@pytest.mark.heavy
@pytest.mark.parametrize("path", ["missing", "."])
def test_a_file_that_cannot_be_opened_exits_with_11(run: Run, tmp_path: Path, path: str) -> None:
    done = run("demo", str(tmp_path / path))
    assert (done.returncode, done.stdout) == (11, "")
    assert str(tmp_path) in done.stderr


@pytest.mark.heavy
@backends
@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that fails when it is read")
def test_a_file_that_fails_when_it_is_read_exits_with_11(run: Run, backend: str) -> None:
    done = run("demo", "-q", "--raw", "/proc/self/mem", "--backend", backend)
    assert (done.returncode, done.stdout) == (11, "")
    assert done.stderr == "wsstream demo: /proc/self/mem: Input/output error\n"


@pytest.mark.heavy
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
def test_a_result_that_cannot_be_written_exits_with_11(run: Run) -> None:
    with open("/dev/full", "w") as full:
        done = run("demo", "-q", "--size", "1k", stdout=full.fileno())
    assert done.returncode == 11
    assert done.stderr == "wsstream demo: standard output: No space left on device\n"


# -- signals and lost processes ------------------------------------------------------------------


def _start_and_wait_for_transfer(start: Start, backend: str) -> tuple[subprocess.Popen[str], int]:
    """A demo without end, in the middle of its message, and the process id of its server."""
    process = start("demo", "-v", "--raw", "--size", "1T", "--backend", backend)
    assert process.stderr is not None
    server, wanted = 0, {"process", "to"}
    while wanted:
        line = process.stderr.readline()
        assert line, "the demo ended early"
        if found := re.search(r"the server is process (\d+)", line):
            server = int(found[1])
            wanted.discard("process")
        elif line.startswith("made-up data to"):
            wanted.discard("to")
    return process, server


@pytest.mark.heavy_after_first
@backends
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_closes_with_1001_and_leaves_no_server(
    start: Start, backend: str, number: signal.Signals, status: int
) -> None:
    process, server = _start_and_wait_for_transfer(start, backend)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)  # the end of stderr is the end of both processes
    assert (process.returncode, stdout) == (status, "")
    assert f"closed with 1001 interrupted by {number.name} after " in stderr
    assert stderr.endswith(f"wsstream demo: interrupted by {number.name}\n")
    assert "Traceback" not in stderr
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


@pytest.mark.heavy
@backends
def test_the_second_signal_ends_at_once_even_if_the_server_hangs(start: Start, backend: str) -> None:
    process, server = _start_and_wait_for_transfer(start, backend)
    os.kill(server, signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)  # the closing handshake gets its time
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=4) == 130  # the server would get 5 s to end by itself
        with pytest.raises(ProcessLookupError):
            os.kill(server, 0)
    finally:
        if process.returncode != 130:
            os.kill(server, signal.SIGKILL)


@pytest.mark.heavy
@backends
def test_a_signal_ends_it_even_before_the_server_has_started(
    start: Start, break_server: BreakServer, backend: str
) -> None:
    break_server("""
        import time

        print("hanging", file=sys.stderr, flush=True)
        time.sleep(1000)
    """)
    process = start("demo", "-q", "--backend", backend)
    assert process.stderr is not None
    assert process.stderr.readline() == "hanging\n"
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=20)  # ends when the server has let go of stderr too
    assert (process.returncode, stdout) == (143, "")
    assert stderr == "wsstream demo: interrupted by SIGTERM\n"


@pytest.mark.heavy
@backends
def test_a_server_that_is_killed_exits_with_6(start: Start, backend: str) -> None:
    process, server = _start_and_wait_for_transfer(start, backend)
    os.kill(server, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (6, "")
    assert "no Close frame" in stderr
    assert "Traceback" not in stderr


@pytest.mark.heavy
@backends
def test_the_server_ends_when_the_client_is_killed(start: Start, backend: str) -> None:
    process, server = _start_and_wait_for_transfer(start, backend)
    process.kill()
    assert "Traceback" not in _rest_of_stderr(process, server)


@pytest.mark.slow
@backends
def test_a_server_that_hangs_ends_too_when_the_client_is_killed(
    start: Start, break_server: BreakServer, backend: str
) -> None:
    break_server("""
        import time
        from wsstream.streams.readable import Readable

        Readable.message = lambda readable: time.sleep(1000)
    """)
    process, server = _start_and_wait_for_transfer(start, backend)
    process.kill()
    _rest_of_stderr(process, server)


def _rest_of_stderr(process: subprocess.Popen[str], server: int) -> str:
    """What comes until both processes have let go of stderr: until both have ended."""
    try:
        return process.communicate(timeout=20)[1]
    except subprocess.TimeoutExpired:
        os.kill(server, signal.SIGKILL)
        raise


# -- the file on the way, and what is left of it ---------------------------------------------------


@pytest.fixture
def slow_server(break_server: BreakServer, environment: dict[str, str], tmp_path: Path) -> Path:
    """The server writes 5 MiB a second, into the folder that is returned."""
    break_server("""
        import time
        from wsstream.files.storage.partial import Partial

        write = Partial.write

        def write_slowly(part, chunks):
            time.sleep(sum(map(len, chunks)) / 5_000_000)
            write(part, chunks)

        Partial.write = write_slowly
    """)
    folder = tmp_path / "temporary"
    folder.mkdir()
    environment["TMPDIR"] = str(folder)
    return folder


def _start_and_wait_for_file(start: Start, backend: str) -> tuple[subprocess.Popen[str], int]:
    """A demo whose file is on its way, and the process id of its server."""
    process = start("demo", "-v", "--json", "--size", "64M", "--backend", backend)
    assert process.stderr is not None
    server = 0
    for line in process.stderr:
        if found := re.search(r"the server is process (\d+)", line):
            server = int(found[1])
        elif '"phase": "sending"' in line and '"acknowledged": 0' not in line:
            return process, server
    raise AssertionError("the demo ended early")


@pytest.mark.slow
@backends
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_server_and_no_file(
    start: Start, slow_server: Path, backend: str, number: signal.Signals, status: int
) -> None:
    process, server = _start_and_wait_for_file(start, backend)
    assert list(slow_server.rglob(".wsstream-*.part"))
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (status, "")
    assert f"interrupted by {number.name}" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    assert not list(slow_server.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


@pytest.mark.slow
@backends
@pytest.mark.parametrize("killed", ["client", "server"])
def test_whoever_is_killed_the_other_removes_the_file(
    start: Start, slow_server: Path, backend: str, killed: str
) -> None:
    process, server = _start_and_wait_for_file(start, backend)
    os.kill(server if killed == "server" else process.pid, signal.SIGKILL)
    stderr = _rest_of_stderr(process, server)
    assert process.returncode == (6 if killed == "server" else -signal.SIGKILL)
    assert "Traceback" not in stderr
    assert not list(slow_server.iterdir())


@pytest.mark.heavy
def test_a_disk_without_room_exits_with_11(run: Run) -> None:
    done = run("demo", "-q", "--size", "1000000G")
    assert (done.returncode, done.stdout) == (11, "")
    assert "too little for 976.6 TiB: choose a smaller --size, or another TMPDIR" in done.stderr


@pytest.mark.heavy
def test_a_temporary_folder_that_is_missing_exits_with_11(
    run: Run, environment: dict[str, str], module_path: Path
) -> None:
    (module_path / "sitecustomize.py").write_text("import tempfile\ntempfile.tempdir = '/nonexistent'\n")
    done = run("demo", "-q", "--size", "1k")
    assert (done.returncode, done.stdout) == (11, "")
    assert "no folder can be made" in done.stderr


@pytest.mark.heavy
def test_a_file_that_the_server_has_changed_exits_with_9_and_shows_the_result(
    run: Run, break_server: BreakServer
) -> None:
    break_server("""
        from wsstream.files.storage.source import Source

        pread = Source.pread

        def pread_wrongly(source, size, offset):
            data = pread(source, size, offset)
            return data if offset else bytes([data[0] ^ 1]) + data[1:]

        Source.pread = pread_wrongly
    """)
    done = run("demo", "--json", "--size", "1M")
    assert done.returncode == 9
    result = json.loads(done.stdout)
    assert result["ok"] is False
    assert result["digests"]["sent"] == result["digests"]["passed"] != result["digests"]["received"]
    assert "the data that came back differs from the data sent" in done.stderr


# -- a server that does not do what it should ----------------------------------------------------


@pytest.mark.heavy
def test_one_wrong_byte_exits_with_9_and_shows_the_result(run: Run, break_server: BreakServer) -> None:
    break_server("""
        from wsstream.streams.writer import MessageWriter

        send = MessageWriter.send

        async def send_with_a_wrong_byte(writer, item):
            if writer.bytes_sent == 0:
                item = bytes([item[0] ^ 1]) + item[1:]
            await send(writer, item)

        MessageWriter.send = send_with_a_wrong_byte
    """)
    done = run("demo", "--json", "--raw", "--size", "1M")
    assert done.returncode == 9
    result = json.loads(done.stdout)
    assert result["ok"] is False
    assert result["digests"]["sent"] == result["digests"]["passed"] != result["digests"]["received"]
    assert "the data that came back differs from the data sent" in done.stderr


@pytest.mark.heavy
def test_a_server_that_does_not_start_exits_with_3(run: Run, break_server: BreakServer) -> None:
    break_server("import os; os._exit(7)")
    done = run("demo", "-q", "--size", "1k")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "wsstream demo: the server did not start\n"


@pytest.mark.heavy
def test_a_server_that_refuses_exits_with_5_and_its_answer_is_shown(
    run: Run, break_server: BreakServer
) -> None:
    break_server("""
        from functools import partial

        import wsstream.server.serve as home
        from wsstream.opening.http import Response

        refusal = Response(403, body="not \\x1b[7m you")
        home.serve = partial(home.serve, process_request=lambda request: refusal)
    """)
    done = run("demo", "-q", "--size", "1k")
    assert (done.returncode, done.stdout) == (5, "")
    assert "403" in done.stderr
    assert "not \\x1b[7m you" in done.stderr


@pytest.mark.heavy
@backends
def test_a_server_that_closes_with_an_error_code_exits_with_7(
    run: Run, break_server: BreakServer, backend: str
) -> None:
    break_server("""
        from wsstream.errors import WebSocketError
        from wsstream.streams.readable import Readable

        def refuse(readable):
            raise WebSocketError(code=1008, reason="enough")

        Readable.message = refuse
    """)
    done = run("demo", "-q", "--raw", "--size", "1M", "--backend", backend)
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.endswith("(close code 1008: 'enough')\n")


@pytest.mark.heavy
def test_a_certificate_of_somebody_else_exits_with_4(run: Run, break_server: BreakServer) -> None:
    break_server("""
        import trustme

        other = trustme.CA().cert_pem
        trustme.CA.cert_pem = property(lambda authority: other)
    """)
    done = run("demo", "-q", "--size", "1k", "--tls")
    assert (done.returncode, done.stdout) == (4, "")
    assert "certificate verify failed" in done.stderr


@pytest.mark.heavy
def test_the_working_directory_is_not_searched_for_modules(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trustme.py").write_text("raise SystemExit('taken from the working directory')")
    monkeypatch.chdir(tmp_path)
    done = run("demo", "-q", "--tls", "--size", "1k", flags=["-P"])  # as the installed command starts
    assert (done.returncode, done.stderr) == (0, "")
