"""Files over real sockets: with `sendfile` where that can be, with a loop elsewhere."""

from __future__ import annotations

import hashlib
import io
import os
import ssl
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

import wsstream
from wsstream.testing import Frame, RawPeer
from wsstream.transports.sockets import SocketTransport

KIB, MIB = 1024, 1024 * 1024
CONTENT = bytes(range(251)) * 20_000  # nearly 5 MiB
FRAME = 60 * KIB  # of a file

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="sendfile is used on Linux only")
pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


class Calls(list[int]):
    """What each `os.sendfile` took. It takes nothing more when `most` bytes have gone."""

    most = 1 << 62

    def __init__(self, sendfile: Callable[..., int]) -> None:
        super().__init__()
        self._sendfile = sendfile

    def __call__(self, to: int, fd: int, offset: int, count: int) -> int:
        count = min(count, self.most - sum(self))
        if not count:
            raise BlockingIOError
        self.append(self._sendfile(to, fd, offset, count))
        return self[-1]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    if not hasattr(os, "sendfile"):
        return Calls(lambda: 0)
    calls = Calls(os.sendfile)
    monkeypatch.setattr(os, "sendfile", calls)
    return calls


Work = Callable[[wsstream.WebSocketStream], Awaitable[None]]


@asynccontextmanager
async def serving(work: Work, **options: Any) -> AsyncIterator[int]:
    """A server that does `work` once; the block is left when that is done."""
    done = anyio.Event()
    errors: list[Exception] = []

    async def handle(ws: wsstream.WebSocketStream) -> None:
        try:
            await work(ws)
        except Exception as error:  # the server would only log it
            errors.append(error)
        finally:
            done.set()

    with anyio.fail_after(30):
        async with wsstream.serve(handle, "127.0.0.1", 0, **options) as server:
            yield server.port
            await done.wait()
    for error in errors:
        raise error


@asynccontextmanager
async def raw_client(port: int) -> AsyncIterator[RawPeer]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield await RawPeer.as_client(stream)


async def received(work: Work, count: int = 1, **options: Any) -> list[str | bytes]:
    """The messages that a client receives from a server that does `work`."""
    async with serving(work, **options) as port:
        url = f"ws://127.0.0.1:{port}"
        async with wsstream.connect(url, max_message_size=None, compression=None) as client:
            return [await client.receive() for _ in range(count)]


async def frames_of_one_message(peer: RawPeer) -> list[Frame]:
    frames = [await peer.read_frame()]
    while not frames[-1].fin or frames[-1].opcode >= 8:
        frames.append(await peer.read_frame())
    return frames


# -- what arrives ------------------------------------------------------------------------------------


@pytest.mark.heavy_after_first
@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, None), (0, 0), (1, 1), (4095, 4097), (3, MIB), (0, 4 * MIB), (5, 4 * MIB + 1), (4 * MIB, None)]
    + [(0, FRAME + more) for more in (-1, 0, 1)]
    + [(7, 64 * KIB + more) for more in (-1, 0, 1)]
    + [(len(CONTENT), None), (len(CONTENT) + 5, None), (len(CONTENT) - 1, 1)],
)
async def test_the_bytes_that_were_asked_for_arrive_as_one_message(
    path: Path, offset: int, count: int | None
) -> None:
    expected = CONTENT[offset:] if count is None else CONTENT[offset : offset + count]

    async def send(ws: wsstream.WebSocketStream) -> None:
        assert await ws.writable.send_file(path, offset=offset, count=count) == len(expected)
        with path.open("rb") as file:
            file.seek(99)
            assert await ws.writable.send_file(file, offset=offset, count=count) == len(expected)
            assert file.tell() == offset + len(expected)

    assert await received(send, 2) == [expected, expected]


@pytest.mark.parametrize("frame_size", [4, 20_000, 100_000, 3 * MIB])
async def test_no_frame_is_larger_than_frame_size(path: Path, frame_size: int) -> None:
    size = 100 if frame_size == 4 else len(CONTENT)

    async def send(ws: wsstream.WebSocketStream) -> None:
        await ws.writable.send_file(path, count=size)

    flow = wsstream.FlowControl(frame_size=frame_size)
    async with serving(send, flow=flow) as port, raw_client(port) as peer:
        frames = await frames_of_one_message(peer)
    assert b"".join(frame.payload for frame in frames) == CONTENT[:size]
    assert max(len(frame.payload) for frame in frames) <= frame_size
    assert [frame.opcode for frame in frames] == [2] + [0] * (len(frames) - 1)


