from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

import pytest

from wsstream.cli.demo_data import CHUNK, DemoFile, MadeUpSource, Source, Tally
from wsstream.cli.exits import CommandFailed, Exit


def _chunks(source: Source) -> list[bytes]:
    with source:
        return list(iter(source.read, b""))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3])
def test_made_up_data_has_the_size_asked_for(size: int) -> None:
    chunks = _chunks(MadeUpSource(size))
    assert sum(map(len, chunks)) == size
    assert all(len(chunk) == CHUNK for chunk in chunks[:-1])


def test_made_up_data_is_always_the_same_and_a_longer_one_begins_with_a_shorter_one() -> None:
    long, short = b"".join(_chunks(MadeUpSource(3 * CHUNK))), b"".join(_chunks(MadeUpSource(CHUNK + 99)))
    assert long.startswith(short)
    # Digests are compared between versions and machines: the data must not change by accident.
    assert hashlib.sha256(long).hexdigest()[:16] == "7985c0f86349cd89"


def test_no_two_chunks_of_made_up_data_are_alike() -> None:
    chunks = _chunks(MadeUpSource(200 * CHUNK))
    assert len(set(chunks)) == 200


def test_made_up_data_cannot_be_compressed() -> None:
    data = b"".join(_chunks(MadeUpSource(4 * CHUNK)))
    assert len(zlib.compress(data)) > len(data)


def test_a_file_is_read_from_beginning_to_end(tmp_path: Path) -> None:
    path, data = tmp_path / "file", os.urandom(2 * CHUNK + 5)
    path.write_bytes(data)
    source = DemoFile(str(path))
    assert (source.size, b"".join(_chunks(source))) == (len(data), data)


def test_a_name_that_would_control_the_terminal_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2Jb"
    path.write_bytes(b"")
    with DemoFile(str(path)) as source:
        assert "\x1b" not in source.name
        assert "a\\x1b[2Jb" in source.name


def test_what_could_block_for_ever_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CommandFailed, match="not a regular file") as raised:
        DemoFile(str(tmp_path / "pipe"))
    assert raised.value.status == Exit.LOCAL_IO


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(mode=0)
    with pytest.raises(CommandFailed, match="secret: Permission denied") as raised:
        DemoFile(str(path))
    assert raised.value.status == Exit.LOCAL_IO


def test_a_tally_counts_and_digests() -> None:
    tally = Tally()
    tally.add(b"ab")
    tally.add(b"c")
    assert (tally.bytes, tally.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
