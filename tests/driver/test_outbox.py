"""The sending side's order: whose turn it is, what becomes a frame, and where Close stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.effort import examples

from wsstream.codec.batch import FrameBatch
from wsstream.codec.events import Close, Kind
from wsstream.driver.flow import FlowControl
from wsstream.driver.outbox import Outbox, OutgoingMessage, Turn
from wsstream.protocol.connection import Connection
from wsstream.protocol.state import State
from wsstream.testing import Frame, parse_frames

# -- a message that is being sent ----------------------------------------------------------------


def test_what_was_appended_is_taken_in_order() -> None:
    message = OutgoingMessage("binary")
    for payload in (b"ab", b"", bytes(5000), memoryview(b"cd")):
        message.append(payload)
    assert (message.size, message.taken) == (5004, 0)
    assert message.take(3) == b"ab\x00"
    assert (message.size, message.taken) == (5001, 3)
    assert message.take(10_000) == bytes(4999) + b"cd"
    assert message.take(10_000) == b""
    assert (message.size, message.taken) == (0, 5004)


def test_small_chunks_are_copied_together_into_one_piece() -> None:
    message = OutgoingMessage("binary")
    for number in range(256):
        message.append(bytes([number]))
    assert message.take(300) == bytes(range(256))


@pytest.mark.parametrize("size", [10, 4095, 4096, 100_000])
def test_after_detaching_the_owner_may_change_the_data(size: int) -> None:
    for taken in (0, 5):
        buffer = bytearray(b"x" * size)
        message = OutgoingMessage("binary")
        message.append(memoryview(buffer))
        start = bytes(message.take(taken)) if taken else b""
        message.detach()
        message.detach()
        buffer[:] = b"." * size
        assert start + bytes(message.take(size)) == b"x" * size


def test_large_data_is_not_copied_before_it_has_to_be() -> None:
    buffer = bytearray(10_000)
    message = OutgoingMessage("binary")
    message.append(memoryview(buffer))
    taken = message.take(8000)
    assert isinstance(taken, memoryview)
    assert taken.obj is buffer
    payload = bytes(10_000)
    message = OutgoingMessage("binary")
    message.append(payload)
    message.detach()
    taken = message.take(10_000)
    assert isinstance(taken, memoryview)
    assert taken.obj is payload


def test_a_small_chunk_behind_what_was_left_of_a_large_one() -> None:
    for kind in ("text", "binary"):
        message = OutgoingMessage(kind)
        for _ in range(3):
            message.append(b"a" * 3000)
        assert message.take(4000) == b"a" * 4000
        message.append(b"b")
        assert message.take(1000) == b"a" * 1000
        message.append(b"c")
        assert message.take(10_000) == b"a" * 4000 + b"bc"


PAYLOADS = st.text(max_size=6) | st.integers(4080, 4110).map(lambda size: "é€😀a"[size % 4] * (size // 2))


@given(
    st.sampled_from(["text", "binary"]),
    st.lists(st.tuples(PAYLOADS, st.booleans(), st.booleans()), max_size=6),
    st.lists(st.integers(4, 30) | st.integers(4000, 9000), min_size=1, max_size=5),
)
@settings(max_examples=examples(200))
def test_any_portions_give_the_same_data_and_text_is_cut_between_code_points(
    kind: Kind, appended: list[tuple[str, bool, bool]], limits: list[int]
) -> None:
    message = OutgoingMessage(kind)
    taken: list[bytes] = []
    total = 0
    for turn, (text, mutable, take_now) in enumerate(appended):
        buffer = bytearray(text.encode())
        message.append(memoryview(buffer) if mutable else bytes(buffer))
        total += len(buffer)
        if take_now:
            taken.append(bytes(message.take(limits[turn % len(limits)])))
        message.detach()
        buffer[:] = b"\xff" * len(buffer)
        assert message.size + message.taken == total
        assert message.taken == sum(map(len, taken))
    turn = 0
    while message.size:
        limit = limits[turn % len(limits)]
        before = message.size
        taken.append(bytes(message.take(limit)))
        assert min(before, max(limit - 3, 1)) <= len(taken[-1]) <= limit, (
            "as much as fits, but for a code point"
        )
        turn += 1
    assert b"".join(taken) == "".join(text for text, _, _ in appended).encode()
    if kind == "text":
        assert "".join(piece.decode() for piece in taken) == "".join(text for text, _, _ in appended)


def test_a_code_point_is_not_cut_where_two_chunks_meet() -> None:
    message = OutgoingMessage("text")
    message.append(b"a" * 4096)
    message.append("€b".encode())
    assert bytes(message.take(4098)) == b"a" * 4096
    assert bytes(message.take(4098)) == "€b".encode()


def test_a_limit_below_a_code_point_makes_progress_all_the_same() -> None:
    message = OutgoingMessage("text")
    message.append("€".encode())
    assert [bytes(message.take(1)) for _ in range(3)] == [b"\xe2", b"\x82", b"\xac"]


# -- filling -------------------------------------------------------------------------------------

FLOW = FlowControl(send_high_water=1000, frame_size=100)


@dataclass
class Sender:
    """An outbox with its connection, a server's, so that nothing is masked."""

    connection: Connection = field(default_factory=lambda: Connection(client=False))
    flow: FlowControl = FLOW

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.connection, self.flow)

    def begin(self, kind: Kind = "binary", declared: int | None = None) -> OutgoingMessage:
        self.outbox.turn.taken = True
        self.outbox.message = OutgoingMessage(kind, declared)
        return self.outbox.message

    def fill(self, *, idle: bool = True) -> list[Frame]:
        """The frames that were made."""
        self.outbox.fill(idle=idle)
        return self.leave()

    def leave(self) -> list[Frame]:
        return parse_frames(self.leave_raw())

    def leave_raw(self) -> bytes:
        data = b""
        while piece := b"".join(self.connection.queue.buffers()):
            self.connection.queue.advance(len(piece))
            data += piece
        return data


