"""Receiving: whole messages, messages chunk by chunk, and what a second task may not do."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.text import TextReceiveStream
from kit.endpoints import against_peer

import wsstream
from wsstream.testing import EXAMPLE_KEY, connected_pair, frame, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def send_all(ws: wsstream.WebSocketStream, *messages: str | bytes) -> None:
    for message in messages:
        await ws.send(message)


async def test_a_whole_message_and_a_streamed_one_can_be_received_either_way() -> None:
    async with connected_pair() as (client, server):
        for _ in range(2):
            await client.send("whole")
            async with client.writable.message("text") as writer:
                await writer.send("str")
                await writer.send(b"eamed")
        assert [await server.receive(), await server.receive()] == ["whole", "streamed"]
        async with server.readable.message() as reader:
            assert (reader.kind, await reader.read(), reader.complete) == ("text", b"whole", True)
        async with server.readable.message() as reader:
            assert b"".join([chunk async for chunk in reader]) == b"streamed"
            assert reader.bytes_received == 8


async def test_iterating_over_a_reader_gives_what_is_here_in_chunks_of_256_kib_at_most() -> None:
    """More is here where it was put together for a call that was cancelled."""
    async with (
        connected_pair(server_options={"max_message_size": None}) as (client, server),
        client.writable.message() as writer,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(writer.send, bytes(1_000_000))
        async with server.readable.message() as reader:
            with anyio.move_on_after(1):
                await reader.read()
            await writer.aclose()
            sizes = [len(chunk) async for chunk in reader]
    assert sum(sizes) == 1_000_000
    assert sizes[:3] == [256 * 1024] * 3


@pytest.mark.heavy
async def test_small_chunks_are_counted_as_small_between_two_turns_of_other_tasks() -> None:
    async with connected_pair(streams=memory_pair(1 << 20)) as (client, server):
        async with client.writable.message() as writer:
            for _ in range(3000):
                await writer.send(b"x")
                await writer.flush()
        await anyio.wait_all_tasks_blocked()
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        async with server.readable.message() as reader, anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            assert [chunk async for chunk in reader] == [b"x"] * 3000
            tasks.cancel_scope.cancel()
        assert 8 <= turns <= 40


async def test_a_step_of_iterating_that_is_never_awaited_takes_no_message() -> None:
    """As in a task of asyncio that is cancelled before it starts, for example by ``wait_for(..., 0)``."""
    async with connected_pair() as (client, server):
        await client.send("one")
        while not server.readable._queue:
            await anyio.lowlevel.checkpoint()
        step = anext(aiter(server.readable))
        step.close()  # type: ignore[attr-defined]
        assert await server.receive() == "one"


async def test_messages_ends_with_the_connection() -> None:
    async with connected_pair() as (client, server):
        await client.send(b"one")
        await client.send(b"")
        client.begin_close(3001, "done")
        seen = [(reader.kind, await reader.read()) async for reader in server.readable.messages()]
        assert seen == [("binary", b"one"), ("binary", b"")]
        assert server.close_info == (3001, "done", True)
        with pytest.raises(wsstream.StreamEnded):
            await server.receive()
        with pytest.raises(wsstream.StreamEnded):
            async with server.readable.message():
                pass


async def test_asking_for_the_next_message_skips_the_rest_of_the_open_one() -> None:
    async with connected_pair() as (client, server):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_all, client, bytes(500_000), "second", "third")
            readers = server.readable.messages()
            first = await anext(readers)
            assert len(await first.receive(10)) == 10
            second = await anext(readers)
            assert await second.receive(3) == b"sec"
            assert await server.receive() == "third"
        for reader in (first, second):
            assert not reader.complete
            with pytest.raises(anyio.ClosedResourceError):
                await reader.receive()


async def test_two_tasks_cannot_receive_at_once() -> None:
    async with connected_pair() as (client, server), anyio.create_task_group() as tasks:
        tasks.start_soon(server.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await server.receive()
        with pytest.raises(anyio.BusyResourceError):
            await anext(server.readable.messages())
        await client.send("for the first task")


async def test_another_task_cannot_receive_past_an_open_reader_but_may_read_it() -> None:
    async with connected_pair() as (client, server):
        await client.send(b"0123456789")
        async with server.readable.message() as reader:
            chunks: list[bytes] = []

            async def other() -> None:
                with pytest.raises(anyio.BusyResourceError):
                    await server.receive()
                chunks.append(await reader.receive(4))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other)
            assert chunks == [b"0123"]
            assert await reader.read() == b"456789"
            assert await reader.read() == b""
            with pytest.raises(anyio.EndOfStream):
                await reader.receive()


async def test_max_message_size_is_exact_for_receive_and_for_read_and_does_not_bind_streaming() -> None:
    for whole in (True, False):
        async with connected_pair(server_options={"max_message_size": 1000}) as (client, server):
            await client.send(bytes(1000))
            assert await server.receive() == bytes(1000)
            await client.send("ä" * 1000)
            async with server.readable.message() as reader:
                assert sum([len(chunk) async for chunk in reader]) == 2000
            await client.send("ä" * 500 + "x")
            with pytest.raises(wsstream.MessageTooBig) as caught:
                if whole:
                    await server.receive()
                else:
                    async with server.readable.message() as reader:
                        await reader.read()
            assert caught.value.code == 1009
            with pytest.raises(wsstream.ConnectionBroken) as broken:
                await server.receive()
            assert broken.value.info == (1009, "a message has more than 1000 bytes", False)
            assert "raise max_message_size, or read it in chunks" in str(caught.value)
            assert isinstance(broken.value.__cause__, wsstream.MessageTooBig)
            with pytest.raises(wsstream.StreamEnded) as ended:
                await client.receive()
            assert ended.value.code == 1009


async def test_a_cancelled_receive_leaves_the_beginning_of_a_frame_to_any_other_call() -> None:
    hello = frame(2, b"hello", mask=EXAMPLE_KEY)
    for method in ("receive", "iterate", "read", "chunks", "pipe"):
        async with against_peer("server") as (ws, peer):
            with anyio.move_on_after(1):
                await ws.receive()
            await peer.send(hello[:-3])
            with anyio.move_on_after(1) as scope:
                await ws.receive()
            assert scope.cancelled_caught
            if method == "pipe":
                async with connected_pair() as (source, sink), anyio.create_task_group() as tasks:
                    tasks.start_soon(wsstream.pipe, ws, source)
                    async with sink.readable.message() as reader:
                        assert await reader.receive() == b"he"
                        await peer.send(hello[-3:])
                        assert await reader.read() == b"llo"
                    tasks.cancel_scope.cancel()
            elif method == "chunks":
                async with ws.readable.message() as reader:
                    assert await reader.receive() == b"he"
                    await peer.send(hello[-3:])
                    assert await reader.receive() == b"llo"
            else:
                await peer.send(hello[-3:])
                if method == "receive":
                    assert await ws.receive() == b"hello"
                elif method == "iterate":
                    assert await anext(aiter(ws)) == b"hello"
                else:
                    async with ws.readable.message() as reader:
                        assert await reader.read() == b"hello"


async def test_a_cancelled_receive_leaves_the_begun_message_to_any_other_call() -> None:
    for method in ("receive", "read", "chunks"):
        async with connected_pair() as (client, server), client.writable.message("text") as writer:
            await writer.send("hel")
            with anyio.move_on_after(1) as scope:
                await server.receive()
            assert scope.cancelled_caught
            await writer.send("lo")
            await writer.aclose()
            if method == "receive":
                assert await server.receive() == "hello"
                continue
            async with server.readable.message() as reader:
                if method == "read":
                    assert await reader.read() == b"hello"
                else:
                    assert [await reader.receive(2) for _ in range(3)] == [b"he", b"l", b"lo"] or (
                        reader.bytes_received == 5
                    )


async def test_discard_drops_messages_and_answers_pings() -> None:
    async with connected_pair() as (client, server):
        await client.send("before")
        server.readable.discard()
        for _ in range(20):
            await client.send(bytes(100_000))
        assert await client.ping() >= 0
        assert server.statistics().receive_buffered == 0
        await server.send("still sending")
        assert await client.receive() == "still sending"


async def test_a_reader_works_with_the_streams_of_anyio() -> None:
    async with connected_pair() as (client, server):
        await client.send("grüße" * 10)
        async with server.readable.message() as reader:
            assert "".join([text async for text in TextReceiveStream(reader)]) == "grüße" * 10
        await client.send(b"line one\nline two\n")
        async with server.readable.message() as reader:
            lines = BufferedByteReceiveStream(reader)
            assert await lines.receive_until(b"\n", 100) == b"line one"
            assert await lines.receive_exactly(8) == b"line two"


@pytest.mark.parametrize("max_bytes", [0, -1])
async def test_a_reader_is_asked_for_at_least_one_byte(max_bytes: int) -> None:
    async with connected_pair() as (client, server):
        await client.send(b"x")
        async with server.readable.message() as reader:
            with pytest.raises(ValueError, match="at least 1"):
                await reader.receive(max_bytes)


async def test_a_closed_reader_says_so_and_closing_twice_is_harmless() -> None:
    async with connected_pair() as (client, server):
        await client.send(b"abc")
        async with server.readable.message() as reader:
            await reader.aclose()
            await reader.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await reader.receive()
            with pytest.raises(anyio.ClosedResourceError):
                await reader.read()
        await client.send("next")
        assert await server.receive() == "next"


async def test_a_task_that_waits_for_data_is_told_of_a_local_close() -> None:
    async with connected_pair() as (_, server):

        async def wait() -> None:
            with pytest.raises(wsstream.ClosedLocally):
                await server.receive()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert server.statistics().tasks_waiting_receive == 1
            await server.aclose()


async def test_reading_goes_on_when_the_last_thing_that_was_taken_is_an_empty_fragment() -> None:
    """It counts as a piece, and may be what brings the unread bytes down to the low-water mark."""
    flow = wsstream.FlowControl(receive_high_water=68 + 64, receive_low_water=0)
    async with connected_pair(server_options={"flow": flow}) as (client, server):
        async with client.writable.message() as writer:
            await writer.send(b"1234")
        await client.send("next")
        await anyio.wait_all_tasks_blocked()
        assert server.statistics().reading_paused
        async with server.readable.message() as reader:
            assert [chunk async for chunk in reader] == [b"1234"]
        with anyio.fail_after(1):
            assert await server.receive() == "next"
