"""Trio's callbacks: one task for all sockets and deadlines."""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from wsstream.transports.eventloop import event_loop
from wsstream.transports.poller import Poller
from wsstream.transports.sockets import SocketTransport

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True),
]


@pytest.fixture
def poller(anyio_backend_name: str) -> Callable[[], Poller]:
    def find() -> Poller:
        poller = event_loop().callbacks()
        if poller is None:
            pytest.skip("this system has no epoll")
        assert isinstance(poller, Poller)
        return poller

    return find


async def settle() -> None:
    for _ in range(3):
        await anyio.sleep(0.001)


async def test_a_run_has_one(poller: Any) -> None:
    assert poller() is poller()
    assert event_loop().alarms() is poller().alarms


async def test_reader_and_writer_of_one_socket_are_called_apart(poller: Any, sockets: Any) -> None:
    called: list[str] = []
    ours, theirs = sockets
    poller().add_reader(ours.fileno(), lambda: called.append("read"))
    await settle()
    assert called == []
    poller().add_writer(ours.fileno(), lambda: called.append("write"))
    await settle()
    assert set(called) == {"write"}
    poller().remove_writer(ours.fileno())
    called.clear()
    theirs.send(b"x")
    await settle()
    assert set(called) == {"read"}
    poller().remove_reader(ours.fileno())
    called.clear()
    await settle()
    assert called == []


async def test_the_end_of_the_peer_calls_both(poller: Any, sockets: Any) -> None:
    called: set[str] = set()
    ours, theirs = sockets
    while True:
        try:
            ours.send(bytes(65536))
        except BlockingIOError:
            break
    poller().add_reader(ours.fileno(), lambda: called.add("read"))
    poller().add_writer(ours.fileno(), lambda: called.add("write"))
    await settle()
    assert called == set()
    theirs.close()
    await settle()
    assert called == {"read", "write"}
    poller().remove_reader(ours.fileno())
    poller().remove_writer(ours.fileno())


async def test_what_is_removed_in_a_callback_is_not_called_any_more(poller: Any, sockets: Any) -> None:
    called: list[str] = []

    def read() -> None:
        called.append("read")
        for sock in sockets:
            poller().remove_reader(sock.fileno())

    for sock in sockets:
        sock.send(b"x")
    for sock in sockets:
        poller().add_reader(sock.fileno(), read)
    await settle()
    assert called == ["read"]


async def test_a_socket_that_somebody_else_closed_is_no_obstacle(poller: Any) -> None:
    for closed_as, added_as in ((0, 0), (0, 1), (1, 0)):
        called: list[str] = []
        ours, theirs = socket.socketpair()
        add = poller().add_reader, poller().add_writer
        remove = poller().remove_reader, poller().remove_writer
        add[closed_as](ours.fileno(), lambda: called.append("closed"))  # noqa: B023 - called in this round
        number = ours.fileno()
        ours.close()
        remove[closed_as](ours.fileno())
        again, friend = socket.socketpair()
        assert again.fileno() == number
        again.setblocking(False)
        friend.send(b"x")
        add[added_as](number, lambda: called.append("again"))  # noqa: B023 - as above
        await settle()
        remove[added_as](number)
        assert set(called) == {"again"}
        for sock in (theirs, again, friend):
            sock.close()


async def test_callbacks_that_ask_for_the_next_leave_tasks_and_sockets_their_turn(
    poller: Any, sockets: Any
) -> None:
    called: list[str] = []

    def again() -> None:
        called.append("soon")
        if "read" not in called:
            poller().call_soon(again)

    poller().add_reader(sockets[0].fileno(), lambda: called.append("read"))
    poller().call_soon(again)
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    assert called.count("soon") > 2
    assert "read" not in called
    sockets[1].send(b"x")
    await settle()
    assert "read" in called
    poller().remove_reader(sockets[0].fileno())


async def test_it_is_woken_from_other_tasks_at_once(poller: Any, sockets: Any) -> None:
    poller().add_reader(sockets[0].fileno(), lambda: None)
    await settle()
    called = anyio.Event()
    with anyio.fail_after(5):
        poller().call_soon(called.set)
        await called.wait()

    class Sleeper:
        def __init__(self) -> None:
            self.woken = anyio.Event()

        def on_time(self) -> None:
            self.woken.set()

    late, soon = Sleeper(), Sleeper()
    with anyio.fail_after(5):
        poller().alarms.set(event_loop().clock()() + 60, late)
        await settle()
        poller().alarms.set(event_loop().clock()() + 0.01, soon)
        await soon.woken.wait()
    assert not late.woken.is_set()
    poller().remove_reader(sockets[0].fileno())


