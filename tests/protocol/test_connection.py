"""One endpoint after its opening handshake: what it answers, what it refuses, how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.effort import examples

from wsstream.codec.batch import CLOSED_FOR_COMPRESSION
from wsstream.codec.events import Chunk, Close, Event, Kind, Ping, Pong, Violation
from wsstream.codec.speedups import apply_mask
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed, Deflate
from wsstream.protocol.state import TRANSITIONS, Input, State, WrongState
from wsstream.testing import (
    EXAMPLE_KEY,
    ILLEGAL_FRAMES,
    Frame,
    FrameCase,
    binary,
    close,
    continuation,
    frame,
    parse_frames,
    ping,
    pong,
    text,
)

UNLIMITED = 1 << 62
BAD = Violation(1002, "a rule")
CLIENT = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])


def endpoint(client: bool) -> Connection:
    return Connection(client=client, next_key=lambda: EXAMPLE_KEY)


def key_to(connection: Connection) -> bytes | None:
    """The masking key of frames to `connection`."""
    return None if connection.client else EXAMPLE_KEY


def key_from(connection: Connection) -> bytes | None:
    return EXAMPLE_KEY if connection.client else None


def leave(connection: Connection, count: int = UNLIMITED) -> bytes:
    """Let bytes leave, all of them unless there is a `count`."""
    data = b""
    while len(data) < count and (offered := b"".join(connection.queue.buffers())):
        piece = offered[: count - len(data)]
        connection.queue.advance(len(piece))
        data += piece
    return data


def frames_from(connection: Connection) -> list[Frame]:
    """All that leaves, without the masking keys."""
    return [replace(f, mask=None) for f in parse_frames(leave(connection), masked=connection.client)]


def receive(connection: Connection, data: bytes) -> list[Event]:
    events: list[Event] = []
    while data:
        events += connection.receive(data, UNLIMITED)
        assert connection.consumed > 0
        data = data[connection.consumed :]
    return events


CLOSE_1000 = Frame(8, b"\x03\xe8")


# -- the masking key -----------------------------------------------------------------------------


def test_a_client_masks_each_frame_with_a_key_of_its_own_and_a_server_none() -> None:
    keys = iter([b"key1", b"key2", b"key3"])
    client = Connection(client=True, next_key=lambda: next(keys))
    for event in ("text", Ping(), Close()):
        client.send(event)
    assert [frame.mask for frame in parse_frames(leave(client))] == [b"key2", b"key1", b"key3"]
    server = Connection(client=False, next_key=lambda: next(keys))
    for event in ("text", Ping(), Close()):
        server.send(event)
    assert [frame.mask for frame in parse_frames(leave(server))] == [None] * 3


def test_a_clients_frames_have_fresh_keys() -> None:
    client = Connection(client=True)
    for _ in range(300):
        client.send(b"x")
    assert len({frame.mask for frame in parse_frames(leave(client))}) > 295


# -- sending -------------------------------------------------------------------------------------

SENT = [
    ("κόσμε", [Frame(1, "κόσμε".encode())]),
    (b"\xff", [Frame(2, b"\xff")]),
    ("", [Frame(1)]),
    (b"", [Frame(2)]),
    (Chunk("text", b"a", True), [Frame(1, b"a")]),
    (Chunk("binary", b"a", False), [Frame(2, b"a", fin=False)]),
    (Ping(b"p"), [Frame(9, b"p")]),
    (Pong(b"p"), [Frame(10, b"p")]),
    (Close(), [Frame(8)]),
    (Close(1001, "é"), [Frame(8, b"\x03\xe9\xc3\xa9")]),
    (Violation(1009, "too big"), [Frame(8, b"\x03\xf1too big")]),
]


@CLIENT
@pytest.mark.parametrize(("event", "frames"), SENT, ids=[repr(event) for event, _ in SENT])
def test_an_event_becomes_a_frame(event: Event, frames: list[Frame], client: bool) -> None:
    connection = endpoint(client)
    connection.send(event)
    assert frames_from(connection) == frames


def test_the_chunks_of_a_message_are_its_fragments() -> None:
    connection = endpoint(False)
    for payload, last in ((b"a", False), (b"", False), (b"b", False), (b"", True)):
        assert connection.sending is (payload != b"a")
        connection.send(Chunk("text", payload, last))
    assert not connection.sending
    connection.send("next")
    assert frames_from(connection) == [
        Frame(1, b"a", fin=False),
        Frame(0, b"", fin=False),
        Frame(0, b"b", fin=False),
        Frame(0, b""),
        Frame(1, b"next"),
    ]


def test_a_compressed_chunk_is_not_sent_on_as_it_came() -> None:
    """It refers to what its own connection received before; compressing it again would be no better."""
    connection = endpoint(False)
    with pytest.raises(WrongState, match="inflated"):
        connection.send(Chunk("text", b"\xf2\x48", True, compressed=True))
    assert not connection.queue.size
    connection.send(Chunk("text", b"a", True))


@pytest.mark.parametrize(
    "intruder", ["text", b"binary", Chunk("binary", b"", True), Chunk("binary", b"", False)], ids=repr
)
def test_nothing_breaks_into_a_message(intruder: Event) -> None:
    connection = endpoint(False)
    connection.send(Chunk("text", b"a", False))
    with pytest.raises(WrongState, match="another message is not finished"):
        connection.send(intruder)
    with pytest.raises(WrongState, match="another message is not finished"):
        connection.begin_frame("text", 5)
    connection.send(Ping(b"p"))
    connection.send(Chunk("text", b"b", True))
    assert frames_from(connection) == [Frame(9, b"p"), Frame(1, b"a", fin=False), Frame(0, b"b")]


def test_a_lone_surrogate_is_refused_before_anything_is_queued() -> None:
    connection = endpoint(True)
    with pytest.raises(UnicodeEncodeError):
        connection.send("a\ud800")
    assert connection.queue.size == 0
    connection.send("fine")
    assert frames_from(connection) == [Frame(1, b"fine")]


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_messages_are_taken_from_any_buffer_at_once(kind: Kind) -> None:
    connection = endpoint(False)
    buffer = bytearray(b"Hello")
    connection.send_message(kind, memoryview(buffer))
    connection.begin_frame(kind, 5)
    connection.send_part(memoryview(buffer))
    buffer[:] = b"....."
    assert [frame.payload for frame in frames_from(connection)] == [b"Hello", b"Hello"]


# -- frames of a declared size -------------------------------------------------------------------


@CLIENT
@given(st.lists(st.integers(1, 1200), min_size=1, max_size=6), st.sampled_from(["text", "binary"]))
def test_the_parts_of_a_frame_are_one_frame(client: bool, sizes: list[int], kind: Kind) -> None:
    connection = endpoint(client)
    payload = (bytes(range(256)) * 30)[: sum(sizes)]
    connection.begin_frame(kind, len(payload))
    position = 0
    for size in sizes:
        assert connection.mid_frame
        connection.send_part(payload[position : position + size])
        position += size
    assert not connection.mid_frame
    assert not connection.sending
    assert frames_from(connection) == [Frame(1 if kind == "text" else 2, payload)]


@CLIENT
def test_a_frame_of_size_0_is_complete_at_once(client: bool) -> None:
    connection = endpoint(client)
    connection.begin_frame("text", 0)
    assert not connection.mid_frame
    connection.send(Ping())
    leave(connection, 1)
    connection.send_close(Close(), urgent=False)
    assert connection.close_sent == Close()


def test_a_frame_may_declare_any_size() -> None:
    connection = endpoint(True)
    connection.begin_frame("binary", (1 << 63) - 1)
    assert leave(connection) == b"\x82\xff\x7f" + b"\xff" * 7 + EXAMPLE_KEY
    connection.send_part(b"x")
    assert connection.mid_frame


def test_a_part_has_at_least_a_byte_and_no_more_than_are_due() -> None:
    connection = endpoint(False)
    with pytest.raises(WrongState, match="1 bytes for a frame that has 0 left"):
        connection.send_part(b"x")
    connection.begin_frame("binary", 3)
    for wrong in (b"", b"abcd"):
        with pytest.raises(WrongState, match="for a frame that has 3 left"):
            connection.send_part(wrong)
    connection.send_part(b"ab")
    with pytest.raises(WrongState, match="2 bytes for a frame that has 1 left"):
        connection.send_part(b"cd")
    connection.send_part(b"c")
    assert frames_from(connection) == [Frame(2, b"abc")]


@pytest.mark.parametrize(
    "intruder", ["text", b"", Chunk("binary", b"x", True), Chunk("text", b"x", False)], ids=repr
)
def test_nothing_breaks_into_a_frame(intruder: Event) -> None:
    connection = endpoint(False)
    connection.begin_frame("binary", 2)
    connection.send_part(b"a")
    leave(connection, 1)
    with pytest.raises(WrongState, match="another message is not finished"):
        connection.send(intruder)
    with pytest.raises(WrongState, match="another message is not finished"):
        connection.begin_frame("binary", 5)
    connection.send(Ping(b"p"))
    connection.send_part(b"b")
    rest = leave(connection)
    assert parse_frames(b"\x82" + rest) == [Frame(2, b"ab"), Frame(9, b"p")]


# -- receiving -----------------------------------------------------------------------------------


@CLIENT
def test_a_ping_is_answered_with_its_payload_and_a_pong_is_not_answered(client: bool) -> None:
    connection = endpoint(client)
    data = ping(b"p", mask=key_to(connection)) + pong(b"q", mask=key_to(connection))
    assert receive(connection, data) == [Ping(b"p"), Pong(b"q")]
    assert frames_from(connection) == [Frame(10, b"p")]


def test_pings_that_came_together_are_all_answered_in_order() -> None:
    connection = endpoint(True)
    receive(connection, b"".join(ping(b"%d" % number) for number in range(10)))
    assert frames_from(connection) == [Frame(10, b"%d" % number) for number in range(10)]


def test_of_many_pings_that_came_together_the_latest_are_answered() -> None:
    connection = endpoint(True)
    receive(connection, b"".join(ping(b"%d" % number) for number in range(1000)))
    assert frames_from(connection) == [Frame(10, b"%d" % number) for number in range(984, 1000)]


def test_of_many_pings_the_latest_is_answered_when_the_transport_takes_something_again() -> None:
    connection = endpoint(True)
    for number in range(1000):
        receive(connection, ping(b"%d" % number))
        connection.queue.buffers()  # and nothing is taken
    assert frames_from(connection) == [Frame(10, b"999")]


def test_a_ping_is_answered_before_data_that_waits_and_inside_a_message() -> None:
    connection = endpoint(True)
    connection.send(Chunk("text", b"a", False))
    receive(connection, text("x", fin=False) + ping(b"p"))
    assert frames_from(connection) == [Frame(10, b"p"), Frame(1, b"a", fin=False)]


def test_receiving_stops_when_the_room_is_used_up() -> None:
    connection = endpoint(True)
    data = text("one") + binary(b"two", fin=False) + ping()
    assert connection.receive(data, 60) == ["one"]
    assert (connection.consumed, connection.cost) == (5, 67)
    assert connection.receive(data[5:], 60) == [Chunk("binary", b"two", False)]
    assert (connection.consumed, connection.cost) == (5, 67)
    assert connection.receive(data[10:], 60) == [Ping()]
    assert (connection.consumed, connection.cost) == (2, 0)
    assert connection.receive(data, 0) == []
    assert (connection.consumed, connection.cost) == (0, 0)


@CLIENT
@pytest.mark.parametrize("case", ILLEGAL_FRAMES, ids=str)
def test_a_violation_fails_the_connection(case: FrameCase, client: bool) -> None:
    connection = endpoint(client)
    connection.send("unsent")
    data = case.data("client" if client else "server")
    violation = receive(connection, data)[-1]
    assert isinstance(violation, Violation)
    assert connection.violation == violation
    assert connection.state is State.VIOLATED
    connection.fail()
    assert connection.state is State.FAILED
    assert connection.close_sent == Close(violation.code, violation.reason)
    *_, last = sent = frames_from(connection)
    assert (last.kind, last.close_code, last.close_reason) == ("close", case.code, violation.reason)
    assert "text" not in {frame.kind for frame in sent}, "Close takes the place of data that has not left"
    assert receive(connection, data + close(1000, mask=key_to(connection))) == []
    assert connection.close_received is None
    assert connection.queue.size == 0


# -- the closing handshake -----------------------------------------------------------------------

CLOSES = pytest.mark.parametrize(
    "how", [Close(), Close(1000), Close(1001, "é"), Close(4999, "x" * 123)], ids=repr
)


def data_of(connection: Connection, event: Event) -> bytes:
    """`event` as it comes from the peer of `connection`."""
    peer = endpoint(not connection.client)
    peer.send(event)
    return leave(peer)


@CLIENT
@CLOSES
def test_a_close_is_echoed_at_once_in_place_of_the_data(how: Close, client: bool) -> None:
    connection = endpoint(client)
    connection.send("unsent")
    assert receive(connection, data_of(connection, how)) == [how]
    assert connection.state is State.CLOSE_DONE
    assert (connection.close_received, connection.close_sent) == (how, how)
    assert not connection.message_cut
    (frame,) = frames_from(connection)
    assert frame == parse_frames(close(how.code, how.reason))[0]


@CLIENT
@CLOSES
def test_our_own_close_goes_behind_the_data_and_the_peers_ends_the_handshake(
    how: Close, client: bool
) -> None:
    connection = endpoint(client)
    connection.send("before")
    connection.send(how)
    assert connection.state is State.CLOSE_SENT
    assert connection.close_sent == how
    assert [frame.opcode for frame in frames_from(connection)] == [1, 8]
    assert receive(connection, data_of(connection, Close(1001, "theirs"))) == [Close(1001, "theirs")]
    assert connection.state is State.CLOSE_DONE
    assert connection.close_received == Close(1001, "theirs")
    assert connection.queue.size == 0, "Close is sent once"
    assert not connection.message_cut


def test_both_may_close_at_once() -> None:
    client, server = endpoint(True), endpoint(False)
    client.send(Close(1001))
    server.send(Close(4000, "me first"))
    to_server, to_client = leave(client), leave(server)
    assert receive(server, to_server) == [Close(1001)]
    assert receive(client, to_client) == [Close(4000, "me first")]
    assert client.state is server.state is State.CLOSE_DONE
    assert leave(client) == leave(server) == b""


def test_an_urgent_close_of_our_own_goes_in_place_of_the_data() -> None:
    connection = endpoint(False)
    connection.send("one")
    connection.send("two")
    start = leave(connection, 1)
    connection.send_close(Close(1000), urgent=True)
    assert parse_frames(start + leave(connection)) == [Frame(1, b"one"), CLOSE_1000]
    assert not connection.message_cut


@CLIENT
def test_once_close_is_sent_data_is_dropped_and_pings_are_answered_until_close_is_received(
    client: bool,
) -> None:
    connection = endpoint(client)
    connection.send(Close(1000))
    leave(connection)
    key = key_to(connection)
    data = (
        text("late", mask=key)
        + binary(b"a", fin=False, mask=key)
        + ping(b"p", mask=key)
        + continuation(b"b", mask=key)
        + pong(b"q", mask=key)
    )
    assert connection.receive(data, 1) == [Ping(b"p"), Pong(b"q")]
    assert (connection.consumed, connection.cost) == (len(data), 0), "what is dropped takes no room"
    assert [(frame.opcode, frame.payload) for frame in frames_from(connection)] == [(10, b"p")]
    assert connection.state is State.CLOSE_SENT
    assert receive(connection, close(1000, mask=key)) == [Close(1000)]
    assert connection.state is State.CLOSE_DONE


@CLIENT
def test_messages_can_be_answered_between_a_violation_and_failing_for_it(client: bool) -> None:
    connection = endpoint(client)
    key = key_to(connection)
    data = text("before", mask=key) + ping(b"p", mask=key) + frame(3, mask=key) + text("behind", mask=key)
    before, seen, violation = connection.receive(data, UNLIMITED)
    assert (before, seen) == ("before", Ping(b"p"))
    assert isinstance(violation, Violation)
    assert connection.state is State.VIOLATED
    assert connection.violation == violation
    connection.send("answer")
    assert connection.receive(text("more", mask=key) + ping(b"q", mask=key), UNLIMITED) == []
    sent = frames_from(connection)
    assert [(f.opcode, f.payload) for f in sent] == [(10, b"p"), (1, b"answer")]
    connection.fail()
    assert [f.close_code for f in frames_from(connection)] == [1002]


def test_a_violation_that_is_found_later_but_came_first_is_the_one_that_counts() -> None:
    connection = endpoint(True)
    receive(connection, frame(3))
    first = Violation(1007, "a text message is not UTF-8")
    connection.note_violation(first)
    connection.fail()
    assert connection.violation == first
    assert [f.close_code for f in frames_from(connection)] == [1007]


@CLIENT
def test_a_violation_after_our_close_fails_the_connection_without_a_second_close(client: bool) -> None:
    connection = endpoint(client)
    connection.send(Close(1000))
    leave(connection)
    (violation,) = receive(connection, b"\x83")
    assert connection.state is State.FAILED
    assert connection.violation == violation == Violation(1002, "opcode 3 is reserved")
    assert connection.close_sent == Close(1000)
    assert connection.queue.size == 0


@CLIENT
def test_everything_after_the_peers_close_is_ignored(client: bool) -> None:
    connection = endpoint(client)
    after = text("late", mask=key_to(connection)) + b"\xff" * 100
    assert receive(connection, data_of(connection, Close(1000)) + after) == [Close(1000)]
    assert receive(connection, after) == []
    assert connection.cost == 0
    assert connection.state is State.CLOSE_DONE
    assert connection.violation is None


# -- messages that are cut -----------------------------------------------------------------------


@CLIENT
@pytest.mark.parametrize("fragments", [0, 1, 2])
def test_a_close_inside_a_message_of_the_peer_is_echoed_and_cuts_it(fragments: int, client: bool) -> None:
    connection = endpoint(client)
    key = key_to(connection)
    receive(connection, text(fin=False, mask=key) + continuation(b"a", fin=False, mask=key) * fragments)
    assert receive(connection, close(1001, "bye", mask=key)) == [Close(1001, "bye")]
    assert connection.message_cut
    assert connection.state is State.CLOSE_DONE
    assert frames_from(connection) == [Frame(8, b"\x03\xe9bye")]


@CLIENT
@pytest.mark.parametrize("who", ["we", "the peer"])
def test_a_close_inside_a_message_of_ours_cuts_it(who: str, client: bool) -> None:
    connection = endpoint(client)
    connection.send(Chunk("text", b"a", False))
    start = leave(connection)
    if who == "we":
        connection.send(Close(1000))
    else:
        receive(connection, data_of(connection, Close(1000)))
    assert connection.message_cut
    assert parse_frames(start + leave(connection))[-1].opcode == 8


def test_a_close_that_drops_the_last_fragments_cuts_the_message() -> None:
    for gone, cut in ((0, False), (1, True), (3, True), (4, False), (6, False)):
        connection = endpoint(False)
        connection.send(Chunk("text", b"a", False))
        connection.send(Chunk("text", b"b", True))
        connection.send("whole")
        start = leave(connection, gone)
        receive(connection, data_of(connection, Close(1000)))
        frames = parse_frames(start + leave(connection))
        assert connection.message_cut is cut, (gone, frames)
        assert frames[-1] == CLOSE_1000


@CLIENT
@pytest.mark.parametrize("who", ["we", "we, at once", "the peer", "a violation"])
@pytest.mark.parametrize("gone", [0, 1, UNLIMITED], ids=["nothing", "a byte", "all"])
def test_close_cannot_be_sent_inside_a_frame_that_began_to_leave(gone: int, who: str, client: bool) -> None:
    connection = endpoint(client)
    connection.begin_frame("binary", 100)
    connection.send_part(b"part")
    leave(connection, gone)
    if who == "we":
        connection.send(Close(1000))
    elif who == "we, at once":
        connection.send_close(Close(1000), urgent=True)
    elif who == "the peer":
        receive(connection, data_of(connection, Close(1000)))
    else:
        connection.fail(BAD)
    assert connection.message_cut
    if gone or who == "we":
        assert connection.close_sent is None
        rest = leave(connection)
        assert len(rest) <= 18
        assert b"\x03\xe8" not in rest
    else:
        assert connection.close_sent is not None
        assert [frame.opcode for frame in frames_from(connection)] == [8]
    with pytest.raises(WrongState):
        connection.send_part(b"more")


@CLIENT
def test_a_message_that_was_complete_is_not_cut(client: bool) -> None:
    connection = endpoint(client)
    key = key_to(connection)
    connection.begin_frame("binary", 2)
    connection.send_part(b"ab")
    connection.send(Chunk("text", b"a", False))
    connection.send(Chunk("text", b"b", True))
    leave(connection)
    receive(connection, text("a", fin=False, mask=key) + continuation(mask=key) + close(mask=key))
    assert not connection.message_cut


# -- failing -------------------------------------------------------------------------------------


def test_failing_puts_a_close_in_place_of_the_data() -> None:
    connection = endpoint(False)
    connection.send("one")
    connection.send("two")
    start = leave(connection, 2)
    connection.fail(Violation(1009, "too big"))
    assert connection.state is State.FAILED
    assert parse_frames(start + leave(connection)) == [Frame(1, b"one"), Frame(8, b"\x03\xf1too big")]
    assert receive(connection, data_of(connection, Close(1000))) == []
    assert connection.close_received is None


def test_failing_again_changes_nothing() -> None:
    connection = endpoint(False)
    connection.fail(Violation(1009, "first"))
    connection.fail(Violation(1011, "second"))
    assert connection.violation == Violation(1009, "first")
    assert connection.close_sent == Close(1009, "first")
    assert [frame.close_code for frame in frames_from(connection)] == [1009]


def test_failing_after_our_close_sends_no_other() -> None:
    connection = endpoint(False)
    connection.send(Close(1000))
    connection.fail(BAD)
    assert connection.state is State.FAILED
    assert connection.close_sent == Close(1000)
    assert frames_from(connection) == [CLOSE_1000]


# -- every state and every input -----------------------------------------------------------------


def open_(connection: Connection) -> None:
    pass


REACH: dict[State, Callable[[Connection], object]] = {
    State.OPEN: open_,
    State.VIOLATED: lambda c: c.note_violation(BAD),
    State.CLOSE_SENT: lambda c: c.send(Close(1000)),
    State.CLOSE_DONE: lambda c: receive(c, data_of(c, Close(1000))),
    State.FAILED: lambda c: c.fail(BAD),
    State.CLOSED: lambda c: c.receive_eof(),
}
CALLS: list[tuple[Input, str, Callable[[Connection], object]]] = [
    (Input.SEND_DATA, "text", lambda c: c.send("x")),
    (Input.SEND_DATA, "chunk", lambda c: c.send(Chunk("binary", b"", False))),
    (Input.SEND_DATA, "frame", lambda c: c.begin_frame("text", 5)),
    (Input.SEND_DATA, "part", lambda c: c.send_part(b"x")),
    (Input.SEND_CONTROL, "ping", lambda c: c.send(Ping())),
    (Input.SEND_CONTROL, "pong", lambda c: c.send(Pong())),
    (Input.SEND_CLOSE, "close", lambda c: c.send(Close())),
    (Input.SEND_CLOSE, "urgent", lambda c: c.send_close(Close(), urgent=True)),
    (Input.VIOLATION, "violation", lambda c: c.note_violation(BAD)),
    (Input.FAIL, "fail", lambda c: c.send(BAD)),
    (Input.EOF, "eof", lambda c: c.receive_eof()),
]


@CLIENT
@pytest.mark.parametrize(("happening", "name", "call"), CALLS, ids=[name for _, name, _ in CALLS])
@pytest.mark.parametrize("state", REACH, ids=lambda state: state.name)
def test_a_call_moves_the_state_as_the_table_says_or_changes_nothing(
    state: State, happening: Input, name: str, call: Callable[[Connection], object], client: bool
) -> None:
    connection = endpoint(client)
    if name == "part":
        connection.begin_frame("text", 5)
    REACH[state](connection)
    assert connection.state is state
    size = connection.queue.size
    if (state, happening) in TRANSITIONS:
        call(connection)
        assert connection.state is TRANSITIONS[state, happening]
    else:
        with pytest.raises(WrongState, match=f"not possible in state {state.name}"):
            call(connection)
        assert connection.state is state
        assert connection.queue.size == size


RECEIVED: list[tuple[Input, Event]] = [
    (Input.RECEIVE_DATA, "text"),
    (Input.RECEIVE_DATA, Chunk("binary", b"", False)),
    (Input.RECEIVE_CONTROL, Ping()),
    (Input.RECEIVE_CONTROL, Pong()),
    (Input.RECEIVE_CLOSE, Close(1000)),
]


@CLIENT
@pytest.mark.parametrize(("happening", "event"), RECEIVED, ids=[repr(event) for _, event in RECEIVED])
@pytest.mark.parametrize("state", REACH, ids=lambda state: state.name)
def test_what_is_received_moves_the_state_as_the_table_says_or_is_ignored(
    state: State, happening: Input, event: Event, client: bool
) -> None:
    connection = endpoint(client)
    REACH[state](connection)
    events = receive(connection, data_of(connection, event))
    target = TRANSITIONS.get((state, happening), state)
    if target is State.CLOSE_RECEIVED:
        target = TRANSITIONS[target, Input.SEND_CLOSE]
    assert connection.state is target
    seen = state is State.OPEN or (state is State.CLOSE_SENT and happening is not Input.RECEIVE_DATA)
    assert events == ([event] if seen else [])


# -- two connections -----------------------------------------------------------------------------


def joined(events: Iterable[Event]) -> list[Event]:
    """Messages as one chunk and adjacent chunks as one."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, str):
            event = Chunk("text", event.encode(), True)
        elif isinstance(event, bytes):
            event = Chunk("binary", event, True)
        before = result[-1] if result else None
        if isinstance(event, Chunk) and isinstance(before, Chunk) and not before.last:
            assert before.kind == event.kind
            result[-1] = event._replace(payload=before.payload + event.payload)
        else:
            result.append(event)
    return result


