"""pipe() and proxy(): borders, kinds, codes, and chunks that do not wait for their message."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import pytest
from anyio.streams.file import FileReadStream
from anyio.streams.stapled import StapledObjectStream

import wsstream
from wsstream import pipe, proxy
from wsstream.testing import connected_pair, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Chain:
    """client <-> [left, right] <-> upstream: what a proxy stands between."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Chain:
        self.client, self.left = await self._stack.enter_async_context(connected_pair())
        self.right, self.upstream = await self._stack.enter_async_context(connected_pair())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


async def test_pipe_keeps_borders_and_kinds() -> None:
    messages = ["text", b"binary", "", b"", "ü" * 300_000, bytes(1_000_000)]
    async with Chain() as chain, anyio.create_task_group() as tasks:

        async def send() -> None:
            for message in messages:
                await chain.client.send(message)
            chain.client.begin_close()

        tasks.start_soon(send)
        tasks.start_soon(pipe, chain.left, chain.right)
        assert [await chain.upstream.receive() for _ in messages] == messages


async def test_the_first_chunk_is_forwarded_before_the_message_is_complete() -> None:
    async with Chain() as chain, anyio.create_task_group() as tasks:
        tasks.start_soon(pipe, chain.left.readable, chain.right.writable)
        async with chain.client.writable.message("text") as writer:
            await writer.send("first")
            async with chain.upstream.readable.message() as reader:
                assert (reader.kind, await reader.receive()) == ("text", b"first")
                await writer.send(", last")
                await writer.aclose()
                assert await reader.read() == b", last"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio-real-time", "trio-real-time"], indirect=True)
async def test_pipe_between_websockets_and_streams_of_anyio(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    async with connected_pair() as (client, server):
        async with await FileReadStream.from_path(path) as file, client.writable.message() as writer:
            await pipe(file, writer)
        assert await server.receive() == path.read_bytes()

        async with await FileReadStream.from_path(path) as file:
            await pipe(file, client)  # each chunk a message
        ours, theirs = memory_pair(1 << 20)
        client.begin_close()
        await pipe(server, ours)
        await ours.aclose()
        assert b"".join([chunk async for chunk in theirs]) == path.read_bytes()


async def test_pipe_to_and_from_object_streams_gives_whole_messages() -> None:
    send, receive = anyio.create_memory_object_stream[str | bytes](10)
    async with connected_pair() as (client, server), StapledObjectStream(send, receive) as objects:
        await client.send("a")
        await client.send(b"b")
        client.begin_close()
        await pipe(server, objects)
        assert [receive.receive_nowait(), receive.receive_nowait()] == ["a", b"b"]
    source_end, source = anyio.create_memory_object_stream[str | bytes](10)
    async with connected_pair() as (client, server), source:
        async with source_end:
            await source_end.send("c")
            await source_end.send(b"d")
        await pipe(source, client)
        assert [await server.receive(), await server.receive()] == ["c", b"d"]


async def test_proxy_passes_messages_both_ways_and_the_code_of_whoever_closes() -> None:
    cases = [
        ((4321, "client's"), (4321, "client's")),
        ((None, ""), (1005, "")),
        ((1000, ""), (1000, "")),
    ]
    for (code, reason), seen in cases:
        async with Chain() as chain:
            ends: list[tuple[wsstream.CloseInfo, wsstream.CloseInfo]] = []

            async def run(chain: Chain = chain, ends: list[object] = ends) -> None:
                ends.append(await proxy(chain.left, chain.right))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                await chain.client.send("up")
                await chain.upstream.send(b"down")
                assert (await chain.upstream.receive(), await chain.client.receive()) == ("up", b"down")
                await chain.client.aclose(code, reason)
            assert ends == [((*seen, True), (*seen, True))]
            assert chain.upstream.close_info == (*seen, True)


async def test_proxy_turns_a_lost_side_into_1001() -> None:
    async with Chain() as chain, anyio.create_task_group() as tasks:
        tasks.start_soon(proxy, chain.left, chain.right)
        await chain.client.send("hello")
        assert await chain.upstream.receive() == "hello"
        chain.client.abort()
        with pytest.raises(wsstream.StreamEnded) as caught:
            await chain.upstream.receive()
        assert caught.value.code == 1001


async def test_a_message_whose_source_is_lost_is_not_completed() -> None:
    async with Chain() as chain, anyio.create_task_group() as tasks:
        tasks.start_soon(proxy, chain.left, chain.right)
        async with chain.upstream.readable.message() if False else chain.client.writable.message() as writer:
            await writer.send(b"begun")
            async with chain.upstream.readable.message() as reader:
                assert await reader.receive() == b"begun"
                chain.client.abort()
                with pytest.raises(wsstream.ConnectionBroken) as caught:
                    await reader.receive()
                assert caught.value.code == 1011
            with pytest.raises(wsstream.ClosedLocally):
                await writer.aclose()


async def test_a_cancelled_proxy_leaves_both_sides_open() -> None:
    async with Chain() as chain:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(proxy, chain.left, chain.right)
            await chain.client.send("through")
            assert await chain.upstream.receive() == "through"
            tasks.cancel_scope.cancel()
        await chain.left.send("by hand")
        assert await chain.client.receive() == "by hand"
        assert (chain.left.state, chain.right.state) == ("open", "open")
