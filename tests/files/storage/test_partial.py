"""A partial file: what is durable survives, and nothing else is believed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.storage import FakeFence, Replaced, SystemCalls, refused

from wsstream.files.errors import TransferError
from wsstream.files.storage import copying
from wsstream.files.storage import folder as folder_module
from wsstream.files.storage import partial as partial_module
from wsstream.files.storage import record as record_module
from wsstream.files.storage.partial import Partial
from wsstream.files.storage.safe_root import SafeRoot

TOKEN = "token-0001"
PART = f".wsstream-{TOKEN}.part"
RECORD = f".wsstream-{TOKEN}.json"


def opened(root: SafeRoot, name: str = "a.bin", **options: Any) -> Partial:
    return root.partial(name, **{"token": TOKEN, "size": 100, "etag": "v1", **options})


def power_cut(folder: Path, durable: int) -> None:
    """What is left of a part after a power cut: the durable bytes, and anything after them."""
    for part in folder.rglob(".wsstream-*.part"):
        with part.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            match random.randrange(4):
                case 0:
                    file.truncate(durable)
                case 1:
                    file.seek(durable)
                    file.write(os.urandom(size - durable))
                case 2:
                    file.truncate(random.randint(durable, size))
                case _:
                    file.truncate(durable)
                    file.truncate(size + 1000)  # zeros


# -- from the first byte to the name ---------------------------------------------------------------


def test_a_file_arrives(root: SafeRoot, folder: Path) -> None:
    with opened(root, "d/a.bin") as partial:
        assert (partial.token, partial.size, partial.written, partial.durable) == (TOKEN, 100, 0, 0)
        partial.write([b"x" * 30, bytearray(b"y" * 20), memoryview(b"z" * 10), b""])
        partial.write([])
        assert (partial.written, partial.durable) == (60, 0)
        assert partial.sync() == 60
        assert partial.sync() == partial.durable == 60
        partial.write([b"w" * 40])
        assert sorted(os.listdir(folder / "d")) == [RECORD, PART], "nothing under the name of the target"
        assert partial.commit(size=100, mtime_ns=10**18 + 123, mode=0o640) == "d/a.bin"
        assert partial.durable == 100
        assert repr(partial) == "<Partial 'd/a.bin' durable=100 written=100 size=100>"
    assert os.listdir(folder / "d") == ["a.bin"]
    assert (folder / "d/a.bin").read_bytes() == b"x" * 30 + b"y" * 20 + b"z" * 10 + b"w" * 40
    status = (folder / "d/a.bin").stat()
    assert (status.st_mtime_ns, status.st_mode & 0o7777, status.st_nlink) == (10**18 + 123, 0o640, 1)


def test_the_permissions_are_those_of_any_new_file(root: SafeRoot, folder: Path) -> None:
    (folder / "ordinary").touch()
    with opened(root, size=0) as partial:
        partial.commit(size=0)
    assert (folder / "a.bin").stat().st_mode == (folder / "ordinary").stat().st_mode


def test_the_permissions_of_a_sender_have_nine_bits(root: SafeRoot, folder: Path) -> None:
    with opened(root, size=0) as partial:
        partial.commit(size=0, mode=0o106755)
    assert (folder / "a.bin").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("mtime_ns", [-1, 0, 2**63 - 1, -(2**63), 2**80, -(2**200)])
def test_any_time_of_change_is_survived(root: SafeRoot, folder: Path, mtime_ns: int) -> None:
    with opened(root, size=0) as partial:
        assert partial.commit(size=0, mtime_ns=mtime_ns) == "a.bin"


def test_many_small_chunks_are_written_in_order(root: SafeRoot, folder: Path) -> None:
    chunks = [bytes([n % 256]) * (n % 7) for n in range(5000)]
    whole = b"".join(chunks)
    with opened(root, size=len(whole)) as partial:
        partial.write(chunks)
        partial.commit(size=len(whole))
    assert (folder / "a.bin").read_bytes() == whole


@given(sizes=st.lists(st.integers(0, 50), max_size=30), steps=st.lists(st.integers(1, 40), min_size=1))
def test_short_writes_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], steps: list[int]
) -> None:
    """The system may take any part of what it is given."""
    whole = os.urandom(sum(sizes))
    chunks, at, turn = [], 0, iter(steps * 1500)
    for size in sizes:
        chunks.append(whole[at : at + size])
        at += size

    def some(fd: int, buffers: list[memoryview], offset: int) -> int:
        return os.pwrite(fd, b"".join(buffers)[: next(turn)], offset)

    folder = tmp_path_factory.mktemp("short")
    with pytest.MonkeyPatch.context() as patch, SafeRoot(folder) as root:
        patch.setattr(partial_module, "os", Replaced(os, pwritev=some))
        with opened(root, size=None) as partial:
            partial.write(chunks)
            assert partial.written == len(whole)
    assert (folder / PART).read_bytes() == whole


def test_the_size_is_a_limit(root: SafeRoot, folder: Path) -> None:
    with opened(root, size=10) as partial:
        partial.write([b"x" * 8])
        with refused("too-large"):
            partial.write([b"y", b"yy"])
        assert partial.written == 8
        with refused("short"):
            partial.commit(size=10)
        with refused("too-large"):
            partial.commit(size=7)
        partial.write([b"zz"])
        partial.commit(size=10)
        partial.write([])
        with refused("too-large"):
            partial.write([b"z"])
    assert (folder / "a.bin").read_bytes() == b"x" * 8 + b"zz"


def test_a_size_may_be_unknown_to_the_end(root: SafeRoot, folder: Path) -> None:
    with opened(root, size=None) as partial:
        partial.write([b"x" * 1000])
        partial.commit(size=1000)
        with refused("too-large"):
            partial.write([b"x"])
    assert (folder / "a.bin").stat().st_size == 1000


def test_a_closed_partial_is_of_no_use(root: SafeRoot, folder: Path) -> None:
    partial = opened(root)
    partial.write([b"x"])
    partial.close()
    partial.close()
    partial.discard()
    for call in (lambda: partial.write([b"x"]), partial.sync, lambda: partial.commit(size=1)):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert sorted(os.listdir(folder)) == [RECORD, PART]


def test_close_waits_for_the_calls_of_other_threads(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or their descriptor could be that of another file."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(fd: int, buffers: list[memoryview], offset: int) -> int:
        entered.set()
        assert go_on.wait(10)
        return os.pwritev(fd, buffers, offset)

    partial = opened(root)
    monkeypatch.setattr(partial_module, "os", Replaced(os, pwritev=slow))
    writing = threading.Thread(target=partial.write, args=([b"x" * 10],))
    closing = threading.Thread(target=partial.close)
    writing.start()
    assert entered.wait(10)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    go_on.set()
    writing.join()
    closing.join()
    assert (folder / PART).read_bytes() == b"x" * 10
    with pytest.raises(ValueError, match="closed"):
        partial.write([b"y"])


def test_discard_leaves_nothing(root: SafeRoot, folder: Path) -> None:
    fence = FakeFence(5)
    partial = opened(root, fence=fence)
    partial.write([b"x"])
    partial.sync()
    partial.discard()
    partial.discard()
    assert fence.retired
    assert os.listdir(folder) == []


def test_no_descriptor_is_left(root: SafeRoot, folder: Path) -> None:
    before = os.listdir("/dev/fd")
    for n in range(3):
        with opened(root, "a/b", token=f"token-{n:04}", on_exist="overwrite") as partial:
            partial.write([b"x"])
            partial.sync()
            if n:
                partial.commit(size=1)
        with pytest.raises(TransferError):
            opened(root, "a/b", token="NO")
        with pytest.raises(TransferError):
            opened(root, "a/b", token="token-0000", identity="other")
    assert os.listdir("/dev/fd") == before


# -- reading back ----------------------------------------------------------------------------------


def test_what_is_written_can_be_read_and_hashed(root: SafeRoot) -> None:
    data = os.urandom(3_000_000)
    with opened(root, size=None) as partial:
        partial.write([data])
        buffer = bytearray(10)
        assert partial.read_into(buffer, 2_999_995) == 5
        assert buffer[:5] == data[-5:]
        assert partial.read_into(buffer, 3_000_000) == partial.read_into(buffer, 1 << 40) == 0
        for start, stop in [(0, 3_000_000), (1_000_001, 2_500_000), (7, 7)]:
            assert partial.check(start, stop, hashlib.sha256) == hashlib.sha256(data[start:stop]).hexdigest()
        for start, stop in [(-1, 5), (5, 4), (0, 3_000_001)]:
            with pytest.raises(ValueError, match="range"):
                partial.check(start, stop, hashlib.sha256)


def test_a_hasher_follows_the_writer(root: SafeRoot) -> None:
    digest, whole = hashlib.sha256(), b""
    with opened(root, size=None) as partial:
        hasher = partial.hasher(digest)
        assert hasher.advance() == 0
        for n in range(20):
            whole += (chunk := os.urandom(n * 10_000))
            partial.write([chunk])
            assert hasher.advance(100_000) == min(len(whole), (hasher.position))
        while hasher.position < partial.written:
            hasher.advance(100_000)
    assert digest.hexdigest() == hashlib.sha256(whole).hexdigest()


def test_a_part_that_somebody_cut_is_noticed(root: SafeRoot, folder: Path) -> None:
    with opened(root) as partial:
        partial.write([b"x" * 50])
        os.truncate(folder / PART, 20)
        with refused("io"):
            partial.check(10, 30, hashlib.sha256)
        with refused("io"):
            partial.commit(size=50)
    assert not (folder / "a.bin").exists()


# -- resuming --------------------------------------------------------------------------------------


def test_a_transfer_resumes_at_the_durable_offset_never_at_the_size(root: SafeRoot, folder: Path) -> None:
    with opened(root) as partial:
        partial.write([b"x" * 40])
        partial.sync()
        partial.write([b"y" * 30])
    assert (folder / PART).stat().st_size == 70
    with opened(root) as partial:
        assert (partial.written, partial.durable) == (40, 40)
        assert (folder / PART).stat().st_size == 40
        partial.write([b"z" * 60])
        partial.commit(size=100)
    assert (folder / "a.bin").read_bytes() == b"x" * 40 + b"z" * 60


@given(seed=st.integers(0, 2**32), cuts=st.integers(1, 6))
def test_a_power_cut_costs_what_was_not_durable(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cuts: int
) -> None:
    random.seed(seed)
    folder = tmp_path_factory.mktemp("cut")
    data = random.randbytes(5000)
    with SafeRoot(folder) as root:
        durable = 0
        for _ in range(cuts):
            with opened(root, size=len(data)) as partial:
                assert partial.durable == durable, "no durable byte is sent twice"
                for _ in range(random.randrange(8)):
                    size = random.randrange(1, 900)
                    partial.write([data[partial.written : partial.written + size]])
                    if random.random() < 0.3:
                        durable = partial.sync()
            power_cut(folder, durable)
        with opened(root, size=len(data)) as partial:
            assert partial.durable == durable
            partial.write([data[durable:]])
            assert partial.check(0, len(data), hashlib.sha256) == hashlib.sha256(data).hexdigest()
            partial.commit(size=len(data))
        assert (folder / "a.bin").read_bytes() == data


def test_the_record_follows_the_bytes(root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes to the disk, the record to the disk, its name, the name to the disk; then the answer."""
    with opened(root) as partial:
        calls = SystemCalls(monkeypatch)
        partial.write([b"x" * 10])
        assert calls.names == ["pwritev"]
        partial.sync()
    assert calls.names[1:] == ["fdatasync", "unlink", "open", "write", "fsync", "rename", "fsync"]