def test_nothing_makes_no_frames() -> None:
    sender = Sender()
    assert sender.outbox.size == 0
    assert sender.fill() == []
    sender.begin()
    assert sender.fill() == []


def test_a_small_chunk_leaves_at_once_when_all_is_idle() -> None:
    sender = Sender()
    message = sender.begin("text")
    message.append(b"a")
    assert sender.outbox.size == 1
    assert sender.fill(idle=True) == [Frame(1, b"a", fin=False)]
    assert sender.outbox.size == 0
    message.append(b"b")
    assert sender.fill(idle=True) == [Frame(0, b"b", fin=False)]


def test_small_chunks_are_merged_while_the_transport_is_busy() -> None:
    sender = Sender()
    message = sender.begin("text")
    for _ in range(99):
        message.append(b"a")
        assert sender.fill(idle=False) == []
    message.append(b"b")
    assert sender.fill(idle=False) == [Frame(1, b"a" * 99 + b"b", fin=False)]


def test_what_is_left_over_behind_full_frames_waits_for_more() -> None:
    sender = Sender()
    sender.begin().append(bytes(250))
    assert [len(frame.payload) for frame in sender.fill(idle=True)] == [100, 100]
    assert sender.outbox.size == 50


def test_flushing_sends_a_small_chunk_also_while_the_transport_is_busy() -> None:
    sender = Sender()
    message = sender.begin("text")
    message.append(b"a")
    message.flushing = True
    assert sender.fill(idle=False) == [Frame(1, b"a", fin=False)]
    assert sender.fill(idle=False) == [], "an empty frame is never sent for it"


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 250])
def test_a_finished_message_leaves_whole_in_frames_of_the_frame_size(size: int) -> None:
    sender = Sender()
    message = sender.begin()
    message.append(bytes(size))
    message.finished = True
    frames = sender.fill(idle=False)
    sizes = [100] * (size // 100) + ([size % 100] if size % 100 or not size else [])
    assert [len(frame.payload) for frame in frames] == sizes
    assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert [frame.opcode for frame in frames] == [2] + [0] * (len(frames) - 1)
    assert sender.outbox.message is None
    assert not sender.outbox.turn.taken


def test_larger_frames_are_for_complete_messages_and_not_for_chunks() -> None:
    sender = Sender()
    sender.outbox.frame_size = 1000
    message = sender.begin()
    message.append(bytes(800))
    assert [len(frame.payload) for frame in sender.fill()] == [100] * 8
    message.append(bytes(5000))
    message.finished = True
    frames = []
    while made := sender.fill(idle=False):
        frames += made
    assert [len(frame.payload) for frame in frames] == [1000] * 5


def test_fin_is_set_only_when_the_application_finished_the_message() -> None:
    sender = Sender()
    message = sender.begin()
    message.append(bytes(200))
    assert [frame.fin for frame in sender.fill()] == [False, False]
    assert sender.outbox.turn.taken
    message.finished = True
    assert sender.fill(idle=False) == [Frame(0, b"")]
    assert not sender.outbox.turn.taken


def test_frames_are_made_up_to_the_high_water_mark_and_no_further() -> None:
    sender = Sender()
    message = sender.begin()
    message.append(bytes(100_000))
    message.finished = True
    sender.outbox.fill(idle=True)
    outgoing = sender.connection.queue
    assert 1000 <= outgoing.size < 1000 + 100 + 2
    assert outgoing.size + sender.outbox.size < 100_000 + 100
    before = outgoing.size
    sender.outbox.fill(idle=False)
    assert outgoing.size == before
    frames = []
    while sender.outbox.message is not None:
        frames += sender.leave()
        sender.outbox.fill(idle=False)
        assert outgoing.size < 1102
    frames += sender.leave()
    assert b"".join(frame.payload for frame in frames) == bytes(100_000)
    assert [frame.fin for frame in frames].index(True) == len(frames) - 1


def test_a_message_of_declared_size_is_one_frame() -> None:
    sender = Sender()
    message = sender.begin("text", 250)
    message.append(b"a" * 120)
    sender.outbox.fill(idle=True)
    data = sender.leave_raw()
    message.append(b"b" * 130)
    message.finished = True
    sender.outbox.fill(idle=False)
    data += sender.leave_raw()
    assert parse_frames(data) == [Frame(1, b"a" * 120 + b"b" * 130)]
    assert sender.outbox.message is None


def test_a_message_of_declared_size_0_is_one_empty_frame() -> None:
    sender = Sender()
    sender.begin("text", 0).finished = True
    assert sender.fill() == [Frame(1, b"")]
    assert sender.outbox.message is None


# -- closing -------------------------------------------------------------------------------------


def test_close_stands_behind_a_finished_message() -> None:
    sender = Sender()
    message = sender.begin()
    message.append(bytes(5000))
    message.finished = True
    sender.outbox.fill(idle=True)
    sender.outbox.close(Close(1000))
    frames: list[Frame] = []
    while made := sender.fill(idle=False):
        assert sender.connection.state is (State.CLOSE_SENT if made[-1].opcode == 8 else State.OPEN)
        frames += made
    assert b"".join(frame.payload for frame in frames[:-1]) == bytes(5000)
    assert frames[-2].fin
    assert frames[-1] == Frame(8, b"\x03\xe8")
    assert not sender.connection.message_cut


def test_close_stands_behind_what_was_accepted_of_an_unfinished_message() -> None:
    sender = Sender()
    message = sender.begin()
    message.append(b"a")
    sender.outbox.close(Close(1000))
    assert sender.fill(idle=False) == [Frame(2, b"a", fin=False), Frame(8, b"\x03\xe8")]
    assert sender.outbox.message is None
    assert sender.connection.message_cut


def test_close_waits_for_the_end_of_a_message_for_which_there_is_no_room_yet() -> None:
    sender = Sender()
    message = sender.begin()
    message.append(bytes(1000))
    sender.outbox.fill(idle=True)
    assert sender.outbox.size == 0
    message.finished = True
    sender.outbox.close(Close(1000))
    sender.outbox.fill(idle=False)
    assert sender.connection.state is State.OPEN
    assert not any(frame.fin for frame in sender.leave())
    assert sender.fill(idle=False) == [Frame(0), Frame(8, b"\x03\xe8")]
    assert not sender.connection.message_cut


def test_close_with_nothing_to_send_leaves_at_once_and_once() -> None:
    sender = Sender()
    sender.outbox.close(Close())
    assert sender.fill() == [Frame(8)]
    assert sender.fill() == []


def test_no_close_is_made_when_the_connection_is_not_open_any_more() -> None:
    sender = Sender()
    sender.outbox.close(Close())
    sender.connection.receive_eof()
    assert sender.fill() == []


def test_ending_drops_everything() -> None:
    sender = Sender()
    message = sender.begin()
    message.append(b"a")
    sender.outbox.end()
    assert sender.outbox.size == 0
    assert sender.fill() == []


STEPS = st.tuples(
    st.sampled_from(["append", "append", "fill", "finish", "flush", "leave"]),
    st.integers(0, 250),
    st.booleans(),
)


@given(
    st.sampled_from(["text", "binary"]),
    st.lists(STEPS, max_size=30),
    st.booleans(),
    st.integers(1, 300),
    st.integers(4, 200),
)
@settings(max_examples=examples(150))
def test_whatever_is_handed_over_leaves_whole_and_in_order(
    kind: Kind, steps: list[tuple[str, int, bool]], closing: bool, high: int, frame_size: int
) -> None:
    flow = FlowControl(send_high_water=high, frame_size=frame_size)
    sender = Sender(flow=flow)
    frames: list[Frame] = []
    expected: list[str] = [""]
    message = sender.begin(kind)
    for name, size, idle in steps:
        if name == "append":
            text = ("aé€😀" * size)[:size]
            message.append(text.encode())
            expected[-1] += text
        elif name == "fill":
            sender.outbox.fill(idle=idle)
        elif name == "flush":
            message.flushing = idle
        elif name == "leave":
            frames += sender.leave()
        else:
            message.finished = True
            while sender.outbox.message is message:
                frames += sender.fill(idle=idle)
            message = sender.begin(kind)
            expected.append("")
    message.finished = not closing
    if closing:
        sender.outbox.close(Close(1000))
    while sender.outbox.message is not None or sender.connection.queue.size:
        frames += sender.fill(idle=False)
    if closing:
        assert frames.pop() == Frame(8, b"\x03\xe8")
    assert all(len(frame.payload) <= frame_size for frame in frames)
    if kind == "text":
        assert "".join(frame.payload.decode() for frame in frames) == "".join(expected)
    ends = [0, *(i + 1 for i, frame in enumerate(frames) if frame.fin)]
    messages = [b"".join(frame.payload for frame in frames[a:b]) for a, b in pairwise(ends)]
    unfinished = b"".join(frame.payload for frame in frames[ends[-1] :])
    whole = expected[:-1] if closing else expected
    assert messages == [text.encode() for text in whole]
    assert unfinished == (expected[-1].encode() if closing else b"")


# -- the turn ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_turn_passes_first_in_first_out() -> None:
    turn = Turn(FrameBatch())
    order: list[int] = []

    async def take(number: int) -> None:
        await turn.acquire()
        order.append(number)

    await turn.acquire()
    assert turn.taken
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(take, number)
            await wait_all_tasks_blocked()
            assert turn.tasks_waiting == number + 1
        for number in range(5):
            assert order == list(range(number))
            turn.release()
            await wait_all_tasks_blocked()
    assert order == list(range(5))
    assert turn.taken
    turn.release()
    assert not turn.taken


@pytest.mark.anyio
async def test_a_turn_that_was_passed_on_cannot_be_snatched() -> None:
    turn = Turn(FrameBatch())
    order: list[str] = []

    async def take(name: str) -> None:
        await turn.acquire()
        order.append(name)

    await turn.acquire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, "first")
        await wait_all_tasks_blocked()
        turn.release()
        assert turn.taken, "although the first has not run yet"
        tasks.start_soon(take, "second")
        await wait_all_tasks_blocked()
        assert order == ["first"]
        turn.release()
    assert order == ["first", "second"]


