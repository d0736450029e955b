"""Table X, row 14, the decompression bomb, and what is particular to compression in rows 1, 6, 7 and 20.

The other rows hold with compression by the same tests as without; that a limit is exact to the byte, and that
a message left at any point leaves the next one intact, is in tests/streams/test_deflate.py. Here the raw peer
deflates and inflates with zlib alone. Memory is the peak of Python's heap, both ends together; zlib's own
contexts are not in it, their size is fixed.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint
from kit.zlib_peer import NAME, TAIL, ZlibPeer

from wsstream import ConnectionBroken, Deflate, FlowControl, MessageTooBig, WebSocketStream
from wsstream.testing import RawPeer, binary, connected_pair, memory_pair, text

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MIB = 1 << 20
MARKS = FlowControl()
SMALL_MARKS = FlowControl(receive_high_water=8192, send_high_water=8192, frame_size=4096)
HEADER = "Sec-WebSocket-Extensions"
NO_MASK = bytes(4)
ROLES = pytest.mark.parametrize("role", ["client", "server"])
SENDERS = pytest.mark.parametrize("sender", ["client", "server"])
TAKEOVER = pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "no-takeover"])
SIZES = pytest.mark.parametrize(("scheme", "mib"), [("ws", 64), ("wss", 64), ("ws", 1024)])


def pattern(size: int, seed: int) -> bytes:
    return Random(seed).randbytes(size)


def bomb(mib: int) -> bytes:
    """A compressed message of so many MiB of zeros, of about a thousandth of that size."""
    context = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    block = context.compress(bytes(MIB)) + context.flush(zlib.Z_FULL_FLUSH)
    assert len(block) < 1100
    return (block * mib)[: -len(TAIL)]


class InflatingLog:
    """Puts the peer's messages together from its frames, inflates them, and answers its Close."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.closed = False
        self._context = zlib.decompressobj(-15)

    async def run(self, peer: RawPeer) -> None:
        data, compressed = b"", False
        while (received := await peer.read_frame()).kind != "close":
            if received.kind != "continuation":
                assert not data, "a message inside another"
                compressed = received.rsv1
            data += received.payload
            if received.fin:
                self.messages.append(self._context.decompress(data + TAIL) if compressed else data)
                data = b""
        self.closed = True
        await peer.close(received.close_code)
        if peer.role == "client":
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await peer.read_frame()
        await peer.aclose()


