from __future__ import annotations

import socket
import struct
import sys

import anyio
import pytest

from wsstream.transports import sockets, tcp_info
from wsstream.transports.base import receive_some, send_all
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.tcp_info import silence

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


async def test_nothing_arrived_is_none_and_not_the_end(pair):
    left, _ = pair
    assert left.recv_into(memoryview(bytearray(10))) is None


async def test_a_buffer_that_is_too_small_leaves_the_rest_for_the_next_read(pair):
    left, right = pair
    await send_all(left, b"abcdef")
    await right.wait_readable()
    buffer = bytearray(4)
    assert right.recv_into(memoryview(buffer)) == 4
    assert await receive_some(right, 100) == b"ef"
    assert bytes(buffer) == b"abcd"


async def test_several_buffers_leave_in_order(pair):
    left, right = pair
    assert left.send([b"ab", memoryview(b"cd"), b"", b"e"]) == 5
    assert await receive_some(right, 100) == b"abcde"


async def test_no_buffers_are_no_bytes(pair):
    left, _ = pair
    assert left.send([]) == 0
    assert left.send([b""]) == 0


async def test_more_buffers_than_one_system_call_takes_are_taken_in_part(pair):
    left, right = pair
    buffers = [bytes([i % 256]) for i in range(3000)]
    assert left.send(buffers) == 1024
    assert await receive_some(right, 4096) == b"".join(buffers[:1024])


async def test_buffers_are_joined_where_the_system_has_no_sendmsg(pair, monkeypatch):
    monkeypatch.setattr(sockets, "_HAS_SENDMSG", False)
    left, right = pair
    assert left.send([b"ab", memoryview(b"cd")]) == 4
    assert await receive_some(right, 100) == b"abcd"


async def test_a_peer_that_does_not_read_stops_the_sender_until_it_reads(pair, fill):
    left, right = pair
    sent = fill(left, bytes(range(251)) * 100)
    assert left.unsent == 0
    resumed = anyio.Event()

    async def resume() -> None:
        await left.wait_writable()
        assert left.send([b"more"]) == 4
        resumed.set()

    async with anyio.create_task_group() as group:
        group.start_soon(resume)
        await anyio.wait_all_tasks_blocked()
        assert not resumed.is_set()
        received = bytearray()
        while len(received) < len(sent) + 4:
            received += await receive_some(right, 65536)
    assert bytes(received) == sent + b"more"


async def test_the_end_of_one_direction_leaves_the_other_open(pair):
    left, right = pair
    await send_all(left, b"last")
    left.send_eof()
    assert await receive_some(right, 100) == b"last"
    assert await receive_some(right, 100) == b""
    assert await receive_some(right, 100) == b""
    await send_all(right, b"answer")
    assert await receive_some(left, 100) == b"answer"


async def test_a_reset_connection_is_broken_with_the_system_error_as_cause(connect_sockets, reset):
    a, b = connect_sockets("tcp4")
    transport = SocketTransport(a)
    reset(b)
    await transport.wait_readable()
    with pytest.raises(anyio.BrokenResourceError) as raised:
        transport.recv_into(memoryview(bytearray(10)))
    assert isinstance(raised.value.__cause__, ConnectionResetError)
    assert str(raised.value.__cause__) in str(raised.value)
    with pytest.raises(anyio.BrokenResourceError) as raised:
        transport.send([b"x"])
    assert isinstance(raised.value.__cause__, BrokenPipeError)
    transport.send_eof()  # says nothing
    transport.close()


async def test_a_closed_socket_has_no_addresses(pair):
    left, _ = pair
    left.close()
    assert left.extra("peername") is None


async def test_a_cancelled_wait_loses_nothing(pair):
    left, right = pair
    async with anyio.create_task_group() as group:
        group.start_soon(right.wait_readable)
        await anyio.wait_all_tasks_blocked()
        await send_all(left, b"abc")
        group.cancel_scope.cancel()
    assert await receive_some(right, 10) == b"abc"


@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "unix"])
async def test_extra_tells_the_addresses_and_the_socket(connect_sockets, kind):
    a, b = connect_sockets(kind)
    transport = SocketTransport(a)
    assert transport.extra("peername") == b.getsockname()
    assert transport.extra("sockname") == a.getsockname()
    assert transport.extra("socket") is a
    assert transport.extra("ssl_object") is None
    assert transport.extra("color") is None
    transport.close()
    b.close()


@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
async def test_tcp_sockets_are_non_blocking_and_send_without_delay(connect_sockets, kind):
    a, b = connect_sockets(kind)
    transport = SocketTransport(a)
    assert not a.getblocking()
    assert a.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        assert a.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 128 * 1024
    transport.close()
    b.close()


async def let_deliver(transport: SocketTransport, other: SocketTransport, size: int) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_all, transport, bytes(size))
        while size:
            size -= len(await receive_some(other, 65536))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
