from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from wsstream.testing.memory import MemoryStream, lockstep_pair, memory_pair
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.base import receive_some, send_all

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


class Wrapped(ByteStream):
    """A stream in which single operations can be replaced."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.on_receive: Callable[[], bytes] | None = None
        self.on_send: Callable[[], None] | None = None
        self.on_eof: Callable[[], None] | None = None
        self.on_close: Callable[[], None] | None = None
        self.attributes: dict[Any, Callable[[], Any]] = {}
        self.closed: list[str] = []

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return self.on_receive() if self.on_receive else await self.stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        if self.on_send:
            self.on_send()
        await self.stream.send(item)

    async def send_eof(self) -> None:
        if self.on_eof:
            self.on_eof()
        await self.stream.send_eof()

    async def aclose(self) -> None:
        if self.on_close:
            self.on_close()
        try:
            await anyio.lowlevel.checkpoint()
            self.closed.append("gently")
        except BaseException:
            self.closed.append("forcefully")
            raise
        finally:
            await self.stream.aclose()

    @property
    def extra_attributes(self) -> dict[Any, Callable[[], Any]]:
        return self.attributes


@pytest.fixture
def wrapped() -> tuple[StreamTransport, Wrapped, MemoryStream]:
    """A transport, the stream below it, and the peer's stream."""
    near, far = memory_pair()
    stream = Wrapped(near)
    return StreamTransport(stream), stream, far


def raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


def read(transport: StreamTransport, size: int = 65536) -> bytes | None:
    buffer = bytearray(size)
    count = transport.recv_into(memoryview(buffer))
    return None if count is None else bytes(buffer[:count])


# Reading


async def test_bytes_are_there_only_after_wait_readable(wrapped):
    transport, _, peer = wrapped
    await peer.send(b"abcdef")
    assert read(transport) is None
    await transport.wait_readable()
    assert read(transport, 4) == b"abcd"
    with anyio.fail_after(10):
        await transport.wait_readable()  # at once: the rest has to be taken first
    assert peer.statistics().tasks_waiting_receive == 0
    assert read(transport, 4) == b"ef"
    assert read(transport) is None


async def test_what_waits_to_be_read_is_bounded(wrapped):
    transport, _, peer = wrapped
    await peer.send(bytes(65536))
    await transport.wait_readable()
    await peer.send(b"more")
    await transport.wait_readable()
    assert peer.statistics().send_buffered == 4
    assert read(transport, 100_000) == bytes(65536)


async def test_a_cancelled_wait_readable_loses_nothing(wrapped):
    transport, _, peer = wrapped
    async with anyio.create_task_group() as group:
        group.start_soon(transport.wait_readable)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    await peer.send(b"abc")
    assert await receive_some(transport, 100) == b"abc"


async def test_the_end_of_the_stream_is_zero_and_stays(wrapped):
    transport, _, peer = wrapped
    await peer.send(b"last")
    await peer.send_eof()
    assert await receive_some(transport, 100) == b"last"
    for _ in range(3):
        await transport.wait_readable()
        assert read(transport) == b""
    await send_all(transport, b"answer")
    assert await peer.receive() == b"answer"


async def test_no_bytes_from_a_stream_against_the_rules_are_its_end(wrapped):
    transport, stream, _ = wrapped
    stream.on_receive = bytes
    assert await receive_some(transport, 100) == b""


@pytest.mark.parametrize(
    "error", [anyio.BrokenResourceError("gone"), anyio.ClosedResourceError(), ssl.SSLError(1, "bad record")]
)
async def test_a_stream_that_fails_to_receive_is_broken_with_its_error_as_cause(wrapped, error):
    transport, stream, peer = wrapped
    stream.on_receive = raising(error)
    for _ in range(2):
        await transport.wait_readable()
        with pytest.raises(anyio.BrokenResourceError) as raised:
            read(transport)
        assert raised.value.__cause__ is error
        assert str(error) in str(raised.value)
    await send_all(transport, b"still")
    assert await peer.receive() == b"still"


# Writing


