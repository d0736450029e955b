"""Lockers: the newest writer of a transfer wins, in one process and among several."""

from __future__ import annotations

import asyncio  # noqa: TID251 - its own way to cancel a task
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from kit.processes import environment
from kit.storage import refused

from wsstream.files.errors import TransferError
from wsstream.files.storage.fence import Fence
from wsstream.files.storage.lock_file import LockFile
from wsstream.files.storage.locker import FileLocker, Locker
from wsstream.files.storage.safe_root import SafeRoot

pytestmark = pytest.mark.anyio

TOKEN = "token-0001"
LOCK = f".wsstream-{TOKEN}.lock"
SIZE = 40_000
RESERVE = 1000  # bytes that a process leaves unwritten which is to be stopped


@pytest.fixture
def locker(root: SafeRoot) -> FileLocker:
    return FileLocker(root)


def descriptors() -> list[str]:
    return os.listdir("/dev/fd")


# -- one holder ------------------------------------------------------------------------------------


async def test_a_holder_has_a_fence(locker: FileLocker, folder: Path) -> None:
    assert isinstance(locker, Locker)
    for number in range(1, 4):
        async with locker.hold(TOKEN) as fence:
            assert isinstance(fence, Fence)
            assert (fence.number, fence.barrier) == (number, 0)
            fence.check()
        with refused("superseded"):
            fence.check()
    assert os.listdir(folder) == [LOCK]


async def test_the_numbers_begin_again_when_the_transfer_has_ended(
    locker: FileLocker, root: SafeRoot, folder: Path
) -> None:
    for _ in range(2):
        async with locker.hold(TOKEN) as fence:
            assert fence.number == 1
            with root.partial("a", token=TOKEN, size=1, etag="v1", fence=fence, on_exist="overwrite") as part:
                part.write([b"x"])
                part.commit(size=1)
        assert os.listdir(folder) == ["a"]


async def test_an_exception_leaves_the_block_as_it_is(locker: FileLocker) -> None:
    for error in (KeyError("mine"), ExceptionGroup("mine", [ValueError()]), TransferError("quota")):
        with pytest.raises(type(error)) as caught:
            async with locker.hold(TOKEN):
                raise error
        assert caught.value is error
    async with locker.hold(TOKEN) as fence:
        fence.check()


async def test_a_hostile_token_is_refused(locker: FileLocker, folder: Path) -> None:
    with refused("protocol"):
        async with locker.hold("../../etc"):
            pass
    assert os.listdir(folder) == []


async def test_something_else_in_the_place_of_the_lock_is_refused(locker: FileLocker, folder: Path) -> None:
    os.mkfifo(folder / LOCK)
    with refused("denied"):
        async with locker.hold(TOKEN):
            pass
    (folder / LOCK).unlink()
    (folder / LOCK).symlink_to("/etc/passwd")
    with refused("denied"):
        async with locker.hold(TOKEN):
            pass


@pytest.mark.parametrize("patience", [-1, float("nan"), float("inf"), "5"])
def test_the_patience_is_checked(root: SafeRoot, patience: float) -> None:
    with pytest.raises((ValueError, TypeError), match="patience"):
        FileLocker(root, patience=patience)


# -- a newer one -----------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.also_on_uvloop
async def test_a_newer_holder_waits_until_the_older_one_has_let_go(locker: FileLocker) -> None:
    events: list[str] = []

    async def older(*, task_status: anyio.abc.TaskStatus[Fence]) -> None:
        with refused("superseded"):
            async with locker.hold(TOKEN) as fence:
                task_status.started(fence)
                try:
                    await anyio.sleep_forever()
                finally:
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(0.3)
                        events.append("the older one let go")

    async with anyio.create_task_group() as group:
        first = await group.start(older)
        began = time.monotonic()
        async with locker.hold(TOKEN) as second:
            events.append("the newer one holds")
            assert time.monotonic() - began < 3
            assert (first.number, second.number, second.barrier) == (1, 2, 0)
            second.check()
            with refused("superseded"):
                first.check()
    assert events == ["the older one let go", "the newer one holds"]


