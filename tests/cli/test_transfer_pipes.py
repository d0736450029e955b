"""`send -`, `receive URL -`, `ws-listen:`, `demo` in this process; test_files.py runs them as people do."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

import wsstream
from wsstream.cli import main
from wsstream.files import SUBPROTOCOL, download, serve_files, upload

CONTENT = os.urandom(1009) * 500


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """Of a server in another thread, which serves `folder`."""

    @asynccontextmanager
    async def serving():  # type: ignore[no-untyped-def]
        handler = serve_files(folder, allow=["get", "put"])
        async with wsstream.serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
            yield server.url

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving()) as url:
        yield url


@pytest.fixture
def stdin(tmp_path: Path) -> Iterator[Path]:
    """The file that stdin is."""
    path = tmp_path / "stdin"
    path.write_bytes(CONTENT)
    before = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    yield path
    os.dup2(before, 0)
    os.close(before)


backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@backends
def test_a_file_goes_to_stdout(
    folder: Path, url: str, capfdbinary: pytest.CaptureFixture[bytes], backend: str
) -> None:
    (folder / "file.bin").write_bytes(CONTENT)
    digest = sha256(CONTENT).hexdigest()
    assert main(["receive", f"{url}/file.bin", "-", "--expect", digest, "--backend", backend]) == 0
    out, err = capfdbinary.readouterr()
    assert out == CONTENT
    assert err.startswith(b"file.bin: 492.7 KiB, ")
    assert main(["receive", f"{url}/file.bin", "-", "--expect", "0" * 64, "--backend", backend]) == 9
    assert main(["receive", f"{url}/folder/", "-"]) == 2


@pytest.mark.usefixtures("stdin")
@backends
def test_stdin_becomes_a_file(folder: Path, url: str, backend: str) -> None:
    assert main(["send", "-", f"{url}/file.bin", "--limit-rate", "10M", "--backend", backend]) == 0
    assert (folder / "file.bin").read_bytes() == CONTENT


@pytest.mark.usefixtures("stdin")
def test_a_name_that_exists_is_refused_skipped_or_numbered(folder: Path, url: str) -> None:
    (folder / "file.bin").write_bytes(b"old")
    assert main(["send", "-", f"{url}/file.bin"]) == 10
    assert main(["send", "-", f"{url}/file.bin", "--on-exist", "overwrite"]) == 10
    assert main(["send", "-", f"{url}/file.bin", "--on-exist", "skip"]) == 0
    assert main(["send", "-", f"{url}/file.bin", "--on-exist", "rename"]) == 0
    assert (folder / "file (1).bin").read_bytes() == CONTENT
    assert (folder / "file.bin").read_bytes() == b"old"


@pytest.mark.heavy
@pytest.mark.parametrize("raw", [False, True], ids=["file", "raw"])
def test_the_demo(capfd: pytest.CaptureFixture[str], raw: bool) -> None:
    assert main(["demo", "--size", "1M", *["--raw"] * raw]) == 0
    assert "verdict      ok" in capfd.readouterr().out


async def when_it_listens(url: str, call: Callable[[], Awaitable[object]]) -> None:
    """Connect until that is not refused, and go without a word; then call."""
    with anyio.fail_after(20):
        while True:
            try:
                async with wsstream.connect(url, subprotocols=[SUBPROTOCOL]):
                    pass
                await anyio.sleep(0.2)
                await call()
                return
            except ConnectionRefusedError:
                await anyio.sleep(0.05)


def test_either_side_may_listen(folder: Path, tmp_path: Path, free_tcp_port: int) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    url, here = f"ws://127.0.0.1:{free_tcp_port}/", f"ws-listen:{free_tcp_port}"
    with start_blocking_portal() as portal:
        sent = portal.start_task_soon(when_it_listens, url, lambda: upload(url, tmp_path / "file.bin"))
        assert main(["receive", here, str(folder / "stored"), "--on-exist", "overwrite"]) == 0
        sent.result(20)
        assert (folder / "stored").read_bytes() == CONTENT
        got = portal.start_task_soon(
            when_it_listens, url, lambda: download(url, tmp_path / "copy", name="any")
        )
        assert main(["send", str(folder / "stored"), here]) == 0
        got.result(20)
    assert (tmp_path / "copy").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "arguments",
    [
        ["receive", "ws-listen:x", "."],
        ["receive", "ws-listen:0", "-"],
        ["receive", "ws-listen:0", ".", "--expect", "0" * 64],
        ["send", "-", "ws-listen:0"],
        ["send", __file__, __file__, "ws-listen:0"],
        ["send", __file__, "ws-listen:0", "--name", "x"],
    ],
    ids=" ".join,
)
def test_what_a_side_that_listens_cannot_do(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "ws-listen:" in capsys.readouterr().err
