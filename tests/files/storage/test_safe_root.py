"""SafeRoot: no name leads out of the root, and none to anything but a regular file."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kit.processes import run_program
from kit.storage import Replaced, ignore_case, refused

from wsstream.files.errors import TransferError
from wsstream.files.storage import folder as folder_module
from wsstream.files.storage import safe_root
from wsstream.files.storage.folder import Folder
from wsstream.files.storage.listing import Entry
from wsstream.files.storage.safe_root import SafeRoot

TOKEN = "token-0001"
SECRET = b"outside"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the root, with a file in it."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_bytes(SECRET)
    return path


def start(root: SafeRoot, name: str) -> None:
    root.partial(name, token=TOKEN, size=None, etag=None).close()


USES: dict[str, Callable[[SafeRoot, str], object]] = {
    "open_source": SafeRoot.open_source,
    "entries": SafeRoot.entries,
    "make_folder": SafeRoot.make_folder,
    "partial": start,
    "find_complete": lambda root, name: root.find_complete(name, 1, "0"),
    "used_bytes": SafeRoot.used_bytes,
}


# -- reading ---------------------------------------------------------------------------------------


def test_a_source_gives_the_bytes_of_a_file(root: SafeRoot, folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "b").write_bytes(b"0123456789")
    with root.open_source("a/b") as source:
        status = (folder / "a" / "b").stat()
        assert (source.size, source.mtime_ns) == (10, status.st_mtime_ns)
        buffer = bytearray(4)
        assert source.read_into(buffer, 3) == 4
        assert buffer == b"3456"
        assert source.pread(100, 8) == b"89"
        assert source.pread(100, 10) == b""
        assert source.read_into(buffer, 10) == 0
        assert not os.get_inheritable(source.fd)
    source.close()
    with refused("io"):
        source.pread(1, 0)


def rewrite(path: Path) -> None:
    """Other bytes, the same size, the same time of change."""
    status = path.stat()
    path.write_bytes(b"1" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def put_another_in_its_place(path: Path) -> None:
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"1")


@pytest.mark.parametrize("change", [rewrite, put_another_in_its_place, append, lambda path: path.touch()])
def test_the_etag_names_one_version(root: SafeRoot, folder: Path, change: Callable[[Path], None]) -> None:
    (folder / "a").write_bytes(b"0" * 10)
    os.utime(folder / "a", (1, 1))
    ticks = os.stat(folder / "a").st_ctime_ns
    with root.open_source("a") as source, root.open_source("a") as again:
        assert source.etag == again.etag
        assert not source.changed()
        while os.stat(folder / "a").st_ctime_ns == ticks:  # the clock of the file system has ticks
            change(folder / "a")
        with root.open_source("a") as new:
            assert new.etag != source.etag
        if change is not put_another_in_its_place:
            assert source.changed()


def test_a_source_that_cannot_be_used_is_closed(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "the disk failed")

    (folder / "a").touch()
    monkeypatch.setattr(safe_root, "Source", fail)
    before = os.listdir("/dev/fd")
    with refused("io"):
        root.open_source("a")
    assert os.listdir("/dev/fd") == before


def test_the_etag_tells_nothing_else(root: SafeRoot, folder: Path) -> None:
    (folder / "a").touch()
    with root.open_source("a") as source:
        assert len(source.etag) == 32
        assert str((folder / "a").stat().st_ino) not in source.etag


@pytest.mark.parametrize("name", ["missing", "missing/a", "a/missing"])
def test_what_is_missing_is_not_found(root: SafeRoot, folder: Path, name: str) -> None:
    (folder / "a").mkdir()
    with refused("not-found"):
        root.open_source(name)
    assert root.find_complete(name, 1, "") is None
    assert root.used_bytes(name) == 0


# -- what is not a regular file --------------------------------------------------------------------


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


def make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")


SPECIAL: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "socket": make_socket,
    "device": make_device,
    "folder": Path.mkdir,
    "link to a file": lambda path: path.symlink_to("ordinary"),
    "absolute link": lambda path: path.symlink_to("/etc/passwd"),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.fixture(params=SPECIAL)
def special(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of something that is not a regular file."""
    monkeypatch.chdir(folder)
    (folder / "ordinary").write_bytes(b"x")
    SPECIAL[request.param](folder / "special")
    return "special"


