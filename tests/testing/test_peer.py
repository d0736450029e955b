"""A raw peer: its handshakes, and frames over any stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.abc import SocketAttribute

from wsstream.testing import (
    EXAMPLE_KEY,
    FrameReader,
    MemoryStream,
    PeerError,
    RawPeer,
    SplitStream,
    binary,
    close,
    lockstep_pair,
    memory_pair,
    ping,
    text,
)

pytestmark = pytest.mark.anyio

ACCEPT_OF_EXAMPLE = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3


async def shake_hands(a, b, client_options=None, server_options=None) -> tuple[RawPeer, RawPeer]:
    peers: dict[str, RawPeer] = {}

    async def serve() -> None:
        peers["server"] = await RawPeer.as_server(b, **server_options or {})

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        peers["client"] = await RawPeer.as_client(a, **client_options or {})
    return peers["client"], peers["server"]


@pytest.mark.parametrize("make", [memory_pair, lockstep_pair])
async def test_two_raw_peers_shake_hands(make) -> None:
    a, b = make()
    client, server = await shake_hands(
        a,
        b,
        {
            "host": "example.com:81",
            "path": "/chat?x=1",
            "subprotocols": ["one", "two"],
            "headers": [("X-A", "1")],
        },
        {"subprotocol": "two", "headers": [("Sec-WebSocket-Extensions", "x-nothing")]},
    )
    assert server.head.startswith(b"GET /chat?x=1 HTTP/1.1\r\nHost: example.com:81\r\n")
    assert server.head.endswith(b"\r\n\r\n")
    assert server.header("sec-websocket-protocol") == "one, two"
    assert server.header("Sec-WebSocket-Version") == "13"
    assert server.header("X-A") == "1"
    assert server.header("X-B") is None
    assert client.head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert client.header("Sec-WebSocket-Accept") == ACCEPT_OF_EXAMPLE
    assert client.header("Sec-WebSocket-Protocol") == "two"
    assert client.header("Sec-WebSocket-Extensions") == "x-nothing"


async def test_the_client_offers_no_subprotocol_by_default() -> None:
    client, server = await shake_hands(*memory_pair())
    assert server.header("Sec-WebSocket-Protocol") is client.header("Sec-WebSocket-Protocol") is None
    assert server.header("Host") == "testserver"


async def test_the_client_masks_with_its_key_and_the_server_does_not() -> None:
    client, server = await shake_hands(*memory_pair(), {"mask": b"abcd"})
    for peer, other, mask in ((client, server, b"abcd"), (server, client, None)):
        await peer.text("é", fin=False)
        await peer.continuation(b"x")
        await peer.binary(b"\x00")
        await peer.ping(b"p")
        await peer.pong(b"q")
        await peer.frame(2, b"r", rsv1=True)
        await peer.close(1000, "bye")
        found = [await other.read_frame() for _ in range(7)]
        assert [(frame.kind, frame.payload) for frame in found] == [
            ("text", "é".encode()),
            ("continuation", b"x"),
            ("binary", b"\x00"),
            ("ping", b"p"),
            ("pong", b"q"),
            ("binary", b"r"),
            ("close", b"\x03\xe8bye"),
        ]
        assert [frame.fin for frame in found] == [False] + [True] * 6
        assert [frame.rsv1 for frame in found] == [False] * 5 + [True, False]
        assert {frame.mask for frame in found} == {mask}


async def test_the_mask_can_be_left_out_on_purpose() -> None:
    client, server = await shake_hands(*memory_pair())
    await client.text("hi", mask=None)
    with pytest.raises(PeerError, match="not masked"):
        await server.read_frame()


async def test_a_masked_frame_from_the_server_is_refused() -> None:
    client, server = await shake_hands(*memory_pair())
    await server.send(text("hi", mask=EXAMPLE_KEY))
    with pytest.raises(PeerError, match="is masked"):
        await client.read_frame()


async def test_frames_that_come_with_the_response_are_kept() -> None:
    a, b = memory_pair()
    head = f"HTTP/1.1 101 OK\r\nSec-WebSocket-Accept: {ACCEPT_OF_EXAMPLE}\r\n\r\n"
    await b.send(head.encode() + text("early") + ping())
    client = await RawPeer.as_client(a)
    assert (await client.read_frame()).text == "early"
    assert (await client.read_frame()).kind == "ping"


async def test_it_speaks_over_a_socket() -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with await RawPeer.as_server(stream) as server:
            await server.text((await server.read_frame()).text + "!")
            await server.close(1000)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        stream = await anyio.connect_tcp("127.0.0.1", listener.extra(SocketAttribute.local_port))
        async with await RawPeer.as_client(stream) as client:
            await client.text("hello")
            first, second = await client.read_to_end()
        assert (first.text, second.close_code) == ("hello!", 1000)
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found"),
        ("HTTP/1.1 101 OK\r\n\r\n", "Sec-WebSocket-Accept"),
        ("HTTP/1.1 101 OK\r\nSec-WebSocket-Accept: wrong\r\n\r\n", "Sec-WebSocket-Accept"),
        ("x" * 20000, "longer than 16384"),
    ],
)
async def test_a_bad_response_is_refused(response: str, reason: str) -> None:
    a, b = memory_pair()
    await b.send(response.encode())
    with pytest.raises(PeerError, match=reason):
        await RawPeer.as_client(a)


async def test_a_request_without_a_key_is_refused() -> None:
    a, b = memory_pair()
    await a.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises(PeerError, match="no Sec-WebSocket-Key"):
        await RawPeer.as_server(b)


@pytest.mark.parametrize(("start", "error"), [(b"", anyio.EndOfStream), (b"GET / HT", anyio.IncompleteRead)])
async def test_a_connection_that_ends_within_the_request_raises(start: bytes, error: type[Exception]) -> None:
    a, b = memory_pair()
    await a.send(start)
    await a.aclose()
    with pytest.raises(error):
        await RawPeer.as_server(b)


@asynccontextmanager
async def reader_of(data: bytes, *, size: int = 1, **options) -> AsyncIterator[FrameReader]:
    a, b = memory_pair(max(1, len(data)))
    async with a, b:
        await a.send(data)
        await a.send_eof()
        yield FrameReader(SplitStream(b, size), **options)


async def test_frames_are_read_byte_by_byte_up_to_a_clean_end() -> None:
    async with reader_of(text("one") + binary(bytes(300)) + close(1000)) as reader:
        assert [(await reader.read()).kind for _ in range(3)] == ["text", "binary", "close"]
        with pytest.raises(anyio.EndOfStream):
            await reader.read()


async def test_an_end_inside_a_frame_is_an_incomplete_read() -> None:
    async with reader_of(text("one")[:-1]) as reader:
        with pytest.raises(anyio.IncompleteRead):
            await reader.read()


async def test_a_bad_header_is_refused_before_its_payload_came() -> None:
    async with reader_of(binary(length_bytes=2, declared_length=125)) as reader:
        with pytest.raises(PeerError, match="fewest"):
            await reader.read()


@pytest.mark.parametrize("size", [1, 1000])
async def test_a_frame_above_the_limit_is_refused(size: int) -> None:
    async with reader_of(binary(bytes(100)) * 2, size=size, max_frame=102) as reader:
        for _ in range(2):
            assert len((await reader.read()).payload) == 100
    async with reader_of(binary(bytes(101)), size=size, max_frame=102) as reader:
        with pytest.raises(PeerError, match="larger than 102"):
            await reader.read()


async def test_a_frame_above_the_limit_is_refused_before_all_of_it_came() -> None:
    async with reader_of(binary(bytes(100), declared_length=1 << 40), max_frame=102) as reader:
        with pytest.raises(PeerError, match="larger than 102"):
            await reader.read()


async def test_a_cancelled_read_loses_no_byte() -> None:
    a, b = memory_pair()
    reader = FrameReader(b)
    data = text("hello")
    await a.send(data[:3])
    async with anyio.create_task_group() as group:
        group.start_soon(reader.read)
        await wait_all_tasks_blocked()
        assert b.statistics().bytes_received == 3
        group.cancel_scope.cancel()
    await a.send(data[3:])
    assert (await reader.read()).text == "hello"


async def raw_server(*items: bytes) -> tuple[MemoryStream, RawPeer]:
    a, b = memory_pair()
    for item in items:
        await a.send(item)
    return a, RawPeer(b, "client")


async def test_read_to_end_gives_the_frames_up_to_the_end() -> None:
    a, peer = await raw_server(text("a"), text("b"))
    await a.aclose()
    assert [frame.text for frame in await peer.read_to_end(max_frames=2)] == ["a", "b"]


async def test_read_to_end_is_bounded() -> None:
    _, peer = await raw_server(*[ping()] * 4)
    with pytest.raises(PeerError, match="more than 3"):
        await peer.read_to_end(max_frames=3)


async def test_leaving_the_block_closes_the_stream() -> None:
    a, peer = await raw_server()
    async with peer:
        pass
    with pytest.raises(anyio.EndOfStream):
        await a.receive()
