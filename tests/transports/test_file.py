"""Reading regular files: what is taken for one, and that the event loop does not wait for the disk."""

from __future__ import annotations

import errno
import gc
import gzip
import io
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from wsstream.transports import file as file_module
from wsstream.transports.file import RegularFile, regular_file

pytestmark = [
    pytest.mark.also_on_uvloop,
    pytest.mark.anyio,
    pytest.mark.skipif(not hasattr(os, "preadv"), reason="such files are read like all others here"),
]

STEP = 1 << 20
CONTENT = bytes(range(251)) * 20_000  # nearly 5 MiB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def opened(path: Path) -> RegularFile:
    with path.open("rb") as file:
        found = regular_file(file)
    assert found is not None
    return found


class Reads:
    """Replaces ``os.preadv``: which part of the file is in the cache, and who reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cached: Callable[[int], bool], error: int) -> None:
        self.in_threads: list[tuple[int, int]] = []
        self.without_waiting: list[int] = []
        self._preadv, self._cached, self._error = os.preadv, cached, error
        monkeypatch.setattr(file_module, "_NOWAIT", 8)
        monkeypatch.setattr(os, "preadv", self)
        self._thread = threading.get_ident()

    def __call__(self, fd: int, buffers: Any, at: int, flags: int = 0) -> int:
        if flags:
            self.without_waiting.append(at)
            if not self._cached(at):
                raise OSError(self._error, os.strerror(self._error))
        else:
            assert threading.get_ident() != self._thread
            self.in_threads.append((at, sum(map(len, buffers))))
        return self._preadv(fd, buffers, at)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Reads]:
    def reads(cached: Callable[[int], bool], error: int = errno.EAGAIN) -> Reads:
        return Reads(monkeypatch, cached, error)

    return reads


async def test_what_is_cached_is_found_without_a_thread(reads: Any, path: Path) -> None:
    seen = reads(lambda at: True)
    source = opened(path)
    assert await source.cache(7, 7 + 3 * STEP) == 7 + 3 * STEP
    assert seen.in_threads == []
    assert seen.without_waiting[:2] == [7, 7 + STEP - 1]


async def test_what_is_cached_ends_before_the_first_step_that_is_not(reads: Any, path: Path) -> None:
    seen = reads(lambda at: at < 2 * STEP)
    source = opened(path)
    assert await source.cache(0, 4 * STEP) == 2 * STEP
    assert seen.in_threads == []


@pytest.mark.parametrize("missing", [0, STEP - 1])
async def test_a_thread_reads_a_step_of_which_an_end_is_not_cached(
    reads: Any, path: Path, missing: int
) -> None:
    seen = reads(lambda at: at != missing)
    source = opened(path)
    assert await source.cache(0, 4 * STEP) == STEP
    assert sum(size for _, size in seen.in_threads) == STEP


async def test_a_thread_reads_everything_where_the_file_system_cannot_tell(reads: Any, path: Path) -> None:
    seen = reads(lambda at: False, errno.EOPNOTSUPP)
    source = opened(path)
    assert await source.cache(0, 2 * STEP) == STEP
    assert await source.cache(STEP, 2 * STEP) == 2 * STEP
    assert await source.read(10, 5) == CONTENT[5:15]
    assert seen.without_waiting == [0]  # asked once
    assert sum(size for _, size in seen.in_threads) == 2 * STEP + 10


async def test_an_error_of_the_disk_is_raised(reads: Any, path: Path) -> None:
    reads(lambda at: False, errno.EIO)
    source = opened(path)
    with pytest.raises(OSError, match="Input/output error"):
        await source.cache(0, 10)


async def test_a_part_behind_the_end_of_the_file_is_found_short(path: Path) -> None:
    source = opened(path)
    size = len(CONTENT)
    assert await source.cache(size - 5, size + 5) == size
    assert await source.cache(size + 5, size + 10) == size + 5


async def test_reads_come_from_the_cache_or_from_a_thread(reads: Any, path: Path) -> None:
    seen = reads(lambda at: at < 100)
    source = opened(path)
    assert await source.read(10, 5) == CONTENT[5:15]
    assert seen.in_threads == []
    assert await source.read(10, 105) == CONTENT[105:115]
    assert seen.in_threads == [(105, 10)]
    assert await source.read(10, len(CONTENT)) == b""


def test_a_source_closes_a_descriptor_of_its_own(path: Path) -> None:
    with path.open("rb") as file:
        source = regular_file(file)
        assert source is not None
        assert source.fileno() != file.fileno()
    assert os.pread(source.fileno(), 3, 0) == CONTENT[:3]
    fd = source.fileno()
    del source
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("opening", [{"mode": "rb"}, {"mode": "rb", "buffering": 0}, {"mode": "r+b"}])
def test_files_that_are_read_by_their_descriptor(path: Path, opening: dict[str, Any]) -> None:
    with path.open(**opening) as file:
        assert regular_file(file) is not None
    with tempfile.TemporaryFile() as file:
        file.write(b"a")
        file.flush()
        assert regular_file(file) is not None


def test_files_that_are_not(path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(b"content"))

    class Own(io.FileIO):
        """May give something else."""

    reader, writer = os.pipe()
    files: list[IO[Any] | io.FileIO] = [
        io.BytesIO(b"a"),
        (tmp_path / "empty").open("rb"),
        gzip.open(packed),  # noqa: SIM115
        path.open(),
        path.open("ab"),
        Own(path),
        os.fdopen(reader, "rb"),
        os.fdopen(writer, "wb"),
    ]
    if Path("/proc/self/status").exists():
        files.append(open("/proc/self/status", "rb"))  # noqa: SIM115
    for file in files:
        with file:
            assert regular_file(file) is None, file
