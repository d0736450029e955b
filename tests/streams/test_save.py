"""Messages saved in files: `MessageReader.save` and `Readable.receive_file`."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit.endpoints import check_echo, echo
from kit.processes import run_program
from kit.waiting import until

import wsstream
from wsstream.streams.save import save_message
from wsstream.testing import connected_pair, memory_pair

KIB, MIB = 1024, 1024 * 1024
CONTENT = bytes(range(251)) * 12_000  # nearly 3 MiB

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]

Pair = tuple[wsstream.WebSocketStream, wsstream.WebSocketStream]


@asynccontextmanager
async def pair_with(message: str | bytes) -> AsyncIterator[wsstream.WebSocketStream]:
    """The receiving end of a pair whose other end sends `message`, and then "next"."""
    errors: list[Exception] = []

    async def send(ws: wsstream.WebSocketStream) -> None:
        try:
            await ws.send(message)
            await ws.send("next")
        except wsstream.ConnectionClosed:
            pass

    pair = connected_pair(client_options={"max_message_size": None})
    async with pair as (receiver, sender):  # noqa: SIM117 - the error leaves the pair, not the group
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, sender)
            try:
                yield receiver
            except Exception as error:
                errors.append(error)
            tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]


class Gate(io.RawIOBase):
    """A file that takes bytes only while it is open; `reached` says that a write waits."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.reached = threading.Event()
        self.opened = threading.Event()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.reached.set()
        assert self.opened.wait(20)
        self.content += data
        return len(data)


class Greedy(io.RawIOBase):
    """A file that takes at most `most` bytes at a time, and `capacity` in all."""

    def __init__(self, most: int, capacity: int = 1 << 40) -> None:
        self.content = bytearray()
        self._most = most
        self._capacity = capacity

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if len(self.content) >= self._capacity:
            raise OSError(28, os.strerror(28))
        taken = bytes(data[: self._most])
        self.content += taken
        return len(taken)


class Slow(io.RawIOBase):
    """A file that takes its time, and counts what it takes."""

    def __init__(self) -> None:
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        time.sleep(0.005)
        self.size += len(data)
        return len(data)


@pytest.mark.parametrize("size", [0, 1, 64 * KIB, len(CONTENT)])
async def test_the_message_is_in_the_file(tmp_path: Path, size: int) -> None:
    async with pair_with(CONTENT[:size]) as ws:
        assert await ws.readable.receive_file(tmp_path / "file") == size
        assert await ws.receive() == "next"
    assert (tmp_path / "file").read_bytes() == CONTENT[:size]


async def test_a_text_message_is_saved_as_utf_8(tmp_path: Path) -> None:
    async with pair_with("äöü€" * 50_000) as ws:
        assert await ws.readable.receive_file(str(tmp_path / "file")) == 450_000
    assert (tmp_path / "file").read_text("utf-8") == "äöü€" * 50_000


async def test_a_file_object_is_written_from_its_position_and_stays_open(tmp_path: Path) -> None:
    async with pair_with(CONTENT) as ws:
        with open(tmp_path / "file", "w+b") as file:
            file.write(b"before")
            await ws.readable.receive_file(file)
            file.write(b"after")
    assert (tmp_path / "file").read_bytes() == b"before" + CONTENT + b"after"


async def test_a_file_that_takes_parts_gets_all() -> None:
    file = Greedy(1000)
    async with pair_with(CONTENT[: 100 * KIB]) as ws:
        await ws.readable.receive_file(file)  # type: ignore[arg-type]
    assert file.content == CONTENT[: 100 * KIB]