@pytest.mark.heavy
async def test_a_holder_that_does_not_let_go_is_left_behind(root: SafeRoot) -> None:
    locker = FileLocker(root, patience=0.1)

    async def older(*, task_status: anyio.abc.TaskStatus[Fence]) -> None:
        async with locker.hold(TOKEN) as fence:
            task_status.started(fence)
            with anyio.CancelScope(shield=True):
                await released.wait()

    released = anyio.Event()
    async with anyio.create_task_group() as group:
        first = await group.start(older)
        async with locker.hold(TOKEN) as second:
            assert (second.number, second.barrier) == (2, 2)
            with refused("superseded"):
                first.check()
            released.set()
            await anyio.sleep(0.2)
            second.check()
    async with locker.hold(TOKEN) as third:
        assert (third.number, third.barrier) == (3, 2)


async def test_an_older_holder_stops_at_its_next_write(locker: FileLocker, root: SafeRoot) -> None:
    async def newer() -> None:
        async with locker.hold(TOKEN):
            pass

    async with anyio.create_task_group() as group:
        with refused("superseded"):
            async with locker.hold(TOKEN) as fence:
                group.start_soon(newer)
                with root.partial("a", token=TOKEN, size=None, etag="v1", fence=fence) as partial:
                    deadline = time.monotonic() + 10
                    while time.monotonic() < deadline:
                        await anyio.sleep(0.001)
                        partial.write([b"x"])


@pytest.mark.heavy
async def test_a_block_that_was_finished_is_not_a_failure(locker: FileLocker, root: SafeRoot) -> None:
    lock = LockFile(root.folder, TOKEN)
    async with locker.hold(TOKEN) as fence:
        lock.claim()
        with pytest.raises(TransferError):
            fence.check()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.8)  # the block is cancelled meanwhile
        lock.release()


@pytest.mark.heavy
async def test_many_at_once_and_the_last_one_wins(locker: FileLocker) -> None:
    holding = 0
    ended: list[tuple[int, str]] = []

    async def take(n: int) -> None:
        nonlocal holding
        try:
            async with locker.hold(TOKEN) as fence:
                holding += 1
                assert holding == 1
                try:
                    if fence.number < 20:
                        await anyio.sleep_forever()
                finally:
                    holding -= 1
        except TransferError as error:
            ended.append((n, error.error))
        else:
            ended.append((n, "done"))

    async with anyio.create_task_group() as group:
        for n in range(20):
            group.start_soon(take, n)
    outcomes = [outcome for _, outcome in ended]
    assert outcomes.count("done") == 1
    assert outcomes.count("superseded") == 19


# -- cancellation ----------------------------------------------------------------------------------


async def test_a_wait_that_is_cancelled_holds_nothing(locker: FileLocker, root: SafeRoot) -> None:
    stuck = LockFile(root.folder, TOKEN)
    stuck.claim()
    assert stuck.take()
    with anyio.move_on_after(0.2) as scope:
        async with locker.hold(TOKEN):
            pytest.fail("somebody else has the lock")
    assert scope.cancelled_caught
    stuck.release()
    with anyio.fail_after(2):
        async with locker.hold(TOKEN) as fence:
            assert (fence.number, fence.barrier) == (3, 0)


async def test_a_block_that_is_cancelled_lets_go(locker: FileLocker) -> None:
    with anyio.move_on_after(0.1) as scope:
        async with locker.hold(TOKEN):
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    with anyio.fail_after(2):
        async with locker.hold(TOKEN):
            pass


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("delay", [0, 0.0005, 0.001, 0.002, 0.01, 0.1])
async def test_a_task_of_asyncio_may_be_cancelled_at_any_time(
    locker: FileLocker, root: SafeRoot, folder: Path, delay: float
) -> None:
    async def hold() -> None:
        async with locker.hold(TOKEN):
            await asyncio.sleep(100)

    for _ in range(5):
        task = asyncio.create_task(hold())
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.sleep(0.05)
    lock = LockFile(root.folder, TOKEN)
    lock.claim()
    assert lock.take(), "nobody holds it"
    lock.release()
    links = [Path("/proc/self/fd") / fd for fd in descriptors()]
    assert folder / LOCK not in [link.readlink() for link in links if link.is_symlink()]


# -- the lock file itself --------------------------------------------------------------------------


def locks(root: SafeRoot, count: int) -> list[LockFile]:
    found = [LockFile(root.folder, TOKEN) for _ in range(count)]
    for lock in found:
        lock.claim()
    return found


