"""Messages that a thread sends and waits for by itself, while the event loop is asleep."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sync.conftest import interrupted, until

from wsstream import ConnectionClosed
from wsstream.codec.speedups import COMPILED
from wsstream.driver.pump import Pump
from wsstream.sync import WebSocketStream, connect, serve
from wsstream.sync.background import Background, background

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the event loop has no gate there")
compiled = pytest.mark.skipif(not COMPILED, reason="the pure codec's calls can be cut in two by Ctrl-C")


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that have asked the event loop for something, once for each time."""
    asked: list[int] = []
    post = Background.post

    def counted(self: Background, callback: Callable[[], object]) -> None:
        asked.append(threading.get_ident())
        post(self, callback)

    monkeypatch.setattr(Background, "post", counted)
    return asked


def asleep() -> None:
    until(lambda: background().gate.asleep)


def without_a_trip(act: Callable[[], object], trips: list[int]) -> bool:
    """Whether `act` makes no trip; the event loop may wake up at the wrong moment, but not each time."""
    for _ in range(100):
        asleep()
        trips.clear()
        act()
        if threading.get_ident() not in trips:
            return True
    return False


@compiled
def test_a_lone_message_leaves_without_the_event_loop(echo_url: str, trips: list[int]) -> None:
    def send() -> None:
        time.sleep(0.001)  # messages that follow at once go by the batch
        ws.send("x")

    with connect(echo_url) as ws:
        assert without_a_trip(send, trips)


def test_waiting_for_a_message_asks_the_event_loop_for_nothing(trips: list[int]) -> None:
    waits = threading.Event()

    def answer_late(ws: WebSocketStream) -> None:
        for message in ws:
            waits.wait()
            ws.send(message)

    def receive() -> None:
        waits.clear()
        ws.send("x")
        threading.Timer(0.01, waits.set).start()
        asleep()
        trips.clear()  # that of `send`
        assert ws.receive() == "x"

    with serve(answer_late, "127.0.0.1") as server, connect(server.url) as ws:
        assert without_a_trip(receive, trips)


def test_a_wait_that_was_given_up_takes_nothing() -> None:
    """What arrives after Ctrl-C stays where it slows the peer."""
    go_on = threading.Event()

    def send_late(ws: WebSocketStream) -> None:
        ws.send("first")
        go_on.wait()
        ws.send("late")
        ws.receive()

    with serve(send_late, "127.0.0.1") as server, connect(server.url) as ws:
        assert ws.receive() == "first"
        asleep()
        with interrupted():
            ws.receive()
        go_on.set()
        until(lambda: ws.statistics().receive_buffered)
        assert not ws._link.incoming.batch
        assert ws.receive() == "late"
        ws.send("bye")


class Unread:
    """A server that reads when it is told to, and a thread that has sent until nothing more would leave."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.sent: list[bytes] = []
        self.got: list[str | bytes] = []

    def __call__(self, ws: WebSocketStream) -> None:
        self.go_on.wait()
        try:
            self.got.extend(ws)
        except ConnectionClosed:
            pass

    def send_until(self, full: Callable[[], object], ws: WebSocketStream) -> None:
        source = random.Random(1)
        while not full():
            asleep()
            self.sent.append(source.randbytes(16_000))
            ws.send(self.sent[-1])


@pytest.fixture
def unread() -> Iterator[Unread]:
    handler = Unread()
    yield handler
    handler.go_on.set()


@compiled
def test_a_message_of_which_a_part_has_left_is_completed(
    unread: Unread, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[int] = []
    keep_rest = Pump.keep_rest

    def noted(self: Pump, frame: bytes, sent: int) -> None:
        rests.append(threading.get_ident())
        keep_rest(self, frame, sent)

    monkeypatch.setattr(Pump, "keep_rest", noted)
    with serve(unread, "127.0.0.1") as server:
        with connect(server.url) as ws:
            unread.send_until(lambda: threading.get_ident() in rests, ws)
            unread.go_on.set()
            ws.send(b"last")
        until(lambda: unread.got[-1:] == [b"last"])
    assert unread.got[:-1] == unread.sent


@compiled
def test_ctrl_c_in_the_middle_of_a_frame_breaks_the_connection(
    unread: Unread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the peer sees never goes on after half a frame."""

    def interrupted(self: Pump, frame: bytes, sent: int) -> None:
        raise KeyboardInterrupt

    with serve(unread, "127.0.0.1") as server:
        with connect(server.url) as ws:
            monkeypatch.setattr(Pump, "keep_rest", interrupted)
            with pytest.raises(KeyboardInterrupt):
                unread.send_until(lambda: False, ws)
            until(lambda: ws.close_info is not None)
            assert ws.close_info is not None
            assert ws.close_info.code == 1006
        unread.go_on.set()
        until(lambda: not server.connections)
    assert unread.got == unread.sent[: len(unread.got)]


class CtrlC:
    """A handler of SIGINT that raises once for each time that it is armed."""

    def __init__(self) -> None:
        self.armed = False

    def __call__(self, number: int, frame: object) -> None:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt


def test_ctrl_c_at_any_moment_cuts_no_message_in_two() -> None:
    """The peer gets each message that was sent, in order, and the connection goes on."""
    got: list[int] = []
    sent: list[int] = []
    ctrl_c = CtrlC()
    signal.signal(signal.SIGINT, ctrl_c)  # the fixture restores it

    def record(ws: WebSocketStream) -> None:
        for message in ws:
            got.append(int(message))
            ws.send(message)

    def interrupt() -> None:
        source = random.Random(1)
        for _ in range(200):
            time.sleep(source.uniform(0.0002, 0.002))
            os.kill(os.getpid(), signal.SIGINT)

    with serve(record, "127.0.0.1") as server, connect(server.url) as ws:
        thread = threading.Thread(target=interrupt)
        thread.start()
        number = interrupts = 0
        while thread.is_alive():
            number += 1
            try:
                ctrl_c.armed = True
                ws.send(str(number))
                sent.append(number)
                ws.receive()
                ctrl_c.armed = False
            except KeyboardInterrupt:
                interrupts += 1
        thread.join()
        ws.send("-1")
        assert "-1" in ws  # perhaps after echoes that an interrupted call left behind
    assert interrupts
    assert got == [*sorted(set(got[:-1])), -1]
    assert set(sent) <= set(got)