async def test_send_takes_a_piece_and_no_more_until_it_left(wrapped):
    transport, _, peer = wrapped
    assert transport.send([b""]) == 0
    assert transport.send([bytes(10), bytes(70_000)]) == 65536
    assert transport.unsent == 65536
    assert transport.send([b"x"]) == 0
    await transport.wait_writable()
    assert transport.unsent == 0
    assert transport.send([b"a", memoryview(b"bc")]) == 3
    assert peer.statistics().bytes_received == 0
    assert await peer.receive(100_000) == bytes(65536)


async def test_what_send_took_is_a_copy(wrapped):
    transport, _, peer = wrapped
    data = bytearray(b"before")
    transport.send([memoryview(data)])
    data[:] = b"after!"
    await transport.wait_writable()
    assert await peer.receive() == b"before"


async def test_wait_writable_with_nothing_to_send_returns(wrapped):
    transport, _, _ = wrapped
    with anyio.fail_after(10):
        await transport.wait_writable()


async def test_wait_writable_that_is_cancelled_before_it_sends_loses_nothing(wrapped):
    transport, _, peer = wrapped
    transport.send([b"abc"])
    with anyio.CancelScope() as scope:
        scope.cancel()
        await transport.wait_writable()
    assert transport.unsent == 3
    await transport.wait_writable()
    assert await peer.receive() == b"abc"


async def test_wait_writable_that_is_cancelled_while_it_sends_breaks_sending_only():
    near, peer = lockstep_pair()
    transport = StreamTransport(near)
    transport.send([b"abc"])
    async with anyio.create_task_group() as group:
        group.start_soon(transport.wait_writable)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    with pytest.raises(anyio.BrokenResourceError, match="cut short"):
        transport.send([b"x"])
    with pytest.raises(anyio.BrokenResourceError, match="cut short"):
        await transport.wait_writable()
    async with anyio.create_task_group() as group:
        group.start_soon(peer.send, b"data")
        assert await receive_some(transport, 100) == b"data"


@pytest.mark.parametrize("error", [anyio.BrokenResourceError(), anyio.ClosedResourceError(), OSError(5, "x")])
async def test_a_stream_that_fails_to_send_is_broken_with_its_error_as_cause(wrapped, error):
    transport, stream, _ = wrapped
    stream.on_send = raising(error)
    transport.send([b"abc"])
    for _ in range(2):
        with pytest.raises(anyio.BrokenResourceError) as raised:
            await transport.wait_writable()
        assert raised.value.__cause__ is error
    with pytest.raises(anyio.BrokenResourceError) as raised:
        transport.send([b"abc"])
    assert raised.value.__cause__ is error


async def test_an_error_that_is_no_failure_of_the_network_is_raised_as_it_is(wrapped):
    transport, stream, _ = wrapped
    stream.on_send = stream.on_receive = raising(KeyError("a mistake in the stream"))
    transport.send([b"abc"])
    with pytest.raises(KeyError):
        await transport.wait_writable()
    with pytest.raises(KeyError):
        await transport.wait_readable()
    with pytest.raises(anyio.BrokenResourceError):
        transport.send([b"abc"])


# The end of sending


async def test_send_eof_is_sent_by_the_task_that_waits_to_read(wrapped):
    transport, _, peer = wrapped
    received = []

    async def reader() -> None:
        received.append(await receive_some(transport, 100))

    async with anyio.create_task_group() as group:
        group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        transport.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await peer.receive()
        assert received == []
        await peer.send(b"answer")
    assert received == [b"answer"]


async def test_send_eof_is_sent_by_the_next_task_that_waits_to_read(wrapped):
    transport, _, peer = wrapped
    transport.send_eof()
    async with anyio.create_task_group() as group:
        group.start_soon(transport.wait_readable)
        with pytest.raises(anyio.EndOfStream):
            await peer.receive()
        await peer.send(b"answer")
    assert read(transport) == b"answer"


@pytest.mark.parametrize("error", [NotImplementedError(), anyio.BrokenResourceError()])
async def test_a_stream_that_cannot_send_eof_is_still_read(wrapped, error):
    transport, stream, peer = wrapped
    stream.on_eof = raising(error)
    transport.send_eof()
    await peer.send(b"answer")
    assert await receive_some(transport, 100) == b"answer"


# Closing


