"""The output queue: what leaves is whole frames in order, however little leaves at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstream.protocol.outgoing import Outgoing
from wsstream.testing import (
    EXAMPLE_KEY,
    Frame,
    binary,
    close,
    continuation,
    next_frame,
    parse_frames,
    ping,
    pong,
)

CLOSE = close(1000)


def waiting(outgoing: Outgoing) -> bytes:
    return b"".join(outgoing.buffers())


def leave(outgoing: Outgoing, count: int) -> bytes:
    """Let `count` bytes leave, or what is offered if that is less."""
    data = waiting(outgoing)[:count]
    outgoing.advance(len(data))
    return data


def leave_all(outgoing: Outgoing) -> bytes:
    data = b""
    while piece := waiting(outgoing):
        outgoing.advance(len(piece))
        data += piece
    return data


def test_nothing_waits_at_first() -> None:
    outgoing = Outgoing()
    assert outgoing.buffers() == []
    assert (outgoing.size, outgoing.sent) == (0, 0)
    assert not outgoing.ping_waits
    assert not outgoing.pong_waits


def test_control_frames_go_before_data_and_close_goes_last() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary(b"one"))
    outgoing.put_data(binary(b"two"))
    outgoing.put_ping(ping(b"ping"))
    outgoing.put_pong(pong(b"pong"))
    assert outgoing.put_close(CLOSE, urgent=False)
    expected = pong(b"pong") + ping(b"ping") + binary(b"one") + binary(b"two") + CLOSE
    assert waiting(outgoing) == expected
    assert outgoing.size == len(expected)
    assert leave_all(outgoing) == expected
    assert (outgoing.size, outgoing.sent) == (0, len(expected))
    assert outgoing.buffers() == []


def test_a_control_frame_waits_for_the_end_of_a_frame_that_has_begun_to_leave() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary(b"one"))
    outgoing.put_data(binary(b"two"))
    assert leave(outgoing, 3) == binary(b"one")[:3]
    outgoing.put_pong(pong(b"p"))
    assert leave_all(outgoing) == binary(b"one")[3:] + pong(b"p") + binary(b"two")


def test_a_control_frame_waits_for_the_end_of_a_frame_in_parts() -> None:
    outgoing = Outgoing()
    frame = binary(b"abcdef")
    outgoing.put_data(frame[:2], ends_frame=False)
    outgoing.put_data(frame[2:4], ends_frame=False)
    assert leave(outgoing, 2) == frame[:2]
    outgoing.put_ping(ping(b"p"))
    outgoing.put_pong(pong(b"p"))
    assert leave_all(outgoing) == frame[2:4]
    assert outgoing.size == len(ping(b"p") + pong(b"p"))
    assert outgoing.buffers() == []
    outgoing.put_data(frame[4:])
    outgoing.put_data(binary(b"next"))
    assert waiting(outgoing) == frame[4:], "the control frames are offered when the frame has ended"
    assert leave_all(outgoing) == frame[4:] + pong(b"p") + ping(b"p") + binary(b"next")


def test_a_control_frame_goes_before_a_frame_in_parts_that_has_not_begun_to_leave() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary(b"ab")[:2], ends_frame=False)
    outgoing.put_ping(ping(b"p"))
    assert leave_all(outgoing) == ping(b"p") + binary(b"ab")[:2]


def test_it_is_ready_unless_all_that_waits_is_behind_an_incomplete_frame() -> None:
    outgoing = Outgoing()
    assert not outgoing.ready
    for put in (
        lambda: outgoing.put_pong(pong()),
        lambda: outgoing.put_ping(ping()),
        lambda: outgoing.put_data(binary(b"ab")),
    ):
        put()
        assert outgoing.ready
        leave(outgoing, outgoing.size - 1)
        assert outgoing.ready, "a part of it"
        leave(outgoing, 1)
        assert not outgoing.ready
    outgoing.put_data(binary(b"ab")[:3], ends_frame=False)
    leave(outgoing, 3)
    outgoing.put_pong(pong())
    assert not outgoing.buffers()
    assert (outgoing.ready, outgoing.size, outgoing.sendable) == (False, len(pong()), 0)
    outgoing.put_data(binary(b"ab")[3:])
    assert (outgoing.ready, outgoing.sendable) == (True, outgoing.size)


def test_the_latest_16_pongs_are_kept() -> None:
    outgoing = Outgoing()
    for number in range(1000):
        outgoing.put_pong(pong(b"%d" % number))
    expected = b"".join(pong(b"%d" % number) for number in range(984, 1000))
    assert outgoing.size == len(expected)
    assert leave_all(outgoing) == expected


def test_only_the_latest_pong_is_kept_while_the_transport_takes_nothing() -> None:
    outgoing = Outgoing()
    for number in range(10):
        outgoing.put_pong(pong(b"%d" % number))
    outgoing.buffers()  # and nothing is taken
    for number in range(10, 1000):
        outgoing.put_pong(pong(b"%d" % number))
    assert outgoing.size == len(pong(b"999"))
    assert leave(outgoing, 1) == pong(b"999")[:1], "it takes again"
    outgoing.put_pong(pong(b"a"))
    outgoing.put_pong(pong(b"b"))
    assert leave_all(outgoing) == pong(b"999")[1:] + pong(b"a") + pong(b"b")


def test_to_ask_when_nothing_waits_is_no_offer() -> None:
    outgoing = Outgoing()
    assert outgoing.buffers() == []
    outgoing.put_pong(pong(b"a"))
    outgoing.put_pong(pong(b"b"))
    assert leave_all(outgoing) == pong(b"a") + pong(b"b")


def test_a_pong_that_began_to_leave_is_not_replaced() -> None:
    outgoing = Outgoing()
    outgoing.put_pong(pong(b"first"))
    assert outgoing.pong_waits
    start = leave(outgoing, 1)
    assert not outgoing.pong_waits
    outgoing.put_pong(pong(b"second"))
    assert start + leave_all(outgoing) == pong(b"first") + pong(b"second")


def test_only_the_latest_ping_is_kept() -> None:
    outgoing = Outgoing()
    outgoing.put_ping(ping(b"first"))
    outgoing.put_ping(ping(b"2"))
    assert outgoing.ping_waits
    assert outgoing.size == len(ping(b"2"))
    assert leave_all(outgoing) == ping(b"2")
    assert not outgoing.ping_waits


def test_an_urgent_close_takes_the_place_of_the_data() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary(b"one"))
    outgoing.put_data(binary(b"two"))
    outgoing.put_pong(pong(b"p"))
    outgoing.put_ping(ping(b"p"))
    assert outgoing.put_close(CLOSE, urgent=True)
    expected = pong(b"p") + ping(b"p") + CLOSE
    assert outgoing.size == len(expected)
    assert leave_all(outgoing) == expected
    assert outgoing.size == 0


def test_an_urgent_close_waits_for_the_rest_of_a_frame_that_began_to_leave() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary(b"one"))
    outgoing.put_data(binary(b"two"))
    start = leave(outgoing, 1)
    assert outgoing.put_close(CLOSE, urgent=True)
    assert outgoing.size == len(binary(b"one")) - 1 + len(CLOSE)
    assert start + leave_all(outgoing) == binary(b"one") + CLOSE


@pytest.mark.parametrize("gone", range(1, 8))
def test_an_urgent_close_waits_for_the_parts_of_a_frame_that_are_there(gone: int) -> None:
    outgoing = Outgoing()
    frame = binary(b"abcdef")
    outgoing.put_data(frame[:3], ends_frame=False)
    outgoing.put_data(frame[3:5], ends_frame=False)
    outgoing.put_data(frame[5:])
    outgoing.put_data(binary(b"two"))
    start = leave(outgoing, gone)
    outgoing.put_pong(pong())
    assert outgoing.put_close(CLOSE, urgent=True)
    assert outgoing.size == len(frame) - gone + len(pong() + CLOSE)
    assert start + leave_all(outgoing) == frame + pong() + CLOSE
    assert outgoing.size == 0


@pytest.mark.parametrize("gone", [1, 2, 3, 4])
def test_no_close_can_follow_a_frame_whose_end_will_never_come(gone: int) -> None:
    for urgent in (False, True):
        outgoing = Outgoing()
        frame = binary(b"abcdef")
        outgoing.put_data(frame[:2], ends_frame=False)
        outgoing.put_data(frame[2:4], ends_frame=False)
        start = leave(outgoing, gone)
        assert not outgoing.put_close(CLOSE, urgent=urgent)
        assert frame.startswith(start + leave_all(outgoing))
        assert outgoing.size == 0


def test_close_behind_a_frame_whose_end_is_not_there_is_refused() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary(b"abcd")[:3], ends_frame=False)
    assert not outgoing.put_close(CLOSE, urgent=False)
    assert leave_all(outgoing) == binary(b"abcd")[:3]


def test_an_urgent_close_drops_a_frame_in_parts_that_has_not_begun_to_leave() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary(b"abcd")[:3], ends_frame=False)
    assert outgoing.put_close(CLOSE, urgent=True)
    assert leave_all(outgoing) == CLOSE


def test_an_urgent_close_tells_whether_it_cut_a_message() -> None:
    fragments = [binary(b"a", fin=False), continuation(b"b", fin=False), continuation(b"c")]
    whole = sum(map(len, fragments))
    for gone in range(whole + 1):
        outgoing = Outgoing()
        for fragment in (*fragments, binary(b"next")):
            outgoing.put_data(fragment)
        start = leave(outgoing, gone)
        assert outgoing.put_close(CLOSE, urgent=True)
        frames = parse_frames(start + leave_all(outgoing))
        begun, ended = frames[0].opcode == 2, frames[-2:-1] != [] and frames[-2].fin
        assert outgoing.message_cut is (begun and not ended), gone


def test_an_urgent_close_that_cuts_a_frame_cuts_its_message() -> None:
    for gone, cut in ((0, False), (1, True), (3, True), (4, True)):
        outgoing = Outgoing()
        outgoing.put_data(binary(b"abcd")[:3], ends_frame=False)
        outgoing.put_data(binary(b"abcd")[3:4], ends_frame=False)
        leave(outgoing, gone)
        outgoing.put_close(CLOSE, urgent=True)
        assert outgoing.message_cut is cut, gone


def test_small_frames_share_a_buffer_and_large_ones_are_not_copied() -> None:
    outgoing = Outgoing()
    small = [binary(b"%d" % number) for number in range(3)]
    large = [binary(bytes(3000)), binary(bytes(70_000))]
    for frame in (*small, *large, *small):
        outgoing.put_data(frame)
    outgoing.put_close(CLOSE, urgent=False)
    buffers = outgoing.buffers()
    assert buffers == [b"".join(small), *large, b"".join(small) + CLOSE]
    assert all(buffer is frame for buffer, frame in zip(buffers[1:3], large, strict=True))


def test_no_more_than_64_buffers_are_offered_at_once() -> None:
    outgoing = Outgoing()
    frames = [binary(b"%4000d" % number) for number in range(200)]
    for frame in frames:
        outgoing.put_data(frame)
    outgoing.put_pong(pong())
    outgoing.put_close(CLOSE, urgent=False)
    sizes = []
    data = b""
    while buffers := outgoing.buffers():
        sizes.append(len(buffers))
        data += leave(outgoing, len(b"".join(buffers)) - 1) + leave(outgoing, 1)
    assert max(sizes) == 64
    assert data == pong() + b"".join(frames) + CLOSE


def test_clearing_drops_what_waits_and_keeps_the_counts_of_what_has_left() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary(b"one"))
    outgoing.put_ping(ping())
    gone = len(leave(outgoing, 3))
    outgoing.put_pong(pong())
    outgoing.put_close(CLOSE, urgent=False)
    outgoing.clear()
    assert outgoing.buffers() == []
    assert (outgoing.size, outgoing.sent) == (0, gone)
    assert not outgoing.pong_waits
    assert not outgoing.ping_waits


def test_data_that_will_never_leave_is_counted() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary(b"one"))
    outgoing.put_data(binary(b"two"))
    outgoing.put_ping(ping())
    leave(outgoing, len(ping()) + 1)
    outgoing.put_close(CLOSE, urgent=True)
    assert outgoing.dropped == len(binary(b"two"))
    assert leave_all(outgoing) == binary(b"one")[1:] + CLOSE
    outgoing.clear()
    assert outgoing.dropped == len(binary(b"two"))
    outgoing = Outgoing()
    outgoing.put_data(binary(b"one"))
    leave(outgoing, 1)
    outgoing.put_data(binary(b"two"))
    outgoing.burst.begin(0x82, b"three")
    outgoing.put_pong(pong())
    outgoing.clear()
    assert outgoing.dropped == len(binary(b"one") + binary(b"two") + binary(b"three")) - 1


def test_more_cannot_leave_than_was_offered() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary())
    with pytest.raises(AssertionError, match="more was sent than offered"):
        outgoing.advance(3)


# -- a burst -------------------------------------------------------------------------------------


def burst_of(outgoing: Outgoing, *payloads: bytes) -> bytes:
    """Put messages into the burst; their frames."""
    outgoing.burst.left = 100
    outgoing.burst.begin(0x82, payloads[0])
    for payload in payloads[1:]:
        assert outgoing.burst.put(payload) is False
    return b"".join(map(binary, payloads))


def test_a_burst_waits_behind_all_other_data_and_before_a_close() -> None:
    outgoing = Outgoing()
    outgoing.put_data(binary(b"one"))
    frames = burst_of(outgoing, b"two", b"three")
    assert outgoing.ready
    assert outgoing.size == len(binary(b"one") + frames)
    outgoing.put_data(binary(b"four"))
    frames += binary(b"four") + burst_of(outgoing, b"five")
    outgoing.put_ping(ping())
    assert outgoing.put_close(CLOSE, urgent=False)
    assert leave_all(outgoing) == ping() + binary(b"one") + frames + CLOSE
    assert (outgoing.size, outgoing.ready) == (0, False)


def test_a_control_frame_waits_for_the_end_of_a_burst_that_has_begun_to_leave() -> None:
    outgoing = Outgoing()
    frames = burst_of(outgoing, b"one", b"two")
    gone = leave(outgoing, 2)
    frames += burst_of(outgoing, b"three")
    outgoing.put_pong(pong())
    first = len(binary(b"one") + binary(b"two"))
    assert gone + leave_all(outgoing) == frames[:first] + pong() + frames[first:]


def test_an_urgent_close_takes_the_place_of_a_burst_or_follows_the_one_that_has_begun_to_leave() -> None:
    outgoing = Outgoing()
    burst_of(outgoing, b"one", b"two")
    assert outgoing.put_close(CLOSE, urgent=True)
    assert leave_all(outgoing) == CLOSE
    outgoing = Outgoing()
    frames = burst_of(outgoing, b"one", b"two")
    gone = leave(outgoing, 1)
    burst_of(outgoing, b"three")
    assert outgoing.put_close(CLOSE, urgent=True)
    assert gone + leave_all(outgoing) == frames + CLOSE
    assert not outgoing.message_cut


def test_nothing_is_put_into_a_burst_behind_a_close_nor_when_all_was_dropped() -> None:
    for end in (
        lambda outgoing: outgoing.put_close(CLOSE, urgent=False),
        lambda outgoing: outgoing.put_close(CLOSE, urgent=True),
        lambda outgoing: outgoing.clear(),
    ):
        outgoing = Outgoing()
        burst_of(outgoing, b"one")
        end(outgoing)
        assert len(outgoing.burst) == 0
        outgoing.burst.begin(0x82, b"two")
        assert outgoing.burst.put(b"three") is None


def test_the_frames_of_a_client_are_masked_in_a_burst_too() -> None:
    outgoing = Outgoing(lambda: EXAMPLE_KEY)
    burst_of(outgoing, b"one", b"two")
    masked = [Frame(2, payload, mask=EXAMPLE_KEY) for payload in (b"one", b"two")]
    assert parse_frames(leave_all(outgoing), masked=True) == masked


# -- anything put, in any order, leaving in any portions -------------------------------------------


@dataclass
class Run:
    """An `Outgoing`, what was put into it and what has left it."""

    outgoing: Outgoing = field(default_factory=Outgoing)
    left: bytearray = field(default_factory=bytearray)
    data: list[bytes] = field(default_factory=list)  # payloads of the data frames, in order
    parts: list[bytes] = field(default_factory=list)  # what is to be put of the last one
    put_at: dict[tuple[int, bytes], int] = field(default_factory=dict)  # control frame: bytes left then
    closed: str | None = None
    close_accepted: bool = False

    def put_frame(self, sizes: list[int]) -> None:
        """Put a data frame in as many parts as there are `sizes`, of which the others come later."""
        if self.parts:
            self.put_part()
        elif not self.closed:
            payload = b"%d." % len(self.data) + bytes(sum(sizes))
            self.data.append(payload)
            frame, ends = binary(payload), [sum(sizes[: i + 1]) for i in range(len(sizes))]
            cuts = [0, *(min(1 + end, len(frame) - 1) for end in ends[:-1]), len(frame)]
            parts = [frame[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]  # noqa: RUF007 - clearer
            self.parts = [part for part in parts if part]
            self.put_part()

    def put_part(self) -> None:
        if not self.closed:
            part = self.parts.pop(0)
            self.outgoing.put_data(part, ends_frame=not self.parts)

    def put_control(self, opcode: int) -> None:
        if not self.closed:
            payload = b"%d" % len(self.put_at)
            self.put_at[opcode, payload] = len(self.left)
            if opcode == 9:
                self.outgoing.put_ping(ping(payload))
            else:
                self.outgoing.put_pong(pong(payload))

    def put_close(self, kind: str) -> None:
        if not self.closed:
            unfinished, begun = bool(self.parts), self.inside_the_last_frame()
            self.closed = kind
            self.close_accepted = self.outgoing.put_close(CLOSE, urgent=kind == "urgent")
            assert self.close_accepted is not (unfinished and (begun or kind == "behind"))
            self.parts = []

    def inside_the_last_frame(self) -> bool:
        """Whether the bytes that have left end inside the data frame that was put last."""
        position = finished = 0
        while found := next_frame(self.left, position):
            position = found[1]
            finished += found[0].opcode == 2
        rest = self.left[position:]
        return rest.startswith(b"\x82") and finished == len(self.data) - 1

    def advance(self, count: int) -> None:
        before = self.outgoing.size
        data = leave(self.outgoing, count)
        self.left += data
        assert self.outgoing.size == before - len(data)
        assert self.outgoing.sent == len(self.left)


STEPS = st.one_of(
    st.tuples(st.just("frame"), st.lists(st.integers(0, 6), min_size=1, max_size=4)),
    st.tuples(st.just("control"), st.sampled_from([9, 10])),
    st.tuples(st.just("advance"), st.integers(0, 30)),
    st.tuples(st.just("advance"), st.integers(1, 3)),
)
STEP_LISTS = st.lists(STEPS, max_size=25)


def run(steps: list, close_kind: str | None, portions: list[int], *, finish: bool) -> Run:
    result = Run()
    for step, argument in steps:
        getattr(result, {"frame": "put_frame", "control": "put_control", "advance": "advance"}[step])(
            argument
        )
    while finish and result.parts:
        result.put_part()
    if close_kind is not None:
        result.put_close(close_kind)
    index = 0
    while result.outgoing.buffers():
        result.advance(portions[index % len(portions)])
        index += 1
    return result


PORTIONS = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def check_control(result: Run, frames: list[Frame]) -> None:
    """Control frames left in the order they were put, the latest of each kind, and before any other data."""
    for opcode in (9, 10):
        put = [payload for kind, payload in result.put_at if kind == opcode]
        seen = [frame.payload for frame in frames if frame.opcode == opcode]
        assert seen == [payload for payload in put if payload in seen]
        assert seen[-1:] == put[-1:]
    starts, position = [], 0
    while position < len(result.left):
        found = next_frame(result.left, position)
        assert found is not None
        starts.append((position, found[0]))
        position = found[1]
    for start, frame in starts:
        if frame.opcode in (9, 10):
            put_at = result.put_at[frame.opcode, frame.payload]
            between = [f for at, f in starts if put_at <= at < start and f.opcode < 8]
            assert between == [], "a data frame began although a control frame was waiting"


@given(STEP_LISTS, st.sampled_from([None, "behind"]), PORTIONS)
@settings(max_examples=150)
def test_all_data_leaves_in_order_with_control_frames_at_the_borders(
    steps: list, close_kind: str | None, portions: list[int]
) -> None:
    result = run(steps, close_kind, portions, finish=True)
    frames = parse_frames(bytes(result.left))
    assert [frame.payload for frame in frames if frame.opcode == 2] == result.data
    assert [frame.opcode for frame in frames].count(8) == (close_kind is not None)
    if close_kind is not None:
        assert frames[-1].opcode == 8
    check_control(result, frames)
    assert result.outgoing.size == 0


@given(STEP_LISTS, PORTIONS)
@settings(max_examples=150)
def test_an_urgent_close_leaves_whole_frames_and_no_frame_that_had_not_begun(
    steps: list, portions: list[int]
) -> None:
    before = Run()
    for step, argument in steps:
        getattr(before, {"frame": "put_frame", "control": "put_control", "advance": "advance"}[step])(
            argument
        )
    while before.parts:
        before.put_part()
    gone = len(before.left)
    result = run(steps, "urgent", portions, finish=True)
    frames = parse_frames(bytes(result.left))
    payloads = [frame.payload for frame in frames if frame.opcode == 2]
    assert payloads == result.data[: len(payloads)]
    assert frames[-1].opcode == 8
    position = 0
    for frame in frames:
        end = next_frame(result.left, position)
        assert end is not None
        assert frame.opcode != 2 or position < gone, "a frame began to leave after an urgent Close"
        position = end[1]
    check_control(result, frames)
    assert result.outgoing.size == 0


@given(STEP_LISTS, st.sampled_from(["behind", "urgent"]), PORTIONS)
@settings(max_examples=150)
def test_a_close_that_cannot_leave_is_refused_and_never_offered(
    steps: list, close_kind: str, portions: list[int]
) -> None:
    result = run(steps, close_kind, portions, finish=False)
    if result.close_accepted:
        assert parse_frames(bytes(result.left))[-1].opcode == 8
    else:
        assert not result.left.endswith(CLOSE)
