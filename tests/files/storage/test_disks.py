"""Disks that are full or read-only, and users who may not write. The disks are real ones, in memory."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.disks import mount, needs_disks, small_disk
from kit.processes import environment
from kit.storage import refused

from wsstream.files.storage.safe_root import SafeRoot

TOKEN = "token-0001"

pytestmark = needs_disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    with small_disk(tmp_path / "disk") as path:
        yield path


def test_a_full_disk_keeps_what_it_has(disk: Path) -> None:
    data = os.urandom(2 << 20)
    with SafeRoot(disk) as root:
        assert root.folder.free_bytes() <= 1 << 20
        with refused("no-space"):
            root.check_room(len(data))
        with root.partial("a", token=TOKEN, size=len(data), etag="v1") as partial:
            partial.write([data[:500_000]])
            assert partial.sync() == 500_000
            with refused("no-space"):
                while True:
                    partial.write([data[partial.written : partial.written + 100_000]])
            written = partial.written
            assert 900_000 < written < 1 << 20, "what fitted is counted"
            with refused("no-space"):
                partial.sync()  # no room for the record
            assert partial.durable == 500_000
        names = [path.name for path in disk.iterdir()]
        assert sorted(names) == [f".wsstream-{TOKEN}.json", f".wsstream-{TOKEN}.part"], "no litter"
        mount("-o", "remount,size=8m", str(disk))
        with root.partial("a", token=TOKEN, size=len(data), etag="v1") as partial:
            assert partial.durable == 500_000
            partial.write([data[500_000:]])
            partial.commit(size=len(data))
    assert (disk / "a").read_bytes() == data


def test_a_full_disk_at_the_commit(disk: Path) -> None:
    with SafeRoot(disk) as root, root.partial("a", token=TOKEN, size=None, etag="v1") as partial:
        partial.write([b"x" * 100_000])
        filler = disk / "filler"
        with pytest.raises(OSError, match="space"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 4096)
        with refused("no-space"):
            partial.commit(size=100_000)
        assert not (disk / "a").exists()
        filler.unlink()
        assert partial.commit(size=100_000) == "a"
    assert (disk / "a").stat().st_size == 100_000


def test_a_disk_without_room_for_another_file(disk: Path) -> None:
    for n in range(70):
        try:
            (disk / f"{n}").touch()
        except OSError:
            break
    with SafeRoot(disk) as root:
        with refused("no-space"):
            root.partial("a", token=TOKEN, size=1, etag="v1")
        (disk / "0").unlink()
        with refused("no-space"):  # for the part, and not for the record
            root.partial("a", token=TOKEN, size=1, etag="v1")
        assert not list(disk.glob(".wsstream-*")), "no litter"


def test_a_read_only_disk(disk: Path) -> None:
    (disk / "a").write_bytes(b"x")
    with SafeRoot(disk) as root:
        root.partial("old", token=TOKEN, size=1, etag="v1").close()
        held = root.partial("held", token="token-held", size=None, etag="v1")
        held.close()
        mount("-o", "remount,ro", str(disk))
        with root.open_source("a") as source:
            assert source.pread(1, 0) == b"x"
        assert [entry.name for entry in root.entries().entries] == ["a"]
        for name in ("b", "old", "d/e"):
            with refused("denied"):
                root.partial(name, token=TOKEN, size=1, etag="v1")
        with refused("denied"):
            root.make_folder("d")
        assert root.expire(-10) == 0


NOBODY = """
import os, sys
from wsstream.files.errors import TransferError
from wsstream.files.storage.safe_root import SafeRoot

os.setgid(65534)
os.setuid(65534)
root = SafeRoot(sys.argv[1])
uses = {
    "read": lambda: root.open_source("secret").close(),
    "read below": lambda: root.open_source("closed/a").close(),
    "list": lambda: root.entries("closed"),
    "write": lambda: root.partial("new", token="token-0001", size=1, etag=None).close(),
    "make": lambda: root.make_folder("d"),
    "public": lambda: root.open_source("public").close(),
}
for name, use in uses.items():
    try:
        use()
        print(name, "done")
    except TransferError as error:
        print(name, error.error)
print("left out", [entry.name for entry in root.entries().entries], root.expire(-10), root.used_bytes())
"""


def test_a_user_without_rights(disk: Path) -> None:
    (disk / "secret").write_bytes(b"x")
    (disk / "secret").chmod(0o600)
    (disk / "public").write_bytes(b"xy")
    (disk / "closed").mkdir(mode=0o700)
    (disk / "closed" / "a").touch()
    (disk / ".wsstream-token-0002.part").touch()
    disk.chmod(0o755)
    opener = disk.parent.parents
    closed = [path for path in opener if not path.stat().st_mode & 0o001]
    modes = [(path, path.stat().st_mode & 0o7777) for path in [disk.parent, *closed]]
    try:
        for path, mode in modes:
            path.chmod(mode | 0o001)
        done = subprocess.run(
            [sys.executable, "-c", NOBODY, str(disk)],
            capture_output=True,
            text=True,
            env=environment(measured=False),
            timeout=30,
            check=False,
        )
    finally:
        for path, mode in modes:
            path.chmod(mode)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "read denied",
        "read below denied",
        "list denied",
        "write denied",
        "make denied",
        "public done",
        "left out ['closed', 'public', 'secret'] 0 3",
    ]


def test_a_limit_of_the_process(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: the system says that the file is too large, and by a signal, which Python ignores."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with SafeRoot(tmp_path) as root, root.partial("a", token=TOKEN, size=None, etag="v1") as partial:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            with refused("too-large"):
                for _ in range(3):
                    partial.write([b"x" * 40_000])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert partial.written == 100_000
        assert partial.sync() == 100_000
