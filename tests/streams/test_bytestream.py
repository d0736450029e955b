"""A WebSocket as a stream of bytes, with and without an end mark."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsstream
from wsstream.testing import connected_pair

pytestmark = pytest.mark.anyio


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
        with pytest.raises(ValueError, match="at least 1"):
            await client.byte_stream().receive(0)


async def test_a_text_message_is_refused_with_1003() -> None:
    with pytest.raises(wsstream.WebSocketError, match="binary") as caught:
        async with connected_pair() as (client, server):
            await server.send("text")
            await client.byte_stream().receive()
    assert caught.value.code == 1003


async def test_closing_the_byte_stream_closes_the_websocket() -> None:
    async with connected_pair() as (client, server):
        await client.byte_stream().aclose()
        assert client.close_info == (1000, "", True)
        with pytest.raises(anyio.EndOfStream):
            await server.byte_stream().receive()


async def test_a_cancelled_receive_loses_no_byte() -> None:
    async with connected_pair() as (client, server):
        stream = server.byte_stream(eof=b"abc")
        async with client.writable.message() as writer:
            await writer.send(b"ab")
            with anyio.move_on_after(0.05) as scope:
                await stream.receive()
            assert scope.cancelled_caught
            await writer.send(b"x")
        client.begin_close()
        assert await read_all(stream) == b"abx"
