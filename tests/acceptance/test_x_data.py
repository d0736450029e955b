"""Table X, rows 15 to 18 and 21: ends, code points, order, exceptions and a browser's header."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, product
from random import Random
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.streams.text import TextReceiveStream

import wsstream
from wsstream import ConnectionBroken, FlowControl, InvalidUTF8, StreamEnded, WebSocketStream
from wsstream.testing import (
    CutStream,
    RawPeer,
    SplitStream,
    memory_pair,
    reset_stream,
)

pytestmark = pytest.mark.anyio

ROLES = pytest.mark.parametrize("role", ["client", "server"])
MORE, TEXT, BINARY = 0, 1, 2


# -- X15 -------------------------------------------------------------------------------------


async def by_receive(ws: WebSocketStream) -> None:
    await ws.receive()


async def by_iteration(ws: WebSocketStream) -> None:
    async for _ in ws:
        pass


async def by_chunks(ws: WebSocketStream) -> None:
    async for reader in ws.readable.messages():
        async for _ in reader:
            pass


async def by_read(ws: WebSocketStream) -> None:
    async with ws.readable.message() as reader:
        await reader.read()


async def as_byte_stream(ws: WebSocketStream) -> None:
    async for _ in ws.byte_stream():
        pass


async def as_byte_stream_with_eof(ws: WebSocketStream) -> None:
    async for _ in ws.byte_stream(eof=b""):
        pass


WAYS: list[Callable[[WebSocketStream], Any]] = [
    by_receive,
    by_iteration,
    by_chunks,
    by_read,
    as_byte_stream,
    as_byte_stream_with_eof,
]


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("end", ["fin", "reset"])
@pytest.mark.parametrize("inside", ["a-frame", "a-fragmented-message", "an-empty-fragmented-message"])
async def test_x15_tcp_dies_inside_a_message(net: Any, end: str, inside: str) -> None:
    noise = Random(15).randbytes(100_000)
    held = {"a-frame": 100_000, "a-fragmented-message": 134, "an-empty-fragmented-message": 64}[inside]

    def data(raw: Any) -> bytes:
        if inside == "a-frame":
            return bytes(raw.encode(BINARY, noise, declared_length=200_000))
        if inside == "an-empty-fragmented-message":
            return bytes(raw.encode(BINARY, b"", fin=False))
        return bytes(raw.encode(BINARY, b"abc", fin=False) + raw.encode(MORE, b"def", fin=False))

    async def peer(stream: ByteStream) -> None:
        async with await net.as_server(stream) as raw:
            await raw.send(data(raw))
            await arrived.wait()  # a reset would discard what is on its way
            if end == "reset":
                await reset_stream(stream)

    async with net.raw_server(peer) as url:
        for read in WAYS:
            arrived = anyio.Event()
            async with net.connect(url) as ws:
                while ws.statistics().receive_buffered < held:
                    await anyio.sleep(0.001)
                arrived.set()
                with pytest.raises(ConnectionBroken) as raised:
                    await read(ws)
                assert raised.value.info == (1006, "", False)
                for call in (ws.wait_closed, ws.receive):
                    with pytest.raises(ConnectionBroken):
                        await call()


@pytest.mark.heavy_after_first
@ROLES
@pytest.mark.parametrize("read", [by_iteration, by_chunks, as_byte_stream], ids=lambda way: way.__name__)
async def test_x15_wherever_the_stream_is_cut(raw_pair: Any, role: str, read: Any) -> None:
    """A cut between messages without a Close is no clean end either."""
    frames = [(BINARY, b"whole", True), (BINARY, b"ab", False), (MORE, b"cd", False), (MORE, b"", True)]
    for at in count():
        async with raw_pair(role) as (ws, peer):
            data = b"".join(peer.encode(opcode, payload, fin=fin) for opcode, payload, fin in frames)
            if at:
                await peer.send(data[:at])
            await peer.aclose()
            with pytest.raises(ConnectionBroken) as raised:
                await read(ws)
            assert raised.value.code == 1006
        if at == len(data):
            break


@pytest.mark.quick_with_compression
@ROLES
async def test_x15_a_close_inside_a_message_is_no_end_of_the_message(raw_pair: Any, role: str) -> None:
    async with raw_pair(role) as (ws, peer):
        await peer.binary(b"half", fin=False)
        await peer.close(1000)
        async with ws.readable.message() as reader:
            assert await reader.receive() == b"half"
            with pytest.raises(ConnectionBroken):
                await reader.receive()
            assert not reader.complete


async def test_x15_but_a_clean_close_is_a_normal_end(raw_pair: Any) -> None:
    async with raw_pair() as (ws, peer):
        await peer.binary(b"whole")
        await peer.close(1000)
        await by_chunks(ws)
        with pytest.raises(StreamEnded):
            await ws.receive()


@ROLES
async def test_x15_a_send_whose_message_is_cut_raises_too(raw_pair: Any, role: str) -> None:
    ours, theirs = memory_pair(1 << 20)
    async with raw_pair(role, (CutStream(ours, after_send=100_000, reset=True), theirs)) as (ws, _):
        with pytest.raises(ConnectionBroken) as raised:
            await ws.send(Random(15).randbytes(1_000_000))
        assert raised.value.code == 1006


# -- X16 -------------------------------------------------------------------------------------

POINTS = "a\u00e9\u20ac\U0001f600\u07ff\u0800\uffff\U00010000\U0010ffff\u0000z"


@pytest.mark.heavy_after_first
@ROLES
@pytest.mark.parametrize("piece", [1, 2, 3, 5, 1000], ids=lambda size: f"reads-of-{size}")
async def test_x16_code_points_across_frames_and_reads_and_chunks(
    raw_pair: Any, role: str, piece: int
) -> None:
    payload = POINTS.encode()
    ours, theirs = memory_pair()
    async with raw_pair(role, (SplitStream(ours, piece), theirs)) as (ws, peer):
        for cut, max_bytes in product(range(0, len(payload) + 1, 1 if piece == 1000 else 3), (1, 3, 65536)):
            await peer.text(payload[:cut], fin=False)
            await peer.continuation(payload[cut : cut + 2], fin=False)
            await peer.continuation(payload[cut + 2 :])
            chunks = []
            async with ws.readable.message() as reader:
                assert reader.kind == "text"
                try:
                    while True:
                        chunks.append(await reader.receive(max_bytes))
                except anyio.EndOfStream:
                    pass
            assert b"".join(chunks) == payload
            assert all(0 < len(chunk) <= max_bytes for chunk in chunks)
            await peer.text(payload[:cut], fin=False)
            await peer.continuation(payload[cut:])
            assert await ws.receive() == POINTS


async def test_x16_a_reader_wrapped_for_text_gives_the_text(raw_pair: Any) -> None:
    ours, theirs = memory_pair()
    async with raw_pair("client", (SplitStream(ours, 1), theirs)) as (ws, peer):
        await peer.text(POINTS)
        async with ws.readable.message() as reader:
            assert "".join([part async for part in TextReceiveStream(reader)]) == POINTS


@pytest.mark.quick_with_compression
@ROLES
@pytest.mark.parametrize("frame_size", [4, 5, 7, 64])
async def test_x16_our_fragments_of_text_end_between_code_points(
    raw_pair: Any, role: str, frame_size: int
) -> None:
    flow = FlowControl(frame_size=frame_size)
    async with raw_pair(role, flow=flow) as (ws, peer), anyio.create_task_group() as tasks:
        message = POINTS * 20
        tasks.start_soon(ws.send, message)
        got = ""
        while True:
            frame = await peer.read_frame()
            got += frame.text  # raises when it ends inside a code point
            assert len(frame.payload) <= frame_size
            if frame.fin:
                break
        assert got == message


@ROLES
@pytest.mark.parametrize("cut", range(1, 4))
async def test_x16_a_text_writer_takes_bytes_cut_anywhere(raw_pair: Any, role: str, cut: int) -> None:
    payload = POINTS.encode()
    async with raw_pair(role) as (ws, peer):
        async with ws.writable.message("text") as writer:
            for start in range(0, len(payload), cut):
                await writer.send(payload[start : start + cut])
            await writer.send("and str")
        got = b""
        while not (frame := await peer.read_frame()).fin:
            got += frame.payload
        assert (got + frame.payload).decode() == POINTS + "and str"


BAD = {
    "continuation-alone": b"\x80",
    "never-in-utf8": b"\xff",
    "overlong": b"\xc0",
    "overlong-3": b"\xe0\x9f",
    "surrogate": b"\xed\xa0",
    "above-10ffff": b"\xf4\x90",
    "no-continuation": b"\xe2\x28",
}


@pytest.mark.virtual_time
@ROLES
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("split", ["one-frame", "fragments"])
async def test_x16_invalid_utf8_fails_at_the_bad_byte(
    raw_pair: Any, role: str, bad: bytes, split: str
) -> None:
    """Compressed text fails when it is read up to there, as it is inflated no faster than it is read."""
    good = "größe".encode()
    async with raw_pair(role, close_timeout=5) as (ws, peer), anyio.create_task_group() as tasks:
        await peer.text("before")
        sent, key = 0, peer.mask or bytes(4)

        async def send_byte(byte: int) -> None:
            nonlocal sent
            if split == "fragments":
                await (peer.continuation if sent else peer.text)(bytes([byte]), fin=False)
                sent += 1
            elif sent:
                data = peer.part(bytes([byte]))
                await peer.send(bytes(byte ^ key[(sent + i) % 4] for i, byte in enumerate(data)))
                sent += len(data)
            else:
                data = peer.encode(TEXT, bytes([byte]), declared_length=1000)
                await peer.send(data)
                sent = len(data) - (4 if peer.mask is None else 8)

        async def read(chunk: bytes = b"") -> bytes:
            async with ws.readable.message() as reader:
                while good not in chunk:
                    chunk += await reader.receive()
                for _ in range(20):  # what is on its way arrives
                    await anyio.lowlevel.checkpoint()
                assert ws.state == "open", f"failed before the bad byte, behind {chunk!r}"
                await send_byte(bad[-1])
                if not peer.deflating:
                    await check_close()
                with pytest.raises(ConnectionBroken) as raised:
                    while True:
                        chunk += await reader.receive()
            assert isinstance(raised.value.__cause__, InvalidUTF8)
            assert raised.value.code == 1007
            return chunk

        async def check_close() -> None:
            closing = await peer.read_frame()
            assert (closing.kind, closing.close_code) == ("close", 1007)

        for byte in good + bad[:-1]:
            await send_byte(byte)
        assert await ws.receive() == "before"
        assert (good + bad[:-1]).startswith(await read())
        if peer.deflating:
            await check_close()
        tasks.start_soon(peer.aclose)


@pytest.mark.virtual_time
@ROLES
@pytest.mark.parametrize("cut", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"])
async def test_x16_a_text_that_ends_inside_a_code_point_is_invalid(
    raw_pair: Any, role: str, cut: bytes
) -> None:
    async with raw_pair(role, close_timeout=5) as (ws, peer):
        await peer.text(b"ok" + cut)
        if not peer.deflating:  # compressed, it is seen when it is read
            assert (await peer.read_frame()).close_code == 1007
        with pytest.raises(ConnectionBroken) as raised:
            await ws.receive()
        assert isinstance(raised.value.__cause__, InvalidUTF8)
        if peer.deflating:
            assert (await peer.read_frame()).close_code == 1007
        await peer.aclose()


# -- X17 -------------------------------------------------------------------------------------


async def test_x17_two_senders_and_a_stream_interleave_nothing(net: Any) -> None:
    rounds, size = 20, 50_000
    tags = {b"s": 5 * size, b"a": size, b"b": size // 10, b"c": 10}  # the last is never compressed
    got: list[bytes] = []

    async def receive(ws: WebSocketStream) -> None:
        async for message in ws:
            assert isinstance(message, bytes)
            tag, number = message[:1], message[1:5]
            assert message == tag + number + tag * tags[tag], "mixed up"
            got.append(tag + number)

    async with net.serve(receive, max_message_size=2**20) as server, net.connect(server) as ws:

        async def send_messages(tag: bytes) -> None:
            for i in range(rounds):
                await ws.send(tag + b"%04d" % i + tag * tags[tag])

        async def stream_messages(tag: bytes) -> None:
            for i in range(rounds):
                async with ws.writable.message() as writer:
                    await writer.send(tag + b"%04d" % i)
                    for _ in range(5):
                        await writer.send(tag * (tags[tag] // 5))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream_messages, b"s")
            tasks.start_soon(send_messages, b"a")
            tasks.start_soon(send_messages, b"b")
            tasks.start_soon(send_messages, b"c")
    for tag in tags:
        assert [one for one in got if one[:1] == tag] == [tag + b"%04d" % i for i in range(rounds)]


@ROLES
async def test_x17_who_asks_first_sends_first(raw_pair: Any, role: str) -> None:
    async with raw_pair(role, memory_pair(1024)) as (ws, peer), anyio.create_task_group() as tasks:

        async def stream(name: str) -> None:
            async with ws.writable.message("text") as writer:
                await writer.send(name)

        async with ws.writable.message("text") as writer:
            await writer.send("the first")
            for i in range(10):
                tasks.start_soon(*((stream, f"{i}") if i % 3 == 0 else (ws.send, f"{i}")))
                while ws.statistics().tasks_waiting_send < i + 1:
                    await anyio.lowlevel.checkpoint()
            await ws_ping_passes(ws, peer)
            await writer.send(" in full")
        got = [(await read_message(peer)) for _ in range(11)]
        assert got == [" in full", *map(str, range(10))]


async def ws_ping_passes(ws: WebSocketStream, peer: RawPeer) -> None:
    """Control frames do not wait for the end of a message."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ws.ping)
        assert (await peer.read_frame()).text == "the first"
        frame = await peer.read_frame()
        assert frame.kind == "ping"
        await peer.pong(frame.payload)


