"""Iterables of chunks, sent as one message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from kit.endpoints import check_echo, echo

import wsstream
from wsstream.testing import connected_pair, memory_pair

KIB, MIB = 1024, 1024 * 1024

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


async def asynchronous(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        await anyio.lowlevel.checkpoint()
        yield chunk


def generator(*chunks: Any) -> Iterator[Any]:
    yield from chunks


def listed(*chunks: Any) -> list[Any]:
    return list(chunks)


@pytest.mark.parametrize("iterable", [asynchronous, generator, listed], ids=["async", "generator", "list"])
@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        (("one ", "two ", "", "€"), "one two €"),
        (("",), ""),
        ((b"one ", bytearray(b"two "), memoryview(b"three")), b"one two three"),
        ((b"",), b""),
        ((bytes(100 * KIB), b"x" * (200 * KIB)), bytes(100 * KIB) + b"x" * (200 * KIB)),
    ],
    ids=["text", "empty text", "binary", "empty binary", "large"],
)
async def test_the_chunks_are_one_message(
    iterable: Any, chunks: tuple[Any, ...], message: str | bytes
) -> None:
    async with connected_pair() as (sender, receiver), anyio.create_task_group() as tasks:
        tasks.start_soon(sender.send, iterable(*chunks))
        assert await receiver.receive() == message


@pytest.mark.parametrize("empty", [[], (), iter([])], ids=["list", "tuple", "iterator"])
async def test_without_a_chunk_nothing_is_sent(empty: Any) -> None:
    async with connected_pair() as (sender, receiver):
        await sender.send(empty)
        await sender.send(asynchronous())
        await sender.send("next")
        assert await receiver.receive() == "next"


async def test_a_chunk_is_sent_before_the_next_is_asked_for() -> None:
    async with connected_pair() as (sender, receiver), anyio.create_task_group() as tasks:
        arrived = anyio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            await arrived.wait()
            yield b"second"

        tasks.start_soon(sender.send, chunks())
        async with receiver.readable.message() as reader:
            assert await reader.receive() == b"first"
            arrived.set()
            assert await reader.read() == b"second"


@pytest.mark.heavy
async def test_a_slow_peer_slows_the_iterable() -> None:
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 64 * KIB
            yield bytes(64 * KIB)

    async with connected_pair(streams=memory_pair(64 * KIB)) as (sender, _):
        with anyio.move_on_after(0.3) as waiting:
            await sender.send(chunks())
        assert waiting.cancelled_caught
        assert taken < MIB
        sender.abort()  # a Close would wait for the peer


@pytest.mark.parametrize(
    "item",
    [{"a": 1}, [1, 2], [None], object(), 5, range(3)],
    ids=lambda item: type(item).__name__,
)
async def test_what_is_no_message_is_refused_before_anything_is_sent(item: Any) -> None:
    async with connected_pair() as (sender, receiver):
        with pytest.raises(TypeError, match="must be str or bytes-like"):
            await sender.send(item)
        await sender.send("next")
        assert await receiver.receive() == "next"


@pytest.mark.parametrize("chunks", [("text", b"bytes"), (b"bytes", "text"), (b"bytes", 5)], ids=str)
async def test_chunks_of_two_types_abort_the_message(chunks: tuple[Any, ...]) -> None:
    async with connected_pair() as (sender, receiver):
        with pytest.raises(TypeError, match="the chunks of"):
            await sender.send(chunks)
        with pytest.raises(wsstream.ConnectionBroken) as broken:
            await receiver.receive()
        assert broken.value.code == 1011


async def test_an_iterable_that_raises_aborts_the_message() -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "begun"
        raise ArithmeticError("mine")

    async with connected_pair() as (sender, receiver):
        with pytest.raises(ArithmeticError, match="mine"):
            await sender.send(chunks())
        with pytest.raises(wsstream.ConnectionBroken) as broken:
            await receiver.receive()
        assert broken.value.code == 1011


async def test_an_iterable_that_raises_first_changes_nothing() -> None:
    async def chunks() -> AsyncIterator[str]:
        raise ArithmeticError("mine")
        yield ""

    async with wsstream.serve(echo, "127.0.0.1") as server, wsstream.connect(server.url) as ws:
        with pytest.raises(ArithmeticError, match="mine"):
            await ws.send(chunks())
        await check_echo(ws)


@pytest.mark.parametrize("how", ["cancelled", "closed", "wrong type"])
async def test_an_async_generator_that_is_not_used_up_is_closed(how: str) -> None:
    closed = False

    async def chunks() -> AsyncIterator[Any]:
        nonlocal closed
        try:
            yield "first"
            if how == "cancelled":
                await anyio.sleep_forever()
            elif how == "closed":
                sender.abort()
            else:
                yield 5
            yield "last"
        finally:
            closed = True

    async with connected_pair() as (sender, _):
        with anyio.move_on_after(0.05):
            if how == "cancelled":
                await sender.send(chunks())
            else:
                with pytest.raises((TypeError, wsstream.ConnectionClosed)):
                    await sender.send(chunks())
        assert closed


async def test_a_generator_that_sends_on_the_same_connection_is_told_so() -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "first"
        await sender.send("second")

    async with connected_pair() as (sender, _):
        with pytest.raises(RuntimeError, match="must finish its MessageWriter"):
            await sender.send(chunks())
