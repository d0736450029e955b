"""Table X, rows 1 to 6: what a cancelled call leaves behind.

The sweeps cancel a call after 0, 1, 2, ... turns of the event loop until it ends by itself, so every
moment at which it can be cancelled is met; both outcomes have to occur. The peer is no endpoint of the
library: it puts the messages together from the frames.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial
from itertools import count
from random import Random
from typing import Any

import anyio
import pytest
from anyio import CancelScope, wait_all_tasks_blocked
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from wsstream import ConnectionBroken, FlowControl, MessageAborted, WebSocketStream
from wsstream.testing import Frame, RawPeer, memory_pair, ping

pytestmark = pytest.mark.anyio

SMALL_MARKS = FlowControl(receive_high_water=8192, send_high_water=8192, frame_size=4096)
ROLES = pytest.mark.parametrize("role", ["client", "server"])
Messages = list[str | bytes]
MORE, TEXT, BINARY = 0, 1, 2


def pattern(size: int, seed: int) -> bytes:
    """Bytes in which every shift and every exchange of two parts shows."""
    return Random(seed).randbytes(size)


async def cancel_after(scope: CancelScope, ticks: int) -> None:
    for _ in range(ticks):
        await checkpoint()
    scope.cancel()


async def until_waiting(ws: WebSocketStream, tasks: int) -> None:
    """Until so many tasks wait to send."""
    while ws.statistics().tasks_waiting_send < tasks:
        await checkpoint()


class FrameLog:
    """Reads the frames of a peer, answers its Close, and keeps messages and the frames' headers."""

    def __init__(self) -> None:
        self.messages: Messages = []
        self.unfinished = b""
        self.data_frames = 0
        self.finished_frames = 0
        self.close: Frame | None = None
        self._kind = ""

    async def run(self, peer: RawPeer) -> None:
        while self.close is None:
            frame = await peer.read_frame()
            if frame.kind == "close":
                self.close = frame
                await peer.close(frame.close_code)
            elif frame.kind not in ("ping", "pong"):
                self._add(frame)
        if peer.role == "client":  # the server closes TCP first (section 7.1.1)
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await peer.read_frame()
        await peer.aclose()

    def _add(self, frame: Frame) -> None:
        assert (frame.kind == "continuation") == bool(self._kind), "a message inside another"
        self._kind = self._kind or frame.kind
        self.unfinished += frame.payload
        self.data_frames += 1
        self.finished_frames += frame.fin
        if frame.fin:
            whole, kind, self.unfinished, self._kind = self.unfinished, self._kind, b"", ""
            self.messages.append(whole.decode() if kind == "text" else whole)


# -- X1 --------------------------------------------------------------------------------------