def test_a_seized_file_leaves_the_holder_behind(root: SafeRoot) -> None:
    (first,) = locks(root, 1)
    assert first.take()
    (second,) = locks(root, 1)
    assert not second.take()
    second.seize()
    assert (second.number, second.barrier) == (2, 2)
    second.check()
    with refused("superseded"):
        first.check()
    first.retire()
    first.release()
    second.check()
    (third,) = locks(root, 1)
    assert third.number == 3
    with refused("superseded"):
        second.check()
    second.release()
    assert third.take()
    assert third.barrier == 2, "until somebody writes a record above it"
    third.release()


def test_who_asked_before_the_file_was_seized_asks_again(root: SafeRoot) -> None:
    (first,) = locks(root, 1)
    assert first.take()
    second, third = locks(root, 2)
    with refused("superseded"):
        second.take()
    with refused("superseded"):
        second.seize()
    assert not third.take()
    third.seize()
    late = LockFile(root.folder, TOKEN)
    late.claim()
    (early,) = locks(root, 1)
    early.seize()
    with refused("superseded"):
        late.check()
    assert not late.take()
    assert late.number == early.number + 1, "in the new file"
    with refused("superseded"):
        early.check()
    for lock in (first, second, third, early):
        lock.release()
        lock.release()
    assert late.take()
    late.release()


def test_a_file_that_was_removed_is_made_again(root: SafeRoot, folder: Path) -> None:
    (first,) = locks(root, 1)
    assert first.take()
    (second,) = locks(root, 1)
    first.retire()
    first.release()
    assert os.listdir(folder) == []
    with refused("superseded"):
        second.check()
    assert second.take()
    assert second.number == 1
    second.release()
    assert os.listdir(folder) == [LOCK]


def test_a_file_that_goes_while_it_is_locked_is_not_taken(
    root: SafeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lock,) = locks(root, 1)
    answers = iter([True, False])
    monkeypatch.setattr(LockFile, "_is_current", lambda self: next(answers))
    assert not lock.take()


def test_the_numbers_have_a_bound(root: SafeRoot, folder: Path) -> None:
    (folder / LOCK).write_bytes(b"." * ((1 << 20) - 1))
    with refused("busy"):
        locks(root, 1)


