"""`typed`: messages as objects."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

import wsstream
from wsstream import ConnectionClosed, MessageTooBig, StreamEnded, typed
from wsstream.testing import connected_pair, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


def as_bytes(item: Any) -> bytes:
    return json.dumps(item).encode()


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("encode", [json.dumps, as_bytes, lambda item: bytearray(as_bytes(item))])
async def test_objects_go_both_ways(binary: bool, encode: Any) -> None:
    async with connected_pair() as (client, server):
        stream = typed(client, json.loads, encode, binary=binary)
        await stream.send({"grün": [1, None]})
        raw = await server.receive()
        assert isinstance(raw, bytes if binary else str)
        await server.send(raw)
        assert await stream.receive() == {"grün": [1, None]}
        assert stream.ws is client
        assert "TypedStream over" in repr(stream)


async def test_decode_gets_the_bytes_of_either_kind() -> None:
    async with connected_pair() as (client, server):
        stream = typed(client, lambda payload: payload, str)
        for message in ("é", b"\xff", "", b""):
            await server.send(message)
            payload = await stream.receive()
            assert type(payload) is bytes
            assert payload == (message.encode() if isinstance(message, str) else message)


async def test_iteration_ends_with_the_connection() -> None:
    async with connected_pair() as (client, server):
        for number in range(3):
            await server.send(str(number))
        server.begin_close()
        stream = typed(client, json.loads, json.dumps)
        assert [item async for item in stream] == [0, 1, 2]
        with pytest.raises(StreamEnded):
            await stream.receive()


async def test_a_cancelled_receive_loses_nothing() -> None:
    ours, servers = memory_pair()

    async def send_slowly() -> None:
        async with wsstream.accept(servers) as ws, ws.writable.message("text") as writer:
            for part in ("[1,", "2", ",3]"):
                await writer.send(part)
                await writer.flush()
                await anyio.sleep(10)

    async with anyio.create_task_group() as group:
        group.start_soon(send_slowly)
        async with wsstream.connect("ws://a/", transport=ours) as ws:
            stream = typed(ws, json.loads, json.dumps)
            cancelled = 0
            while True:
                with anyio.move_on_after(3):
                    item = await stream.receive()
                    break
                cancelled += 1
            assert (item, cancelled > 5) == ([1, 2, 3], True)


async def test_what_decode_raises_leaves_the_connection_open() -> None:
    async with connected_pair() as (client, server):
        stream = typed(client, json.loads, json.dumps)
        await server.send("{")
        await server.send("{}")
        with pytest.raises(json.JSONDecodeError):
            await stream.receive()
        assert await stream.receive() == {}


async def test_what_encode_does_wrong_sends_nothing() -> None:
    async with connected_pair() as (client, server):
        with pytest.raises(TypeError, match="not JSON serializable"):
            await typed(client, json.loads, json.dumps).send(object())
        with pytest.raises(UnicodeDecodeError):
            await typed(client, json.loads, lambda item: b"\xff").send(1)
        with pytest.raises(TypeError, match="encode must return str or bytes, got int"):
            await typed(client, json.loads, lambda item: 5).send(1)  # type: ignore[arg-type, return-value]  # wrong on purpose
        await client.send("after")
        assert await server.receive() == "after"


async def test_a_message_over_the_limit() -> None:
    async with connected_pair(client_options={"max_message_size": 10}) as (client, server):
        await server.send("x" * 11)
        stream = typed(client, json.loads, json.dumps)
        with pytest.raises((MessageTooBig, ConnectionClosed)):
            await stream.receive()
        assert (await server.wait_closed()).code == 1009


async def test_two_tasks_do_not_receive_at_once() -> None:
    async with connected_pair() as (client, server), anyio.create_task_group() as group:
        stream = typed(client, json.loads, json.dumps)
        group.start_soon(stream.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await stream.receive()
        await server.send("1")


async def test_it_is_an_object_stream() -> None:
    async with connected_pair() as (client, server):
        stream = typed(client, json.loads, json.dumps)
        with pytest.raises(NotImplementedError):
            await stream.send_eof()
        assert stream.extra_attributes.keys() == client.extra_attributes.keys()
        async with stream:
            assert stream.extra(SocketAttribute.remote_address, None) is None
        assert (await server.wait_closed()).code == 1005


@pytest.mark.parametrize(("decode", "encode", "name"), [(None, str, "decode"), (bytes, 5, "encode")])
def test_wrong_arguments(decode: Any, encode: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a function, got"):
        typed(None, decode, encode)  # type: ignore[arg-type]  # the functions are checked first