@pytest.mark.heavy_after_first
@ROLES
async def test_x1_a_send_cancelled_at_any_moment_is_whole_or_absent(raw_pair: Any, role: str) -> None:
    ahead, payload = pattern(40_000, 1), pattern(60_000, 2)
    outcomes: Counter[bool] = Counter()
    for ticks in count():
        log, reused = FrameLog(), bytearray(payload)
        async with anyio.create_task_group() as tasks:
            async with raw_pair(role, memory_pair(2048), flow=SMALL_MARKS, close_timeout=5) as (ws, peer):
                tasks.start_soon(ws.send, ahead)
                await until_waiting(ws, 1)
                with anyio.CancelScope() as scope:
                    tasks.start_soon(log.run, peer)
                    tasks.start_soon(cancel_after, scope, ticks)
                    await ws.send(reused)
                reused[:] = bytes(len(reused))  # the caller may use its buffer again
                await ws.send("hello")
            tasks.cancel_scope.cancel()
        assert ws.close_info == (1000, "", True)
        assert log.messages in ([ahead, "hello"], [ahead, payload, "hello"])
        if not scope.cancelled_caught:
            assert payload in log.messages
            break
        outcomes[payload in log.messages] += 1
    assert outcomes[False] > 10, "never cancelled before the hand-over"
    assert outcomes[True] > 10, "never cancelled after the hand-over"


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("sender", ["client", "server"])
async def test_x1_a_send_of_16_mib_cancelled_half_way(net: Any, sender: str) -> None:
    size = 16 << 20
    payload = pattern(size, 3)
    digest = hashlib.sha256(payload).digest()
    cuts = (1, 70_000, size // 2)
    got: list[tuple[str, bytes]] = []
    cancelled = 0
    done = anyio.Event()

    async def send(ws: WebSocketStream) -> None:
        nonlocal cancelled
        for _ in cuts:
            with anyio.CancelScope() as scopes[0]:
                await ws.send(payload)
            cancelled += scopes[0].cancelled_caught
            await ws.send("hello")
        await done.wait()

    async def receive(ws: WebSocketStream) -> None:
        at = iter(cuts)
        async for reader in ws.readable.messages():
            sha, cut = hashlib.sha256(), next(at, 0) if reader.kind == "binary" else 0
            async for chunk in reader:
                sha.update(chunk)
                if cut and reader.bytes_received >= cut:
                    scopes[0].cancel()
                    cut = 0
            got.append((reader.kind, sha.digest()))
            if len(got) == 2 * len(cuts):
                done.set()
                return

    scopes = [anyio.CancelScope()]
    server, client = (receive, send) if sender == "client" else (send, receive)
    async with net.serve(server) as listening, net.connect(listening) as ws:
        await client(ws)
        await done.wait()
    hello = ("text", hashlib.sha256(b"hello").digest())
    assert got == [("binary", digest), hello] * len(cuts)
    assert cancelled >= 2


@pytest.mark.slow
async def test_x1_sends_of_16_mib_cancelled_at_many_moments(net: Any) -> None:
    payload = pattern((16 if net.compression is None else 4) << 20, 4)  # which takes as long
    digest, small = hashlib.sha256(payload).digest(), hashlib.sha256(b"hello").digest()
    got: list[bytes] = []

    async def receive(ws: WebSocketStream) -> None:
        async for reader in ws.readable.messages():
            sha = hashlib.sha256()
            async for chunk in reader:
                sha.update(chunk)
            got.append(sha.digest())

    rounds = 30 if net.compression is None else 15
    async with net.serve(receive) as server, net.connect(server) as ws:
        for i in range(rounds):
            with anyio.move_on_after(0.002 * i):
                await ws.send(payload)
            await ws.send("hello")
    assert got.count(small) == rounds
    before_each_hello = Counter(got[: i + 1].count(digest) for i, one in enumerate(got) if one == small)
    assert set(got) <= {digest, small}
    assert max(before_each_hello.values()) <= 2


# -- X2 --------------------------------------------------------------------------------------


@pytest.mark.heavy_after_first
@ROLES
@pytest.mark.parametrize("size", [None, 110_000])
async def test_x2_a_chunk_cancelled_at_any_moment_is_wholly_in_or_out(
    raw_pair: Any, role: str, size: int | None
) -> None:
    head, chunk, tail = pattern(30_000, 5), pattern(50_000, 6), pattern(80_000, 7)
    outcomes: Counter[bool] = Counter()
    for ticks in count():
        log, reused = FrameLog(), bytearray(chunk)
        async with anyio.create_task_group() as tasks:
            async with raw_pair(role, memory_pair(2048), flow=SMALL_MARKS, close_timeout=5) as (ws, peer):
                declared = None if size is None else len(head) + len(chunk) + len(tail)
                async with ws.writable.message(size=declared) as writer:
                    with anyio.CancelScope() as filling:
                        tasks.start_soon(cancel_after, filling, 40)
                        await writer.send(head)
                    with anyio.CancelScope() as scope:
                        tasks.start_soon(log.run, peer)
                        tasks.start_soon(cancel_after, scope, ticks)
                        await writer.send(reused)
                    reused[:] = bytes(len(reused))
                    inside = writer.bytes_sent == len(head) + len(chunk)
                    await writer.send(tail)
                    if declared is not None and not inside:
                        await writer.send(chunk)
            tasks.cancel_scope.cancel()
        assert filling.cancelled_caught
        assert ws.close_info == (1000, "", True)
        expected = head + chunk + tail if inside else head + tail
        assert log.messages == [expected + chunk if declared and not inside else expected]
        if not scope.cancelled_caught:
            break
        outcomes[inside] += 1
    assert outcomes[False] > 5
    assert outcomes[True] > 5


async def test_x2_over_a_socket_the_writer_goes_on_after_a_cancelled_chunk(net: Any) -> None:
    chunk = pattern(6 << 20, 8)
    received, scopes, sha = 0, [anyio.CancelScope()], hashlib.sha256()

    async def receive(ws: WebSocketStream) -> None:
        nonlocal received
        async with ws.readable.message() as reader:
            async for part in reader:
                sha.update(part)
                received += len(part)
                if received % len(chunk) > len(chunk) // 3:
                    scopes[0].cancel()
        assert await ws.receive() == "and the next message"

    sent = []
    async with net.serve(receive) as server, net.connect(server) as ws:
        async with ws.writable.message() as writer:
            for i in range(4):
                piece = chunk[i:] + chunk[:i]
                before = writer.bytes_sent
                with anyio.CancelScope() as scopes[0]:
                    await writer.send(piece)
                assert writer.bytes_sent - before in (0, len(piece))
                if writer.bytes_sent > before:
                    sent.append(piece)
        await ws.send("and the next message")
        assert (await ws.wait_closed()).code == 1000
    assert sent
    assert received == sum(map(len, sent))
    assert sha.digest() == hashlib.sha256(b"".join(sent)).digest()


# -- X3 --------------------------------------------------------------------------------------


@pytest.mark.quick_with_compression
@ROLES
@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("how", ["exception", "cancelled"])
async def test_x3_a_message_left_early_never_gets_its_end(
    raw_pair: Any, role: str, kind: Any, how: str
) -> None:
    log = FrameLog()
    async with anyio.create_task_group() as tasks:
        async with raw_pair(role, close_timeout=5) as (ws, peer):
            tasks.start_soon(log.run, peer)
            with anyio.CancelScope() as scope:
                try:
                    async with ws.writable.message(kind) as writer:
                        await writer.send("half a message" if kind == "text" else b"half a message")
                        await writer.flush()
                        if how == "exception":
                            raise LookupError
                        scope.cancel()
                        await checkpoint()
                except LookupError:
                    pass
            for call in (ws.send("more"), ws.writable.drain(), ws.ping(), ws.wait_closed(), ws.receive()):
                with pytest.raises(ConnectionBroken) as raised:
                    await call
                assert isinstance(raised.value.__cause__, MessageAborted)
                assert raised.value.code == 1011
            with pytest.raises(ConnectionBroken):
                async with ws.writable.message():
                    pass
        tasks.cancel_scope.cancel()
    assert log.data_frames > 0
    assert log.finished_frames == 0
    assert log.unfinished == b"half a message"
    assert log.close is not None
    assert log.close.close_code == 1011


async def test_x3_left_while_the_peer_reads_nothing(net: Any) -> None:
    log, go = FrameLog(), anyio.Event()

    async def peer(stream: ByteStream) -> None:
        async with await net.as_server(stream) as raw:
            await go.wait()
            await log.run(raw)

    chunk = pattern(1 << 20, 9)
    async with net.raw_server(peer) as url, net.connect(url) as ws:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks, ws.writable.message() as writer:

                async def cancel_when_blocked() -> None:
                    await until_waiting(ws, 1)
                    scope.cancel()

                tasks.start_soon(cancel_when_blocked)
                while True:
                    await writer.send(chunk)
        handed_over = writer.bytes_sent
        go.set()
        with pytest.raises(ConnectionBroken) as raised:
            await ws.wait_closed()
        assert isinstance(raised.value.__cause__, MessageAborted)
    assert log.finished_frames == 0
    assert log.close is not None
    assert log.close.close_code == 1011
    sent = chunk * (handed_over // len(chunk))
    assert sent.startswith(log.unfinished)


async def test_x3_a_reader_at_the_other_end_sees_a_broken_connection(net: Any) -> None:
    ended: list[BaseException] = []

    async def read(ws: WebSocketStream) -> None:
        try:
            async with ws.readable.message() as reader:
                async for _ in reader:
                    pass
            ended.append(AssertionError("the message had an end"))
        except ConnectionBroken as error:
            ended.append(error)

    async with net.serve(read) as server:
        with pytest.raises(LookupError):
            async with net.connect(server) as ws, ws.writable.message() as writer:
                await writer.send(bytes(100_000))
                await writer.flush()
                raise LookupError
    assert [type(error) for error in ended] == [ConnectionBroken]
    assert isinstance(ended[0], ConnectionBroken)
    assert ended[0].code == 1011


# -- X4 --------------------------------------------------------------------------------------


async def cancel_when_waiting(ws: WebSocketStream, scope: CancelScope) -> None:
    while not ws.statistics().tasks_waiting_receive:
        await checkpoint()
    scope.cancel()


async def cancelled_call(ws: WebSocketStream, call: Any) -> None:
    """Begin a call that receives, and cancel it when it waits for more."""
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel_when_waiting, ws, scope)
            await call()
        assert scope.cancelled_caught


@ROLES
async def test_x4_receive_cancelled_between_fragments_loses_nothing(raw_pair: Any, role: str) -> None:
    parts = ["zwölf ", "Boxkämpfer ", "", "jagen ", "Viktor"]
    async with raw_pair(role) as (ws, peer):
        for call in (ws.receive, ws.readable.receive, ws.__anext__, ws.readable.__anext__):
            await cancelled_call(ws, call)
            await peer.text(parts[0], fin=False)
            for part in parts[1:]:
                await cancelled_call(ws, call)
                await peer.continuation(part, fin=False)
            await cancelled_call(ws, call)
            await peer.continuation("!")
            await peer.binary(b"next")
            assert await call() == "".join(parts) + "!"
            assert await call() == b"next"


@ROLES
async def test_x4_receive_cancelled_at_every_byte_loses_nothing(raw_pair: Any, role: str) -> None:
    async with raw_pair(role) as (ws, peer):
        start = peer.encode(TEXT, "añb", fin=False) + ping(b"p", mask=peer.mask)
        middle = peer.encode(MORE, b"c\xf0\x9f", fin=False)
        fragmented = start + middle + peer.encode(MORE, b"\x98\x80")
        whole = bytes(range(200))
        for data, message in ((fragmented, "añbc😀"), (peer.encode(BINARY, whole), whole)):
            for byte in data:
                await cancelled_call(ws, ws.receive)
                await peer.send(bytes([byte]))
            assert await ws.receive() == message


@pytest.mark.quick_with_compression
async def test_x4_another_method_goes_on_where_receive_was_cancelled(raw_pair: Any) -> None:
    async with raw_pair() as (ws, peer):
        await peer.binary(b"one ", fin=False)
        await cancelled_call(ws, ws.receive)
        await peer.continuation(b"two ", fin=False)
        await cancelled_call(ws, ws.receive)
        async with ws.readable.message() as reader:
            assert await reader.receive(2) == b"on"
            await peer.continuation(b"three")
            assert await reader.read() == b"e two three"
        await peer.text("next")
        assert await ws.receive() == "next"


async def test_x4_entering_a_message_cancelled_loses_nothing(raw_pair: Any) -> None:
    async with raw_pair() as (ws, peer):

        async def enter() -> str:
            async with ws.readable.message() as reader:
                return (await reader.read()).decode()

        await cancelled_call(ws, enter)
        data = peer.encode(TEXT, "hi")
        await peer.send(data[:1])  # half a header
        await cancelled_call(ws, enter)
        await peer.send(data[1:])
        assert await enter() == "hi"


# -- X5 --------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.heavy_after_first
@ROLES
async def test_x5_a_chunk_read_cancelled_at_any_moment_loses_no_byte(raw_pair: Any, role: str) -> None:
    """The bytes arrive in the very turn of the event loop in which the read is cancelled, or near it."""
    pieces = [pattern(size, 10 + size) for size in (1, 5000, 70_000)]
    caught: Counter[bool] = Counter()
    for ticks in range(40):
        got = b""
        async with raw_pair(role) as (ws, peer), anyio.create_task_group() as tasks:
            await peer.binary(b"begin", fin=False)
            async with ws.readable.message() as reader:
                assert await reader.receive() == b"begin"
                for i, piece in enumerate(pieces):
                    arrive = partial(peer.continuation, piece, fin=piece is pieces[-1])
                    with anyio.CancelScope() as scope:
                        tasks.start_soon(cancel_after, scope, ticks)
                        tasks.start_soon(arrive)
                        got += await reader.receive()
                    caught[scope.cancelled_caught] += 1
                    while len(got) < sum(map(len, pieces[: i + 1])):
                        got += await reader.receive()
                with pytest.raises(anyio.EndOfStream):
                    await reader.receive()
            assert got == b"".join(pieces)
            await wait_all_tasks_blocked()  # the last task that sends may not have returned yet
            await peer.text("next")
            assert await ws.receive() == "next"
    assert caught[True] > 3
    assert caught[False] > 3


@pytest.mark.heavy
async def test_x5_over_a_socket_reads_cancelled_all_the_time_lose_no_byte(net: Any) -> None:
    payload = pattern(1 << 20, 11)

    async def send(ws: WebSocketStream) -> None:
        async with ws.writable.message() as writer:
            for start in range(0, len(payload), 100):
                await writer.send(payload[start : start + 100])
                await checkpoint()
        await ws.send("next")
        with pytest.raises(anyio.EndOfStream):
            await ws.receive()

    got, cancelled = bytearray(), 0
    async with net.serve(send) as server, net.connect(server) as ws:
        async with ws.readable.message() as reader, anyio.create_task_group() as tasks:
            for turn in count():
                with anyio.CancelScope() as scope:
                    tasks.start_soon(cancel_after, scope, turn % 2)
                    try:
                        got += await reader.receive()
                    except anyio.EndOfStream:
                        break
                cancelled += scope.cancelled_caught
            tasks.cancel_scope.cancel()
        assert await ws.receive() == "next"
    assert got == payload
    assert cancelled > 20


@pytest.mark.quick_with_compression
@pytest.mark.parametrize("method", ["receive", "__anext__", "read"])
async def test_x5_the_reader_goes_on_after_cancelled_reads(raw_pair: Any, method: str) -> None:
    async with raw_pair() as (ws, peer):
        await peer.text(b"\xe2", fin=False)
        got = b""
        async with ws.readable.message() as reader:
            if method != "read":
                got += await reader.receive()
            for byte in b"\x82\xac 1":
                await cancelled_call(ws, getattr(reader, method))
                await peer.continuation(bytes([byte]), fin=False)
                if method != "read":
                    got += await reader.receive()
            await cancelled_call(ws, getattr(reader, method))
            await peer.continuation(b"0")
            got += await reader.read()
            assert reader.complete
        assert got.decode() == "€ 10"


# -- X6 --------------------------------------------------------------------------------------


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("fragmented", [False, True], ids=["one-frame", "fragments"])
async def test_x6_the_rest_of_a_message_left_early_is_skipped_in_bounded_memory(
    net: Any, heap: Any, fragmented: bool
) -> None:
    size, block = 24 << 20, pattern(65536, 12)

    async def send(ws: WebSocketStream) -> None:
        for round_ in range(2):
            total = size if round_ else 1 << 20  # the first warms up
            async with ws.writable.message(size=None if fragmented else total) as writer:
                for _ in range(total // len(block)):
                    await writer.send(block)
            await ws.send(f"after {round_}")
        await ws.wait_closed()

    async with net.serve(send) as server, net.connect(server) as ws:
        for round_ in range(2):
            grown = heap() if round_ else None
            async with ws.readable.message() as reader:
                assert len(await reader.receive(1000)) == 1000
            assert not reader.complete
            with pytest.raises(anyio.ClosedResourceError):
                await reader.receive()
            assert await ws.receive() == f"after {round_}"
            if grown is not None:
                assert grown.peak() < 2 << 20
        assert ws.statistics().bytes_received > size


@pytest.mark.heavy_after_first
@ROLES
async def test_x6_left_at_every_point_the_next_message_is_intact(raw_pair: Any, role: str) -> None:
    parts = [b"abc", b"", b"defg", b"h"]
    for read in range(len(b"".join(parts)) + 1):
        for arrived in range(len(parts) + 1):
            async with raw_pair(role) as (ws, peer):
                await peer.binary(b"", fin=False)
                for part in parts[:arrived]:
                    await peer.continuation(part, fin=False)
                async with ws.readable.message() as reader:
                    for _ in range(min(read, len(b"".join(parts[:arrived])))):
                        await reader.receive(1)
                for part in parts[arrived:]:
                    await peer.continuation(part, fin=False)
                await peer.continuation(b"")
                await peer.text("", fin=False)
                await peer.continuation("next")
                assert await ws.receive() == "next"


@pytest.mark.quick_with_compression
@pytest.mark.parametrize("leave", ["exception", "cancelled", "next", "aclose"])
async def test_x6_however_the_reader_is_left(raw_pair: Any, leave: str) -> None:
    async with raw_pair() as (ws, peer):
        await peer.binary(b"left", fin=False)
        while not ws.statistics().receive_buffered:  # what is left has to be entered first
            await checkpoint()
        if leave == "exception":
            with pytest.raises(LookupError):
                async with ws.readable.message() as reader:
                    raise LookupError
        elif leave == "cancelled":

            async def read_all() -> None:
                async with ws.readable.message() as reader:
                    async for _ in reader:
                        pass

            await cancelled_call(ws, read_all)
        elif leave == "aclose":
            async with ws.readable.message() as reader:
                await reader.aclose()
        await peer.continuation(b"over")
        await peer.text("next")
        if leave == "next":
            readers = ws.readable.messages()
            first = await anext(readers)
            assert await first.receive(1) == b"l"
            second = await anext(readers)
            assert await second.read() == b"next"
        else:
            assert await ws.receive() == "next"