async def read_message(peer: RawPeer) -> str:
    parts = []
    while True:
        frame = await peer.read_frame()
        assert frame.kind in ("text", "continuation")
        parts.append(frame.payload)
        if frame.fin:
            return b"".join(parts).decode()


@pytest.mark.quick_with_compression
async def test_x17_a_sender_that_gave_up_waiting_is_passed_over(raw_pair: Any) -> None:
    async with raw_pair() as (ws, peer), anyio.create_task_group() as tasks:
        scopes = [anyio.CancelScope() for _ in range(4)]

        async def send(i: int) -> None:
            with scopes[i]:
                await ws.send(str(i))

        async with ws.writable.message("text") as writer:
            await writer.send("open")
            for i in range(4):
                tasks.start_soon(send, i)
                while ws.statistics().tasks_waiting_send < i + 1:
                    await anyio.lowlevel.checkpoint()
            scopes[0].cancel()
            scopes[2].cancel()
        assert [await read_message(peer) for _ in range(3)] == ["open", "1", "3"]


# -- X18 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", ["idle", "receiving", "sending"])
async def test_x18_an_exception_in_connect_arrives_as_itself(net: Any, busy: str) -> None:
    infos: list[Any] = []
    error = ValueError("mine")

    async def peer(ws: WebSocketStream) -> None:
        try:
            if busy == "receiving":
                while True:
                    await ws.send(bytes(65536))
            async for _ in ws.readable.messages():
                pass
        except wsstream.ConnectionClosed:
            pass
        infos.append(ws.close_info)

    async with net.serve(peer) as server:
        with pytest.raises(ValueError, match="mine") as raised:
            async with net.connect(server) as ws:
                if busy == "receiving":
                    while not ws.statistics().reading_paused:
                        await anyio.sleep(0.005)
                elif busy == "sending":
                    with anyio.move_on_after(0):
                        await ws.send(bytes(1 << 22))
                raise error
    assert raised.value is error
    assert error.__cause__ is None
    assert infos == [(1011, "", True)]


