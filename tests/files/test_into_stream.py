"""`download_into`: a file from a server into a stream of bytes, over real sockets."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit.waiting import until

import wsstream
from wsstream.files import SUBPROTOCOL, Progress, TransferError, download_into
from wsstream.files.channel import Channel, hello
from wsstream.files.protocol.messages import End, Get, Offer
from wsstream.files.transfer import until_ready

MIB = 1 << 20
CONTENT = os.urandom(1009) * 6000  # nearly 6 MiB

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


class Sink:
    """Keeps what it is sent. `watch` is called with the number of bytes, after each item."""

    def __init__(self, watch: Callable[[int], object] | None = None, delay: float = 0.0) -> None:
        self.data = bytearray()
        self._watch = watch
        self._delay = delay

    async def send(self, item: bytes) -> None:
        await anyio.sleep(self._delay)
        self.data += item
        if self._watch is not None:
            self._watch(len(self.data))


@pytest.fixture
def served(folder: Path) -> Path:
    path = folder / "file.bin"
    path.write_bytes(CONTENT)
    return path


async def failed(call: Any) -> TransferError:
    with pytest.raises(TransferError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("size", [0, 1, len(CONTENT)])
async def test_a_file_is_passed_on_as_it_is(serving: Any, folder: Path, size: int) -> None:
    (folder / "file.bin").write_bytes(CONTENT[:size])
    sink = Sink()
    seen: list[Progress] = []
    async with serving() as server:
        result = await download_into(server.url + "/file.bin", sink, progress=seen.append)
    assert sink.data == CONTENT[:size]
    assert (result.name, result.size, result.sent) == ("file.bin", size, size)
    assert {"waiting", "verifying", "done"} <= {each.phase for each in seen}
    assert (seen[-1].acknowledged, seen[-1].size) == (size, size)


@pytest.mark.heavy
@pytest.mark.usefixtures("served")
async def test_every_stream_of_anyio_is_a_sink(serving: Any) -> None:
    async with serving() as server, await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        received = bytearray()

        async def read(stream: Any) -> None:
            async with stream:
                async for data in stream:
                    received.extend(data)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, read)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await download_into(server.url, stream, name="file.bin")
            await until(lambda: len(received) == len(CONTENT))
            tasks.cancel_scope.cancel()
    assert received == CONTENT


@pytest.mark.heavy
@pytest.mark.usefixtures("served")
async def test_it_goes_on_over_lost_connections_with_no_byte_twice(serving: Any) -> None:
    cuts = [MIB, 3 * MIB, 5 * MIB]
    async with serving() as server:

        def cut(size: int) -> None:
            if cuts and size >= cuts[0]:
                del cuts[0]
                for ws in server.connections:
                    ws.abort()

        sink = Sink(cut, delay=0.005)
        starts: list[int] = []

        def watch(progress: Progress) -> None:
            if progress.phase == "receiving" and progress.resumed_at not in starts:
                starts.append(progress.resumed_at)

        result = await download_into(
            server.url,
            sink,
            name="file.bin",
            delays=[0.0] * 9,
            progress=watch,
            expect=sha256(CONTENT).hexdigest(),
        )
    assert sink.data == CONTENT
    assert not cuts
    assert result.sent < len(CONTENT)
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert len(starts) == 4


async def test_another_file_is_not_gone_on_with(serving: Any, served: Path) -> None:
    async with serving() as server:

        def replace_it(size: int) -> None:
            if size >= MIB and served.stat().st_size == len(CONTENT):
                served.write_bytes(CONTENT[::-1] + b"more")
                for ws in server.connections:
                    ws.abort()

        sink = Sink(replace_it, delay=0.005)
        error = await failed(download_into(server.url, sink, name="file.bin", delays=[0.0] * 9))
    assert (error.error, error.retry) == ("changed", "never")
    assert sink.data == CONTENT[: len(sink.data)]


@pytest.mark.usefixtures("served")
async def test_the_expected_file_is_told_from_another(serving: Any) -> None:
    async with serving() as server:
        sink = Sink()
        await download_into(server.url, sink, name="file.bin", expect=sha256(CONTENT).hexdigest())
        error = await failed(download_into(server.url, Sink(), name="file.bin", expect="0" * 64))
        assert error.error == "digest-mismatch"
        assert sha256(CONTENT).hexdigest() in str(error)
        for wrong in ("0" * 63, "X" * 64):
            with pytest.raises(ValueError, match="expect must be 64 hexadecimal digits"):
                await download_into(server.url, Sink(), name="file.bin", expect=wrong)
        with pytest.raises(TypeError, match="expect must be a str or None, got bytes"):
            await download_into(server.url, Sink(), name="file.bin", expect=b"0")  # type: ignore[arg-type]


@pytest.mark.usefixtures("served")
async def test_what_cannot_be_passed_on_is_refused(serving: Any) -> None:
    async with serving() as server:
        sink = Sink()
        assert (await failed(download_into(server.url, sink, name="none"))).error == "not-found"
        assert (
            await failed(download_into(server.url, sink, name="file.bin", max_size=5))
        ).error == "too-large"
        assert not sink.data
        with pytest.raises(ValueError, match="must be that of a file"):
            await download_into(server.url + "/folder/", sink)


@pytest.mark.usefixtures("served")
async def test_a_sink_that_fails_ends_it_and_its_error_is_raised(serving: Any) -> None:
    def fail(size: int) -> None:
        raise BrokenPipeError("nobody reads")

    async with serving() as server:
        with pytest.raises(BrokenPipeError, match="nobody reads"):
            await download_into(server.url, Sink(fail), name="file.bin")
        await until(lambda: not server.connections)


@pytest.mark.heavy
@pytest.mark.usefixtures("served")
async def test_a_slow_sink_holds_the_server_back(serving: Any) -> None:
    sent: list[int] = []
    async with serving(on_progress=lambda ws, progress: sent.append(progress.acknowledged)) as server:
        stalled, go_on = anyio.Event(), anyio.Event()

        class Stalling(Sink):
            async def send(self, item: bytes) -> None:
                await super().send(item)
                stalled.set()
                await go_on.wait()

        sink = Stalling()
        windows: list[int] = []
        async with anyio.create_task_group() as tasks:

            async def get() -> None:
                await download_into(
                    server.url, sink, name="file.bin", progress=lambda each: windows.append(each.credit_used)
                )

            tasks.start_soon(get)
            await stalled.wait()
            await anyio.sleep(0.3)
            assert len(sink.data) <= 256 << 10
            assert max(sent) == 0, "nothing was acknowledged that is not passed on"
            go_on.set()
    assert sink.data == CONTENT
    assert max(windows) <= 32 << 20


async def send_five_bytes(channel: Channel, digest: str) -> None:
    """Send a client the file that it asks for, ``12345``, and say that it has this digest."""
    await until_ready(channel)
    request = await channel.event()
    assert isinstance(request, Get)
    channel.post(Offer(request.id, request.name, 5, None, ("sha256",), "v1"))
    await channel.event()
    assert await channel.send_data(memoryview(b"12345"))
    channel.post(End(request.id, 5, digest))


class Lying:
    """A server whose file has another digest than it says."""

    async def __call__(self, ws: wsstream.WebSocketStream) -> None:
        channel = Channel(ws, hello("get"), client=False)
        async with channel.run():
            await send_five_bytes(channel, "0" * 64)
            await channel.event()


async def test_a_wrong_digest_is_found_and_not_tried_again() -> None:
    sink = Sink()
    async with wsstream.serve(Lying(), "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
        error = await failed(download_into(server.url, sink, name="file.bin", delays=[0.0] * 9))
    assert (error.error, error.retry) == ("digest-mismatch", "never")
    assert sink.data == b"12345", "once"


async def test_a_connection_that_is_lost_after_the_last_byte_loses_nothing() -> None:
    lost = anyio.Event()

    async def send_and_vanish(ws: wsstream.WebSocketStream) -> None:
        channel = Channel(ws, hello("get"), client=False)
        async with channel.run():
            await send_five_bytes(channel, sha256(b"12345").hexdigest())
            await anyio.sleep(0.1)
            ws.abort()
        lost.set()

    class Waiting(Sink):
        async def send(self, item: bytes) -> None:
            await super().send(item)
            await lost.wait()
            await anyio.sleep(0.1)

    sink = Waiting()
    async with wsstream.serve(send_and_vanish, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
        result = await download_into(server.url, sink, name="file.bin", delays=[])
    assert (sink.data, result.size) == (b"12345", 5)