def test_only_regular_files_are_opened_and_nothing_waits(root: SafeRoot, special: str) -> None:
    with refused("denied"):
        root.open_source(special)
    assert root.find_complete(special, 1, hashlib.sha256(b"x").hexdigest()) is None


def test_nothing_but_a_regular_file_is_replaced(root: SafeRoot, folder: Path, special: str) -> None:
    before = (folder / special).lstat()
    for on_exist in ("fail", "skip", "overwrite"):
        with refused("exists"):
            root.partial(special, token=TOKEN, size=0, etag=None, on_exist=on_exist)
    assert (folder / special).lstat().st_ino == before.st_ino
    assert list(folder.glob(".wsstream-*")) == []


def test_no_file_is_made_below_what_is_no_folder(root: SafeRoot, folder: Path, special: str) -> None:
    if special_is_folder := (folder / special).is_dir():
        assert special_is_folder
        return
    for name in ("special/a", "ordinary/a"):
        with refused("denied"):
            root.open_source(name)
        with refused("denied"):
            start(root, name)


@pytest.mark.parametrize("kind", ["fifo", "device", "link to the outside"])
def test_a_file_swapped_after_the_first_look_is_refused(
    root: SafeRoot, folder: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    make = {"link to the outside": lambda path: path.symlink_to(outside / "secret"), **SPECIAL}[kind]
    (folder / "a").touch()
    opened: list[int] = []

    def open_later(part: str, flags: int, *args: object, dir_fd: int) -> int:
        if part == "a":
            os.remove(folder / "a")
            make(folder / "a")
        opened.append(os.open(part, flags, *args, dir_fd=dir_fd))
        return opened[-1]

    monkeypatch.setattr(folder_module, "os", Replaced(os, open=open_later))
    before = os.listdir("/dev/fd")
    with refused("denied"):
        root.open_source("a")
    assert os.listdir("/dev/fd") == before


def test_nothing_special_is_opened_at_all(
    root: SafeRoot, special: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening some devices has an effect: a tape is wound back."""
    opened: list[str] = []

    def noted(part: str, *args: object, dir_fd: int) -> int:
        opened.append(part)
        return os.open(part, *args, dir_fd=dir_fd)

    monkeypatch.setattr(folder_module, "os", Replaced(os, open=noted))
    with refused("denied"):
        root.open_source(special)
    assert opened == ["."]


# -- symbolic links --------------------------------------------------------------------------------


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_no_call_goes_through_a_symbolic_link(
    root: SafeRoot, folder: Path, outside: Path, use: str, kind: str
) -> None:
    (folder / "link").symlink_to(outside if kind == "absolute" else "../outside")
    (folder / "deep").mkdir()
    (folder / "deep" / "link").symlink_to("../link")
    before = sorted(outside.rglob("*"))
    for name in ("link/secret", "link", "deep/link/secret", "link/new/a"):
        if use == "find_complete":
            with pytest.raises(TransferError) as caught:
                assert USES[use](root, name) is None
                raise TransferError("denied")
            assert caught.value.error == "denied"
        else:
            with refused("denied", "exists"):
                USES[use](root, name)
    assert sorted(outside.rglob("*")) == before


def test_the_root_itself_may_be_a_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "alias").symlink_to(outside)
    with SafeRoot(tmp_path / "alias") as root, root.open_source("secret") as source:
        assert source.pread(100, 0) == SECRET
        assert repr(root) == f"<SafeRoot {str(tmp_path / 'alias')!r}>"


def test_the_root_must_be_a_folder_that_exists(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused("denied"):
        SafeRoot(tmp_path / "file")
    with refused("not-found"):
        SafeRoot(tmp_path / "missing")


@contextmanager
def swapping(path: Path, target: Path) -> Iterator[None]:
    """In a thread, in fast turns: `path` is the folder that it was, missing, and a link to `target`."""
    real, link = path.with_name("real"), path.with_name("link")
    link.symlink_to(target)
    path.rename(real)
    stopped = threading.Event()

    def swap() -> None:
        turns = 0
        while not stopped.is_set():
            for each in (real, link):
                turns += 1
                try:
                    each.rename(path)
                except OSError:  # in the meantime, somebody made a folder
                    path.rename(path.with_name(f"made-{turns}"))
                else:
                    path.rename(each)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_links_swapped_during_calls_lead_nowhere(root: SafeRoot, folder: Path, outside: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "secret").write_bytes(b"inside")
    read = written = 0
    errors: set[str] = set()
    with swapping(folder / "d", outside):
        for n in range(50_000):
            if n > 1000 and read and written and len(errors) == 2:
                break
            try:
                with root.open_source("d/secret") as source:
                    assert source.pread(100, 0) == b"inside"
                    read += 1
            except TransferError as error:
                errors.add(error.error)
            try:
                if n % 20 == 0:
                    with root.partial(f"d/{n}", token=f"token-{n:04}", size=1, etag=None) as partial:
                        partial.write([b"x"])
                        partial.commit(size=1)
                        written += 1
            except TransferError as error:
                errors.add(error.error)
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == SECRET
    assert read > 0
    assert written > 0
    assert errors == {"not-found", "denied"}


def test_a_folder_swapped_during_a_transfer_changes_nothing(
    root: SafeRoot, folder: Path, outside: Path
) -> None:
    with root.partial("d/a", token=TOKEN, size=6, etag="1") as partial:
        partial.write([b"abc"])
        (folder / "d").rename(folder / "moved")
        (folder / "d").symlink_to(outside)
        partial.write([b"def"])
        partial.sync()
        assert partial.commit(size=6) == "d/a"
    assert os.listdir(outside) == ["secret"]
    assert (folder / "moved" / "a").read_bytes() == b"abcdef", "it went to the folder that was opened"


# -- folders ---------------------------------------------------------------------------------------


def test_folders_are_made_once(root: SafeRoot, folder: Path) -> None:
    root.make_folder("a/b/c")
    root.make_folder("a/b/c")
    assert (folder / "a/b/c").is_dir()
    (folder / "f").touch()
    with refused("denied"):
        root.make_folder("f")


def test_a_folder_that_somebody_makes_at_the_same_time_is_taken(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir_late(part: str, *, dir_fd: int) -> None:
        make(part, dir_fd=dir_fd)
        make(part, dir_fd=dir_fd)

    make = os.mkdir
    monkeypatch.setattr(folder_module.os, "mkdir", mkdir_late)
    root.make_folder("a")
    assert (folder / "a").is_dir()


@pytest.fixture
def ignores_case(monkeypatch: pytest.MonkeyPatch) -> None:
    ignore_case(monkeypatch)


@pytest.mark.usefixtures("ignores_case")
def test_no_file_is_replaced_whose_name_differs_by_case(root: SafeRoot, folder: Path) -> None:
    (folder / "Readme").write_bytes(b"one")
    with refused("exists"):
        root.partial("README", token=TOKEN, size=1, etag=None, on_exist="overwrite")
    with refused("exists"):
        root.partial("README", token=TOKEN, size=1, etag=None)
    with root.partial("Readme", token=TOKEN, size=1, etag=None, on_exist="overwrite") as partial:
        partial.discard()
    (folder / "Docs").mkdir()
    with refused("exists"):
        start(root, "docs/a")
    start(root, "Docs/a")
    (folder / "1").touch()
    root.partial("1", token=TOKEN, size=1, etag=None, on_exist="overwrite").close()


def test_where_case_counts_both_may_exist(root: SafeRoot, folder: Path) -> None:
    (folder / "Readme").write_bytes(b"one")
    os.link(folder / "Readme", folder / "rEADME")  # one file under both names
    for name in ("README", "Readme"):
        with root.partial(name, token=TOKEN, size=1, etag=None, on_exist="overwrite") as partial:
            partial.write([b"2"])
            partial.commit(size=1)
    assert sorted(os.listdir(folder)) == ["README", "Readme", "rEADME"]
    assert (folder / "rEADME").read_bytes() == b"one"


# -- listing ---------------------------------------------------------------------------------------


def all_pages(root: SafeRoot, name: str = "", limit: int = 7) -> list[Entry]:
    entries, cursor = [], None
    while True:
        page = root.entries(name, cursor, limit)
        assert len(page.entries) <= limit
        entries += page.entries
        cursor = page.cursor
        if cursor is None:
            return entries


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14, 15, 50])
def test_the_pages_have_each_entry_once_in_order(root: SafeRoot, folder: Path, count: int) -> None:
    (folder / "d").mkdir()
    for n in range(count):
        (folder / "d" / f"{n * 7919 % 1000}").write_bytes(b"x" * n)
    entries = all_pages(root, "d")
    assert [entry.name for entry in entries] == sorted(os.listdir(folder / "d"))
    for entry in entries:
        status = (folder / "d" / entry.name).stat()
        assert entry == Entry(entry.name, "file", status.st_size, status.st_mtime_ns)


def test_a_listing_shows_what_can_be_asked_for(root: SafeRoot, folder: Path, special: str) -> None:
    start(root, "partial")
    (folder / "sub").mkdir()
    for name in (".wsstream-x.lock", ".WSSTREAM-1", "back\\slash", "NUL", "end.", "e\u0301", "line\n"):
        (folder / name).touch()
    with open(os.fsencode(folder) + b"/bad\xff", "wb"):
        pass
    shown = [(entry.name, entry.kind) for entry in all_pages(root, limit=2)]
    special_folder = [("special", "folder")] if (folder / special).is_dir() else []
    if (folder / special).is_symlink():
        special_folder = []
    assert shown == [("ordinary", "file"), *special_folder, ("sub", "folder")]
    assert root.entries("sub").entries == []


def test_an_entry_that_goes_meanwhile_is_left_out(
    root: SafeRoot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (folder / name).touch()
    status = Folder.status
    monkeypatch.setattr(Folder, "status", lambda self, part: None if part == "b" else status(self, part))
    assert [entry.name for entry in all_pages(root)] == ["a", "c"]


@pytest.mark.parametrize("limit", [0, -1, 10_001, True])
def test_the_limit_of_a_page_is_bounded(root: SafeRoot, limit: int) -> None:
    with pytest.raises((ValueError, TypeError), match="limit"):
        root.entries(limit=limit)


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("count", [5_000, 100_000])
def test_the_memory_is_that_of_one_page(root: SafeRoot, folder: Path, count: int) -> None:
    fd = os.open(folder, os.O_RDONLY)
    for n in range(count):
        os.close(os.open(f"file-{n:06}", os.O_CREAT, dir_fd=fd))
    os.close(fd)
    middle = count // 2
    tracemalloc.start()
    try:
        page = root.entries(limit=100)
        page = root.entries(cursor=page.cursor and f"file-{middle - 1:06}", limit=100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert page.entries[0].name == f"file-{middle:06}"
    assert page.entries[-1].name == page.cursor == f"file-{middle + 99:06}"
    assert peak < 300_000, f"{peak} bytes"


# -- what is complete already ----------------------------------------------------------------------


def test_an_offer_of_what_is_there_is_recognised(root: SafeRoot, folder: Path) -> None:
    data = os.urandom(3 << 20)
    digest = hashlib.sha256(data).hexdigest()
    (folder / "d").mkdir()
    (folder / "d" / "a.bin").write_bytes(b"y" * len(data))
    (folder / "d" / "a (1).bin").write_bytes(b"short")
    (folder / "d" / "a (2).bin").write_bytes(data)
    assert root.find_complete("d/a.bin", len(data), digest) is None
    assert root.find_complete("d/a.bin", len(data), digest, on_exist="rename") == "d/a (2).bin"
    assert root.find_complete("d/a (2).bin", len(data), digest) == "d/a (2).bin"
    assert root.find_complete("d/a (2).bin", len(data) - 1, digest) is None
    other = hashlib.blake2b(data).hexdigest()
    assert root.find_complete("d/a (2).bin", len(data), other, new_hash=hashlib.blake2b) == "d/a (2).bin"


def test_a_retry_reads_few_files(root: SafeRoot, folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    for n in range(1, 40):
        (folder / f"a ({n})").write_bytes(b"x")
    reads: list[int] = []

    class Counting:
        def update(self, data: memoryview) -> None:
            reads.append(len(data))

        def hexdigest(self) -> str:
            return ""

    assert root.find_complete("a", 1, "f", new_hash=Counting, on_exist="rename") is None
    assert len(reads) == 16


# -- room ------------------------------------------------------------------------------------------


def test_the_room_is_checked(root: SafeRoot, folder: Path) -> None:
    free = root.folder.free_bytes()
    root.check_room(1000)
    with refused("no-space"):
        root.check_room(free + (1 << 40))
    with refused("no-space"):
        root.check_room(1, min_free=free + (1 << 40))
    (folder / "d").mkdir()
    (folder / "d" / "a").write_bytes(b"x" * 600)
    with root.partial("d/e/b", token=TOKEN, size=100, etag=None) as partial:
        partial.write([b"x" * 100])
    record = (folder / "d" / "e" / f".wsstream-{TOKEN}.json").stat().st_size
    assert root.used_bytes() == root.used_bytes("d") == 700 + record
    root.check_room(300 - record, quota=1000, name="d")
    with refused("quota"):
        root.check_room(301 - record, quota=1000, name="d")
    with refused("quota"):
        root.check_room(1, quota=1000, used=1000)
    root.check_room(1000, quota=1000, name="missing")


# -- elsewhere -------------------------------------------------------------------------------------


def test_a_system_without_these_calls_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_SUPPORTED", False)
    with refused("unsupported"):
        SafeRoot(tmp_path)


@pytest.mark.heavy
def test_importing_works_without_these_calls() -> None:
    """As on Windows: no fcntl, no flags, no calls by descriptor."""
    program = """
import os, sys
import wsstream.server.serve  # what is below the storage knows the systems by their names
sys.modules["fcntl"] = None
flags = ["O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_DIRECTORY"]
for name in [*flags, "pwritev", "preadv", "fdatasync"]:
    if hasattr(os, name):
        delattr(os, name)
os.supports_dir_fd = os.supports_fd = set()
from wsstream.files.storage import commit, expiry, lock_file, locker, names, partial
from wsstream.files.errors import TransferError
from wsstream.files.storage.safe_root import SafeRoot
names.parse_name("a/b")
try:
    SafeRoot(".")
except TransferError as error:
    assert error.error == "unsupported", error
else:
    raise AssertionError
"""
    run_program("-c", program)


def test_errors_of_the_system_have_names() -> None:
    import errno

    from wsstream.files.storage.os_errors import transfer_error

    expected = {
        errno.ENOSPC: "no-space",
        errno.EDQUOT: "no-space",
        errno.EACCES: "denied",
        errno.EROFS: "denied",
        errno.ENOENT: "not-found",
        errno.EEXIST: "exists",
        errno.EFBIG: "too-large",
        errno.ENAMETOOLONG: "invalid-name",
        errno.EMFILE: "busy",
        errno.EIO: "io",
        errno.EBADF: "io",
    }
    for number, name in expected.items():
        assert transfer_error(OSError(number, "x", "/secret/path")).error == name
    assert transfer_error(OSError("no number")).error == "io"