@pytest.mark.anyio
async def test_who_is_cancelled_while_waiting_is_passed_over() -> None:
    turn = Turn(FrameBatch())
    order: list[str] = []

    async def take(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await turn.acquire()
            order.append(name)

    await turn.acquire()
    scopes = [anyio.CancelScope() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for name, scope in zip("abc", scopes, strict=True):
            tasks.start_soon(take, name, scope)
            await wait_all_tasks_blocked()
        scopes[1].cancel()
        await wait_all_tasks_blocked()
        assert turn.tasks_waiting == 2
        turn.release()
        await wait_all_tasks_blocked()
        turn.release()
    assert order == ["a", "c"]


@pytest.mark.anyio
async def test_who_is_cancelled_in_the_moment_of_getting_the_turn_passes_it_on() -> None:
    for others in (0, 1):
        turn = Turn(FrameBatch())
        got: list[str] = []

        async def take(name: str, scope: anyio.CancelScope, turn: Turn = turn, got: list[str] = got) -> None:
            with scope:
                await turn.acquire()
                got.append(name)

        await turn.acquire()
        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            tasks.start_soon(take, "cancelled", scope)
            await wait_all_tasks_blocked()
            for _ in range(others):
                tasks.start_soon(take, "other", anyio.CancelScope())
                await wait_all_tasks_blocked()
            scope.cancel()
            turn.release()
        assert got == ["other"] * others
        assert turn.taken is bool(others)
        assert turn.tasks_waiting == 0


@pytest.mark.anyio
async def test_waking_all_lets_everybody_go() -> None:
    turn = Turn(FrameBatch())
    await turn.acquire()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(turn.acquire)
        await wait_all_tasks_blocked()
        turn.wake_all()
    assert turn.tasks_waiting == 0


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["close", "end"])
async def test_closing_and_ending_let_go_who_waits_for_a_turn(how: str) -> None:
    sender = Sender()
    message = sender.begin()
    message.append(b"a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sender.outbox.turn.acquire)
        await wait_all_tasks_blocked()
        if how == "close":
            sender.outbox.close(Close())
        else:
            sender.outbox.end()
    assert sender.outbox.turn.tasks_waiting == 0


# -- large buffers -------------------------------------------------------------------------------

LARGE = FlowControl(frame_size=20_000)


@pytest.mark.parametrize("size", [1, 20_000, 20_001, 40_000, 1 << 20])
@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
def test_a_large_buffer_is_framed_byte_for_byte(size: int, client: bool) -> None:
    sender = Sender(Connection(client=client), LARGE)
    message = sender.begin()
    payload = bytes(range(251)) * (size // 251 + 1)
    message.append(payload[:size])
    message.append(b"behind")
    message.finished = True
    frames: list[Frame] = []
    while sender.outbox.message is not None:
        sender.outbox.fill(idle=False)
        frames += parse_frames(sender.leave_raw(), masked=client)
    assert b"".join(frame.payload for frame in frames) == payload[:size] + b"behind"
    assert [frame.opcode for frame in frames] == [2] + [0] * (len(frames) - 1)
    assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert all(len(frame.payload) == 20_000 for frame in frames[:-1])


def test_frames_that_are_no_copies_are_not_held_up_by_the_mark_but_by_the_limit() -> None:
    sender = Sender(flow=LARGE)
    message = sender.begin()
    payload = bytes(1 << 20)
    message.append(payload)
    assert sender.outbox.fill(idle=False, taking=True, limit=400_000) == 400_000
    assert sender.connection.queue.size > 4 * LARGE.send_high_water
    buffers = sender.connection.queue.buffers()
    assert all(isinstance(each, memoryview) and each.obj is payload for each in buffers[1::2])


def test_no_frames_are_made_ahead_while_the_transport_takes_none() -> None:
    """They would keep their size, should the peer become slow."""
    sender = Sender(flow=LARGE)
    message = sender.begin()
    message.append(bytes(1 << 24))
    message.finished = True
    for _ in range(10):
        sender.outbox.fill(idle=False, limit=1 << 20)
    assert LARGE.send_high_water <= sender.connection.queue.size < LARGE.send_high_water + 20_000 + 14


def test_few_large_frames_are_made_ahead_even_while_the_transport_takes_them() -> None:
    sender = Sender(flow=LARGE)
    sender.outbox.frame_size = 1 << 20
    message = sender.begin()
    message.append(bytes(1 << 24))
    message.finished = True
    for _ in range(10):
        sender.outbox.fill(idle=False, taking=True, limit=1 << 22)
    assert sender.connection.queue.size == (1 << 20) + 10


@pytest.mark.parametrize("borrowed", [False, True], ids=["a client", "a buffer that may change"])
def test_frames_that_are_copies_stop_at_the_mark(borrowed: bool) -> None:
    sender = Sender(Connection(client=not borrowed), LARGE)
    message = sender.begin()
    message.append(memoryview(bytearray(1 << 20)) if borrowed else bytes(1 << 20))
    sender.outbox.fill(idle=False)
    assert sender.connection.queue.size < LARGE.send_high_water + 20_000 + 14
