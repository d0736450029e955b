"""Messages of one kind: the other kind is refused with 1003, and nothing is lost by waiting."""

from __future__ import annotations

import anyio
import pytest

from wsstream import ClosedLocally, ConnectionBroken, MessageTooBig, StreamEnded, WebSocketError
from wsstream.testing import connected_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

KINDS = pytest.mark.parametrize(
    ("payload", "messages", "wrong", "kind", "other"),
    [
        (str, ["a", "", "ü" * 70_000], b"bytes", "text", "binary"),
        (bytes, [b"a", b"", bytes(70_000)], "text", "binary", "text"),
    ],
    ids=["text", "binary"],
)


@KINDS
async def test_the_right_kind_comes_as_it_is(payload, messages, wrong, kind, other) -> None:
    async with connected_pair() as (client, server):
        for message in messages:
            await client.send(message)
        client.begin_close()
        stream = server.readable.only(payload)
        assert [await stream.receive(), *[message async for message in stream]] == messages
        with pytest.raises(StreamEnded):
            await stream.receive()


@KINDS
@pytest.mark.parametrize("iterate", [False, True])
@pytest.mark.parametrize("whole", [False, True])
async def test_the_other_kind_closes_with_1003(payload, messages, wrong, kind, other, iterate, whole) -> None:
    async with connected_pair() as (client, server):
        await client.send(messages[0])
        if whole:
            await client.send(wrong)
        else:
            async with client.writable.message(other) as writer:
                for _ in range(3):
                    await writer.send(wrong)
                    await writer.flush()
        stream = server.readable.only(payload)
        got = []
        with pytest.raises(WebSocketError) as caught:
            if iterate:
                async for message in stream:
                    got.append(message)
            else:
                while True:
                    got.append(await stream.receive())
        assert got == messages[:1]
        assert type(caught.value) is WebSocketError
        assert str(caught.value) == f"the peer sent a {other} message: only {kind} messages are taken here"
        assert (caught.value.code, caught.value.reason) == (1003, f"only {kind} messages are taken here")
        assert server.state != "open"
        for call in (stream.receive, server.receive):
            with pytest.raises(ClosedLocally):
                await call()
        assert await client.wait_closed() == (1003, f"only {kind} messages are taken here", True)


async def test_leaving_the_handler_by_the_error_changes_nothing() -> None:
    async with connected_pair() as (client, server):
        await client.send(b"bytes")
        with pytest.raises(WebSocketError):
            async with server:
                await server.readable.only(str).receive()
        assert (await client.wait_closed()).code == 1003


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with connected_pair() as (client, server):
        stream = server.readable.only(str)
        got = []

        async def send() -> None:
            for number in range(20):
                await anyio.sleep(0.1)
                await client.send(str(number))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            while len(got) < 20:
                with anyio.move_on_after(0.03):
                    got.append(await (stream if len(got) % 2 else server).receive())
        assert got == [str(number) for number in range(20)]


async def test_what_receive_raises_is_raised() -> None:
    async with connected_pair(server_options={"max_message_size": 10}) as (client, server):
        stream = server.readable.only(str)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.receive)
                await anyio.sleep(1)
                with pytest.raises(anyio.BusyResourceError):
                    await stream.receive()
                scope.cancel()
        await client.send("x" * 11)
        with pytest.raises(MessageTooBig):
            await stream.receive()
    async with connected_pair() as (client, server):
        client.abort()
        with pytest.raises(ConnectionBroken):
            await server.readable.only(bytes).receive()


async def test_closing_it_closes_the_connection() -> None:
    async with connected_pair() as (client, server):
        async with server.readable.only(str):
            pass
        assert client.close_info == (1005, "", True)


@pytest.mark.parametrize("wrong", [bytearray, int, "text", None])
async def test_only_str_and_bytes_are_types_of_messages(wrong: object) -> None:
    async with connected_pair() as (_, server):
        with pytest.raises(TypeError, match="takes str or bytes, the types of messages, not"):
            server.readable.only(wrong)  # type: ignore[type-var]