async def test_x18_also_when_the_peer_has_gone_or_never_answers(net: Any) -> None:
    async def peer(stream: ByteStream) -> None:
        async with await net.as_server(stream) as raw:
            if raw.header("X-Then") == "stay":
                await anyio.sleep_forever()

    async with net.raw_server(peer) as url:
        for then in ("go", "stay"):
            with pytest.raises(ValueError, match="mine") as raised:
                async with net.connect(url, headers={"X-Then": then}, close_timeout=0.05) as ws:
                    if then == "go":
                        with pytest.raises(ConnectionBroken):
                            await ws.receive()
                    raise ValueError("mine")
            assert type(raised.value) is ValueError


async def test_x18_also_in_accept_and_serve(net: Any) -> None:
    async def handler(ws: WebSocketStream) -> None:
        await ws.wait_closed()

    with pytest.raises(ValueError, match="mine") as raised:
        async with net.serve(handler) as server, net.connect(server):
            raise ValueError("mine")
    assert type(raised.value) is ValueError

    ours, theirs = memory_pair()
    failed = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RawPeer.as_client, theirs)
        try:
            async with wsstream.accept(ours, close_timeout=0):
                raise ValueError("mine")
        except Exception as error:
            failed = error
    assert type(failed) is ValueError


# -- X21 -------------------------------------------------------------------------------------