async def test_aclose_closes_the_stream_gently_and_after_close_forcefully(wrapped):
    transport, stream, peer = wrapped
    await transport.aclose()
    assert stream.closed == ["gently"]
    with pytest.raises(anyio.EndOfStream):
        await peer.receive()
    await transport.aclose()
    assert stream.closed == ["gently", "forcefully"]


async def test_aclose_after_close_is_forceful(wrapped):
    transport, stream, _ = wrapped
    transport.close()
    await transport.aclose()
    assert stream.closed == ["forcefully"]


async def test_a_cancelled_aclose_closes_the_stream_all_the_same(wrapped):
    transport, stream, peer = wrapped
    with anyio.CancelScope() as scope:
        scope.cancel()
        await transport.aclose()
    assert scope.cancelled_caught
    assert stream.closed == ["forcefully"]
    with pytest.raises(anyio.EndOfStream):
        await peer.receive()


async def test_aclose_touches_the_stream_after_the_waiting_tasks_left_it(wrapped):
    transport, stream, _ = wrapped
    ended: list[bool] = []
    at_close: list[int] = []
    stream.on_close = lambda: at_close.append(stream.stream.statistics().tasks_waiting_receive)

    async def wait() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await transport.wait_readable()
        ended.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert stream.stream.statistics().tasks_waiting_receive == 1
        await transport.aclose()
    assert ended == [True]
    assert at_close == [0]


@pytest.mark.parametrize("error", [anyio.BrokenResourceError(), ssl.SSLError(1, "no close_notify")])
async def test_a_stream_that_fails_to_close_says_nothing(wrapped, error):
    transport, stream, _ = wrapped
    stream.on_close = raising(error)
    await transport.aclose()


# What is known


async def test_extra_tells_what_the_stream_knows(wrapped):
    transport, stream, _ = wrapped
    assert transport.extra("peername") is None
    stream.attributes = {
        SocketAttribute.remote_address: lambda: ("192.0.2.1", 80),
        SocketAttribute.local_address: lambda: ("192.0.2.2", 81),
        SocketAttribute.raw_socket: raising(OSError(107, "not connected")),
    }
    assert transport.extra("peername") == ("192.0.2.1", 80)
    assert transport.extra("sockname") == ("192.0.2.2", 81)
    assert transport.extra("socket") is None
    assert transport.extra("ssl_object") is None
    assert transport.extra("color") is None


async def test_anyios_tls_streams_work_as_any_other(server_context, client_context):
    near, far = memory_pair()
    ends: dict[str, StreamTransport] = {}

    async def serve() -> None:
        stream = await TLSStream.wrap(far, server_side=True, ssl_context=server_context)
        ends["server"] = StreamTransport(stream)

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        stream = await TLSStream.wrap(near, hostname="localhost", ssl_context=client_context)
    client, server = StreamTransport(stream), ends["server"]
    assert isinstance(client.extra("ssl_object"), ssl.SSLObject)
    data = bytes(range(256)) * 1000
    received = bytearray()
    async with anyio.create_task_group() as group:
        group.start_soon(send_all, client, data)
        while len(received) < len(data):
            received += await receive_some(server, 65536)
    assert received == data
    client.send_eof()
    async with anyio.create_task_group() as group:
        group.start_soon(client.aclose)
        assert await receive_some(server, 100) == b""
        await server.aclose()


async def test_a_stream_that_somebody_else_closed_tells_nothing_and_breaks_nothing() -> None:
    """On uvloop, anyio raises what it does not document for such a stream."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, anyio.aclose_forcefully)
            stream = await anyio.connect_tcp("127.0.0.1", port)
            transport = StreamTransport(stream)
            await anyio.aclose_forcefully(stream)
            await anyio.lowlevel.checkpoint()
            for name in ("peername", "sockname", "socket", "ssl_object"):
                transport.extra(name)
            assert transport.backlog() == (0, False)
            transport.send_eof()
            with anyio.fail_after(5):
                await transport.wait_readable()
            with pytest.raises(anyio.BrokenResourceError):
                transport.recv_into(memoryview(bytearray(10)))
            await transport.aclose()
            tasks.cancel_scope.cancel()
