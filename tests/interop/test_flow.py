"""Pings, many messages and slow readers, with other implementations; conftest.py says what has to be
installed.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import partial

import anyio
import pytest
from anyio.abc import SocketAttribute
from kit.interop import Link, numbered, pattern

pytestmark = pytest.mark.anyio


HIGH_WATER = 256 * 1024  # bytes; the default of FlowControl
ONE_READ = 4096  # bytes; a read that begins below the mark may end a little above it


async def test_the_peer_answers_pings(link: Link) -> None:
    async with link(ping_interval=None) as (ws, _):
        for _ in range(3):
            assert 0 <= await ws.ping() < 10


async def test_pings_of_the_peer_are_answered_without_reading(link: Link) -> None:
    async with link(theirs={"show_pongs": True}, ping_interval=None) as (ws, remote):
        for payload in (b"", b"one", bytes(range(125))):
            await remote.do("ping", hex=payload.hex())  # returns with the Pong of the same payload
        await remote.do("send", text="behind the pings")
        assert await ws.receive() == "behind the pings"


async def test_pings_cross_messages_that_are_being_sent(link: Link) -> None:
    async with link(theirs={"show_pongs": True}, ping_interval=None) as (ws, remote):
        async with ws.writable.message() as writer:
            await writer.send(pattern(0, 1000))
            await writer.flush()
            await ws.ping()
            await remote.do("ping", hex="abcd")
            await writer.send(pattern(0, 2000)[1000:])
        await remote.expect(pattern(0, 2000))


@pytest.mark.slow
async def test_5000_small_messages_keep_their_order_in_both_directions(link: Link) -> None:
    count, size = 5000, 20
    async with link() as (ws, remote), anyio.create_task_group() as group:

        async def send() -> None:
            for index in range(count):
                await ws.send(numbered(index, size))

        group.start_soon(partial(remote.do, "exchange_numbered", count=count, size=size))
        group.start_soon(send)
        for index in range(count):
            assert await ws.receive() == numbered(index, size)


@pytest.mark.heavy_after_first
async def test_a_flood_is_echoed_by_a_peer_that_stops_reading_while_it_cannot_write(link: Link) -> None:
    count, size = 150, 100_000
    async with link() as (ws, remote), anyio.create_task_group() as group:
        sock = ws.extra(SocketAttribute.raw_socket)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # the flood must not fit into the kernel
            sock.setsockopt(socket.SOL_SOCKET, option, 1 << 16)

        async def send() -> None:
            for index in range(count):
                await ws.send(numbered(index, size))

        group.start_soon(partial(remote.do, "echo", count=count))
        group.start_soon(send)
        for index in range(count):
            assert await ws.receive() == numbered(index, size)


@pytest.mark.slow
async def test_the_keepalive_of_neither_side_ends_a_connection_that_is_read_slowly(
    links: Mapping[str, Link],
) -> None:
    size, messages_between, pauses = 1 << 16, 75, 4  # 19 MiB in all
    # Real time, as the peer's keepalive knows no other. A pause is longer than our own two times together,
    # and all pauses are longer than the peer's. Its Ping is answered when what stands before it in the
    # buffers of the kernel has been read.
    pause, ours, theirs = 1.0, {"ping_interval": 0.25, "ping_timeout": 0.5}, {"keepalive": [3.0, 3.0]}

    async def read_slowly(link: Link) -> None:
        count = pauses * messages_between
        async with link(theirs=theirs, **ours) as (ws, remote):
            async with anyio.create_task_group() as group:
                group.start_soon(partial(remote.do, "send_numbered", count=count, size=size))
                for index in range(count):
                    if index % messages_between == 0:
                        await anyio.sleep(pause)
                        assert ws.statistics().reading_paused
                        assert ws.statistics().receive_buffered <= HIGH_WATER + ONE_READ
                    assert await ws.receive() == numbered(index, size)
            await ws.send("still here")
            await remote.expect("still here")
            assert 0 <= await ws.ping() < 10

    async with anyio.create_task_group() as group:  # both roles at once, to take half the time
        for link in links.values():
            group.start_soon(read_slowly, link)
