"""The last steps of a file: whatever interrupts them, nothing is lost, and what has a name is whole."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from kit.storage import Crash, FakeFence, Replaced, SystemCalls, refused

from wsstream.files.storage import folder as folder_module
from wsstream.files.storage.partial import Partial
from wsstream.files.storage.safe_root import SafeRoot
from wsstream.files.storage.target import OnExist

TOKEN = "token-0001"
DATA = bytes(range(256)) * 20
DIGEST = hashlib.sha256(DATA).hexdigest()
OLD = b"what was there before"
MODES: list[OnExist] = ["fail", "overwrite", "rename"]


def opened(root: SafeRoot, on_exist: OnExist = "fail", **options: Any) -> Partial:
    return root.partial(
        "a.bin", **{"token": TOKEN, "size": len(DATA), "etag": "v1", "on_exist": on_exist, **options}
    )


def transfer(root: SafeRoot, on_exist: OnExist, **options: Any) -> str:
    """Receive the file as a session does: from where it was left, or not at all if it is there."""
    found = root.find_complete("a.bin", len(DATA), DIGEST, token=TOKEN, on_exist=on_exist)
    if found is not None:
        return found
    with opened(root, on_exist, **options) as partial:
        for _ in range(3):
            if not partial.complete:
                partial.write([DATA[partial.written : partial.written + 2000]])
                partial.sync()
        assert partial.check(0, len(DATA), hashlib.sha256) == DIGEST
        return partial.commit(size=len(DATA), mtime_ns=10**18, mode=0o644)


def steps(on_exist: OnExist, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The system calls of a transfer that nothing interrupts."""
    folder = tmp_path_factory.mktemp("steps")
    if on_exist != "fail":
        (folder / "a.bin").write_bytes(OLD)
    with SafeRoot(folder) as root, pytest.MonkeyPatch.context() as patch:
        calls = SystemCalls(patch)
        transfer(root, on_exist)
    return calls.names


def visible(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def expected(on_exist: OnExist) -> dict[str, bytes]:
    return {"a.bin": OLD, "a (1).bin": DATA} if on_exist == "rename" else {"a.bin": DATA}


def check_at_any_time(folder: Path, on_exist: OnExist) -> None:
    """What has a name is whole: the old file until the new one takes its place."""
    before = {} if on_exist == "fail" else {"a.bin": OLD}
    assert visible(folder) in (before, expected(on_exist))


def check_at_the_end(folder: Path, on_exist: OnExist, name: str) -> None:
    assert name == ("a (1).bin" if on_exist == "rename" else "a.bin")
    assert visible(folder) == expected(on_exist)
    status = (folder / name).stat()
    assert (status.st_mtime_ns, status.st_mode & 0o777, status.st_nlink) == (10**18, 0o644, 1)


@pytest.fixture(params=MODES)
def on_exist(request: pytest.FixtureRequest, folder: Path) -> Any:
    if request.param != "fail":
        (folder / "a.bin").write_bytes(OLD)
    return request.param


def test_the_order_of_the_steps(root: SafeRoot, on_exist: OnExist, monkeypatch: pytest.MonkeyPatch) -> None:
    record = ["unlink", "open", "write", "fsync", "rename", "fsync"]
    with opened(root, on_exist) as partial:
        partial.write([DATA])
        calls = SystemCalls(monkeypatch)
        partial.commit(size=len(DATA), mtime_ns=10**18, mode=0o644)
    publish = {"fail": ["link"], "overwrite": ["rename"], "rename": ["link", "link"]}[on_exist]
    assert calls.names == [
        *("fdatasync", *record),
        "fsync",
        *("fchmod", "utime"),
        *publish,
        "fsync",
        *("unlink", "unlink"),
    ]


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["before", "after"])
def test_a_crash_at_any_system_call_is_survived(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, on_exist: OnExist, folder: Path, how: str
) -> None:
    names = steps(on_exist, tmp_path_factory)
    assert len(names) > 40
    for at in range(len(names)):
        put_back(folder, on_exist)
        with SafeRoot(folder) as root, pytest.MonkeyPatch.context() as patch:
            SystemCalls(patch, at, how)
            with pytest.raises(Crash):
                transfer(root, on_exist)
        check_at_any_time(folder, on_exist)
        with SafeRoot(folder) as root:
            name = transfer(root, on_exist)
            check_at_the_end(folder, on_exist, name)
            root.expire(-10)
        assert sorted(os.listdir(folder)) == sorted(expected(on_exist)), f"{names[at]}, call {at}"


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("barrier", [0, 2])
def test_a_crash_is_survived_by_a_later_fence(
    tmp_path_factory: pytest.TempPathFactory, on_exist: OnExist, folder: Path, barrier: int
) -> None:
    """Two crashes, one after the other; with and without an older holder that was left behind."""
    names = steps(on_exist, tmp_path_factory)
    for at in range(0, len(names), 3):
        put_back(folder, on_exist)
        for number, (crash, limit) in enumerate([(at, 0), (at * 7 % 11, barrier)], 1):
            fence = FakeFence(number, limit)
            with SafeRoot(folder) as root, pytest.MonkeyPatch.context() as patch:
                SystemCalls(patch, crash, "after")
                try:
                    transfer(root, on_exist, fence=fence)
                except Crash:
                    check_at_any_time(folder, on_exist)
        with SafeRoot(folder) as root:
            name = transfer(root, on_exist, fence=FakeFence(3, barrier))
        check_at_the_end(folder, on_exist, name)