async def test_the_file_of_a_path_is_replaced_when_the_message_has_begun(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and long")
    async with connected_pair() as (sender, receiver):
        with anyio.move_on_after(0.01):
            await receiver.readable.receive_file(path)
        assert path.read_bytes() == b"old and long"
        await sender.send(b"new")
        await receiver.readable.receive_file(path)
    assert path.read_bytes() == b"new"


async def test_save_writes_the_rest_of_a_message() -> None:
    file = io.BytesIO()
    async with pair_with(CONTENT) as ws, ws.readable.message() as reader:
        first = await reader.receive(1000)
        assert await reader.save(file) == len(CONTENT) - len(first)
        assert reader.complete
        assert reader.bytes_received == len(CONTENT)
        assert await reader.save(file) == 0
    assert first + file.getvalue() == CONTENT


async def test_the_hash_is_that_of_the_bytes() -> None:
    digest = hashlib.sha256()
    async with pair_with(CONTENT) as ws:
        await ws.readable.receive_file(io.BytesIO(), hash=digest)
    assert digest.digest() == hashlib.sha256(CONTENT).digest()


async def test_progress_rises_to_the_size_at_most_20_times_a_second() -> None:
    reports: list[tuple[float, int]] = []

    def progress(count: int) -> None:
        reports.append((anyio.current_time(), count))

    async with pair_with(CONTENT) as ws:
        await ws.readable.receive_file(Greedy(100), progress=progress)  # type: ignore[arg-type]
    counts = [count for _, count in reports]
    assert counts == sorted(set(counts))
    assert counts[-1] == len(CONTENT)
    assert all(later - earlier >= 0.05 for (earlier, _), (later, _) in pairwise(reports[:-1]))


@pytest.mark.parametrize("file", [io.StringIO(), object(), None, 3], ids=type)
async def test_what_is_no_binary_file_is_refused_and_the_message_can_be_read(file: Any) -> None:
    async with pair_with(b"message") as ws, ws.readable.message() as reader:
        with pytest.raises(TypeError, match="file must be a path or a binary file, got"):
            await reader.save(file)
        assert await reader.read() == b"message"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_bytes": -1}, ValueError),
        ({"max_bytes": 1.5}, TypeError),
        ({"hash": "sha256"}, TypeError),
    ],
    ids=str,
)
async def test_wrong_options_are_refused_and_the_message_can_be_read(
    options: Any, error: type[Exception]
) -> None:
    async with pair_with(b"message") as ws, ws.readable.message() as reader:
        with pytest.raises(error, match="must"):
            await reader.save(io.BytesIO(), **options)
        assert await reader.read() == b"message"


@pytest.mark.parametrize("size", [0, 1000, 700 * KIB])
async def test_a_message_of_max_bytes_is_saved_and_a_larger_one_fails_the_connection(size: int) -> None:
    file = io.BytesIO()
    async with pair_with(CONTENT[:size]) as ws:
        assert await ws.readable.receive_file(file, max_bytes=size) == size
        await check_next(ws)
    with pytest.raises(wsstream.MessageTooBig, match=f"more than {size} bytes: raise max_bytes"):
        async with pair_with(CONTENT[: size + 1]) as ws:
            file = io.BytesIO()
            try:
                await ws.readable.receive_file(file, max_bytes=size)
            finally:
                assert ws.close_info is not None
                assert ws.close_info.code == 1009
    assert file.getvalue() == CONTENT[:size]


async def check_next(ws: wsstream.WebSocketStream) -> None:
    assert await ws.receive() == "next"


async def test_a_missing_folder_leaves_the_connection_open(tmp_path: Path) -> None:
    async with pair_with(CONTENT) as ws:
        with pytest.raises(FileNotFoundError):
            await ws.readable.receive_file(tmp_path / "none" / "file")
        await check_next(ws)


async def test_a_full_disk_leaves_the_connection_open_and_the_rest_is_skipped() -> None:
    file = Greedy(64 * KIB, capacity=MIB)
    async with pair_with(CONTENT) as ws:
        with pytest.raises(OSError, match="No space left"):
            await ws.readable.receive_file(file)  # type: ignore[arg-type]
        await check_next(ws)
    assert file.content == CONTENT[: len(file.content)]


@pytest.mark.parametrize("what", ["progress", "hash"])
async def test_what_the_application_raises_arrives_and_the_connection_stays_open(what: str) -> None:
    class Hash:
        def update(self, data: object) -> None:
            raise ArithmeticError("mine")

    def progress(count: int) -> None:
        raise ArithmeticError("mine")

    options: Any = {"progress": progress} if what == "progress" else {"hash": Hash()}
    async with pair_with(CONTENT) as ws:
        with pytest.raises(ArithmeticError, match="mine"):
            await ws.readable.receive_file(io.BytesIO(), **options)
        await check_next(ws)


async def test_a_file_that_never_blocks_and_is_full_raises() -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> None:
            return None

    async with pair_with(b"message") as ws:
        with pytest.raises(BlockingIOError, match="it must block while it is full"):
            await ws.readable.receive_file(Full())  # type: ignore[arg-type]
        await check_next(ws)


async def test_a_connection_that_breaks_leaves_what_arrived_in_the_file() -> None:
    file = io.BytesIO()
    async with connected_pair() as (sender, receiver):
        message = await sender.writable.message().__aenter__()
        await message.send(b"begun")
        await sender.writable.drain()
        await anyio.sleep(0.1)
        sender.abort()
        with pytest.raises(wsstream.ConnectionBroken):
            await receiver.readable.receive_file(file)
    assert file.getvalue() == b"begun"


async def test_few_bytes_are_written_though_more_may_come() -> None:
    file = io.BytesIO()
    async with connected_pair() as (sender, receiver), anyio.create_task_group() as tasks:
        tasks.start_soon(receiver.readable.receive_file, file)
        async with sender.writable.message() as message:
            await message.send(b"begun")
            await until(lambda: file.getvalue() == b"begun")


