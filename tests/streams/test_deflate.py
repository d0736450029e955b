"""Compressed messages through both streams: what arrives, what is on the wire, what a hostile peer gets.

What the bytes of a message may be is in tests/protocol/test_deflate.py and tests/compliance/rfc7692.
"""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from kit.zlib_peer import NAME as TAKEOVER
from kit.zlib_peer import NO_TAKEOVER, TAIL, ZlibPeer

import wsstream
from wsstream import Deflate, FlowControl
from wsstream.testing import Frame, connected_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

HEADER = "Sec-WebSocket-Extensions"
BOTH_ANSWERS = pytest.mark.parametrize("answer", [TAKEOVER, NO_TAKEOVER], ids=["takeover", "no takeover"])
ALWAYS = Deflate(min_size=0)
SETTINGS = {
    "usual": ALWAYS,
    "no takeover": Deflate(min_size=0, context_takeover=False, peer_context_takeover=False),
    "small": Deflate(min_size=0, window_bits=9, peer_window_bits=10, mem_level=1, context_takeover=False),
    "stored": Deflate(min_size=0, level=0),
}
SETTINGS_OF_BOTH = pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
BOMB = 64 << 20  # bytes
NOISE = random.Random(7692).randbytes(300_000)


def pair(
    options: Deflate = ALWAYS, **both: Any
) -> AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, wsstream.WebSocketStream]]:
    both = {"compression": options, "max_message_size": 1 << 24, **both}
    return connected_pair(client_options=both, server_options=both)


@pytest.fixture
def raw_server(raw_server: Any) -> Any:
    """The peer accepts compression with `answer`."""

    def start(answer: str = TAKEOVER, compression: Deflate = ALWAYS, **options: Any) -> Any:
        return raw_server(headers=[(HEADER, answer)], compression=compression, **options)

    return start


def compressor(answer: str = TAKEOVER) -> Callable[[bytes], bytes]:
    """Makes the payloads of a server's compressed messages."""
    return ZlibPeer("client", answer).message


def inflated(frames: list[Frame]) -> bytes:
    return zlib.decompressobj(-15).decompress(b"".join(frame.payload for frame in frames) + TAIL)


@asynccontextmanager
async def turns() -> AsyncIterator[list[int]]:
    """Counts the turns of another task."""
    count = [0]

    async def take() -> None:
        while True:
            await checkpoint()
            count[0] += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        yield count
        tasks.cancel_scope.cancel()


async def receive_in_chunks(ws: wsstream.WebSocketStream, size: int) -> str | bytes:
    async with ws.readable.message() as reader:
        chunks = []
        try:
            while True:
                chunks.append(await reader.receive(size))
                assert 0 < len(chunks[-1]) <= size
        except anyio.EndOfStream:
            assert reader.complete
        assert reader.bytes_received == sum(map(len, chunks))
        data = b"".join(chunks)
        return data.decode() if reader.kind == "text" else data


# -- what arrives -------------------------------------------------------------------------------


MESSAGES: list[str | bytes] = [
    "", b"", "a", b"a", "ä€🎉" * 30_000, NOISE, bytes(1_000_000), "a", b"again" * 20, "",
]  # fmt: skip


@pytest.mark.heavy_after_first
@SETTINGS_OF_BOTH
@pytest.mark.parametrize("chunk", [None, 1000, 1 << 70])
async def test_all_messages_arrive_in_both_directions(options: Deflate, chunk: int | None) -> None:
    async def send(ws: wsstream.WebSocketStream) -> None:
        for message in MESSAGES:
            await ws.send(message)

    async def receive(ws: wsstream.WebSocketStream) -> None:
        for message in MESSAGES:
            seen = await (ws.receive() if chunk is None else receive_in_chunks(ws, chunk))
            assert seen == message

    async with pair(options) as (client, server):
        assert client.extensions == server.extensions
        assert client.extensions.startswith("permessage-deflate")
        async with anyio.create_task_group() as tasks:
            for ws in (client, server):
                tasks.start_soon(send, ws)
                tasks.start_soon(receive, ws)