def fragments_of(message: str | bytes, cuts: list[int]) -> list[Event]:
    payload = message.encode() if isinstance(message, str) else message
    kind: Kind = "text" if isinstance(message, str) else "binary"
    borders = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
    pieces = [payload[a:b] for a, b in zip(borders, borders[1:], strict=False)]  # noqa: RUF007 - clearer
    return [Chunk(kind, piece, i == len(pieces) - 1) for i, piece in enumerate(pieces)]


MESSAGES = st.text(max_size=20) | st.binary(max_size=20) | st.integers(120, 2000).map(bytes)
CONTROL = st.builds(Ping, st.binary(max_size=125)) | st.builds(Pong, st.binary(max_size=125))


@st.composite
def event_lists(draw: st.DrawFn) -> list[Event]:
    """Anything that may be sent, in an order in which it may be sent."""
    result: list[Event] = []
    for _ in range(draw(st.integers(0, 4))):
        message = draw(MESSAGES)
        if draw(st.booleans()):
            result.append(message)
        else:
            for chunk in fragments_of(message, draw(st.lists(st.integers(0, 300), max_size=3))):
                result += [chunk, *draw(st.lists(CONTROL, max_size=1))]
        result += draw(st.lists(CONTROL, max_size=2))
    return result


CODES = st.none() | st.sampled_from([1000, 1001, 1011, 1014, 3000, 4999])