async def against_raw(
    net: Any, sender: str, data: Callable[[RawPeer], bytes], receive: Any, **options: Any
) -> None:
    """Run `receive(ws)` while a raw peer, a client or a server, sends `data(raw)` and stays."""
    headers, done = [(HEADER, NAME)], anyio.Event()
    options = {"compression": Deflate(), "close_timeout": 0, **options}

    async def send(raw: RawPeer) -> None:
        try:
            for start in range(0, len(frames := data(raw)), 65536):
                await raw.send(frames[start : start + 65536])
        except (anyio.BrokenResourceError, anyio.EndOfStream):
            assert done.is_set(), "our side has left early"
        await anyio.sleep_forever()

    async def raw_server(stream: ByteStream) -> None:
        async with await RawPeer.as_server(stream, headers=headers) as raw:
            await send(raw)

    if sender == "server":
        async with net.raw_server(raw_server) as url, net.connect(url, **options) as ws:
            await receive(ws)
            done.set()
        return
    failures: list[Exception] = []

    async def handler(ws: WebSocketStream) -> None:
        try:
            await receive(ws)
        except Exception as error:
            failures.append(error)
        done.set()

    async with (
        net.serve(handler, **options) as server,
        await RawPeer.as_client(await net.raw_client(server), headers=headers, mask=NO_MASK) as raw,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(send, raw)
        await done.wait()
        tasks.cancel_scope.cancel()
    if failures:
        raise failures[0]


# -- X14 -------------------------------------------------------------------------------------


@SENDERS
@SIZES
async def test_x14_a_bomb_that_is_read_as_a_stream_takes_no_more_than_the_marks(
    net: Any, heap: Any, sender: str, mib: int
) -> None:
    packed = bomb(mib)

    def data(raw: RawPeer) -> bytes:
        warm = text("warm", mask=raw.mask)
        return warm + binary(packed, rsv1=True, mask=raw.mask) + text("next", mask=raw.mask)

    async def receive(ws: WebSocketStream) -> None:
        assert await ws.receive() == "warm"
        grown, size = heap(), 0
        enough = min(len(packed), MARKS.receive_high_water)
        while ws.statistics().receive_buffered < enough:
            await anyio.sleep(0.001)
        assert ws.statistics().receive_buffered <= MARKS.receive_high_water + 1024 + 64
        zeros = bytes(256 * 1024)
        async with ws.readable.message() as reader:
            async for chunk in reader:
                assert len(chunk) <= 256 * 1024
                assert chunk == zeros[: len(chunk)]
                size += len(chunk)
        assert size == mib * MIB
        assert grown.peak() < 2 * MIB  # the marks, what is being inflated, and the sender
        assert await ws.receive() == "next"

    await against_raw(net, sender, data, receive)


@SENDERS
@SIZES
@pytest.mark.parametrize("how", ["receive", "read"])
async def test_x14_a_bomb_that_is_wanted_whole_is_too_big(
    net: Any, heap: Any, sender: str, mib: int, how: str
) -> None:
    packed = bomb(mib)

    def data(raw: RawPeer) -> bytes:
        return text("warm", mask=raw.mask) + binary(packed, rsv1=True, mask=raw.mask)

    async def receive(ws: WebSocketStream) -> None:
        assert await ws.receive() == "warm"
        grown = heap()
        with pytest.raises(MessageTooBig):
            if how == "receive":
                await ws.receive()
            async with ws.readable.message() as reader:
                await reader.read()
        assert grown.peak() < 3 * MIB
        assert ws.close_info is not None
        assert ws.close_info.code == 1009
        with pytest.raises(ConnectionBroken):
            await ws.send("more")

    await against_raw(net, sender, data, receive)


# -- X1 --------------------------------------------------------------------------------------


async def cancel_after(scope: anyio.CancelScope, ticks: int) -> None:
    for _ in range(ticks):
        await checkpoint()
    scope.cancel()


@ROLES
@TAKEOVER
async def test_x1_after_a_cancelled_send_the_contexts_are_in_step(
    raw_pair: Any, role: str, takeover: bool
) -> None:
    ahead, payload = pattern(20_000, 1), pattern(30_000, 2)
    outcomes: Counter[bool] = Counter()
    options: dict[str, Any] = {"extensions": NAME, "compression": Deflate(context_takeover=takeover)}
    for ticks in count():
        log = InflatingLog()
        async with anyio.create_task_group() as tasks:
            streams = memory_pair(2048)
            async with raw_pair(role, streams, flow=SMALL_MARKS, close_timeout=5, **options) as (ws, peer):
                tasks.start_soon(ws.send, ahead)
                while not ws.statistics().tasks_waiting_send:
                    await checkpoint()
                with anyio.CancelScope() as scope:
                    tasks.start_soon(log.run, peer)
                    tasks.start_soon(cancel_after, scope, ticks)
                    await ws.send(payload)
                await ws.send("hello" * 100)
                await ws.send(ahead)  # refers to what came before
            tasks.cancel_scope.cancel()
        last = [b"hello" * 100, ahead]
        assert log.messages in ([ahead, *last], [ahead, payload, *last])
        if not scope.cancelled_caught:
            assert payload in log.messages
            break
        outcomes[payload in log.messages] += 1
    assert outcomes[False] > 5, "never cancelled before the hand-over"
    assert outcomes[True] > 5, "never cancelled after the hand-over"


# -- X6 --------------------------------------------------------------------------------------


@SENDERS
@TAKEOVER
async def test_x6_a_bomb_left_early_is_skipped_in_bounded_memory_and_lets_others_run(
    net: Any, heap: Any, sender: str, takeover: bool
) -> None:
    packed, turns = bomb(64), 0
    packer = ZlibPeer("server" if sender == "client" else "client")

    def data(raw: RawPeer) -> bytes:
        after = packer.message(b"after " * 20)
        frames = text("warm", mask=raw.mask) + binary(packed, rsv1=True, mask=raw.mask)
        return frames + text(after, rsv1=True, mask=raw.mask)

    async def receive(ws: WebSocketStream) -> None:
        nonlocal turns

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await checkpoint()

        assert await ws.receive() == "warm"
        grown = heap()
        async with ws.readable.message() as reader:
            assert await reader.receive(1000) == bytes(1000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            assert await ws.receive() == "after " * 20
            tasks.cancel_scope.cancel()
        assert grown.peak() < MIB + MARKS.receive_high_water

    options = Deflate(peer_context_takeover=takeover or sender == "server")
    await against_raw(net, sender, data, receive, compression=options)
    if takeover:
        assert turns > 100  # 64 MiB were inflated


# -- X7 --------------------------------------------------------------------------------------


async def cancelled_call(ws: WebSocketStream, call: Any) -> None:
    """Begin a call that receives, and cancel it when it waits for more."""

    async def cancel_when_waiting() -> None:
        while not ws.statistics().tasks_waiting_receive:
            await checkpoint()
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel_when_waiting)
            await call()
        assert scope.cancelled_caught


@ROLES
@pytest.mark.parametrize("fragmented", [False, True], ids=["one-frame", "fragments"])
async def test_x7_the_first_chunk_is_read_before_the_compressed_message_is_complete(
    raw_pair: Any, role: str, fragmented: bool
) -> None:
    async with raw_pair(role, compression=Deflate(), extensions=NAME) as (ws, peer):
        first, second = ZlibPeer(role).pieces(b"first" * 20, b"second" * 20)
        if fragmented:
            await peer.binary(first, rsv1=True, fin=False)
        else:
            await peer.binary(first, rsv1=True, declared_length=len(first + second))
        async with ws.readable.message() as reader:
            got = b""
            while len(got) < 100:
                got += await reader.receive()
            assert got == b"first" * 20
            await cancelled_call(ws, reader.receive)
            if fragmented:
                await peer.continuation(second)
            else:
                mask, at = peer.mask or bytes(4), len(first)
                await peer.send(bytes(byte ^ mask[(at + i) % 4] for i, byte in enumerate(second)))
            assert await reader.read() == b"second" * 20


@ROLES
async def test_x7_what_a_writer_flushes_is_readable_at_the_other_end(role: str) -> None:
    options = {"compression": Deflate()}
    async with connected_pair(client_options=options, server_options=options) as (client, server):
        ours, theirs = (client, server) if role == "client" else (server, client)
        assert ours.extensions.startswith(NAME)
        async with ours.writable.message() as writer:
            for i in range(10):
                await writer.send(b"chunk %d" % i * 50)
                await writer.flush()
                if i == 0:
                    reading = theirs.readable.message()
                    reader = await reading.__aenter__()
                assert await reader.receive() == b"chunk %d" % i * 50
        with pytest.raises(anyio.EndOfStream):
            await reader.receive()
        await reading.__aexit__(None, None, None)


# -- X20 -------------------------------------------------------------------------------------


@SENDERS
@pytest.mark.parametrize("what", ["zeros", "noise"])
async def test_x20_a_consumer_that_stops_blocks_a_peer_that_compresses(
    heap: Any, sender: str, what: str
) -> None:
    chunk = bytes(65536) if what == "zeros" else pattern(65536, 20)
    most, mark = (1 << 30 if what == "zeros" else 8 * MIB), 64 * 1024
    options: dict[str, Any] = {"compression": Deflate(), "close_timeout": 0}
    options["flow"] = FlowControl(receive_high_water=mark)
    async with connected_pair(client_options=options, server_options=options, streams=memory_pair(4096)) as (
        client,
        server,
    ):
        ours, theirs = (server, client) if sender == "client" else (client, server)
        await theirs.send("warm" * 100)
        assert await ours.receive() == "warm" * 100
        grown, sent = heap(), 0

        async def send() -> None:
            nonlocal sent
            try:
                async with theirs.writable.message() as writer:
                    while sent < most:
                        await writer.send(chunk)
                        sent = writer.bytes_sent
            except ConnectionBroken:
                pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            while not theirs.statistics().tasks_waiting_send or not ours.statistics().reading_paused:
                await checkpoint()
            await anyio.wait_all_tasks_blocked()
            stopped = sent
            assert stopped < most, "it never blocked"
            assert theirs.statistics().tasks_waiting_send == 1
            assert ours.statistics().receive_buffered <= mark + 1024 + 64
            assert grown.peak() < MIB
            grown.stop()
            async with ours.readable.message() as reader:
                while sent == stopped:  # it goes on as soon as there is room again
                    await reader.receive()
            tasks.cancel_scope.cancel()