async def test_what_a_file_object_has_not_written_yet_is_sent(path: Path) -> None:
    async def send(ws: wsstream.WebSocketStream) -> None:
        with path.open("r+b") as file:
            file.write(b"new")
            await ws.writable.send_file(file, count=10)

    # With copies: what is written when a file has left for the kernel may still arrive.
    flow = wsstream.FlowControl(frame_size=16 * KIB)
    assert await received(send, flow=flow) == [b"new" + CONTENT[3:10]]


# -- which way is taken --------------------------------------------------------------------------------


@on_linux
async def test_a_server_sends_a_file_with_sendfile(path: Path, calls: Calls) -> None:
    async def send(ws: wsstream.WebSocketStream) -> None:
        await ws.writable.send_file(path)

    assert await received(send) == [CONTENT]
    assert sum(calls) == len(CONTENT)


@pytest.mark.parametrize("without", ["sendfile", "file", "frames"])
async def test_the_loop_is_taken_where_sendfile_cannot_be(
    path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    if without == "sendfile":
        monkeypatch.delattr(os, "sendfile", raising=False)
    file = io.BytesIO(CONTENT) if without == "file" else path.open("rb")
    flow = wsstream.FlowControl(frame_size=16 * KIB if without == "frames" else 64 * KIB)

    async def send(ws: wsstream.WebSocketStream) -> None:
        with file:
            assert await ws.writable.send_file(file, offset=3, count=3 * MIB) == 3 * MIB
            assert file.tell() == 3 + 3 * MIB

    assert await received(send, flow=flow) == [CONTENT[3 : 3 + 3 * MIB]]
    assert calls == []


async def test_a_client_takes_the_loop(path: Path, calls: Calls) -> None:
    found: list[str | bytes] = []

    async def receive(ws: wsstream.WebSocketStream) -> None:
        found.append(await ws.receive())

    async with (
        serving(receive, max_message_size=None) as port,
        wsstream.connect(f"ws://127.0.0.1:{port}") as client,
    ):
        assert await client.writable.send_file(path) == len(CONTENT)
    assert found == [CONTENT]
    assert calls == []


async def test_tls_and_compression_take_the_loop(
    path: Path, calls: Calls, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def send(ws: wsstream.WebSocketStream) -> None:
        await ws.writable.send_file(path)

    deflate = wsstream.Deflate()
    for ours, theirs in (
        ({"ssl": server_tls}, {"ssl": client_tls}),
        ({"compression": deflate}, {"compression": deflate}),
    ):
        async with serving(send, **ours) as port:
            url = f"{'wss' if 'ssl' in ours else 'ws'}://127.0.0.1:{port}"
            options: dict[str, Any] = {"max_message_size": None, **theirs}
            async with wsstream.connect(url, **options) as ws:
                assert await ws.receive() == CONTENT
    assert calls == []


async def test_a_file_of_unknown_size_is_read_to_its_end(calls: Calls) -> None:
    status = Path("/proc/self/cmdline")
    if not status.exists():
        pytest.skip("there is no /proc")

    async def send(ws: wsstream.WebSocketStream) -> None:
        await ws.writable.send_file(status)

    assert await received(send) == [status.read_bytes()]
    assert calls == []


@pytest.mark.parametrize("file", [io.StringIO("text"), 5, b"bytes"])
async def test_what_is_no_binary_file_is_refused_before_anything_is_sent(file: Any) -> None:
    async def send(ws: wsstream.WebSocketStream) -> None:
        with pytest.raises(TypeError, match="a path or a seekable binary file"):
            await ws.writable.send_file(file)
        await ws.send("still open")

    assert await received(send) == ["still open"]


# -- meanwhile -----------------------------------------------------------------------------------------


async def wait_until_stalled(ws: wsstream.WebSocketStream) -> None:
    """Wait until the peer takes no more."""
    before, looks = 0, 0
    while looks < 10:
        await anyio.sleep(0.02)
        sent = ws.statistics().bytes_sent
        looks = looks + 1 if sent == before > 1000 else 0
        before = sent


def large(tmp_path: Path, size: int = 256 * MIB) -> Path:
    """A file without content, which takes no room."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.heavy
async def test_files_and_messages_of_other_tasks_keep_their_order(tmp_path: Path, path: Path) -> None:
    first = large(tmp_path, 32 * MIB)

    async def send(ws: wsstream.WebSocketStream) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ws.writable.send_file, first)
            await wait_until_stalled(ws)
            for number, (call, item) in enumerate(
                [(ws.send, "one"), (ws.writable.send_file, path), (ws.send, "two")], start=2
            ):
                tasks.start_soon(call, item)
                while ws.statistics().tasks_waiting_send < number:
                    await anyio.sleep(0.001)  # a thread opens the file
            queued.set()

    queued = anyio.Event()
    async with serving(send) as port, raw_client(port) as peer:
        await queued.wait()
        messages = [await frames_of_one_message(peer) for _ in range(4)]
        payloads = [b"".join(frame.payload for frame in frames) for frames in messages]
        assert payloads == [bytes(32 * MIB), b"one", CONTENT, b"two"]


@on_linux
async def test_a_ping_is_answered_between_two_frames_of_a_file(tmp_path: Path) -> None:
    path = large(tmp_path, 32 * MIB)

    async def send(ws: wsstream.WebSocketStream) -> None:
        await ws.writable.send_file(path)

    async with serving(send) as port, raw_client(port) as peer:
        await peer.read_frame()
        await peer.ping(b"?")
        frames = await frames_of_one_message(peer)
        opcodes = [frame.opcode for frame in frames]
        assert opcodes.count(10) == 1
        assert opcodes.index(10) < len(opcodes) - 50
        assert sum(len(frame.payload) for frame in frames if not frame.opcode) == 32 * MIB - FRAME


@on_linux
async def test_no_byte_of_another_file_leaves_when_a_file_was_closed_by_a_cancelled_task(
    tmp_path: Path, calls: Calls
) -> None:
    path, secret = large(tmp_path), tmp_path / "secret"
    secret.write_bytes(b"secret" * MIB)
    calls.most = FRAME + 1000

    async def send(ws: wsstream.WebSocketStream) -> None:
        file = path.open("rb")
        fd = file.fileno()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ws.writable.send_file, file)
            while sum(calls) < calls.most:
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
        file.close()
        taken = [os.open(secret, os.O_RDONLY)]
        while fd not in taken and len(taken) < 100:
            taken.append(os.open(secret, os.O_RDONLY))
        assert fd in taken
        calls.most = 1 << 62
        with suppress(wsstream.ConnectionBroken):
            await ws.wait_closed()
        assert sum(calls) == 2 * FRAME  # with the rest of the frame
        for each in taken:
            os.close(each)

    async with serving(send, close_timeout=5) as port, raw_client(port) as peer:
        frames = [await peer.read_frame()]
        while frames[-1].opcode != 8:
            frames.append(await peer.read_frame())
        await peer.close(1011)
        assert frames[-1].payload[:2] == (1011).to_bytes(2, "big")
        assert not any(frame.payload.strip(b"\0") for frame in frames[:-1])
        assert [(frame.fin, len(frame.payload)) for frame in frames[:-1]] == [(False, FRAME)] * 2


@on_linux
async def test_the_descriptor_is_closed_when_nothing_of_the_file_waits(path: Path) -> None:
    def descriptors() -> list[str]:
        found = []
        for fd in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [name for name in found if name == str(path)]

    async def send(ws: wsstream.WebSocketStream) -> None:
        await ws.writable.send_file(path)
        assert descriptors() == []

    assert await received(send) == [CONTENT]


@pytest.mark.heavy_after_first
@on_linux
async def test_a_file_that_becomes_shorter_raises_and_breaks_the_connection(tmp_path: Path) -> None:
    path = large(tmp_path, 64 * MIB)

    async def send(ws: wsstream.WebSocketStream) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shorten, ws)
            with pytest.raises(EOFError, match="became shorter"):
                await ws.writable.send_file(path, count=64 * MIB)
            with pytest.raises(wsstream.ConnectionClosed):
                await ws.send("more")

    async def shorten(ws: wsstream.WebSocketStream) -> None:
        await wait_until_stalled(ws)
        os.truncate(path, 1000)
        shortened.set()

    shortened = anyio.Event()
    async with serving(send) as port, raw_client(port) as peer:
        await shortened.wait()
        size, closed = 0, False
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            while not closed:
                frame = await peer.read_frame()
                assert not (frame.fin and frame.opcode < 8)
                size += len(frame.payload)
                closed = frame.opcode == 8
            await peer.close(1011)
        assert size < 64 * MIB


async def test_a_file_that_is_too_short_is_sent_to_its_end_and_fails_the_connection(path: Path) -> None:
    async def send(ws: wsstream.WebSocketStream) -> None:
        with pytest.raises(EOFError, match="2 bytes early"):
            await ws.writable.send_file(path, count=len(CONTENT) + 2)

    async with serving(send) as port, raw_client(port) as peer:
        payload = b""
        while (frame := await peer.read_frame()).opcode != 8:
            payload += frame.payload
        assert payload == CONTENT
        assert frame.payload[:2] == (1011).to_bytes(2, "big")
        await peer.close(1011)


@pytest.mark.heavy_after_first
async def test_what_is_added_to_a_file_while_it_is_sent_belongs_to_the_message(tmp_path: Path) -> None:
    path = large(tmp_path, 32 * MIB)

    async def send(ws: wsstream.WebSocketStream) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(grow, ws)
            assert await ws.writable.send_file(path) == 32 * MIB + 5

    async def grow(ws: wsstream.WebSocketStream) -> None:
        await wait_until_stalled(ws)
        with path.open("ab") as file:
            file.write(b"added")
        grown.set()

    grown = anyio.Event()
    async with serving(send) as port, raw_client(port) as peer:
        await grown.wait()
        frames = await frames_of_one_message(peer)
        size = sum(len(frame.payload) for frame in frames)
        assert (size, b"".join(frame.payload for frame in frames[-2:])[-5:]) == (32 * MIB + 5, b"added")


@pytest.mark.heavy_after_first
@on_linux
async def test_a_large_file_takes_no_memory(tmp_path: Path, calls: Calls) -> None:
    path = large(tmp_path)
    peaks: list[int] = []

    async def send(ws: wsstream.WebSocketStream) -> None:
        tracemalloc.start()
        try:
            sending = anyio.Event()

            async def watch() -> None:
                await wait_until_stalled(ws)
                peaks.append(tracemalloc.get_traced_memory()[1])
                sending.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                tasks.start_soon(ws.writable.send_file, path)
                await sending.wait()
                tasks.cancel_scope.cancel()
        finally:
            tracemalloc.stop()
        ws.abort()
        done.set()

    done = anyio.Event()
    async with serving(send) as port, raw_client(port):
        await done.wait()
    assert peaks[0] < MIB


# -- the transport -------------------------------------------------------------------------------------


def test_where_files_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sends_files = SocketTransport.sends_files.fget
    assert sends_files is not None
    transport: Any = object()
    assert sends_files(transport) == (sys.platform == "linux")
    monkeypatch.delattr(os, "sendfile", raising=False)
    assert not sends_files(transport)


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("options", [{}, {"compression": None}], ids=str)
async def test_progress_rises_to_the_size(path: Path, options: Any) -> None:
    reports: list[tuple[float, int]] = []

    async def work(ws: wsstream.WebSocketStream) -> None:
        def progress(count: int) -> None:
            reports.append((anyio.current_time(), count))

        await ws.writable.send_file(path, progress=progress)

    assert await received(work, **options) == [CONTENT]
    counts = [count for _, count in reports]
    assert counts == sorted(set(counts))
    assert counts[0] <= 256 * KIB
    assert counts[-1] == len(CONTENT)
    assert all(b - a >= 0.05 for (a, _), (b, _) in pairwise(reports[:-1]))


async def test_the_hash_is_that_of_the_bytes_that_were_sent(path: Path, calls: Calls) -> None:
    digest = hashlib.sha256()

    async def work(ws: wsstream.WebSocketStream) -> None:
        await ws.writable.send_file(path, offset=7, count=MIB, hash=digest)

    (message,) = await received(work)
    assert digest.digest() == hashlib.sha256(CONTENT[7 : MIB + 7]).digest()
    assert message == CONTENT[7 : MIB + 7]
    assert not calls


async def test_what_progress_raises_aborts_the_message(path: Path) -> None:
    def progress(count: int) -> None:
        raise ArithmeticError("mine")

    async def work(ws: wsstream.WebSocketStream) -> None:
        with pytest.raises(ArithmeticError, match="mine"):
            await ws.writable.send_file(path, progress=progress)

    with pytest.raises(wsstream.ConnectionBroken) as broken:
        await received(work)
    assert broken.value.code == 1011


async def test_what_is_no_hash_is_refused_before_anything_is_sent(path: Path) -> None:
    async def work(ws: wsstream.WebSocketStream) -> None:
        with pytest.raises(TypeError, match="hash must be a hash object"):
            await ws.writable.send_file(path, hash="sha256")  # type: ignore[arg-type]
        await ws.send("next")

    assert await received(work) == ["next"]