async def test_the_kernel_tells_how_much_the_peer_has_taken_and_in_what_time(connect_sockets):
    left, right = (SocketTransport(sock) for sock in connect_sockets("tcp4"))
    for total in (100_000, 400_000):
        await let_deliver(left, right, total - left.delivery().size)
        with anyio.fail_after(2):
            while left.delivery().size != total:
                await anyio.sleep(0.001)
    left.send([bytes(1 << 20)] * 8)
    before = left.delivery().time
    await anyio.sleep(0.05)
    assert left.delivery().time - before >= 30_000, "the time in which the peer reads nothing counts"
    left.close()
    assert left.delivery() is None
    right.close()


async def test_the_kernel_holds_as_little_unsent_as_it_is_told(connect_sockets):
    left, right = (SocketTransport(sock) for sock in connect_sockets("tcp4"))
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        left.limit_unsent(500_000)
        assert left.extra("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 500_000
    left.close()
    left.limit_unsent(1)
    right.close()


async def test_a_unix_socket_tells_no_rate(connect_sockets):
    left, right = (SocketTransport(sock) for sock in connect_sockets("unix"))
    assert left.delivery() is None
    left.limit_unsent(1)
    left.close()
    right.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
async def test_the_kernel_tells_for_how_long_a_peer_has_been_silent_even_before_it_is_accepted():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as peer:
        peer.connect(listener.getsockname())
        await anyio.sleep(0.1)
        accepted, _ = listener.accept()
        with accepted:
            assert 0.09 < silence(accepted) < 10
            peer.send(b"x")
            with anyio.fail_after(5):
                while silence(accepted):
                    await anyio.sleep(0.001)
            accepted.recv(1)
            await anyio.sleep(0.02)
            assert silence(accepted) == 0, "it has sent something"
        assert silence(accepted) == 0, "closed"


async def test_an_old_kernel_tells_less(connect_sockets, monkeypatch):
    left, right = (SocketTransport(sock) for sock in connect_sockets("tcp4"))
    monkeypatch.setattr(tcp_info, "_TCP_INFO", struct.Struct("=52xI64xQQ32xQ100000x"))
    assert left.delivery() is None
    assert silence(left.extra("socket")) == 0
    left.close()
    right.close()


# Being called back


async def let_the_loop_run() -> None:
    for _ in range(5):
        await anyio.sleep(0.001)


async def test_the_event_loop_calls_back_while_the_socket_is_watched(pair, anyio_backend_name):
    left, right = pair
    calls = []
    for watch, unwatch in (
        (left.watch_readable, left.unwatch_readable),
        (left.watch_writable, left.unwatch_writable),
    ):
        right.send([b"news"])
        watched = watch(lambda: calls.append(1))
        assert watched or anyio_backend_name == "trio", "on Trio it depends on the system"
        assert watch(lambda: calls.append("another")) is watched, "the first one stays"
        await let_the_loop_run()
        unwatch()
        unwatch()
        assert (len(calls) > 1) is watched
        calls.clear()
        await let_the_loop_run()
        assert calls == []


async def test_a_watched_socket_calls_back_when_something_arrives_and_not_before(pair, anyio_backend_name):
    left, right = pair
    arrived = []
    if left.watch_readable(lambda: arrived.append(left.recv_into(memoryview(bytearray(10))))):
        await let_the_loop_run()
        assert arrived == []
        right.send([b"abc"])
        await let_the_loop_run()
        assert arrived == [3]
        left.close()
        right.close()
        await let_the_loop_run()
        assert arrived == [3]
    else:
        assert anyio_backend_name == "trio"


async def test_what_is_closed_cannot_be_watched(pair):
    left, _ = pair
    left.watch_readable(lambda: None)
    left.close()
    assert not left.watch_readable(lambda: None)
    assert not left.watch_writable(lambda: None)


async def test_the_event_loop_is_told_the_number_which_it_finds_sooner_than_the_socket(pair, monkeypatch):
    left, _ = pair
    told = []

    class Loop:
        def __getattr__(self, name: str) -> object:
            return lambda number, *_: told.append((name, number))

    number = left.extra("socket").fileno()
    monkeypatch.setattr(left, "_loop", Loop())
    assert left.watch_readable(lambda: None)
    assert left.watch_writable(lambda: None)
    left.close()
    names = ["add_reader", "add_writer", "remove_reader", "remove_writer"]
    assert told == [(name, number) for name in names]


async def test_an_event_loop_that_cannot_call_back_is_not_asked_again(pair, monkeypatch):
    left, _ = pair
    asked = []

    class Loop:
        def add_reader(self, *_: object) -> None:
            asked.append("add_reader")
            raise NotImplementedError

    monkeypatch.setattr(left, "_loop", Loop())
    assert not left.watch_readable(lambda: None)
    assert not left.watch_readable(lambda: None)
    assert asked == ["add_reader"]