def commit_steps(folder: Path, on_exist: OnExist) -> list[str]:
    """The system calls of a commit that nothing interrupts; `folder` is then as it was."""
    with SafeRoot(folder) as root, pytest.MonkeyPatch.context() as patch, opened(root, on_exist) as partial:
        partial.write([DATA])
        calls = SystemCalls(patch)
        partial.commit(size=len(DATA), mtime_ns=10**18, mode=0o644)
    put_back(folder, on_exist)
    return calls.names


def put_back(folder: Path, on_exist: OnExist) -> None:
    for path in folder.iterdir():
        path.unlink()
    if on_exist != "fail":
        (folder / "a.bin").write_bytes(OLD)


def test_a_commit_that_failed_may_be_repeated(root: SafeRoot, on_exist: OnExist, folder: Path) -> None:
    """By the same object; but if the bytes did not reach the disk, by one that is opened anew."""
    names = commit_steps(folder, on_exist)
    bytes_to_disk = (0, names.index("fsync", 7))  # fdatasync of the part, and its fsync after the record
    for at, step in enumerate(names):
        put_back(folder, on_exist)
        partial = opened(root, on_exist)
        partial.write([DATA])
        with pytest.MonkeyPatch.context() as patch:
            SystemCalls(patch, at, "fails")
            if step == "utime":  # not worth a failure
                partial.commit(size=len(DATA), mtime_ns=10**18, mode=0o644)
            else:
                with refused("io"):
                    partial.commit(size=len(DATA), mtime_ns=10**18, mode=0o644)
        check_at_any_time(folder, on_exist)
        if at in bytes_to_disk:
            with refused("io"):
                partial.commit(size=len(DATA))
            partial.close()
            partial = opened(root, on_exist)
            partial.write([DATA[partial.written :]])
        name = partial.commit(size=len(DATA), mtime_ns=10**18, mode=0o644)
        partial.close()
        assert visible(folder) == expected(on_exist), f"{step}, call {at}"
        assert sorted(os.listdir(folder)) == sorted(visible(folder))
        assert name in expected(on_exist)


def test_a_finished_commit_may_be_repeated(root: SafeRoot, on_exist: OnExist, folder: Path) -> None:
    fence = FakeFence(1)
    with opened(root, on_exist, fence=fence) as partial:
        partial.write([DATA])
        name = partial.commit(size=len(DATA))
        assert fence.retired
        assert partial.commit(size=len(DATA)) == name
        partial.discard()
    assert visible(folder) == expected(on_exist)


def test_what_was_committed_before_a_crash_is_not_written_to(root: SafeRoot, folder: Path) -> None:
    with opened(root) as partial:
        partial.write([DATA])
        with pytest.MonkeyPatch.context() as patch:
            SystemCalls(patch, 10, "before")  # the part has its name, and still the other one
            with pytest.raises(Crash):
                partial.commit(size=len(DATA))
    assert visible(folder) == {"a.bin": DATA}
    assert (folder / "a.bin").stat().st_nlink == 2
    with opened(root) as partial:
        assert partial.complete
        assert partial.durable == partial.written == len(DATA)
        with refused("too-large"):
            partial.write([b"x"])
    with opened(root, "overwrite", etag="v2", size=3) as partial:  # another version: the file stays as it is
        partial.write([b"new"])
        assert visible(folder) == {"a.bin": DATA}
        partial.commit(size=3)
    assert visible(folder) == {"a.bin": b"new"}


def test_a_file_of_somebody_else_is_not_taken_for_the_committed_one(root: SafeRoot, folder: Path) -> None:
    with opened(root, "overwrite") as partial:
        partial.write([DATA])
        with pytest.MonkeyPatch.context() as patch:
            SystemCalls(patch, 11, "before")  # renamed, and the record is still there
            with pytest.raises(Crash):
                partial.commit(size=len(DATA))
    assert visible(folder) == {"a.bin": DATA}
    assert not list(folder.glob("*.part"))
    record = (folder / f".wsstream-{TOKEN}.json").read_bytes()
    (folder / "other").write_bytes(DATA[::-1])
    (folder / "other").rename(folder / "a.bin")
    with refused("exists"):
        opened(root, "fail")
    with opened(root, "overwrite") as partial:
        assert partial.durable == 0
        partial.discard()
    (folder / f".wsstream-{TOKEN}.json").write_bytes(record)
    (folder / "a.bin").unlink()
    with opened(root, "overwrite") as partial:
        assert partial.durable == 0