def test_a_file_that_cannot_be_seized_is_left_as_it_was(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = locks(root, 1)
    assert first.take()
    (second,) = locks(root, 1)
    monkeypatch.setattr(type(root.folder), "rename", lambda *args: os.stat(""))
    with pytest.raises(FileNotFoundError):
        second.seize()
    assert os.listdir(folder) == [LOCK]


def test_after_release_nothing_is_taken(root: SafeRoot) -> None:
    """A worker thread may still be about to ask when its caller is cancelled."""
    lock = LockFile(root.folder, TOKEN)
    lock.release()
    lock.claim()
    with refused("superseded"):
        lock.take()


# -- processes -------------------------------------------------------------------------------------

WRITER = """
import sys, time
import anyio
from wsstream.files.errors import TransferError
from wsstream.files.storage.locker import FileLocker
from wsstream.files.storage.safe_root import SafeRoot

path, token, letter, size, patience, least = sys.argv[1:]

async def main():
    with SafeRoot(path) as root:
        locker = FileLocker(root, patience=float(patience))
        try:
            async with locker.hold(token) as fence:
                await anyio.to_thread.run_sync(write, root, fence)
        except TransferError as error:
            print(error.error, flush=True)

def write(root, fence):
    with root.partial("a.bin", token=token, size=int(size), etag="v1", fence=fence) as partial:
        print(fence.number, fence.barrier, partial.durable, flush=True)
        while partial.written < int(size):
            rest = int(size) - partial.written - int(least)
            partial.write([letter.encode() * min(100, rest)])
            if partial.written % 1000 == 0:
                partial.sync()
            time.sleep(0.002)
        print(partial.commit(size=int(size)), flush=True)

anyio.run(main, backend="BACKEND")
"""


@contextmanager
def writer(
    folder: Path, letter: str, patience: float = 60, *, finishes: bool = True, backend: str = "asyncio"
) -> Iterator[Writer]:
    """A process that writes to the end; or, unless it `finishes`, up to some bytes before it."""
    program = WRITER.replace("BACKEND", backend)
    arguments = [str(folder), TOKEN, letter, str(SIZE), str(patience), str(0 if finishes else RESERVE)]
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            yield Writer(process)
        finally:
            process.kill()


class Writer:
    """A process that holds the token and writes one letter, slowly."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def begins(self) -> tuple[int, int, int]:
        """Wait until it writes; return its fence, the barrier, and where it resumed."""
        number, barrier, durable = map(int, self.line().split())
        return number, barrier, durable

    def signal(self, which: signal.Signals) -> None:
        self.process.send_signal(which)
        if which is signal.SIGSTOP:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)


def wait_for_progress(folder: Path, beyond: int = 0) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        sizes = [path.stat().st_size for path in folder.glob("*.part")]
        if sizes and max(sizes) >= min(beyond + 3000, SIZE - RESERVE):
            return
        time.sleep(0.01)
    raise AssertionError("nothing was written")


def segments(data: bytes) -> list[tuple[str, int]]:
    """The letters in `data` in their order, each with its number."""
    found: list[tuple[str, int]] = []
    for letter in dict.fromkeys(data.decode()):
        found.append((letter, data.count(letter.encode())))
    assert data == b"".join(letter.encode() * count for letter, count in found)
    return found


@pytest.mark.heavy
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_process_takes_over_from_one_that_lives(folder: Path, root: SafeRoot, backend: str) -> None:
    with writer(folder, "A", finishes=False, backend=backend) as old:
        assert old.begins() == (1, 0, 0)
        wait_for_progress(folder)
        with writer(folder, "B", backend=backend) as new:
            number, barrier, durable = new.begins()
            assert (number, barrier) == (2, 0)
            assert durable >= 1000
            assert old.line() == "superseded"
            assert not (folder / "a.bin").exists()
            assert new.line() == "a.bin"
            assert new.process.wait(20) == 0
    assert segments((folder / "a.bin").read_bytes()) == [("A", durable), ("B", SIZE - durable)]
    assert os.listdir(folder) == ["a.bin"]


@pytest.mark.heavy
def test_a_process_that_was_killed_holds_nothing(folder: Path, root: SafeRoot) -> None:
    at = 0
    for number in range(1, 5):
        with writer(folder, "ABCD"[number - 1], finishes=False) as process:
            began = process.begins()
            assert began[:2] == (number, 0)
            assert began[2] >= at
            assert began[2] % 1000 == 0, "a recorded offset, never the size of the file"
            at = began[2]
            wait_for_progress(folder, at)
            process.signal(signal.SIGKILL)
    with writer(folder, "E") as process:
        number, _, durable = process.begins()
        assert process.line() == "a.bin"
    assert number == 5
    assert segments((folder / "a.bin").read_bytes())[-1] == ("E", SIZE - durable)


@pytest.mark.heavy
def test_a_process_that_was_stopped_is_left_behind_and_refuses_when_it_goes_on(
    folder: Path, root: SafeRoot
) -> None:
    with writer(folder, "A", finishes=False) as old:
        assert old.begins() == (1, 0, 0)
        wait_for_progress(folder)
        old.signal(signal.SIGSTOP)
        with writer(folder, "B", patience=0.3) as new:
            number, barrier, durable = new.begins()
            assert (number, barrier) == (2, 2)
            assert durable >= 1000
            old.signal(signal.SIGCONT)
            assert old.line() == "superseded"
            assert new.line() == "a.bin"
    assert segments((folder / "a.bin").read_bytes()) == [("A", durable), ("B", SIZE - durable)]


@pytest.mark.heavy
def test_a_chain_of_stopped_processes_is_left_behind(folder: Path, root: SafeRoot) -> None:
    with writer(folder, "A", finishes=False) as first:
        first.begins()
        wait_for_progress(folder)
        first.signal(signal.SIGSTOP)
        with writer(folder, "B", patience=0.3, finishes=False) as second:
            assert second.begins()[:2] == (2, 2)
            second.signal(signal.SIGSTOP)
            with writer(folder, "C", patience=0.3) as third:
                number, barrier, durable = third.begins()
                assert (number, barrier) == (3, 3)
                for process in (second, first):
                    process.signal(signal.SIGCONT)
                    assert process.line() == "superseded"
                assert third.line() == "a.bin"
    assert segments((folder / "a.bin").read_bytes())[-1] == ("C", SIZE - durable)
