"""permessage-deflate (RFC 7692) with other implementations; conftest.py says what has to be installed.

`theirs={"deflate": {...}}` are the peer's parameters by their names in the RFC. picows has no extensions.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import anyio
import pytest
from kit.interop import Link, numbered, pattern

from wsstream import Deflate, WebSocketStream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


MIB = 1 << 20
PEERS = ["websockets", "wsproto", "aiohttp", "ws"]
COMPRESSING = pytest.mark.parametrize("peer", PEERS, indirect=True)
# aiohttp sends no fragments, and has hardly a parameter that can be set.
SETTABLE = FRAGMENTING = pytest.mark.parametrize("peer", ["websockets", "wsproto", "ws"], indirect=True)
WINDOWS = pytest.mark.parametrize("bits", [9, 12, 15])
THEIRS = {"deflate": dict[str, Any]()}


def params_of(extensions: str) -> dict[str, str | bool]:
    """The parameters of the one extension that was agreed on."""
    name, *params = extensions.split("; ")
    assert name == "permessage-deflate"
    pairs = [param.partition("=") for param in params]
    assert len({pair[0] for pair in pairs}) == len(pairs)
    return {name: value or True for name, _, value in pairs}


def window_of(extensions: str, side: str) -> int:
    return int(params_of(extensions).get(f"{side}_max_window_bits", 15))


async def exchange(ws: WebSocketStream, remote: Any, message: str | bytes) -> tuple[int, int]:
    """Have the peer echo a message; how many bytes were sent and received for it."""
    before = ws.statistics()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(remote.do, "echo", count=1))
        group.start_soon(ws.send, message)
        assert await ws.receive() == message
    after = ws.statistics()
    return after.bytes_sent - before.bytes_sent, after.bytes_received - before.bytes_received


@pytest.mark.parametrize("peer", ["picows"], indirect=True)
async def test_a_peer_without_compression_gets_plain_messages(link: Link) -> None:
    async with link(compression=Deflate()) as (ws, remote):
        assert ws.extensions == ""
        for message in ("text " * 100, bytes(1000)):
            sent, received = await exchange(ws, remote, message)
            assert min(sent, received) > len(message)


@COMPRESSING
async def test_messages_of_every_kind_are_compressed_in_both_directions(link: Link) -> None:
    async with link(compression=Deflate(min_size=0), theirs=THEIRS) as (ws, remote):
        params_of(ws.extensions)
        for message in ("žluťoučký kůň " * 500, pattern(1, 7000), "𝄞" * 3000, pattern(2, MIB)):
            sent, received = await exchange(ws, remote, message)
            assert max(sent, received) < len(message) // 4
        noise = Random(3).randbytes(MIB)
        sent, received = await exchange(ws, remote, noise)
        assert MIB < min(sent, received) <= max(sent, received) < MIB + MIB // 100
        for message in ("x" * 100, "", b"", b"y", "", "x" * 100):
            await exchange(ws, remote, message)


@FRAGMENTING
async def test_fragments_of_the_peer_are_one_compressed_message(link: Link) -> None:
    cuts = [0, 1, 0, 70_000, 125, 126, 0, 50_000]
    async with link(compression=Deflate(), theirs=THEIRS) as (ws, remote):
        await remote.do("send", pattern_of=[5, 200_000], cuts=cuts)
        await remote.do("send", text="fragmented", cuts=[0, 1, 3, 0])
        assert await ws.receive() == pattern(5, 200_000)
        assert await ws.receive() == "fragmented"
        await remote.do("send", pattern_of=[6, 400_000], cuts=cuts)
        async with ws.readable.message() as reader:
            assert b"".join([chunk async for chunk in reader]) == pattern(6, 400_000)
        assert ws.statistics().bytes_received < 60_000


@COMPRESSING
async def test_chunks_of_a_writer_are_one_compressed_message(link: Link) -> None:
    async with link(compression=Deflate(), theirs=THEIRS) as (ws, remote):
        for kind, payload in (("binary", pattern(7, 200_000)), ("text", "aé水𝄞".encode() * 9000)):
            before = ws.statistics().bytes_sent
            async with ws.writable.message(kind) as writer:
                for start in range(0, len(payload), 40_001):
                    await writer.send(payload[start : start + 40_001])
                    await writer.flush()
            await remote.expect(payload if kind == "binary" else payload.decode())
            assert ws.statistics().bytes_sent - before < 20_000
        await exchange(ws, remote, "and goes on")


@COMPRESSING
async def test_messages_sent_without_compression_stand_between_others(link: Link) -> None:
    async with link(compression=Deflate(), theirs=THEIRS) as (ws, remote):
        for compress in (True, False, True, False, False, True):
            before = ws.statistics().bytes_sent
            await ws.writable.send("z" * 1000, compress=compress)
            assert (ws.statistics().bytes_sent - before < 200) is compress
            await remote.expect("z" * 1000)


def for_window(bits: int) -> bytes:
    """Compressible only by a sender with this window: zlib looks back 262 bytes less than its size."""
    return Random(bits).randbytes((1 << bits) - 270) * 2


async def check_windows(ws: WebSocketStream, remote: Any, role: str, *, ours: int, peers: int) -> None:
    """The windows that were agreed on, and that both sides can do with them."""
    other = "server" if role == "client" else "client"
    assert window_of(ws.extensions, role) in (ours, 15)  # a client's smaller window need not be mentioned
    assert window_of(ws.extensions, other) == peers
    for bits in {ours, min(ours + 1, 15), 15}:
        message = for_window(bits)
        sent, _ = await exchange(ws, remote, message)
        assert (sent < len(message) * 0.6) is (bits <= ours), f"a window of {ours} bits, for {bits}"


@pytest.mark.parametrize("role", ["client", "server"])
@COMPRESSING
@WINDOWS
async def test_the_peer_keeps_to_the_windows_that_we_set(
    links: dict[str, Link], peer: Any, role: str, bits: int
) -> None:
    options = Deflate(window_bits=bits, peer_window_bits=bits)
    async with links[role](compression=options, theirs=THEIRS) as (ws, remote):
        await check_windows(ws, remote, role, ours=bits, peers=bits)


@pytest.mark.parametrize("role", ["client", "server"])
@SETTABLE
@WINDOWS
async def test_we_keep_to_the_windows_that_the_peer_sets(
    links: dict[str, Link], role: str, bits: int
) -> None:
    theirs = {"deflate": {"server_max_window_bits": bits, "client_max_window_bits": bits}}
    options = Deflate(peer_window_bits=bits) if role == "client" else Deflate()
    async with links[role](compression=options, theirs=theirs) as (ws, remote):
        await check_windows(ws, remote, role, ours=bits, peers=bits)


async def check_takeover(ws: WebSocketStream, remote: Any, *, ours: bool, peers: bool) -> None:
    """The second of two equal messages that cannot be compressed is small where contexts live on."""
    message = Random(4).randbytes(2000)
    await exchange(ws, remote, message)
    sent, received = await exchange(ws, remote, message)
    assert (sent < 200, received < 200) == (ours, peers)
    for _ in range(3):
        await exchange(ws, remote, "and " * 100)


TAKEOVER = pytest.mark.parametrize(
    ("ours", "peers"), [(True, True), (True, False), (False, True), (False, False)]
)


@pytest.mark.parametrize("role", ["client", "server"])
@COMPRESSING
@TAKEOVER
async def test_contexts_live_on_as_we_set_it(
    links: dict[str, Link], peer: Any, role: str, ours: bool, peers: bool
) -> None:
    options = Deflate(context_takeover=ours, peer_context_takeover=peers)
    other = "server" if role == "client" else "client"
    async with links[role](compression=options, theirs=THEIRS) as (ws, remote):
        params = params_of(ws.extensions)
        assert (f"{other}_no_context_takeover" in params) is not peers
        if role == "server":
            assert ("server_no_context_takeover" in params) is not ours
        await check_takeover(ws, remote, ours=ours, peers=peers)


@pytest.mark.parametrize("role", ["client", "server"])
@SETTABLE
@TAKEOVER
async def test_contexts_live_on_as_the_peer_sets_it(
    links: dict[str, Link], role: str, ours: bool, peers: bool
) -> None:
    other = "server" if role == "client" else "client"
    deflate = {f"{role}_no_context_takeover": not ours, f"{other}_no_context_takeover": not peers}
    theirs = {"deflate": {name: value for name, value in deflate.items() if value}}
    async with links[role](compression=Deflate(), theirs=theirs) as (ws, remote):
        params = params_of(ws.extensions)
        if role == "client":
            assert {name for name in deflate if name in params} == set(theirs["deflate"])
        await check_takeover(ws, remote, ours=ours, peers=peers)


@COMPRESSING
async def test_a_row_of_messages_passes_in_both_directions_at_once(link: Link) -> None:
    async with link(compression=Deflate(), theirs=THEIRS) as (ws, remote), anyio.create_task_group() as group:
        group.start_soon(partial(remote.do, "exchange_numbered", count=300, size=300))

        async def send() -> None:
            for index in range(300):
                await ws.send(numbered(index, 300))

        group.start_soon(send)
        for index in range(300):
            assert await ws.receive() == numbered(index, 300)