@CLIENT
@given(event_lists(), st.booleans(), CODES, st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_whatever_is_sent_comes_out_the_same(
    client: bool, events: list[Event], closing: bool, code: int | None, reads: list[int]
) -> None:
    sender, receiver = Connection(client=client), Connection(client=not client)
    if closing:
        events = [*events, Close(code, "why" if code else "")]
    received: list[Event] = []
    for event in events:
        sender.send(event)
        data, turn = leave(sender), 0
        while data:
            size = reads[turn % len(reads)]
            received += receive(receiver, data[:size])
            data, turn = data[size:], turn + 1
    assert joined(received) == joined(events)
    assert receiver.state is (State.CLOSE_DONE if closing else State.OPEN)


@dataclass
class Side:
    """One endpoint, what it sent, and what it received."""

    connection: Connection
    sent: list[Event] = field(default_factory=list)
    received: list[Event] = field(default_factory=list)
    to_send: list[Event] = field(default_factory=list)
    tail: bytes = b""

    def send_next(self) -> None:
        if self.to_send and self.connection.state is State.OPEN:
            event = self.to_send.pop(0)
            self.connection.send(event)
            self.sent.append(event)

    def close(self) -> None:
        if self.connection.state is State.OPEN:
            self.connection.send(Close(4000 + self.connection.client))

    def take(self, data: bytes, room: int) -> None:
        data = self.tail + data
        self.received += self.connection.receive(data, room)
        self.tail = data[self.connection.consumed :]

    def data(self, events: list[Event]) -> list[Event]:
        return joined(event for event in events if isinstance(event, str | bytes | Chunk))


def begins(shorter: list[Event], longer: list[Event]) -> bool:
    """Whether `shorter`, perhaps with a part of its last message only, is how `longer` begins."""
    if not shorter:
        return True
    *whole, last = shorter
    if whole != longer[: len(whole)] or len(longer) < len(shorter):
        return False
    model = longer[len(whole)]
    assert isinstance(last, Chunk)
    assert isinstance(model, Chunk)
    return last == model or (not last.last and model.payload.startswith(last.payload))


STEPS = st.tuples(
    st.sampled_from(["send", "send", "move", "move", "close"]),
    st.booleans(),
    st.sampled_from([1, 3, 50, 3000, 100_000]),
    st.sampled_from([1, 100, UNLIMITED]),
)


@given(event_lists(), event_lists(), st.lists(STEPS, max_size=40))
@settings(max_examples=examples(150))
def test_two_connections_that_talk_at_once_agree(
    by_client: list[Event], by_server: list[Event], steps: list[tuple[str, bool, int, int]]
) -> None:
    client = Side(Connection(client=True), to_send=by_client)
    server = Side(Connection(client=False), to_send=by_server)
    closed_by: list[Side] = []
    for what, by_the_client, count, room in steps:
        side, other = (client, server) if by_the_client else (server, client)
        if what == "send":
            side.send_next()
        elif what == "move":
            other.take(leave(side.connection, count), room)
        else:
            if side.connection.state is State.OPEN:
                closed_by.append(side)
            side.close()
    while any(s.connection.queue.size or s.tail for s in (client, server)):
        server.take(leave(client.connection), UNLIMITED)
        client.take(leave(server.connection), UNLIMITED)
    for side, other in ((client, server), (server, client)):
        assert side.connection.violation is None
        received, sent = side.data(side.received), side.data(other.sent)
        if not closed_by or closed_by == [other]:
            assert received == sent, "all that was sent before a Close arrives"
        else:
            assert begins(received, sent)
        pings = [event for event in side.received if isinstance(event, Ping)]
        assert all(event in other.sent for event in pings)
    states = {client.connection.state, server.connection.state}
    assert states == ({State.CLOSE_DONE} if closed_by else {State.OPEN})
    if len(closed_by) == 1:
        (closer,) = closed_by
        answerer = server if closer is client else client
        assert answerer.received[-1] == closer.connection.close_received == closer.connection.close_sent


# -- how frames are made ---------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [bytes, memoryview], ids=["bytes", "a view of bytes"])
def test_a_server_sends_large_data_that_cannot_change_without_a_copy(wrap: Any) -> None:
    payload = bytes(100_000)
    for put in (
        lambda server: server.send_message("binary", wrap(payload)),
        lambda server: server.send_data("binary", wrap(payload), last=False),
        lambda server: (server.begin_frame("binary", 100_000), server.send_part(wrap(payload))),
    ):
        server = Connection(client=False)
        put(server)
        header, piece = server.queue.buffers()
        assert len(header) == 10
        assert piece is payload or (isinstance(piece, memoryview) and piece.obj is payload)


def test_what_may_change_or_is_masked_or_small_is_copied() -> None:
    mutable = bytearray(100_000)
    for connection, payload in (
        (Connection(client=False), memoryview(mutable)),
        (Connection(client=False), bytes(1000)),
        (Connection(client=True, next_key=lambda: bytes(4)), bytes(100_000)),
    ):
        connection.send_data("binary", payload, last=True)
        mutable[:] = b"\xff" * len(mutable)
        (frame,) = connection.queue.buffers()
        assert bytes(frame).endswith(bytes(len(payload)))
        mutable[:] = bytes(len(mutable))
    assert (Connection(client=False).copies, Connection(client=True).copies) == (False, True)


@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
def test_a_message_that_need_not_leave_alone_waits_in_a_burst_if_it_is_small(client: bool) -> None:
    connection = Connection(client=client, next_key=lambda: bytes(4))
    connection.send_message("text", b"small", alone=False)
    assert len(connection.queue.batch) > 0
    connection.send_message("binary", bytes(20_000), alone=False)
    assert len(connection.queue.batch) == 0
    connection.send_message("binary", b"alone")
    assert len(connection.queue.batch) == 0
    frames = parse_frames(b"".join(connection.queue.buffers()), masked=client)
    assert [(frame.opcode, frame.payload) for frame in frames] == [
        (1, b"small"),
        (2, bytes(20_000)),
        (2, b"alone"),
    ]


def test_a_burst_is_shut_where_messages_may_be_compressed_and_when_the_connection_ends() -> None:
    assert Connection(client=False).queue.batch.closed_for == 0
    agreed = Agreed(Deflate(), 15, True, 15, True)
    assert Connection(client=False, deflate=agreed).queue.batch.closed_for == CLOSED_FOR_COMPRESSION
    for end in (
        lambda connection: connection.receive_eof(),
        lambda connection: connection.send_close(Close()),
        lambda connection: connection.fail(Violation(1002, "")),
        lambda connection: connection.receive(close(1000, mask=bytes(4)), 1000),
    ):
        connection = Connection(client=False)
        end(connection)
        assert connection.queue.batch.closed_for > 0


def test_fragments_of_one_size_are_queued_without_a_copy() -> None:
    server = Connection(client=False)
    payload = bytes(range(256)) * 300
    parts = [memoryview(payload)[start : start + 25_600] for start in range(0, len(payload), 25_600)]
    server.send_fragments("text", parts[:2])
    server.send_data("text", parts[2], last=True)
    buffers = server.queue.buffers()
    assert all(isinstance(each, memoryview) and each.obj is payload for each in buffers[1:4:2])
    assert [(each.opcode, each.fin, len(each.payload)) for each in parse_frames(b"".join(buffers))] == [
        (1, False, 25_600),
        (0, False, 25_600),
        (0, True, 25_600),
    ]
    with pytest.raises(WrongState):
        server.send_fragments("text", parts[:1])
        server.send_fragments("binary", parts[:1])


def test_it_is_known_whether_a_message_or_a_frame_has_begun_to_arrive() -> None:
    connection = endpoint(client=True)
    seen = []
    for data in (b"\x82", b"\x02ab", text("a", fin=False), ping()[:1], ping()[1:], continuation("b"), ping()):
        connection.receive(data, UNLIMITED)
        seen.append((connection.receiving, connection.crossed))
    begun, ended = (True, False), (False, True)
    assert seen == [begun, ended, begun, begun, begun, ended, ended]


def test_what_a_call_took_of_the_time_for_one_is_known() -> None:
    connection = endpoint(client=True)
    connection.receive(text("a") * 5 + ping() * 3, UNLIMITED)
    assert connection.steps == 3


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("key", [None, b"abcd"])
@pytest.mark.parametrize("total", [0, 3, 8, 9, 16, 21])
def test_payload_is_passed_on_in_frames_and_masked_in_place_with_both_keys(
    client: bool, key: bytes | None, total: int
) -> None:
    keys = [bytes([number] * 4) for number in range(1, 10)]
    drawn = iter(keys)
    connection = Connection(client=client, next_key=lambda: next(drawn))
    content = bytes(range(100, 100 + total))
    connection.pass_on("binary", memoryview(bytearray(b"first")), 8, None, last=False)
    payload = bytearray(apply_mask(content, key) if key else content)
    connection.pass_on("binary", memoryview(payload), 8, key, last=True)
    first, *frames = parse_frames(b"".join(connection.queue.buffers()), masked=client)
    assert (first.opcode, first.payload, first.fin) == (2, b"first", False)
    assert [frame.payload for frame in frames] == [content[at : at + 8] for at in range(0, total or 1, 8)]
    assert [frame.opcode for frame in frames] == [0] * len(frames)
    assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert [frame.mask for frame in frames] == (keys[1 : 1 + len(frames)] if client else [None] * len(frames))
    assert connection.queue.size == len(b"".join(connection.queue.buffers()))
    connection.queue.advance(connection.queue.size)
    assert not connection.queue.ready