FIREFOX = """\
GET /chat HTTP/1.1\r
Host: 127.0.0.1:{port}\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r
Accept: */*\r
Accept-Language: en-US,en;q=0.5\r
Accept-Encoding: gzip, deflate, br, zstd\r
Sec-WebSocket-Version: 13\r
Origin: http://127.0.0.1:{port}\r
Sec-WebSocket-Extensions: permessage-deflate\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
DNT: 1\r
Sec-GPC: 1\r
Connection: keep-alive, Upgrade\r
Sec-Fetch-Dest: empty\r
Sec-Fetch-Mode: websocket\r
Sec-Fetch-Site: same-origin\r
Pragma: no-cache\r
Cache-Control: no-cache\r
Upgrade: websocket\r
\r
"""


@pytest.mark.parametrize(
    "connection",
    ["keep-alive, Upgrade", "Upgrade, keep-alive", "keep-alive,upgrade", "keep-alive\r\nConnection: UPGRADE"],
)
async def test_x21_firefox_asks_with_keep_alive_and_upgrade(net: Any, connection: str) -> None:
    async def echo(ws: WebSocketStream) -> None:
        async for message in ws:
            await ws.send(message)

    async with net.serve(echo) as server:
        stream = await net.raw_client(server)
        async with RawPeer(stream, "client") as raw:
            request = FIREFOX.format(port=server.port).replace("keep-alive, Upgrade", connection)
            await raw.send(request.encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await stream.receive(1)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
            await raw.text("hello")
            assert (await raw.read_frame()).text == "hello"
            await raw.close(1000)
            assert (await raw.read_frame()).close_code == 1000


@pytest.mark.parametrize("connection", ["keep-alive", "keep-alive, Upgrade-Insecure", "close"])
async def test_x21_but_without_upgrade_it_is_refused(net: Any, connection: str) -> None:
    async def never(ws: WebSocketStream) -> None:
        raise AssertionError

    async with net.serve(never) as server:
        stream = await net.raw_client(server)
        async with stream:
            request = FIREFOX.format(port=server.port).replace("keep-alive, Upgrade", connection)
            await stream.send(request.encode())
            head = b""
            while b"\r\n" not in head:
                head += await stream.receive()
            assert head.split()[1] in (b"400", b"426")
