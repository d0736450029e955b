"""A WebSocket as a stream of bytes, with and without an end mark."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsstream
from wsstream.testing import connected_pair, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def read_all(stream: anyio.abc.ByteReceiveStream, max_bytes: int = 65536) -> bytes:
    return b"".join([chunk async for chunk in _chunks(stream, max_bytes)])


async def _chunks(stream, max_bytes):
    while True:
        try:
            chunk = await stream.receive(max_bytes)
        except anyio.EndOfStream:
            return
        assert 1 <= len(chunk) <= max_bytes
        yield chunk


async def test_message_borders_mean_nothing() -> None:
    async with connected_pair() as (client, server):
        stream = client.byte_stream()
        for chunk in (b"abc", b"", b"defg"):
            await stream.send(chunk)
        await client.send(b"")
        await client.send(b"h")
        client.begin_close()
        assert await read_all(server.byte_stream(), 2) == b"abcdefgh"


async def test_each_direction_ends_by_itself_with_a_mark() -> None:
    for mark in (b"", b"--end--"):
        async with connected_pair() as (client, server):
            ours, theirs = client.byte_stream(eof=mark), server.byte_stream(eof=mark)
            await ours.send(b"request")
            await ours.send_eof()
            await ours.send_eof()
            with pytest.raises(anyio.ClosedResourceError):
                await ours.send(b"more")
            assert await read_all(theirs) == b"request"
            with pytest.raises(anyio.EndOfStream):
                await theirs.receive()
            await theirs.send(b"answer")
            await theirs.send_eof()
            assert await read_all(ours) == b"answer"
            assert client.state == "open"


@given(
    chunks=st.lists(st.sampled_from([b"a", b"ab", b"abc", b"abcd", b"b", b"abab", b"xabc", b"x" * 100])),
    max_bytes=st.integers(1, 6),
)
def test_data_that_looks_like_the_mark_arrives_as_data(chunks: list[bytes], max_bytes: int) -> None:
    async def main() -> None:
        async with connected_pair() as (client, server):
            stream = client.byte_stream(eof=b"abc")
            for chunk in chunks:
                await stream.send(chunk)
            await stream.send_eof()
            assert await read_all(server.byte_stream(eof=b"abc"), max_bytes) == b"".join(chunks)

    anyio.run(main)


async def test_the_mark_is_recognised_in_fragments() -> None:
    async with connected_pair() as (client, server):
        for parts in ((b"a", b"b"), (b"ab", b"c"), (b"a", b"bcd")):
            async with client.writable.message() as writer:
                for part in parts:
                    await writer.send(part)
                    await writer.flush()
        assert await read_all(server.byte_stream(eof=b"abc")) == b"ab"


async def test_without_a_mark_one_direction_cannot_end() -> None:
    async with connected_pair() as (client, _):
        with pytest.raises(NotImplementedError):
            await client.byte_stream().send_eof()
        with pytest.raises(NotImplementedError):
            await client.send_eof()
        with pytest.raises(ValueError, match="one byte"):
            client.byte_stream(eof=b"x")
        with pytest.raises(ValueError, match="max_bytes must be at least 1, got 0"):
            await client.byte_stream().receive(0)
        assert client.byte_stream(eof=b"").half_closes
        assert not client.byte_stream().half_closes


async def test_a_byte_stream_takes_bytes_and_says_so() -> None:
    async with connected_pair() as (client, server):
        for wrong in ("x", 5, None):
            with pytest.raises(TypeError, match=f"^a byte stream takes bytes, not {type(wrong).__name__}$"):
                await client.byte_stream().send(wrong)  # type: ignore[arg-type]
        await client.byte_stream().send(bytearray(b"a"))
        await client.byte_stream().send(memoryview(b"b"))
        client.begin_close()
        assert await read_all(server.byte_stream()) == b"ab"


# -- an end is normal, or something may be missing -----------------------------------------------

ENDS: dict[str, Callable[[wsstream.WebSocketStream], object]] = {
    "no code": lambda ws: ws.begin_close(),
    **{
        str(code): (lambda ws, code=code: ws.begin_close(code))
        for code in (1000, 1001, 1002, 1003, 1011, 1012, 1013, 3000, 4000)
    },
    "no Close": lambda ws: ws.abort(),
}
NORMAL = ["no code", "1000", "1001"]


@pytest.mark.parametrize("how", ENDS)
async def test_without_a_mark_only_a_normal_close_code_is_the_end(how: str) -> None:
    async with connected_pair() as (client, server):
        await client.byte_stream().send(b"the beginning")
        await client.writable.drain()
        stream = server.byte_stream()
        assert await stream.receive() == b"the beginning"
        ENDS[how](client)
        for _ in range(2):
            if how in NORMAL:
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            else:
                with pytest.raises(wsstream.ConnectionBroken) as caught:
                    await stream.receive()
                assert caught.value.info == server.close_info
                assert not isinstance(caught.value, anyio.EndOfStream)


@pytest.mark.parametrize("how", ENDS)
async def test_with_a_mark_no_end_of_the_connection_is_the_end(how: str) -> None:
    async with connected_pair() as (client, server):
        await client.byte_stream(eof=b"").send(b"the beginning")
        await client.writable.drain()
        stream = server.byte_stream(eof=b"")
        assert await stream.receive() == b"the beginning"
        ENDS[how](client)
        for _ in range(2):
            with pytest.raises(wsstream.ConnectionBroken) as caught:
                await stream.receive()
            assert caught.value.info == server.close_info


@pytest.mark.parametrize("how", ENDS)
async def test_behind_the_mark_the_end_of_the_connection_changes_nothing(how: str) -> None:
    async with connected_pair() as (client, server):
        await client.byte_stream(eof=b"").send_eof()
        await client.writable.drain()
        stream = server.byte_stream(eof=b"")
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            ENDS[how](client)
            await anyio.sleep(1)


async def test_a_mark_that_is_cut_off_is_no_mark() -> None:
    async with connected_pair() as (client, server):
        with pytest.raises(ZeroDivisionError):
            async with client.writable.message() as writer:
                await writer.send(b"ab")
                await writer.flush()
                1 / 0  # noqa: B018
        with pytest.raises(wsstream.ConnectionBroken):
            await server.byte_stream(eof=b"abc").receive()


async def test_a_text_message_is_refused_with_1003() -> None:
    async with connected_pair() as (client, server):
        stream = client.byte_stream()
        await server.send(b"bytes")
        await server.send("text")
        assert await stream.receive() == b"bytes"
        with pytest.raises(wsstream.WebSocketError, match="sent a text message: only binary") as caught:
            await stream.receive()
        assert caught.value.code == 1003
        with pytest.raises(wsstream.ClosedLocally):
            await stream.receive()
        assert await server.wait_closed() == (1003, "only binary messages are taken here", True)


# -- closing -------------------------------------------------------------------------------------

MARKS = pytest.mark.parametrize("mark", [None, b"", b"--end--"])


@MARKS
@pytest.mark.parametrize("block", [False, True])
async def test_closing_the_byte_stream_is_an_end_in_good_order(mark: bytes | None, block: bool) -> None:
    async with connected_pair() as (client, server):
        stream = client.byte_stream(eof=mark)
        if block:
            async with stream:
                await stream.send(b"all of it")
        else:
            await stream.send(b"all of it")
            await stream.aclose()
        await stream.aclose()
        assert client.close_info == (1000, "", True)
        assert await read_all(server.byte_stream(eof=mark)) == b"all of it"
        with pytest.raises(wsstream.ClosedLocally):
            await stream.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"more")


async def test_the_mark_is_sent_once() -> None:
    async with connected_pair() as (client, server):
        stream = client.byte_stream(eof=b"")
        await stream.send_eof()
        await stream.aclose()
        assert [message async for message in server] == [b""]


async def test_closing_what_has_ended_raises_nothing() -> None:
    async with connected_pair() as (client, server):
        server.abort()
        with pytest.raises(wsstream.ConnectionBroken):
            await client.wait_closed()
        await client.byte_stream(eof=b"").aclose()


@MARKS
@pytest.mark.parametrize(
    ("error", "code"), [(ZeroDivisionError(), 1011), (wsstream.WebSocketError(code=4000), 4000)], ids=repr
)
async def test_leaving_the_block_by_an_exception_is_no_end(
    mark: bytes | None, error: Exception, code: int
) -> None:
    async with connected_pair() as (client, server):
        theirs = server.byte_stream(eof=mark)
        with pytest.raises(type(error)):
            async with client.byte_stream(eof=mark) as ours:
                await ours.send(b"the beginning")
                raise error
        assert await theirs.receive() == b"the beginning"
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            await theirs.receive()
        assert caught.value.code == code


@pytest.mark.parametrize("block", [False, True])
async def test_a_cancelled_sender_does_not_claim_to_have_sent_all(block: bool) -> None:
    async def send(ws: wsstream.WebSocketStream) -> None:
        stream = ws.byte_stream(eof=b"")
        with anyio.CancelScope() as scope:
            async with AsyncExitStack() as stack:
                if block:
                    await stack.enter_async_context(stream)
                else:
                    stack.push_async_callback(stream.aclose)
                await stream.send(b"the beginning")
                await anyio.sleep(1)  # what is sent now leaves at once
                scope.cancel()
                await anyio.sleep_forever()
        assert ws.state != "open"

    async with wsstream.serve(send, "127.0.0.1") as server, wsstream.connect(server.url) as ws:
        stream = ws.byte_stream(eof=b"")
        assert await stream.receive() == b"the beginning"
        with pytest.raises(wsstream.ConnectionBroken):
            await stream.receive()


@pytest.mark.parametrize("sent", [0, 10, 2_000_000])
async def test_closing_does_not_wait_for_a_peer_that_reads_nothing(sent: int) -> None:
    options = {"close_timeout": 5, "ping_interval": None}
    async with connected_pair(client_options=options, streams=memory_pair(1000)) as (client, _server):
        stream = client.byte_stream(eof=b"")
        with anyio.move_on_after(1):
            await stream.send(bytes(sent))
        start = anyio.current_time()
        await stream.aclose()
        assert anyio.current_time() - start <= 5
        assert client.state == "closed"


async def test_a_cancelled_end_can_be_said_again() -> None:
    async with connected_pair(streams=memory_pair(1000)) as (client, server):
        stream = client.byte_stream(eof=b"")
        with anyio.move_on_after(1) as scope:
            await stream.send(bytes(2_000_000))
        assert scope.cancelled_caught
        with anyio.move_on_after(1) as scope:
            await stream.send_eof()
        assert scope.cancelled_caught
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"more")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send_eof)
            assert len(await read_all(server.byte_stream(eof=b""))) == 2_000_000


@MARKS
async def test_a_reset_leaves_out_what_has_not_left_and_the_mark(mark: bytes | None) -> None:
    async with connected_pair(streams=memory_pair(1000)) as (client, server):
        ours, theirs = client.byte_stream(eof=mark), server.byte_stream(eof=mark)
        with anyio.move_on_after(1):
            await ours.send(bytes(2_000_000))
        ours.reset()
        ours.reset()
        got = 0
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            while True:
                got += len(await theirs.receive())
        assert caught.value.code == 1011
        assert got < 1_000_000
        with pytest.raises(wsstream.ClosedLocally):
            await ours.receive()
        assert await server.byte_stream(eof=mark).aclose() is None


async def test_a_cancelled_receive_loses_no_byte() -> None:
    async with connected_pair() as (client, server):
        stream = server.byte_stream(eof=b"abc")
        async with client.writable.message() as writer:
            await writer.send(b"ab")
            with anyio.move_on_after(0.05) as scope:
                await stream.receive()
            assert scope.cancelled_caught
            await writer.send(b"x")
        await client.byte_stream(eof=b"abc").send_eof()
        assert await read_all(stream) == b"abx"
