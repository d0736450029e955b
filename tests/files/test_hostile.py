"""What a hostile peer, a hostile folder and a bad disk do to a transfer, from one end to the other.

Each row has the error that reaches the caller, and the exit status that the command line makes of it. The
rules themselves are tested where they are: in ``tests/files/storage``.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit.command_line import CommandLine
from kit.disks import mount, needs_disks, slow_disk_code, small_disk
from kit.programs import free_port
from kit.storage import ignore_case
from kit.waiting import until

from wsstream.cli.failures import failure_of
from wsstream.files import Progress, TransferError, download, steps, upload
from wsstream.files.sender import open_path
from wsstream.files.storage.listing import Entry, Page
from wsstream.files.storage.safe_root import SafeRoot

KIB, MIB = 1 << 10, 1 << 20
CONTENT = os.urandom(MIB)
SECRET = b"not for others"
POLICY, LOCAL_IO, INTERRUPTED = 10, 11, 12  # exit statuses

in_process = pytest.mark.anyio


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the server's; nothing in it ever changes."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    yield outside
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == SECRET


async def refused(call: Awaitable[Any]) -> tuple[str, int]:
    """The error of a call, and the exit status of a command that it ends."""
    with pytest.raises(TransferError) as error:
        await call
    return error.value.error, getattr(failure_of(error.value), "status", 0)


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".wsstream-")}


def entries(folder: Path) -> list[tuple[str, int, int, int]]:
    """All that lies in a folder: names, inodes, modes and sizes."""
    found = [(path.name, path.lstat()) for path in sorted(folder.iterdir())]
    return [(name, status.st_ino, status.st_mode, status.st_size) for name, status in found]


# -- names ---------------------------------------------------------------------------------------

NAMES = {
    "nothing": "",
    "an empty part": "a//b",
    "the folder itself": "./a",
    "the folder above": "../up",
    "further up": "a/../../up",
    "from the root of the system": "/etc/passwd",
    "a control character": "a\nb",
    "NUL": "a\0b",
    "a mark of text direction": "a\u202etxt.exe",
    "a backslash": "..\\up",
    "a drive": "C:up",
    "a device of Windows": "con",
    "a dot at the end": "a.",
    "a space at the end": "a ",
    "a partial file": ".wsstream-token.part",
    "a partial file in disguise": ".wss\u200dtream-x",
    "a long part": "x" * 256,
    "a long name": "x/" * 512 + "x",
    "not in normal form C": "e\u0301",
    "bytes that are not UTF-8": "\udcff",
}


@in_process
@pytest.mark.parametrize("rule", NAMES)
async def test_a_name_that_breaks_a_rule_is_refused(
    serving: Any, folder: Path, path: Path, outside: Path, rule: str
) -> None:
    name = NAMES[rule]
    async with serving() as server:
        if name and not name.endswith("/"):  # that asks for the list of a folder
            assert await refused(download(server.url, outside / "x", name=name)) == ("invalid-name", POLICY)
        if name:  # without one, the file's own is taken
            assert await refused(upload(server.url, path, name=name)) == ("invalid-name", POLICY)
    assert visible(folder) == set()


# -- what lies in the folder -----------------------------------------------------------------------


def put_a_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")


def put_a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


THERE: dict[str, tuple[Callable[[Path, Path], object], str, str, str]] = {
    # what is put at a path, beside a folder `outside`; the name; the errors of receiving and of sending it
    "a symbolic link": (lambda at, out: at.symlink_to(out / "secret"), "x", "denied", "exists"),
    "a symbolic link to nothing": (lambda at, out: at.symlink_to(out / "new"), "x", "denied", "exists"),
    "below a symbolic link": (lambda at, out: at.symlink_to(out), "x/secret", "denied", "denied"),
    "a FIFO": (lambda at, out: os.mkfifo(at), "x", "denied", "exists"),
    "a device": (lambda at, out: put_a_device(at), "x", "denied", "exists"),
    "a socket": (lambda at, out: put_a_socket(at), "x", "denied", "exists"),
    "a folder": (lambda at, out: at.mkdir(), "x", "denied", "exists"),
    "below a file": (lambda at, out: at.touch(), "x/y", "denied", "denied"),
    "nothing": (lambda at, out: None, "x", "not-found", ""),
}


@in_process
@pytest.mark.parametrize("what", THERE)
async def test_what_is_no_file_is_neither_read_nor_replaced(
    serving: Any, folder: Path, path: Path, outside: Path, tmp_path: Path, what: str
) -> None:
    put, name, get_error, put_error = THERE[what]
    put(folder / "x", outside)
    before = entries(folder)
    async with serving(allow=("get", "list", "put", "overwrite")) as server:
        assert await refused(download(server.url, tmp_path / "y", name=name)) == (get_error, POLICY)
        if put_error:
            assert await refused(upload(server.url, path, name=name)) == (put_error, POLICY)
            assert entries(folder) == before
    assert not (tmp_path / "y").exists()


@in_process
async def test_no_file_is_replaced_whose_name_differs_by_case(
    serving: Any, folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignore_case(monkeypatch)
    (folder / "Readme").write_bytes(b"old")
    (folder / "Docs").mkdir()
    async with serving(allow=("put", "overwrite")) as server:
        for name in ("README", "docs/a"):
            assert await refused(upload(server.url, path, name=name)) == ("exists", POLICY)
    assert visible(folder) == {"Readme", "Docs"}
    assert (folder / "Readme").read_bytes() == b"old"


@pytest.mark.heavy
@in_process
async def test_10_000_parts_are_in_nobodys_way(
    serving: Any, folder: Path, path: Path, tmp_path: Path
) -> None:
    for number in range(10_000):
        (folder / f".wsstream-token-{number:06}.part").touch()
        (folder / f".wsstream-token-{number:06}.json").touch()
    (tmp_path / "back").mkdir()
    async with serving(quota=2 * MIB) as server:
        await upload(server.url, path)
        await download(server.url, tmp_path / "back", name="")
    assert os.listdir(tmp_path / "back") == ["file.bin"]
    assert (tmp_path / "back" / "file.bin").read_bytes() == CONTENT
    assert len(os.listdir(folder)) == 20_001


# -- what a server lists -----------------------------------------------------------------------------

ENTRIES = {"../up": "invalid-name", ".wsstream-x.part": "invalid-name", "con": "invalid-name"}


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Entry], bool], None]:
    """``listing(entries, endless)``: what the server answers in place of what is there."""

    def list_these(entries: list[Entry], endless: bool) -> None:
        page = Page(entries, "more" if endless else None)
        monkeypatch.setattr(SafeRoot, "entries", lambda *args, **options: page)

    return list_these


@in_process
@pytest.mark.parametrize("name", ENTRIES)
async def test_a_listed_name_leads_nowhere(
    serving: Any, path: Path, tmp_path: Path, listing: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The server sends a file under each name that it lists."""
    monkeypatch.setattr(SafeRoot, "open_source", lambda self, name: open_path(path))
    listing([Entry(name, "file", len(CONTENT), 0)], False)
    back = tmp_path / "back"
    back.mkdir()
    before = set(tmp_path.rglob("*"))
    async with serving() as server:
        assert await refused(download(server.url, back, name="")) == (ENTRIES[name], POLICY)
    assert set(tmp_path.rglob("*")) == before