@SETTINGS_OF_BOTH
async def test_streamed_messages_arrive_whatever_the_chunks(options: Deflate) -> None:
    text = "ä€🎉" * 20_000
    data = text.encode()

    async def send(client: wsstream.WebSocketStream) -> None:
        for size in (1, 1000, 70_000):
            async with client.writable.message("text") as writer:
                for start in range(0, len(data), size) if size > 1 else range(1000):
                    await writer.send(data[start : start + size] if size > 1 else b"x")
                    if size == 1 and start % 100 == 0:
                        await writer.flush()
            async with client.writable.message():
                pass

    async with pair(options) as (client, server), anyio.create_task_group() as tasks:
        tasks.start_soon(send, client)
        assert [await server.receive() for _ in range(6)] == ["x" * 1000, b"", text, b"", text, b""]


async def test_only_one_side_with_compression_means_none() -> None:
    for sides in ((ALWAYS, None), (None, ALWAYS)):
        async with connected_pair(
            client_options={"compression": sides[0]}, server_options={"compression": sides[1]}
        ) as (client, server):
            assert client.extensions == server.extensions == ""
            await client.send("a" * 1000)
            assert await server.receive() == "a" * 1000


# -- what is on the wire ------------------------------------------------------------------------


async def test_min_size_also_holds_for_messages_that_wait_or_are_fragmented(raw_server: Any) -> None:
    flow = FlowControl(frame_size=100)
    async with raw_server(NO_TAKEOVER, Deflate(min_size=1000), flow=flow) as (ws, peer):
        await ws.send(bytes(250))
        assert [(await peer.read_frame()).rsv1 for _ in range(3)] == [False] * 3
        await ws.send(bytes(1000))
        frames = [await peer.read_frame() for _ in range(10)]
        assert [frame.rsv1 for frame in frames] == [True] + [False] * 9
        assert inflated(frames) == bytes(1000)
        async with anyio.create_task_group() as tasks:
            async with ws.writable.message() as writer:
                tasks.start_soon(ws.send, b"short")
                await anyio.wait_all_tasks_blocked()
                await writer.send(b"streamed")
                await writer.flush()
            frames = [await peer.read_frame() for _ in range(2)]
            assert (frames[0].rsv1, inflated(frames)) == (True, b"streamed"), "its size is not known"
            frame = await peer.read_frame()
            assert (frame.rsv1, frame.payload) == (False, b"short")


async def test_a_message_can_be_sent_without_compression(raw_server: Any) -> None:
    async with raw_server() as (ws, peer):
        await ws.send(bytes(1000), compress=False)
        await ws.writable.send("a" * 1000, compress=False)
        async with ws.writable.message(compress=False) as writer:
            await writer.send(bytes(70_000))
        frames = [await peer.read_frame() for _ in range(3)]
        while not frames[-1].fin:
            frames.append(await peer.read_frame())
        assert not any(frame.rsv1 for frame in frames)
        assert b"".join(frame.payload for frame in frames) == bytes(1000) + b"a" * 1000 + bytes(70_000)
        await ws.send("Hello")
        frame = await peer.read_frame()
        assert (frame.rsv1, frame.payload) == (True, bytes.fromhex("f248cdc9c90700")), (
            "the first of the context"
        )


async def test_a_message_of_declared_size_is_never_compressed(raw_server: Any) -> None:
    async with raw_server() as (ws, peer):
        async with ws.writable.message("text", size=1000) as writer:
            await writer.send("a" * 1000)
        frame = await peer.read_frame()
        assert (frame.fin, frame.rsv1, frame.payload) == (True, False, b"a" * 1000)


# -- limits -------------------------------------------------------------------------------------


@BOTH_ANSWERS
@pytest.mark.parametrize("size", [0, 1, 65536, 65537])
async def test_max_message_size_holds_to_the_byte_after_inflation(
    raw_server: Any, answer: str, size: int
) -> None:
    for whole in (True, False):
        compressed = compressor(answer)
        async with raw_server(answer, max_message_size=size) as (ws, peer):

            async def receive(ws: wsstream.WebSocketStream = ws, whole: bool = whole) -> str | bytes:
                if whole:
                    return await ws.receive()
                async with ws.readable.message() as reader:
                    return await reader.read()

            await peer.binary(compressed(bytes(size)), rsv1=True)
            assert await receive() == bytes(size)
            await peer.binary(compressed(bytes(size + 1)), rsv1=True)
            with pytest.raises(wsstream.MessageTooBig):
                await receive()
            assert (await peer.read_frame()).close_code == 1009