@pytest.mark.parametrize("on_exist_now", ["fail", "skip"])
def test_a_file_that_appears_meanwhile_stays(root: SafeRoot, folder: Path, on_exist_now: OnExist) -> None:
    with opened(root, on_exist_now) as partial:
        partial.write([DATA])
        (folder / "a.bin").write_bytes(OLD)
        with refused("exists"):
            partial.commit(size=len(DATA))
    assert visible(folder) == {"a.bin": OLD}
    with refused("exists"):
        opened(root, on_exist_now)
    with opened(root, "rename") as partial:
        assert partial.durable == len(DATA), "nothing is sent again"
        assert partial.commit(size=len(DATA)) == "a (1).bin"
    assert visible(folder) == {"a.bin": OLD, "a (1).bin": DATA}
    assert len(os.listdir(folder)) == 2


def test_a_folder_that_appears_meanwhile_stays(root: SafeRoot, folder: Path) -> None:
    with opened(root, "overwrite") as partial:
        partial.write([DATA])
        (folder / "a.bin").mkdir()
        with refused("exists"):
            partial.commit(size=len(DATA))


def test_a_link_in_the_place_of_the_target_is_not_followed(
    root: SafeRoot, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_bytes(b"outside")
    for on_exist in MODES:
        with opened(root, on_exist, token=f"token-{on_exist}") as partial:
            partial.write([DATA])
            (folder / "a.bin").unlink(missing_ok=True)
            (folder / "a.bin").symlink_to("../outside")
            if on_exist == "rename":
                assert partial.commit(size=len(DATA)) == "a (1).bin"
            else:
                with refused("exists"):
                    partial.commit(size=len(DATA))
            (folder / "a.bin").unlink()
    assert (tmp_path / "outside").read_bytes() == b"outside"


def test_the_permissions_of_a_replaced_file_are_kept(root: SafeRoot, folder: Path) -> None:
    (folder / "a.bin").write_bytes(OLD)
    (folder / "a.bin").chmod(0o600)
    with opened(root, "overwrite") as partial:
        partial.write([DATA])
        partial.commit(size=len(DATA))
    assert (folder / "a.bin").stat().st_mode & 0o7777 == 0o600


def test_a_hundred_names_are_found_one_after_the_other(root: SafeRoot, folder: Path) -> None:
    names = []
    for n in range(12):
        with opened(root, "rename", token=f"token-{n:04}", size=1) as partial:
            partial.write([b"x"])
            names.append(partial.commit(size=1))
    assert names == ["a.bin", *(f"a ({n}).bin" for n in range(1, 12))]


def test_the_numbers_run_out(root: SafeRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*args: object, **options: object) -> None:
        raise FileExistsError(errno.EEXIST, "taken")

    with opened(root, "rename") as partial:
        partial.write([DATA])
        monkeypatch.setattr(folder_module, "os", Replaced(os, link=taken))
        with refused("exists"):
            partial.commit(size=len(DATA))


def test_writers_at_once_get_a_name_each(root: SafeRoot, folder: Path) -> None:
    names: list[str] = []

    def receive(n: int) -> None:
        with opened(root, "rename", token=f"token-{n:04}", size=10, etag=None) as partial:
            partial.write([b"%010d" % n])
            names.append(partial.commit(size=10))

    threads = [threading.Thread(target=receive, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 16
    assert sorted(visible(folder).values()) == [b"%010d" % n for n in range(16)]


# -- file systems without hard links ---------------------------------------------------------------


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP])
def no_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on FAT."""

    def link(*args: object, **options: object) -> None:
        raise OSError(request.param, "no links")

    monkeypatch.setattr(folder_module, "os", Replaced(os, link=link))


@pytest.mark.usefixtures("no_links")
def test_without_links_no_file_is_replaced_either(root: SafeRoot, on_exist: OnExist, folder: Path) -> None:
    name = transfer(root, on_exist)
    check_at_the_end(folder, on_exist, name)
    assert len(os.listdir(folder)) == len(expected(on_exist))
    (folder / "a.bin").write_bytes(OLD)
    with refused("exists"):
        opened(root, "fail")


@pytest.mark.usefixtures("no_links")
def test_without_links_writers_take_turns(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_LOCK_TIMEOUT", 0.1)
    other = os.open(folder, os.O_RDONLY)
    with opened(root) as partial:
        partial.write([DATA])
        fcntl.flock(other, fcntl.LOCK_EX)
        with refused("busy"):
            partial.commit(size=len(DATA))
        assert visible(folder) == {}
        os.close(other)
        assert partial.commit(size=len(DATA)) == "a.bin"


def test_a_link_that_fails_for_another_reason_is_an_error(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "no room for the name")

    with opened(root) as partial:
        partial.write([DATA])
        monkeypatch.setattr(folder_module, "os", Replaced(os, link=link))
        with refused("no-space"):
            partial.commit(size=len(DATA))
        monkeypatch.undo()
        assert partial.commit(size=len(DATA)) == "a.bin"