@in_process
@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_folders_without_end_are_given_up(
    serving: Any, tmp_path: Path, listing: Any, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_MOST_LISTED", 50_000)
    listing([Entry("x", kind, 1, 0)], True)
    async with serving() as server:
        assert await refused(download(server.url, tmp_path, name="")) == ("too-large", POLICY)
    listing([Entry("x" * 200, "folder", 0, 0)], False)
    async with serving() as server:
        assert await refused(download(server.url, tmp_path, name="")) == ("invalid-name", POLICY)


# -- swapped during a transfer ---------------------------------------------------------------------


class Once:
    """Calls `act` in the middle of a transfer, when some bytes are acknowledged and some are not."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.done = False
        self._act = act

    def __call__(self, progress: Progress) -> None:
        if not self.done and 0 < progress.acknowledged < len(CONTENT):
            self.done = True
            self._act()


@pytest.mark.heavy
@in_process
@pytest.mark.usefixtures("slow_disk")
async def test_a_folder_swapped_for_a_link_gets_nothing(
    serving: Any, folder: Path, path: Path, outside: Path
) -> None:
    def swap() -> None:
        (folder / "d").rename(folder / "moved")
        (folder / "d").symlink_to(outside)

    once = Once(swap)
    async with serving() as server:
        await upload(server.url, path, name="d/file.bin", progress=once)
    assert once.done
    assert (folder / "moved" / "file.bin").read_bytes() == CONTENT


@pytest.mark.heavy
@in_process
@pytest.mark.usefixtures("slow_disk")
async def test_a_file_swapped_for_a_link_is_sent_as_it_was_opened_or_not_at_all(
    serving: Any, folder: Path, tmp_path: Path, outside: Path
) -> None:
    (folder / "a").write_bytes(CONTENT)
    (folder / "b").write_bytes(CONTENT)

    def replace(name: str) -> None:
        (folder / name).rename(folder / "moved")
        (folder / name).symlink_to(outside / "secret")

    moved, gone = Once(lambda: replace("a")), Once(lambda: os.truncate(folder / "b", 10))
    async with serving() as server:
        # renaming a file changes its etag: a swap cannot be told from a change
        assert await refused(download(server.url, tmp_path / "1", name="a", progress=moved, delays=[])) == (
            "changed",
            9,
        )
        assert await refused(download(server.url, tmp_path / "2", name="b", progress=gone, delays=[])) == (
            "changed",
            9,
        )
    assert moved.done
    assert gone.done
    assert visible(tmp_path).isdisjoint({"1", "2"})


@pytest.mark.heavy
@in_process
@pytest.mark.usefixtures("slow_disk")
async def test_a_part_swapped_for_a_link_is_not_written_to(
    serving: Any, folder: Path, path: Path, outside: Path
) -> None:
    async with serving() as server:
        with anyio.CancelScope() as scope:
            await upload(server.url, path, progress=Once(scope.cancel))
        await until(lambda: not server.connections)
        (part,) = folder.glob(".wsstream-*.part")
        part.unlink()
        part.symlink_to(outside / "secret")
        (result,) = await upload(server.url, path)
    assert result.sent == len(CONTENT)
    assert (folder / "file.bin").read_bytes() == CONTENT


# -- disks and shares, by the installed program ------------------------------------------------------

SLOW_DISK = slow_disk_code(10**6)


def serve(line: CommandLine, folder: Path | str, *options: str) -> str:
    port = free_port()
    line.start("serve", "files", str(folder), "--bind", f"127.0.0.1:{port}", "--allow", "get,put", *options)
    line.wait_for("listening")
    return f"ws://127.0.0.1:{port}/"


@pytest.mark.slow
@needs_disks
def test_a_full_and_a_read_only_disk_at_either_end(path: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.bin"
    half.write_bytes(CONTENT[: MIB // 2])
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "file.bin").write_bytes(CONTENT * 2)
    with small_disk(tmp_path / "disk") as disk, CommandLine(tmp_path / "modules") as line:
        url, other = serve(line, disk), serve(line, tmp_path / "served")

        def run(*arguments: str) -> int:
            status, output = line.run(*arguments, "--retry", "0")
            assert "Traceback" not in output
            return status

        assert run("send", str(path), url) == POLICY, "there is no room for a record beside it"
        assert run("receive", other + "file.bin", str(disk)) == POLICY
        assert visible(disk) == set()
        (disk / "filler").write_bytes(bytes(700 * KIB))
        assert run("send", str(half), url) == POLICY
        (disk / "filler").unlink()
        assert run("send", str(half), url) == 0
        mount("-o", "remount,ro", str(disk))
        assert run("send", str(path), url + "new") == POLICY
        assert run("receive", url + "half.bin", str(tmp_path / "back.bin")) == 0, "reading goes on"
        assert run("receive", other + "file.bin", str(disk / "back.bin")) == LOCAL_IO
        assert visible(disk) == {"half.bin"}


@pytest.mark.slow
@needs_disks
def test_a_disk_that_fills_up_keeps_the_part_for_the_same_command(tmp_path: Path) -> None:
    """Nobody knows the size of what comes from a pipe: it fails when the disk is full."""
    big = tmp_path / "big.bin"
    big.write_bytes(CONTENT[: 900 * KIB])
    with small_disk(tmp_path / "disk") as disk, CommandLine(tmp_path / "modules", SLOW_DISK) as line:
        (disk / "d").mkdir()
        url = serve(line, disk)
        filler = disk / "d" / "filler"
        process = line.start("send", str(big), url, "--retry", "0")
        deadline = time.monotonic() + 30
        while not any(part.stat().st_size for part in disk.glob(".wsstream-*.part")):
            assert time.monotonic() < deadline, line.stderr()
            time.sleep(0.01)
        with filler.open("wb", buffering=0) as file:
            while file.tell() < MIB:
                try:
                    file.write(bytes(4096))
                except OSError:
                    break
        assert process.wait(30) == POLICY, line.stderr()
        assert "no-space" in line.stderr()
        assert visible(disk) == {"d"}
        filler.unlink()
        status, output = line.run("send", str(big), url)
        assert status == 0, output
        assert (disk / "big.bin").read_bytes() == big.read_bytes()


@pytest.mark.slow
def test_the_command_refuses_with_its_status(folder: Path, path: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "fifo")
    os.mkfifo(tmp_path / "own-fifo")
    (folder / "link").symlink_to(path)
    with CommandLine(tmp_path / "modules") as line:
        url, devices = serve(line, folder), serve(line, "/dev")
        rows: list[tuple[list[str], int, str]] = [
            (["receive", url, str(tmp_path / "x"), "--name", "../file.bin"], POLICY, "invalid-name"),
            (["send", str(path), url, "--name", "con"], POLICY, "invalid-name"),
            (["send", str(path), url + "%2e%2e/up"], POLICY, "invalid-name"),
            (["receive", url + "fifo", str(tmp_path / "x")], POLICY, "denied"),
            (["receive", url + "link", str(tmp_path / "x")], POLICY, "denied"),
            (["receive", devices + "zero", str(tmp_path / "x")], POLICY, "denied"),
            (["send", str(path), url + "fifo"], POLICY, "exists"),
            (["send", str(tmp_path / "own-fifo"), url], LOCAL_IO, "neither a file nor a folder"),
        ]
        for arguments, status, words in rows:
            found, output = line.run(*arguments)
            assert (found, words in output) == (status, True), (arguments, output)
            assert "Traceback" not in output, arguments
    assert visible(folder) == {"fifo", "link"}
    assert visible(tmp_path) == {"file.bin", "modules", "own-fifo", "served"}
