"""Messages between wsstream and other implementations; conftest.py says what has to be installed."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest
from kit.interop import Link, pattern

from wsstream import MessageReader

pytestmark = pytest.mark.anyio


MIB = 1 << 20
LARGE = 16 * MIB
# Code points of 1, 2, 3 and 4 bytes, a combining mark, NUL, and the last code point of all.
TEXTS = ["plain", "žluťoučký kůň", "水は低きに流れる", "𝄞 and 👩‍🚀", "e\u0301", "\0", "\U0010ffff"]
# Around the borders between the three forms of a frame's length.
# aiohttp has no way to send fragments; the text of wsproto's fragments is str.
FRAGMENTING = ["websockets", "wsproto", "picows", "ws"]
CUTTING_CODE_POINTS = ["websockets", "picows", "ws"]
SIZES = [1, 125, 126, 127, 65535, 65536, 65537]


async def chunks_of(reader: MessageReader) -> bytes:
    return b"".join([chunk async for chunk in reader])


async def test_text_arrives_in_both_directions(link: Link) -> None:
    async with link() as (ws, remote):
        for text in TEXTS:
            await ws.send(text)
            await remote.expect(text)
            await remote.do("send", text=text)
            assert await ws.receive() == text


async def test_binary_of_every_header_form_arrives_in_both_directions(link: Link) -> None:
    async with link() as (ws, remote):
        for size in SIZES:
            await ws.send(pattern(size, size))
            assert await remote.expect(pattern(size, size)) in (1, 2, None)
            await remote.do("send", pattern_of=[size, size])
            assert await ws.receive() == pattern(size, size)


@pytest.mark.parametrize("empty", ["", b""], ids=["text", "binary"])
async def test_empty_messages_arrive_in_both_directions(link: Link, empty: str | bytes) -> None:
    async with link() as (ws, remote):
        await ws.send(empty)
        await remote.expect(empty)
        await remote.do("send", **({"text": ""} if empty == "" else {"hex": ""}))
        assert await ws.receive() == empty
        await ws.send("next")
        await remote.expect("next")


@pytest.mark.slow
async def test_16_mib_arrive_whole_in_both_directions_at_once(link: Link) -> None:
    async with link(max_message_size=LARGE) as (ws, remote):
        async with anyio.create_task_group() as group:
            group.start_soon(ws.send, pattern(1, LARGE))
            group.start_soon(partial(remote.do, "send", pattern_of=[2, LARGE]))
            assert await ws.receive() == pattern(2, LARGE)
        await remote.expect(pattern(1, LARGE))


@pytest.mark.heavy_after_first
async def test_16_mib_are_read_in_chunks_while_chunks_are_sent(link: Link) -> None:
    async with link(max_message_size=MIB) as (ws, remote):

        async def send() -> None:
            payload = memoryview(pattern(3, 4 * MIB))
            async with ws.writable.message() as writer:
                for start in range(0, len(payload), 300_000):
                    await writer.send(payload[start : start + 300_000])

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            group.start_soon(partial(remote.do, "send", pattern_of=[4, LARGE]))
            async with ws.readable.message() as reader:
                assert reader.kind == "binary"
                assert await chunks_of(reader) == pattern(4, LARGE)
        await remote.expect(pattern(3, 4 * MIB))


@pytest.mark.parametrize("peer", FRAGMENTING, indirect=True)
async def test_fragments_of_the_peer_are_one_message(link: Link) -> None:
    async with link() as (ws, remote):
        await remote.do("send", pattern_of=[5, 200_000], cuts=[0, 1, 0, 70_000, 125, 126, 0, 50_000])
        await remote.do("send", text="fragmented", cuts=[0, 1, 3, 0])
        assert await ws.receive() == pattern(5, 200_000)
        assert await ws.receive() == "fragmented"


@pytest.mark.parametrize("peer", FRAGMENTING, indirect=True)
async def test_fragments_of_the_peer_are_read_as_one_stream(link: Link) -> None:
    async with link() as (ws, remote):
        await remote.do("send", pattern_of=[6, 400_000], cuts=[1, 100_000, 0, 200_000])
        async with ws.readable.message() as reader:
            assert await chunks_of(reader) == pattern(6, 400_000)
            assert reader.complete


@pytest.mark.parametrize("peer", CUTTING_CODE_POINTS, indirect=True)
async def test_fragments_of_the_peer_may_cut_code_points(link: Link) -> None:
    text = "aé水𝄞" * 3
    async with link() as (ws, remote):
        await remote.do("send", text=text, cuts=[1] * (len(text.encode()) - 1))
        assert await ws.receive() == text


async def test_chunks_of_a_writer_are_one_message(link: Link, peer: Any) -> None:
    async with link() as (ws, remote):
        async with ws.writable.message() as writer:
            for start in range(0, 200_000, 40_000):
                await writer.send(pattern(7, 200_000)[start : start + 40_000])
                await writer.flush()
        frames = await remote.expect(pattern(7, 200_000))
        assert frames is None if not peer.shows_frames else frames >= 5


async def test_chunks_of_text_are_one_text_at_the_peer(link: Link) -> None:
    async with link() as (ws, remote):
        async with ws.writable.message("text") as writer:
            chunks: list[str | bytes] = ["", "aé", "水".encode()[:1], "水".encode()[1:], "𝄞"]
            for chunk in chunks:
                await writer.send(chunk)
                await writer.flush()
        await remote.expect("aé水𝄞")


async def test_a_writer_without_chunks_sends_an_empty_message(link: Link) -> None:
    async with link() as (ws, remote):
        async with ws.writable.message("text"):
            pass
        await remote.expect("")


@pytest.mark.heavy_after_first
async def test_a_message_of_declared_size_is_one_frame(link: Link, peer: Any) -> None:
    async with link() as (ws, remote):
        for size in [0, *SIZES, MIB]:
            async with ws.writable.message(size=size) as writer:
                for start in range(0, size, 50_000):
                    await writer.send(pattern(8, size)[start : start + 50_000])
            assert await remote.expect(pattern(8, size)) == (1 if peer.shows_frames else None)
        await ws.send("behind it")
        await remote.expect("behind it")