@pytest.mark.heavy
@pytest.mark.heavy_after_first
async def test_a_bomb_is_too_big_for_whole_and_fine_in_chunks(raw_server: Any) -> None:
    data = compressor()(bytes(BOMB))
    async with raw_server() as (ws, peer):
        await peer.binary(data, rsv1=True)
        with pytest.raises(wsstream.MessageTooBig):
            await ws.receive()
    async with raw_server() as (ws, peer):
        await peer.binary(data, rsv1=True)
        async with ws.readable.message() as reader, turns() as count:
            total = 0
            async for chunk in reader:
                assert len(chunk) <= 256 * 1024
                total += len(chunk)
        assert total == BOMB
        assert count[0] >= 50, "others get a turn for each MiB"


async def test_one_step_gives_no_more_than_256_kib_whatever_is_asked_for(raw_server: Any) -> None:
    async with raw_server() as (ws, peer):
        await peer.binary(compressor()(bytes(1 << 20)), rsv1=True)
        async with ws.readable.message() as reader:
            assert len(await reader.receive(1 << 40)) == 256 << 10


async def test_a_chunk_is_as_large_as_asked_for_while_there_is_enough_and_tells_the_end(
    raw_server: Any,
) -> None:
    async with raw_server() as (ws, peer):
        await peer.binary(compressor()(NOISE[:100_000]), rsv1=True)
        await anyio.wait_all_tasks_blocked()
        async with ws.readable.message() as reader:
            assert await reader.receive(60_000) == NOISE[:60_000]
            assert not reader.complete
            assert await reader.receive(60_000) == NOISE[60_000:100_000]
            assert reader.complete


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("whole", ["receive", "read"])
async def test_a_whole_message_without_a_limit_is_inflated_in_steps(raw_server: Any, whole: str) -> None:
    """Other tasks have their turn, and a step that was cancelled is not lost."""
    async with raw_server(max_message_size=None) as (ws, peer):
        await peer.binary(compressor()(bytes(BOMB >> 1)), rsv1=True)
        await anyio.wait_all_tasks_blocked()
        async with turns() as count, AsyncExitStack() as stack:
            receive = ws.receive
            if whole == "read":
                reader = await stack.enter_async_context(ws.readable.message())
                receive = reader.read
            for _ in range(3):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await receive()
                assert scope.cancelled_caught
            message = await receive()
        assert len(message) == BOMB >> 1
        assert count[0] >= 100


async def test_a_message_that_was_begun_whole_can_be_gone_on_with_in_chunks(raw_server: Any) -> None:
    async with raw_server(max_message_size=None) as (ws, peer):
        await peer.binary(compressor()(bytes(1 << 20)), rsv1=True)
        await anyio.wait_all_tasks_blocked()
        async with ws.readable.message() as reader:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await reader.read()
            assert scope.cancelled_caught
            sizes = [len(chunk) async for chunk in reader]
        assert sum(sizes) == 1 << 20
        assert max(sizes) == 256 * 1024


