from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import anyio
import pytest

from wsstream.transports import tcp_connect
from wsstream.transports.resolve import Address
from wsstream.transports.tcp_connect import connect_first, in_turn, open_tcp, open_unix

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]

LONG = 3600.0  # a delay that nobody waits for


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        sock.listen(10)
        yield sock


def address_of(sock: socket.socket) -> Address:
    return Address(sock.family, sock.getsockname())


@pytest.fixture
def refusing() -> Iterator[Address]:
    """An address that refuses connections: bound, so that nobody else gets it, and not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield address_of(sock)


@pytest.fixture
def silent() -> Iterator[Address]:
    """An address that never answers: the backlog of its listener is full."""
    with socket.socket() as sock, socket.socket() as first, socket.socket() as second:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield address_of(sock)


async def test_a_connection_is_made_to_an_ip_address(listener):
    with closing(await open_tcp(*listener.getsockname())) as sock:
        assert sock.getpeername() == listener.getsockname()
        assert not sock.getblocking()


async def test_a_connection_is_made_to_a_name(listener):
    with closing(await open_tcp("localhost", listener.getsockname()[1])) as sock:
        assert sock.getpeername() == listener.getsockname()


async def test_one_failed_attempt_raises_its_own_error(refusing, no_new_files):
    with no_new_files(), pytest.raises(ConnectionRefusedError) as raised:
        await open_tcp(*refusing.sockaddr)
    assert raised.value.errno == errno.ECONNREFUSED
    assert f"127.0.0.1 port {refusing.sockaddr[1]}" in str(raised.value)
    assert raised.value.__cause__ is None


async def test_a_refused_attempt_is_followed_by_the_next_at_once(refusing, listener):
    with anyio.fail_after(10):
        sock = await connect_first([refusing, address_of(listener)], LONG)
    with closing(sock):
        assert sock.getpeername() == listener.getsockname()


async def test_a_silent_address_is_overtaken_after_the_delay_and_dropped(silent, listener, no_new_files):
    with no_new_files(), anyio.fail_after(10):
        begin = anyio.current_time()
        with closing(await connect_first([silent, address_of(listener)], 0.05)) as sock:
            assert sock.getpeername() == listener.getsockname()
        assert anyio.current_time() - begin >= 0.049  # some clocks count in milliseconds


async def test_the_next_address_is_left_alone_while_the_delay_runs(silent, listener, no_new_files):
    with no_new_files():
        async with anyio.create_task_group() as group:
            group.start_soon(connect_first, [silent, address_of(listener)], LONG)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    with pytest.raises(BlockingIOError):
        listener.accept()


async def test_failures_of_later_addresses_do_not_end_a_slow_attempt(silent, refusing, no_new_files):
    ended = []

    async def attempt() -> None:
        try:
            await connect_first([silent, refusing, refusing], 0.0)
        except OSError as exc:
            ended.append(exc)

    with no_new_files():
        async with anyio.create_task_group() as group:
            group.start_soon(attempt)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert not ended


async def test_late_attempts_are_dropped_when_one_has_won(listener, no_new_files):
    with no_new_files():
        with closing(await connect_first([address_of(listener)] * 3, 0.0)) as sock:
            peers = [listener.accept()[0]]
            while True:
                try:
                    peers.append(listener.accept()[0])
                except BlockingIOError:
                    break
            alive = []
            for peer in peers:
                peer.settimeout(5)
                if peer.getpeername() == sock.getsockname():
                    alive.append(peer)
                else:
                    assert peer.recv(1) == b""
            assert len(alive) == 1
        for peer in peers:
            peer.close()


@pytest.mark.slow
async def test_two_answers_in_the_same_moment_leave_one_connection(no_new_files):
    with no_new_files(), ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(2)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            stack.enter_context(socket.create_connection(listener.getsockname()))  # fills the backlog
        made = []

        async def attempt() -> None:
            made.append(await connect_first([address_of(listener) for listener in listeners], 0.0))

        async with anyio.create_task_group() as group:
            group.start_soon(attempt)
            await anyio.wait_all_tasks_blocked()
            for listener in listeners:
                stack.enter_context(listener.accept()[0])
            time.sleep(1.5)  # TCP tries again after a second, while the event loop sees nothing
        winner = stack.enter_context(made[0])
        accepted = [stack.enter_context(listener.accept()[0]) for listener in listeners]
        alive = [sock for sock in accepted if sock.getpeername() == winner.getsockname()]
        (dropped,) = [sock for sock in accepted if sock not in alive]
        assert len(alive) == 1
        assert dropped.recv(1) == b""


async def test_when_all_fail_one_error_names_them_all(refusing, no_new_files):
    other = Address(socket.AF_INET, ("127.0.0.2", refusing.sockaddr[1]))
    with no_new_files(), pytest.raises(ConnectionRefusedError) as raised:
        await connect_first([refusing, other], LONG, "feed.example")
    assert raised.value.errno == errno.ECONNREFUSED
    assert raised.value.strerror == (
        f"cannot connect to feed.example port {refusing.port}: "
        "Connection refused (tried 127.0.0.1, 127.0.0.2)"
    )
    assert isinstance(raised.value.__cause__, ExceptionGroup)
    assert len(raised.value.__cause__.exceptions) == 2


async def test_different_errors_are_summed_up_as_a_plain_oserror(refusing):
    broadcast = Address(socket.AF_INET, ("255.255.255.255", 80))
    with pytest.raises(OSError, match=r"255\.255\.255\.255: .* unreachable") as raised:
        await connect_first([refusing, broadcast], LONG, "feed.example")
    text = str(raised.value)
    assert text.startswith(
        f"cannot connect to feed.example port {refusing.port}: 127.0.0.1: Connection refused; "
    )
    assert type(raised.value) is OSError
    assert raised.value.errno is None


async def test_the_host_that_was_asked_for_is_named_with_the_addresses_tried(refusing):
    with pytest.raises(OSError) as raised:
        await open_tcp("localhost", refusing.port)
    assert f"cannot connect to localhost port {refusing.port}: " in str(raised.value)
    assert "127.0.0.1" in str(raised.value)
    with pytest.raises(ConnectionRefusedError) as raised:
        await open_tcp("127.0.0.1", refusing.port)
    assert raised.value.strerror == f"cannot connect to 127.0.0.1 port {refusing.port}: Connection refused"


async def test_addresses_behind_the_sixteenth_are_not_tried(refusing, listener):
    with closing(await connect_first([refusing] * 15 + [address_of(listener)], LONG)):
        pass
    with pytest.raises(ConnectionRefusedError):
        await connect_first([refusing] * 16 + [address_of(listener)], LONG)


def test_families_take_turns_and_the_first_one_begins():
    v4 = [Address(socket.AF_INET, (f"192.0.2.{i}", 80)) for i in range(4)]
    v6 = [Address(socket.AF_INET6, (f"2001:db8::{i}", 80)) for i in range(2)]
    assert in_turn([*v6, *v4]) == [v6[0], v4[0], v6[1], v4[1], v4[2], v4[3]]
    assert in_turn([*v4, *v6]) == [v4[0], v6[0], v4[1], v6[1], v4[2], v4[3]]
    assert in_turn(v4) == v4


@pytest.mark.parametrize("count", [1, 2])
async def test_a_call_that_is_already_cancelled_makes_no_connection(listener, count):
    with anyio.CancelScope() as scope:
        scope.cancel()
        await connect_first([address_of(listener)] * count, LONG)
    assert scope.cancelled_caught
    with pytest.raises(BlockingIOError):
        listener.accept()


async def test_cancellation_drops_every_attempt(silent, no_new_files):
    with no_new_files():
        async with anyio.create_task_group() as group:
            group.start_soon(connect_first, [silent] * 3, 0.0)
            group.start_soon(connect_first, [silent], LONG)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()


@pytest.mark.parametrize("steps", range(12))
async def test_cancellation_at_any_moment_leaves_the_connection_or_nothing(listener, steps, no_new_files):
    with no_new_files():
        made = []
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(cancel)
                made.append(await connect_first([address_of(listener)] * 2, 0.0))
        for sock in made:
            assert sock.getpeername() == listener.getsockname()
            sock.close()


async def test_a_unix_socket_is_connected_by_its_path(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        with closing(await open_unix(tmp_path / "s")) as sock:
            assert not sock.getblocking()
            server, _ = listener.accept()
            server.sendall(b"hello")
            server.close()
            assert sock.recv(10) == b"hello"


async def test_a_unix_path_where_nobody_listens_raises(tmp_path, no_new_files):
    with no_new_files():
        with pytest.raises(FileNotFoundError) as raised:
            await open_unix(tmp_path / "nothing")
        assert raised.value.filename == str(tmp_path / "nothing")
        with socket.socket(socket.AF_UNIX) as left_over:
            left_over.bind(str(tmp_path / "stale"))
        with pytest.raises(ConnectionRefusedError):
            await open_unix(tmp_path / "stale")


async def test_a_unix_socket_with_a_full_backlog_is_waited_for(tmp_path, no_new_files):
    path = str(tmp_path / "s")
    with no_new_files(), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            connected = []

            async def open_second() -> None:
                connected.append(await open_unix(path))

            async with anyio.create_task_group() as group:
                group.start_soon(open_second)
                await anyio.wait_all_tasks_blocked()
                assert not connected
                listener.accept()[0].close()
            server, _ = listener.accept()
            server.close()
            assert connected[0].recv(1) == b""
            connected[0].close()


async def test_a_cancelled_unix_connect_leaves_nothing(tmp_path, no_new_files, monkeypatch):
    monkeypatch.setattr(tcp_connect, "FIRST_PAUSE", LONG)
    path = str(tmp_path / "s")
    with no_new_files(), socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        async with anyio.create_task_group() as group:
            group.start_soon(open_unix, path)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