async def test_a_mistake_in_a_callback_is_logged_and_the_others_go_on(
    poller: Any, sockets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    def fail() -> None:
        poller().remove_reader(sockets[0].fileno())
        raise ZeroDivisionError("a mistake")

    for sock in sockets:
        sock.send(b"x")
    poller().add_reader(sockets[0].fileno(), fail)
    poller().add_reader(sockets[1].fileno(), lambda: called.append("read"))
    with caplog.at_level(logging.ERROR, "wsstream"):
        await settle()
    assert "a mistake" in caplog.text
    assert called
    poller().remove_reader(sockets[1].fileno())


def test_when_the_run_ends_its_guests_are_told_and_nothing_is_left(
    anyio_backend: object, sockets: Any
) -> None:
    told: list[str] = []

    class Guest:
        def __init__(self, name: str) -> None:
            self.name = name

        def loop_ended(self) -> None:
            told.append(self.name)

    found: list[Any] = []

    async def main() -> None:
        loop = event_loop()
        stays, leaves = Guest("stays"), Guest("leaves")
        if (poller := loop.callbacks()) is None:
            pytest.skip("this system has no epoll")
        found.append(poller)
        poller.add_reader(sockets[0].fileno(), lambda: None)
        for guest in (stays, leaves):
            loop.attach(guest)
        loop.detach(leaves, lambda: told.append("gone"))
        await settle()

    anyio.run(main, backend="trio")
    assert told == ["gone", "stays"]
    assert found[0].ended


def test_without_descriptors_the_first_connection_has_tasks_and_a_later_one_has_not(
    anyio_backend: object, sockets: Any
) -> None:
    watched: list[bool] = []

    async def main() -> None:
        if event_loop().callbacks() is None:
            pytest.skip("this system has no epoll")
        first, second = map(SocketTransport, sockets)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            watched.append(first.watch_readable(lambda: None))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        watched.append(second.watch_readable(lambda: None))
        watched.append(first.watch_readable(lambda: None))
        second.close()

    anyio.run(main, backend="trio")
    assert watched == [False, True, False]


async def test_the_task_ends_with_the_last_guest_and_starts_again_with_the_next(
    poller: Any, sockets: Any
) -> None:
    class Guest:
        def loop_ended(self) -> None:
            raise AssertionError("nobody ends the loop")

    def tasks() -> list[str | None]:
        return [task.name for task in anyio.get_running_tasks() if task.name == "wsstream poller"]

    gone: list[str] = []
    for _ in range(3):
        called: list[str] = []
        first, second = Guest(), Guest()
        sockets[1].send(b"x")
        for sock, guest in zip(sockets, (first, second), strict=True):
            poller().add_reader(sock.fileno(), lambda: called.append("read"))  # noqa: B023 - in this round
            poller().attach(guest)
        await settle()
        assert called
        assert len(tasks()) == 1
        poller().remove_reader(sockets[0].fileno())
        poller().detach(first, lambda: gone.append("first"))
        assert gone == ["first"]
        poller().remove_reader(sockets[1].fileno())
        poller().detach(second, lambda: gone.append("second"))
        assert gone == ["first"]
        await settle()
        assert gone == ["first", "second"]
        gone.clear()
        assert tasks() == []
        sockets[0].recv(10)


async def test_a_guest_that_comes_while_the_last_one_goes_is_served(poller: Any, sockets: Any) -> None:
    class Guest:
        def loop_ended(self) -> None:
            raise AssertionError("nobody ends the loop")

    gone: list[str] = []
    called: list[str] = []
    first, second = Guest(), Guest()
    poller().add_reader(sockets[0].fileno(), lambda: None)
    poller().attach(first)
    await settle()
    poller().remove_reader(sockets[0].fileno())
    poller().detach(first, lambda: gone.append("first"))
    poller().add_reader(sockets[0].fileno(), lambda: called.append("read"))
    poller().attach(second)
    sockets[1].send(b"x")
    await settle()
    assert gone == ["first"]
    assert called
    poller().remove_reader(sockets[0].fileno())
    poller().detach(second, lambda: gone.append("second"))
    await settle()
    assert gone == ["first", "second"]
