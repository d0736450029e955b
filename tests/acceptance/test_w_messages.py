"""W39, W40, W60–62: what the streams are, and what passes through them."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import ByteReceiveStream, ByteSendStream, ObjectReceiveStream, ObjectSendStream, ObjectStream
from kit.ids import stable_repr

from wsstream import FlowControl, WebSocketStream
from wsstream.testing import RawPeer, connected_pair, memory_pair

pytestmark = pytest.mark.anyio

Watched = Callable[..., AbstractAsyncContextManager[tuple[WebSocketStream, RawPeer]]]


@pytest.fixture
def watched(raw_pair: Any) -> Watched:
    """A server over a narrow line, and a client that sees each of its frames."""
    return partial(raw_pair, "server", memory_pair(4096))


async def _next_message(peer: RawPeer) -> bytes:
    payload = b""
    while True:
        frame = await peer.read_frame()
        assert frame.kind in ("binary", "text", "continuation")
        payload += frame.payload
        if frame.fin:
            return payload


async def test_w39_the_streams_are_anyios() -> None:
    async with connected_pair() as (client, server):
        for ws in (client, server):
            assert isinstance(ws, ObjectStream)
            assert isinstance(ws.readable, ObjectReceiveStream)
            assert isinstance(ws.writable, ObjectSendStream)
        async with client.writable.message() as writer:
            assert isinstance(writer, ByteSendStream)
            await writer.send(b"x")
        async with server.readable.message() as reader:
            assert isinstance(reader, ByteReceiveStream)


async def test_w39_without_subprotocol_and_extensions_both_are_empty_str() -> None:
    async with connected_pair() as (client, server):
        for ws in (client, server):
            assert (type(ws.subprotocol), ws.subprotocol) == (str, "")
            assert (type(ws.extensions), ws.extensions) == (str, "")


async def test_w39_the_subprotocol_is_the_one_agreed_on() -> None:
    async with connected_pair(
        client_options={"subprotocols": ["a", "b"]}, server_options={"subprotocols": ["b", "c"]}
    ) as (client, server):
        assert (client.subprotocol, server.subprotocol) == ("b", "b")


@pytest.mark.parametrize("size", [0, 1, 5, 1000, 70_000, 300_000])
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
async def test_w40_binary_arrives_as_bytes(wrap: Callable[[bytes], Any], size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    async with connected_pair() as (client, server), anyio.create_task_group() as tasks:
        for sender, receiver in ((client, server), (server, client)):
            tasks.start_soon(sender.send, wrap(payload))
            message = await receiver.receive()
            assert type(message) is bytes
            assert message == payload


@pytest.mark.parametrize("size", [0, 1, 5, 1000, 70_000, 300_000])
async def test_w40_text_arrives_as_str(size: int) -> None:
    text = ("aé€\N{PILE OF POO}" * size)[:size]
    options = {"max_message_size": 1 << 22}
    async with connected_pair(client_options=options) as (client, server), anyio.create_task_group() as tasks:
        tasks.start_soon(server.send, text)
        message = await client.receive()
        assert type(message) is str
        assert message == text


@pytest.mark.parametrize("fragments", [(b"abc",), (b"a", b"bc"), (b"", b"abc"), (b"abc", b"")])
async def test_w40_the_types_do_not_depend_on_the_frames(
    watched: Watched, fragments: tuple[bytes, ...]
) -> None:
    async with watched() as (ws, peer):
        for send, kind, whole in ((peer.text, str, "abc"), (peer.binary, bytes, b"abc")):
            await send(fragments[0], fin=len(fragments) == 1)
            for fragment in fragments[1:]:
                await peer.continuation(fragment, fin=fragment is fragments[-1])
            message = await ws.receive()
            assert (type(message), message) == (kind, whole)


async def test_w40_chunks_are_bytes_of_either_kind() -> None:
    async with connected_pair() as (client, server):
        for message in ("text", bytearray(b"data")):
            await client.send(message)
            async with server.readable.message() as reader:
                assert type(await reader.receive(2)) is bytes
                assert type(await reader.read()) is bytes


@pytest.mark.parametrize("item", [object(), 5, None, 1.0, [1], {"a": 1}, True], ids=stable_repr)
async def test_w60_what_is_no_message_is_refused(watched: Watched, item: Any) -> None:
    async with watched() as (ws, peer):
        for send in (ws.send, ws.writable.send):
            with pytest.raises(TypeError):
                await send(item)
        assert ws.statistics().bytes_sent == 0
        await ws.send("next")
        assert await _next_message(peer) == b"next"


async def test_w60_what_is_no_chunk_is_refused_and_the_writer_goes_on(watched: Watched) -> None:
    async with watched() as (ws, peer):
        async with ws.writable.message() as writer:
            for wrong in (object(), 5, None, "text"):
                with pytest.raises(TypeError):
                    await writer.send(wrong)  # type: ignore[arg-type]
            await writer.send(b"whole")
        assert await _next_message(peer) == b"whole"


def _released() -> memoryview:
    view = memoryview(b"gone")
    view.release()
    return view


def _strided() -> memoryview:
    return memoryview(b"a-b-c-")[::2]


def _backwards() -> memoryview:
    return memoryview(b"abc")[::-1]


@pytest.mark.parametrize("make", [_released, _strided, _backwards])
async def test_w61_a_view_without_usable_bytes_is_refused_before_any_is_sent(
    watched: Watched, make: Callable[[], memoryview]
) -> None:
    async with watched() as (ws, peer):
        with pytest.raises(ValueError):
            await ws.send(make())
        assert ws.statistics().bytes_sent == 0
        async with ws.writable.message() as writer:
            with pytest.raises(ValueError):
                await writer.send(make())
            assert (writer.bytes_sent, ws.statistics().bytes_sent) == (0, 0)
            await writer.send(b"whole")
        assert await _next_message(peer) == b"whole"


async def test_w61_the_bytes_of_a_cast_view_are_sent_whatever_its_items_are(watched: Watched) -> None:
    numbers = array("I", range(2000))
    square = memoryview(numbers.tobytes()).cast("B", (80, 100))
    async with watched() as (ws, peer):
        for view in (memoryview(numbers), square, memoryview(numbers).cast("B").cast("d")):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ws.send, view)
                assert await _next_message(peer) == numbers.tobytes()
        assert await ws.send(memoryview(array("d"))) is None
        assert await _next_message(peer) == b""


async def test_w61_a_slice_that_is_contiguous_is_sent(watched: Watched) -> None:
    async with watched() as (ws, peer):
        await ws.send(memoryview(b"0123456789")[3:7])
        assert await _next_message(peer) == b"3456"


@pytest.mark.parametrize("size", [10, 4095, 4096, 65_536, 1 << 20])
async def test_w62_a_buffer_that_is_changed_after_send_returned_does_not_change_the_wire(
    watched: Watched, size: int
) -> None:
    flow = FlowControl(send_high_water=1 << 21)  # returns with all of it unsent
    data = bytearray(b"\x01" * size)
    async with watched(flow=flow) as (ws, peer):
        await ws.send(data)
        assert ws.statistics().bytes_sent <= 70_000
        data[:] = b"\x02" * size
        assert await _next_message(peer) == b"\x01" * size


@pytest.mark.parametrize("size", [300_000, 1 << 20])
async def test_w62_a_buffer_that_is_changed_after_send_was_cancelled_does_not_change_the_wire(
    watched: Watched, size: int
) -> None:
    data = bytearray(b"\x01" * size)
    async with watched() as (ws, peer):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ws.send, memoryview(data))
            await anyio.wait_all_tasks_blocked()
            assert ws.statistics().send_buffered > 0  # handed over, so it goes out whole
            tasks.cancel_scope.cancel()
        data[:] = b"\x02" * size
        assert await _next_message(peer) == b"\x01" * size


async def test_w62_chunks_may_be_changed_at_once(watched: Watched) -> None:
    chunk = bytearray(5000)
    async with watched(flow=FlowControl(send_high_water=1 << 21)) as (ws, peer):
        async with ws.writable.message() as writer:
            for value in range(20):
                chunk[:] = bytes([value]) * 5000
                await writer.send(chunk)
            chunk[:] = b"\xff" * 5000
        assert await _next_message(peer) == b"".join(bytes([value]) * 5000 for value in range(20))