def test_bytes_written_during_a_sync_are_not_called_durable(
    root: SafeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(root) as partial:
        partial.write([b"x" * 10])

        def slow(fd: int) -> None:
            partial.write([b"y" * 10])

        monkeypatch.setattr(partial_module, "sync_data", slow)
        assert partial.sync() == partial.durable == 10
        assert partial.written == 20
        monkeypatch.undo()
        assert partial.sync() == 20


@pytest.mark.parametrize(
    "changed", [{"etag": "v2"}, {"etag": None}, {"size": 99}, {"size": None}, {"name": "b.bin"}]
)
def test_another_version_starts_at_0(root: SafeRoot, folder: Path, changed: dict[str, Any]) -> None:
    with opened(root) as partial:
        partial.write([b"x" * 50])
        partial.sync()
    with opened(root, **changed) as partial:
        assert (partial.written, partial.durable) == (0, 0)
        assert (folder / PART).stat().st_size == 0
        partial.write([b"y" * 10])
    with opened(root, **changed) as partial:
        assert partial.durable == 0


def test_without_an_etag_nothing_resumes(root: SafeRoot) -> None:
    for _ in range(2):
        with opened(root, etag=None) as partial:
            assert partial.durable == 0
            partial.write([b"x"])
            partial.sync()


def test_nobody_else_goes_on_with_a_transfer(root: SafeRoot, folder: Path) -> None:
    with opened(root, identity="alice") as partial:
        partial.write([b"x"])
        partial.sync()
    for identity in ("bob", None, "Alice", ""):
        with refused("denied"):
            opened(root, identity=identity)
        with refused("denied"):
            opened(root, identity=identity, etag="v2")
    with opened(root, identity="alice") as partial:
        assert partial.durable == 1


@pytest.mark.parametrize("field", ["etag", "identity"])
def test_texts_have_a_bound(root: SafeRoot, folder: Path, field: str) -> None:
    with opened(root, token="token-0002", **{field: "\U0001f600" * 4096}) as partial:
        partial.write([b"x"])
        partial.sync()
    with opened(root, token="token-0002", **{field: "\U0001f600" * 4096}) as partial:
        assert partial.durable == 1
    with refused("protocol"):
        opened(root, **{field: "x" * 4097})
    assert not (folder / PART).exists()


def test_two_writers_without_a_locker_are_one_too_many(root: SafeRoot, folder: Path) -> None:
    with opened(root) as partial:
        partial.write([b"x"])
        for options in ({}, {"etag": "v2"}):
            with refused("busy"):
                opened(root, **options)
        partial.sync()
    with opened(root) as partial:
        assert partial.durable == 1


# -- records that nobody should believe ------------------------------------------------------------

VALID = {
    "version": 1,
    "name": "a.bin",
    "size": 100,
    "etag": "v1",
    "identity": None,
    "durable": 40,
    "fence": 0,
    "part": 0,
    "complete": False,
    "inode": 0,
}

CORRUPT: dict[str, bytes] = {
    "empty": b"",
    "cut": json.dumps(VALID).encode()[:-10],
    "zeros": b"\0" * 200,
    "no UTF-8": b"\xff\xfe" * 50,
    "an array": b"[]",
    "a number": b"1",
    "null": b"null",
    "deep": b"[" * 60_000,
    "deep objects": b'{"a":' * 12_000,
    "large": b" " * 70_000 + json.dumps(VALID).encode(),
    "a huge number": json.dumps(VALID).replace("40", "9" * 5000).encode(),
    "an unknown field": json.dumps({**VALID, "more": 1}).encode(),
    "no durable": json.dumps({k: v for k, v in VALID.items() if k != "durable"}).encode(),
}
WRONG: dict[str, Any] = {
    "durable": [-1, 71, 2**63, 2**70, 1.5, True, None, "40", [40], float("nan")],
    "size": [-1, "100", 99, True],
    "etag": [5, "", "v2", {}, "x" * 5000],
    "name": [None, 5, "b.bin", "../a.bin", "x" * 5000],
    "version": [0, 2, "1", None],
    "fence": [-1, None, "1", 2**63],
    "part": [-1, None, "../../etc/passwd", 2**63, 7],
    "complete": [1, None, "yes", True],
    "inode": [None, -1, "1"],
    "identity": [5, True],
}
RECORDS = [pytest.param(data, id=name) for name, data in CORRUPT.items()] + [
    pytest.param(json.dumps({**VALID, field: value}).encode(), id=f"{field}={value!r:.20}")
    for field, values in WRONG.items()
    for value in values
]


@pytest.mark.parametrize("data", RECORDS)
def test_a_record_that_is_wrong_means_0(root: SafeRoot, folder: Path, data: bytes) -> None:
    (folder / PART).write_bytes(b"x" * 70)
    (folder / RECORD).write_bytes(data)
    with opened(root) as partial:
        assert (partial.written, partial.durable, partial.complete) == (0, 0, False)
        partial.write([b"y" * 100])
        partial.commit(size=100)
    assert (folder / "a.bin").read_bytes() == b"y" * 100
    assert os.listdir(folder) == ["a.bin"]


def test_a_record_that_is_right_is_believed(root: SafeRoot, folder: Path) -> None:
    (folder / PART).write_bytes(b"x" * 70)
    (folder / RECORD).write_bytes(json.dumps(VALID).encode())
    with opened(root) as partial:
        assert partial.durable == 40


def test_a_record_without_its_part_means_0(root: SafeRoot, folder: Path) -> None:
    (folder / RECORD).write_bytes(json.dumps(VALID).encode())
    with opened(root) as partial:
        assert partial.durable == 0


def test_a_part_without_a_record_means_0(root: SafeRoot, folder: Path) -> None:
    (folder / PART).write_bytes(b"x" * 100)
    with opened(root) as partial:
        assert partial.durable == 0


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
@pytest.mark.parametrize("name", [PART, RECORD])
def test_something_else_in_their_place_is_removed(
    root: SafeRoot, folder: Path, name: str, make: Callable[[Path], None]
) -> None:
    with opened(root) as partial:
        partial.write([b"x" * 10])
        partial.sync()
    (folder / name).unlink()
    make(folder / name)
    with opened(root) as partial:
        assert partial.durable == 0
        partial.write([b"y" * 100])
        partial.commit(size=100)
    assert os.listdir(folder) == ["a.bin"]


def test_a_part_with_a_second_name_is_left_to_whom_has_it(root: SafeRoot, folder: Path) -> None:
    """Somebody made a copy of hard links: the bytes that they see must not change."""
    with opened(root) as partial:
        partial.write([b"x" * 10])
        partial.sync()
        partial.write([b"y" * 10])
    os.link(folder / PART, folder / "snapshot")
    with opened(root) as partial:
        assert partial.durable == 10
        partial.write([b"z" * 90])
        partial.commit(size=100)
    assert (folder / "snapshot").read_bytes() == b"x" * 10 + b"y" * 10
    assert (folder / "a.bin").read_bytes() == b"x" * 10 + b"z" * 90
    assert sorted(os.listdir(folder)) == ["a.bin", "snapshot"]


@given(st.binary(max_size=300))
def test_any_record_is_survived(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / RECORD).write_bytes(data)
    (folder / PART).write_bytes(b"x" * 70)
    with SafeRoot(folder) as root, opened(root) as partial:
        assert partial.durable == 0


# -- fences ----------------------------------------------------------------------------------------


def test_an_older_writer_refuses_to_write(root: SafeRoot, folder: Path) -> None:
    old, new = FakeFence(3), FakeFence(4)
    with opened(root, fence=old) as first:
        first.write([b"x" * 10])
        first.sync()
        old.superseded = True
        calls = [lambda: first.write([b"y"]), first.sync, lambda: first.commit(size=10), first.discard]
        for call in calls:
            with refused("superseded"):
                call()
        with opened(root, fence=new) as second:
            assert second.durable == 10
    assert json.loads((folder / RECORD).read_bytes())["fence"] == 4


def test_the_record_carries_the_fence(root: SafeRoot, folder: Path) -> None:
    """A fence whose own check knows nothing, as after a restart of what gave it out."""
    old, new = FakeFence(3), FakeFence(4)
    opened(root, fence=new).close()
    with refused("superseded"):
        opened(root, fence=old)
    with refused("superseded"):
        opened(root, fence=old, etag="v2")
    opened(root, fence=new).close()


def test_without_a_locker_the_fence_of_the_record_stays(root: SafeRoot, folder: Path) -> None:
    fence = FakeFence(7)
    opened(root, fence=fence).close()
    opened(root).close()
    assert json.loads((folder / RECORD).read_bytes())["fence"] == 7


def test_a_sync_that_is_overtaken_changes_no_record(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = FakeFence(3)
    with opened(root, fence=fence) as partial:
        partial.write([b"x" * 10])
        before = (folder / RECORD).read_bytes()
        monkeypatch.setattr(partial_module, "sync_data", lambda fd: setattr(fence, "superseded", True))
        with refused("superseded"):
            partial.sync()
    assert (folder / RECORD).read_bytes() == before


def test_a_writer_that_was_left_behind_writes_elsewhere(root: SafeRoot, folder: Path) -> None:
    """It passed its check, was stopped, and goes on with the system call that came next."""
    old, new = FakeFence(1), FakeFence(2, barrier=2)
    with opened(root, fence=old) as first, opened(root, fence=new) as unsynced:
        assert unsynced.durable == 0
    with opened(root, "b.bin", token="token-0002", fence=old) as first:
        first.write([b"x" * 60])
        first.sync()
        with opened(root, "b.bin", token="token-0002", fence=new) as second:
            assert second.durable == 60
            second.write([b"z" * 40])
            stale = first._file
            os.pwrite(stale.fd, b"?" * 90, 5)
            os.ftruncate(stale.fd, 3)
            with pytest.raises(FileNotFoundError):
                stale.folder.link(stale.name, "b.bin")
            with pytest.raises(FileNotFoundError):
                stale.folder.rename(stale.name, "b.bin")
            stale.folder.remove(stale.name)
            assert second.commit(size=100) == "b.bin"
    assert (folder / "b.bin").read_bytes() == b"x" * 60 + b"z" * 40


def test_a_record_of_a_writer_that_was_left_behind_means_0(root: SafeRoot, folder: Path) -> None:
    """Its last step was to put its record in place of the newer one, and then the newer one died."""
    old, new, third = FakeFence(1), FakeFence(2, barrier=2), FakeFence(3, barrier=2)
    with opened(root, fence=old) as first:
        first.write([b"x" * 60])
        first.sync()
        stale = (folder / RECORD).read_bytes()
        with opened(root, fence=new) as second:
            second.write([b"y" * 20])
    (folder / RECORD).write_bytes(stale)
    with opened(root, fence=third) as partial:
        assert partial.durable == 0
        partial.write([b"z" * 100])
        partial.commit(size=100)
    assert (folder / "a.bin").read_bytes() == b"z" * 100


def test_the_barrier_holds_until_a_record_was_written_above_it(root: SafeRoot, folder: Path) -> None:
    """The newer one died before it could copy: the next one has to."""
    with opened(root, fence=FakeFence(1)) as first:
        first.write([b"x" * 60])
        first.sync()
        inode = os.fstat(first._file.fd).st_ino
        with opened(root, fence=FakeFence(3, barrier=2)) as partial:
            assert partial.durable == 60
            copy = os.fstat(partial._file.fd).st_ino
            assert copy != inode
    with opened(root, fence=FakeFence(4, barrier=2)) as partial:
        assert os.fstat(partial._file.fd).st_ino == copy, "one copy is enough"
        assert partial.durable == 60


def test_a_later_fence_starts_under_a_name_of_its_own(root: SafeRoot, folder: Path) -> None:
    opened(root, fence=FakeFence(1)).close()
    assert (folder / PART).exists()
    opened(root, fence=FakeFence(2), etag="v2").close()
    assert sorted(os.listdir(folder)) == [f".wsstream-{TOKEN}.2.part", RECORD]


def test_what_killed_writers_left_is_removed_by_the_next_one(root: SafeRoot, folder: Path) -> None:
    def leave(*names: str) -> None:
        for name in names:
            (folder / f".wsstream-{TOKEN}.{name}").write_bytes(b"left")

    leave("1.tmp", "2.tmp", "2.part")  # killed before there was a record
    with opened(root, fence=FakeFence(3)):
        assert sorted(os.listdir(folder)) == [f".wsstream-{TOKEN}.3.part", RECORD]
    leave("3.tmp", "5.tmp", "6.tmp", "6.part")
    with opened(root, fence=FakeFence(7, barrier=5)):
        names = sorted(os.listdir(folder))
    own = [f".wsstream-{TOKEN}.{name}" for name in ("3.tmp", "7.part")]
    assert names == [*own, RECORD], "those of a writer that was left behind are its own"


@pytest.mark.parametrize("kernel", [True, False, "refuses"])
def test_a_copy_has_the_durable_bytes(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch, kernel: object
) -> None:
    data = os.urandom(3_000_000)
    checks: list[int] = []
    if kernel == "refuses":

        def refuse(*args: int) -> int:
            raise OSError(18, "not across devices")

        monkeypatch.setattr(copying, "os", Replaced(os, copy_file_range=refuse))
    elif not kernel:
        bare = Replaced(os)
        monkeypatch.setattr(copying, "os", bare)
        monkeypatch.setattr(copying, "_copy_in_kernel", copying._copy)
    (folder / "from").write_bytes(data)
    with (folder / "from").open("rb") as source, (folder / "to").open("w+b") as target:
        copying.copy_start(source.fileno(), target.fileno(), 2_500_000, lambda: checks.append(1))
        with pytest.raises(OSError, match="shorter"):
            copying.copy_start(source.fileno(), target.fileno(), 3_000_001, lambda: None)
    assert (folder / "to").read_bytes()[:2_500_000] == data[:2_500_000]
    assert checks


def test_a_copy_that_fails_leaves_what_was_there(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(root, fence=FakeFence(1)) as partial:
        partial.write([b"x" * 60])
        partial.sync()

    def full(*args: int) -> int:
        raise OSError(28, "full")

    before = sorted(os.listdir(folder))
    monkeypatch.setattr(copying, "os", Replaced(os, copy_file_range=full))
    with refused("no-space"):
        opened(root, fence=FakeFence(2, barrier=2))
    monkeypatch.undo()
    assert sorted(os.listdir(folder)) == before
    with opened(root, fence=FakeFence(3, barrier=2)) as partial:
        assert partial.durable == 60


# -- disks that fail -------------------------------------------------------------------------------


def test_after_a_disk_failed_nothing_is_called_durable(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system reports lost bytes once: a second try would succeed, and lie."""

    def fail(fd: int) -> None:
        raise OSError(5, "the disk failed")

    with opened(root) as partial:
        partial.write([b"x" * 10])
        partial.sync()
        partial.write([b"y" * 10])
        monkeypatch.setattr(partial_module, "sync_data", fail)
        with refused("io"):
            partial.sync()
        monkeypatch.undo()
        for call in (partial.sync, lambda: partial.write([b"z"]), lambda: partial.commit(size=20)):
            with refused("io"):
                call()
        assert partial.durable == 10
    with opened(root) as partial:
        assert partial.durable == 10


# -- many of them ----------------------------------------------------------------------------------


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


WEEK = 7 * 86_400


def test_partials_expire_unless_somebody_has_them(root: SafeRoot, folder: Path) -> None:
    held = opened(root, "d/held", token="token-held")
    for name in ("old", "young", "record-only-young", "part-only-young"):
        opened(root, f"d/{name}", token=f"token-{name}").close()
    old = [*(folder / "d").iterdir()]
    (folder / "d" / ".wsstream-orphan-1.part").touch()
    (folder / "d" / ".wsstream-orphan-2.3.tmp").touch()
    (folder / "d" / ".wsstream-orphan-3.lock").touch()
    (folder / "d" / ".wsstream-orphan-4.json").write_bytes(b"not a record")
    (folder / "ordinary").touch()
    os.mkfifo(folder / ".wsstream-fifo.part")
    (folder / "link").symlink_to(folder / "d")
    for path in [*folder.rglob("*"), *old]:
        if "young" not in path.name and not path.is_symlink():
            age(path, WEEK + 100)
    age(folder / "d" / ".wsstream-token-record-only-young.part", WEEK + 100)
    age(folder / "d" / ".wsstream-token-part-only-young.json", WEEK + 100)
    assert root.expire(WEEK) == 6
    left = {path.name.partition(".")[2] or path.name for path in (folder / "d").iterdir()}
    assert left == {
        f"wsstream-token-{name}.{end}"
        for name in ("held", "young", "record-only-young", "part-only-young")
        for end in ("part", "json")
    }
    assert (folder / "ordinary").exists()
    held.write([b"x"])
    held.sync()
    held.close()
    assert root.expire(WEEK, now=time.time() + 2 * WEEK) == 8
    assert root.used_bytes() == 0


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("count", [300, 10_000])
def test_many_partials(root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(folder_module, "sync_file", lambda fd: None)
    monkeypatch.setattr(record_module, "sync_file", lambda fd: None)
    for n in range(count):
        opened(root, f"file-{n}", token=f"token-{n:06}").close()
    monkeypatch.undo()
    assert len(os.listdir(folder)) == 2 * count
    assert root.entries().entries == []
    began = time.perf_counter()
    with opened(root, "file-7", token="token-000007") as partial:
        partial.write([b"x" * 100])
        partial.commit(size=100)
    assert time.perf_counter() - began < 5
    assert [entry.name for entry in root.entries().entries] == ["file-7"]
    assert root.expire(-10) == 2 * count - 2
    assert os.listdir(folder) == ["file-7"]


def test_a_writer_that_is_asked_to_leave_records_what_it_has_written(root: SafeRoot) -> None:
    fence = FakeFence(3)
    with opened(root, fence=fence) as partial:
        partial.write([b"0123"])
        fence.superseded = True
        with refused("superseded"):
            partial.sync()
        assert partial.durable == 0
        assert partial.sync(leaving=True) == 4
    with opened(root, fence=FakeFence(4)) as partial:
        assert partial.durable == 4


def test_a_writer_that_was_left_behind_records_nothing(root: SafeRoot) -> None:
    fence = FakeFence(3)
    with opened(root, fence=fence) as partial:
        partial.write([b"0123"])
        fence.superseded = fence.seized = True
        with refused("superseded"):
            partial.sync(leaving=True)
        assert partial.durable == 0