async def test_cancelled_it_writes_what_it_took_and_the_reader_goes_on() -> None:
    gate, content = Gate(), CONTENT * 3
    async with pair_with(content) as ws, ws.readable.message() as reader:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reader.save, gate)
                await until(lambda: gate.reached.is_set() and reader.bytes_received >= MIB)
                assert not gate.content
                scope.cancel()
                gate.opened.set()
        assert scope.cancelled_caught
        assert gate.content == content[: reader.bytes_received]
        await reader.save(gate)  # type: ignore[arg-type]
    assert gate.content == content


@pytest.mark.heavy
async def test_a_slow_disk_slows_the_peer() -> None:
    gate = Gate()
    async with (
        connected_pair(streams=memory_pair(64 * KIB)) as (sender, receiver),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(receiver.readable.receive_file, gate)
        async with sender.writable.message() as message:
            for _ in range(100):
                with anyio.move_on_after(0.2) as waiting:
                    await message.send(bytes(64 * KIB))
                if waiting.cancelled_caught:
                    break
            # A batch is being written, another one waits; the rest is in the buffers of both ends.
            assert message.bytes_sent < 4 * MIB
            gate.opened.set()
    assert len(gate.content) == message.bytes_sent


@pytest.mark.heavy_after_first
async def test_single_bytes_do_not_pile_up_while_the_disk_is_slow() -> None:
    """They count as 64 bytes more each, as in the connection's own buffer."""
    gate, received = Gate(), 0

    async def receive(most: int) -> bytes:
        nonlocal received
        if received % 100 == 0:
            await anyio.lowlevel.checkpoint()
        if received == 80_000:
            raise anyio.EndOfStream
        received += 1
        return b"x"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(save_message, receive, None, gate, None, None, None)
        await until(gate.reached.is_set)
        await anyio.wait_all_tasks_blocked()
        assert received <= 3 * MIB // 65 + 1024 + 1
        gate.opened.set()
    assert gate.content == b"x" * 80_000


@pytest.mark.heavy_after_first
@pytest.mark.parametrize(("size", "pause"), [(1000, 0.02), (64 * KIB, 0)], ids=["slow", "fast"])
async def test_a_file_is_saved_though_another_one_needs_the_same_worker_thread(
    size: int, pause: float
) -> None:
    """A thread neither waits for a slow peer, nor stays with a fast one."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    threads, limiter.total_tokens = limiter.total_tokens, 1
    other, file = Slow(), io.BytesIO()

    async def receive(most: int) -> bytes:
        await anyio.sleep(pause)
        return bytes(size)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(save_message, receive, None, other, None, None, None)
            await until(lambda: other.size > 0)
            async with pair_with(CONTENT) as ws:
                with anyio.move_on_after(10):
                    await ws.readable.receive_file(file)
            tasks.cancel_scope.cancel()
    finally:
        limiter.total_tokens = threads
    assert file.getvalue() == CONTENT


async def test_a_pipe_that_never_blocks_takes_what_it_has_room_for() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with io.FileIO(read) as source, io.FileIO(write, "w") as target:
        async with pair_with(CONTENT) as ws:
            for _ in range(2):  # the second message finds it full
                with pytest.raises(BlockingIOError, match="it must block while it is full"):
                    await ws.readable.receive_file(target)
        held = source.read(4 * MIB)
        assert held == CONTENT[: len(held or b"")]
        assert held


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide in other ways")
def test_received_bytes_come_to_lie_in_memory_that_was_used_before(tmp_path: Path) -> None:
    """New pages for each batch, 4 KiB each, would take as long as writing to the page cache does."""
    program = f"""
import resource, anyio, wsstream

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

async def main():
    async def send(ws):
        for _ in range(3):
            await ws.send(bytes(65536) for _ in range(512))
    async with wsstream.serve(send, "127.0.0.1") as server, wsstream.connect(server.url) as ws:
        await ws.readable.receive_file({str(tmp_path / "file")!r})
        before = faults()
        for _ in range(2):
            await ws.readable.receive_file({str(tmp_path / "file")!r})
        print(faults() - before)

anyio.run(main)
"""
    assert int(run_program("-c", program)) < 1000


@pytest.mark.heavy
async def test_a_large_message_takes_little_memory(tmp_path: Path) -> None:
    async def send(ws: wsstream.WebSocketStream) -> None:
        await ws.send(bytes(MIB) for _ in range(64))
        await ws.wait_closed()

    async with wsstream.serve(send, "127.0.0.1") as server, wsstream.connect(server.url) as ws:
        tracemalloc.start()
        try:
            assert await ws.readable.receive_file(tmp_path / "file") == 64 * MIB
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8 * MIB


async def test_the_connection_goes_on_after_a_file(tmp_path: Path) -> None:
    async with wsstream.serve(echo, "127.0.0.1") as server, wsstream.connect(server.url) as ws:
        await ws.send(b"file")
        assert await ws.readable.receive_file(tmp_path / "file") == 4
        await check_echo(ws)