@BOTH_ANSWERS
@pytest.mark.parametrize("size", [0, 100, 200_000])
async def test_pipe_sends_a_compressed_message_that_is_here_whole_as_one_frame(
    raw_server: Any, answer: str, size: int
) -> None:
    sent = compressor(answer)(NOISE[:size])
    async with raw_server(answer) as (source, peer), raw_server() as (sink, end):
        await peer.binary(sent, rsv1=True)
        await peer.close()
        await anyio.wait_all_tasks_blocked()
        await wsstream.pipe(source, sink)
        frames = [await end.read_frame()]
        while not frames[-1].fin:
            frames.append(await end.read_frame())
        assert inflated(frames) == NOISE[:size]
        assert len(frames) == max(1, -(-size // 65536))


@BOTH_ANSWERS
async def test_contexts_are_given_back_when_the_peer_has_closed_and_all_was_read(
    raw_server: Any, answer: str
) -> None:
    """Each compressor takes more than 100 KiB and each decompressor its window of 32 KiB."""
    compressed = compressor(answer)
    messages = [compressed(b"Hello"), compressed(b"Hello")]
    del compressed
    async with AsyncExitStack() as stack:
        open_pairs = [await stack.enter_async_context(raw_server(answer)) for _ in range(5)]
        tracemalloc.start()
        try:
            for ws, peer in open_pairs:
                await ws.send("Hello")
                for message in messages:
                    await peer.text(message, rsv1=True)
                await peer.close()
            await anyio.wait_all_tasks_blocked()
            for ws, _ in open_pairs:
                assert await ws.receive() == "Hello"
                assert await ws.receive() == "Hello"
            grown = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert grown < 5 * 20_000


@pytest.mark.heavy
async def test_compressing_a_large_message_lets_other_tasks_run(raw_server: Any) -> None:
    async with raw_server() as (ws, peer), turns() as count:
        await ws.send(bytes(BOMB))
        while not (await peer.read_frame()).fin:
            pass
        assert count[0] >= 200, "others get a turn for each 256 KiB"


# -- skipping -----------------------------------------------------------------------------------


@BOTH_ANSWERS
@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("taken", [0, 1, 1000, 70_001])
async def test_the_message_after_a_skipped_one_is_intact(
    raw_server: Any, answer: str, kind: str, taken: int
) -> None:
    """Without takeover compressed data is dropped, with it the window has to be kept."""
    message = ("äöü" * 30_000).encode() + b"needle in the window" * 3
    following = message[-3000:]
    compressed = compressor(answer)
    data, more = compressed(message), compressed(following)
    send = 1 if kind == "text" else 2
    for cut in (0, 1, len(data) // 2, len(data) - 1, len(data)):
        async with raw_server(answer) as (ws, peer):
            await peer.frame(send, data[:cut], rsv1=True, fin=False)
            if cut == len(data):
                await peer.continuation(b"")
            async with anyio.create_task_group() as tasks, ws.readable.message() as reader:
                if cut < len(data):
                    await anyio.wait_all_tasks_blocked()
                    tasks.start_soon(peer.continuation, data[cut:])
                got = 0
                while got < taken:
                    got += len(await reader.receive(taken - got))
            await peer.frame(send, more, rsv1=True)
            seen = await ws.receive()
            assert (seen.encode() if isinstance(seen, str) else seen) == following


@BOTH_ANSWERS
async def test_leaving_inside_a_code_point_is_no_error(raw_server: Any, answer: str) -> None:
    compressed = compressor(answer)
    async with raw_server(answer) as (ws, peer):
        await peer.text(compressed("€uro".encode()), rsv1=True)
        await peer.text(compressed("€uro".encode()), rsv1=True)
        await anyio.wait_all_tasks_blocked()
        async with ws.readable.message() as reader:
            assert await reader.receive(1) == b"\xe2"
        assert await ws.receive() == "€uro"
        assert ws.close_info is None


@pytest.mark.heavy
@BOTH_ANSWERS
async def test_skipping_lets_other_tasks_run(raw_server: Any, answer: str) -> None:
    compressed = compressor(answer)
    data, more = compressed(bytes(BOMB)), compressed(b"Hello")
    async with raw_server(answer) as (ws, peer):
        await peer.binary(data, rsv1=True)
        await peer.text(more, rsv1=True)
        await anyio.wait_all_tasks_blocked()
        async with ws.readable.message() as reader:
            assert await reader.receive(10) == bytes(10)
        async with turns() as count:
            assert await ws.receive() == "Hello"
        if answer == TAKEOVER:
            assert count[0] >= 250, "others get a turn for each 256 KiB"


async def test_a_skip_that_is_cancelled_goes_on_later(raw_server: Any) -> None:
    compressed = compressor()
    data, more = compressed(bytes(BOMB >> 3)), compressed(bytes(100))
    async with raw_server() as (ws, peer):
        await peer.binary(data, rsv1=True)
        await peer.binary(more, rsv1=True)
        await anyio.wait_all_tasks_blocked()
        async with ws.readable.message():
            pass
        for _ in range(5):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await ws.receive()
            assert scope.cancelled_caught
        assert await ws.receive() == bytes(100)


async def test_a_skipped_message_that_never_ends_is_not_kept(raw_server: Any) -> None:
    noise = compressor()(NOISE * 10)
    async with raw_server() as (ws, peer), anyio.create_task_group() as tasks:
        await peer.binary(noise[:1000], rsv1=True, fin=False)
        async with ws.readable.message() as reader:
            await reader.receive(1)
        tasks.start_soon(peer.continuation, noise[1000:])
        with anyio.move_on_after(10):
            await ws.receive()
            pytest.fail("there is no other message")
        await anyio.wait_all_tasks_blocked()
        assert ws.statistics().receive_buffered == 0


# -- violations ---------------------------------------------------------------------------------


NOT_UTF8 = [b"ab\xe2\x82", b"a" * 70_000 + b"\xc3" + b"a" * 70_000]


@BOTH_ANSWERS
@pytest.mark.parametrize("text", NOT_UTF8, ids=["cut off", "far in"])
async def test_inflated_text_that_is_not_utf8_breaks_the_connection(
    raw_server: Any, answer: str, text: bytes
) -> None:
    data = compressor(answer)(text)
    for chunked in (False, True):
        async with raw_server(answer) as (ws, peer):
            await peer.text(data, rsv1=True)
            with pytest.raises(wsstream.ConnectionBroken) as caught:
                await (receive_in_chunks(ws, 100) if chunked else ws.receive())
            assert isinstance(caught.value.__cause__, wsstream.InvalidUTF8)
            assert caught.value.info.code == 1007
            assert (await peer.read_frame()).close_code == 1007
            with pytest.raises(wsstream.ConnectionBroken) as again:
                await ws.receive()
            assert isinstance(again.value.__cause__, wsstream.InvalidUTF8)


async def test_inflated_text_is_handed_out_up_to_what_is_wrong(raw_server: Any) -> None:
    async with raw_server() as (ws, peer):
        await peer.text(compressor()(b"ab\xffcd"), rsv1=True)
        async with ws.readable.message() as reader:
            assert await reader.receive(2) == b"ab"
            with pytest.raises(wsstream.ConnectionBroken):
                await reader.receive(1)


@BOTH_ANSWERS
@pytest.mark.parametrize("skipped", [False, True])
async def test_data_that_is_not_deflate_breaks_the_connection(
    raw_server: Any, answer: str, skipped: bool
) -> None:
    async with raw_server(answer) as (ws, peer):
        if skipped and answer == NO_TAKEOVER:
            return  # then it is not looked at
        await peer.binary(b"\x07garbage", rsv1=True)
        await anyio.wait_all_tasks_blocked()
        if skipped:
            async with ws.readable.message():
                pass
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            await ws.receive()
        assert isinstance(caught.value.__cause__, wsstream.ProtocolViolation)
        assert caught.value.info.code == 1002
        assert (await peer.read_frame()).close_code == 1002


@pytest.mark.parametrize("bad", [b"\xff", b"a" * 70_000 + b"\xff" + b"a" * 70_000], ids=["short", "long"])
async def test_nothing_after_a_wrong_message_is_handed_out_though_the_peer_has_closed(
    raw_server: Any, bad: bytes
) -> None:
    compressed = compressor()
    async with raw_server() as (ws, peer):
        await peer.text(compressed(bad), rsv1=True)
        await peer.text(compressed(b"behind"), rsv1=True)
        await peer.close(1000)
        await anyio.wait_all_tasks_blocked()
        assert ws.close_info == (1000, "", True)
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            await receive_in_chunks(ws, 1 << 20)
        assert isinstance(caught.value.__cause__, wsstream.InvalidUTF8)
        with pytest.raises(wsstream.StreamEnded):
            await ws.receive()


# -- cancellation -------------------------------------------------------------------------------


@SETTINGS_OF_BOTH
async def test_a_cancelled_send_keeps_both_ends_in_step(options: Deflate) -> None:
    """A message whose send was cancelled arrives whole or not at all, and those behind it are intact."""
    flow = FlowControl(send_high_water=1000, receive_high_water=1000)
    messages = [random.Random(n).randbytes(20_000) for n in range(40)]
    done: list[bytes] = []
    async with pair(options, flow=flow) as (client, server):
        for message in messages:
            with anyio.move_on_after(1):
                await client.send(message)
                done.append(message)
        assert 0 < len(done) < len(messages) - 20, "most have been cancelled"
        seen: list[str | bytes] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send, "the end")
            while (received := await server.receive()) != "the end":
                seen.append(received)
        assert seen == [message for message in messages if message in seen]
        assert set(done) <= set(seen)
        assert len(seen) <= len(done) + 1, "one may have been handed over when its send was cancelled"


async def test_cancelled_receives_lose_nothing_whatever_receives_next(raw_server: Any) -> None:
    message = NOISE[:600] + bytes(3000)
    compressed = compressor()
    async with raw_server() as (ws, peer):
        for _ in range(2):
            data = compressed(message)
            await peer.binary(data[:1], rsv1=True, fin=False)
            for start in range(1, len(data), 97):
                await peer.continuation(data[start : start + 97], fin=False)
                with anyio.move_on_after(1) as scope:
                    await ws.receive()
                assert scope.cancelled_caught
            got = b""
            async with ws.readable.message() as reader:
                got += await reader.receive(7)
                with anyio.move_on_after(1):
                    await reader.read()
                got += await reader.receive(7)
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    got += await reader.receive(7)  # what is here is given without waiting
                await peer.continuation(b"")
                got += await reader.read()
            assert got == message
