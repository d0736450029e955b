from __future__ import annotations

import errno
import os
import resource
import socket
import stat
from collections.abc import Iterator

import anyio
import pytest

from wsstream.transports import listen
from wsstream.transports.eventloop import event_loop
from wsstream.transports.listen import accept_now, close_listener, listen_all, listen_tcp, listen_unix
from wsstream.transports.resolve import Address
from wsstream.transports.tcp_connect import open_tcp, open_unix

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    """Sockets put here are closed after the test."""
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


async def test_no_host_means_ipv4_and_ipv6_on_one_port(opened):
    listeners = await listen_tcp(None, 0)
    opened += listeners
    assert {listener.family for listener in listeners} == {socket.AF_INET, socket.AF_INET6}
    assert len({listener.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
        client = await open_tcp(host, listener.getsockname()[1])
        server = accept_now(listener)[0]
        opened += [client, server]
        assert server.getpeername() == client.getsockname()
        assert not server.getblocking()
        assert not listener.getblocking()


async def test_the_given_port_is_used_again_at_once_after_a_connection_was_closed_here(opened):
    (listener,) = await listen_tcp("127.0.0.1", 0)
    port = listener.getsockname()[1]
    client = await open_tcp("127.0.0.1", port)
    server = accept_now(listener)[0]
    server.close()  # first, so this side keeps the TIME_WAIT
    client.close()
    close_listener(listener)
    opened += await listen_tcp("127.0.0.1", port)
    assert opened[0].getsockname()[1] == port


async def test_a_port_in_use_raises_and_names_the_address(opened, no_new_files):
    opened += await listen_tcp("127.0.0.1", 0)
    port = opened[0].getsockname()[1]
    with no_new_files(), pytest.raises(OSError, match=f"127.0.0.1 port {port}") as raised:
        await listen_tcp("127.0.0.1", port)
    assert raised.value.errno == errno.EADDRINUSE


def test_a_free_port_that_is_taken_on_another_address_is_given_up_after_some_attempts(no_new_files):
    same_twice = [Address(socket.AF_INET, ("127.0.0.1", 0))] * 2
    with no_new_files(), pytest.raises(OSError, match="cannot listen") as raised:
        listen_all(same_twice)
    assert raised.value.errno == errno.EADDRINUSE


def test_a_free_port_that_is_taken_on_another_address_is_exchanged(opened, monkeypatch):
    ports = []

    def listen_unless_second(address: Address, *options: object) -> socket.socket:
        ports.append(address.sockaddr[1])
        if len(ports) == 2:
            raise OSError(errno.EADDRINUSE, "taken meanwhile")
        return really_listen(address, *options)

    really_listen = listen._listen
    monkeypatch.setattr(listen, "_listen", listen_unless_second)
    addresses = [Address(socket.AF_INET, ("127.0.0.1", 0)), Address(socket.AF_INET6, ("::1", 0))]
    opened += listen_all(addresses)
    port = opened[0].getsockname()[1]
    assert ports == [0, ports[1], 0, port]
    assert [listener.getsockname()[1] for listener in opened] == [port, port]


def test_addresses_that_the_machine_does_not_have_are_passed_over(opened, no_new_files):
    here, elsewhere = (Address(socket.AF_INET, (host, 0)) for host in ("127.0.0.1", "192.0.2.1"))
    opened += listen_all([elsewhere, here, elsewhere])
    assert [listener.getsockname()[0] for listener in opened] == ["127.0.0.1"]
    with no_new_files(), pytest.raises(OSError, match=r"192\.0\.2\.1") as raised:
        listen_all([elsewhere])
    assert raised.value.errno == errno.EADDRNOTAVAIL


async def test_accept_returns_a_connection_that_has_come_with_its_address(opened):
    opened += await listen_tcp("127.0.0.1", 0)
    assert accept_now(opened[0]) is None
    opened.append(await open_tcp(*opened[0].getsockname()))
    server, peer = accept_now(opened[0])
    opened.append(server)
    assert peer == server.getpeername() == opened[1].getsockname()
    assert server.gettimeout() == 0
    assert accept_now(opened[0]) is None


async def test_a_closed_listener_wakes_who_waits_and_accepts_nothing():
    (listener,) = await listen_tcp("127.0.0.1", 0)

    async def wait() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await event_loop().wait_readable(listener)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        close_listener(listener)
    close_listener(listener)
    with pytest.raises(anyio.ClosedResourceError):
        accept_now(listener)


async def test_a_process_without_free_file_descriptors_gets_the_system_error(opened):
    opened += await listen_tcp("127.0.0.1", 0)
    opened.append(await open_tcp(*opened[0].getsockname()))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = [socket.socket()]
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[0].fileno() + 1, limits[1]))
    try:
        with pytest.raises(OSError, match="files"):
            while True:  # use up the free numbers below the limit
                fillers.append(socket.socket())
        with pytest.raises(OSError, match="files") as raised:
            accept_now(opened[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            filler.close()
    assert raised.value.errno == errno.EMFILE
    opened.append(accept_now(opened[0])[0])


class AbortingListener(socket.socket):
    """Reports one connection that was given up, as Linux never does and other systems do."""

    aborted = 0

    def accept(self):
        if not self.aborted:
            self.aborted += 1
            raise OSError(errno.ECONNABORTED, "aborted")
        return super().accept()


async def test_a_connection_that_was_given_up_is_passed_over(opened):
    listener = AbortingListener()
    listener.setblocking(False)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    opened += [listener, await open_tcp(*listener.getsockname())]
    opened.append(accept_now(listener)[0])
    assert listener.aborted == 1
    assert opened[2].getpeername() == opened[1].getsockname()


async def test_a_unix_listener_accepts_and_removes_its_file_when_closed(tmp_path, opened):
    path = tmp_path / "s"
    listener = listen_unix(path)
    assert stat.S_ISSOCK(path.stat().st_mode)
    opened.append(await open_unix(path))
    opened.append(accept_now(listener)[0])
    assert not opened[1].getblocking()
    close_listener(listener)
    assert not path.exists()
    close_listener(listener)
    listener.close()


def test_a_unix_listener_removes_its_file_also_after_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listener = listen_unix("s")
    monkeypatch.chdir("/")
    listener.close()
    assert not (tmp_path / "s").exists()


def test_a_stale_unix_socket_is_replaced(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    listener = listen_unix(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


@pytest.mark.parametrize("backlog", [0, 10])
def test_a_unix_socket_in_use_is_left_alone(tmp_path, backlog, no_new_files):
    path = tmp_path / "s"
    listener = listen_unix(path, backlog=backlog)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))  # fills the backlog of 0
        with no_new_files(), pytest.raises(OSError, match="in use") as raised:
            listen_unix(path)
        assert raised.value.errno == errno.EADDRINUSE
        assert raised.value.filename == str(path)
        assert path.exists()
    listener.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match="in use"):
        listen_unix(path)
    assert path.read_text() == "data"


def test_a_file_that_took_the_sockets_place_survives_its_end(tmp_path):
    path = tmp_path / "s"
    first = listen_unix(path)
    path.rename(tmp_path / "moved")
    second = listen_unix(path)
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


def test_a_unix_listener_whose_file_is_gone_is_closed_quietly(tmp_path):
    listener = listen_unix(tmp_path / "s")
    (tmp_path / "s").unlink()
    listener.close()
    assert listener.fileno() == -1


def test_a_unix_path_that_is_too_long_raises(tmp_path, no_new_files):
    with no_new_files(), pytest.raises(OSError, match="too long"):
        listen_unix(tmp_path / ("x" * 200))


@pytest.mark.skipif(not os.path.exists("/proc/net/unix"), reason="abstract names are Linux's")
async def test_an_abstract_unix_name_has_no_file(opened):
    name = f"\0wsstream-test-{os.getpid()}"
    opened.append(listen_unix(name))
    opened.append(await open_unix(name))
    opened.append(accept_now(opened[0])[0])
    with pytest.raises(OSError, match="in use"):
        listen_unix(name)
