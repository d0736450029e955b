"""The output queue: what leaves is whole frames in order, however little leaves at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.effort import examples

from wsstream.protocol.frame_queue import FrameQueue
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


def waiting(queue: FrameQueue) -> bytes:
    return b"".join(queue.buffers())


def leave(queue: FrameQueue, count: int) -> bytes:
    """Let `count` bytes leave, or what is offered if that is less."""
    data = waiting(queue)[:count]
    queue.advance(len(data))
    return data


def leave_all(queue: FrameQueue) -> bytes:
    data = b""
    while piece := waiting(queue):
        queue.advance(len(piece))
        data += piece
    return data


def test_nothing_waits_at_first() -> None:
    queue = FrameQueue()
    assert queue.buffers() == []
    assert (queue.size, queue.sent) == (0, 0)
    assert not queue.ping_waits
    assert not queue.pong_waits


def test_control_frames_go_before_data_and_close_goes_last() -> None:
    queue = FrameQueue()
    queue.put_data(binary(b"one"))
    queue.put_data(binary(b"two"))
    queue.put_ping(ping(b"ping"))
    queue.put_pong(pong(b"pong"))
    assert queue.put_close(CLOSE, urgent=False)
    expected = pong(b"pong") + ping(b"ping") + binary(b"one") + binary(b"two") + CLOSE
    assert waiting(queue) == expected
    assert queue.size == len(expected)
    assert leave_all(queue) == expected
    assert (queue.size, queue.sent) == (0, len(expected))
    assert queue.buffers() == []


def test_a_control_frame_waits_for_the_end_of_a_frame_that_has_begun_to_leave() -> None:
    queue = FrameQueue()
    queue.put_data(binary(b"one"))
    queue.put_data(binary(b"two"))
    assert leave(queue, 3) == binary(b"one")[:3]
    queue.put_pong(pong(b"p"))
    assert leave_all(queue) == binary(b"one")[3:] + pong(b"p") + binary(b"two")


def test_a_control_frame_waits_for_the_end_of_a_frame_in_parts() -> None:
    queue = FrameQueue()
    frame = binary(b"abcdef")
    queue.put_data(frame[:2], ends_frame=False)
    queue.put_data(frame[2:4], ends_frame=False)
    assert leave(queue, 2) == frame[:2]
    queue.put_ping(ping(b"p"))
    queue.put_pong(pong(b"p"))
    assert leave_all(queue) == frame[2:4]
    assert queue.size == len(ping(b"p") + pong(b"p"))
    assert queue.buffers() == []
    queue.put_data(frame[4:])
    queue.put_data(binary(b"next"))
    assert waiting(queue) == frame[4:], "the control frames are offered when the frame has ended"
    assert leave_all(queue) == frame[4:] + pong(b"p") + ping(b"p") + binary(b"next")


def test_a_control_frame_goes_before_a_frame_in_parts_that_has_not_begun_to_leave() -> None:
    queue = FrameQueue()
    queue.put_data(binary(b"ab")[:2], ends_frame=False)
    queue.put_ping(ping(b"p"))
    assert leave_all(queue) == ping(b"p") + binary(b"ab")[:2]


def test_it_is_ready_unless_only_control_frames_wait_after_an_incomplete_frame() -> None:
    queue = FrameQueue()
    assert not queue.ready
    for put in (
        lambda: queue.put_pong(pong()),
        lambda: queue.put_ping(ping()),
        lambda: queue.put_data(binary(b"ab")),
    ):
        put()
        assert queue.ready
        leave(queue, queue.size - 1)
        assert queue.ready, "a part of it"
        leave(queue, 1)
        assert not queue.ready
    queue.put_data(binary(b"ab")[:3], ends_frame=False)
    leave(queue, 3)
    queue.put_pong(pong())
    assert not queue.buffers()
    assert (queue.ready, queue.size, queue.sendable) == (False, len(pong()), 0)
    queue.put_data(binary(b"ab")[3:])
    assert (queue.ready, queue.sendable) == (True, queue.size)


def test_the_latest_16_pongs_are_kept() -> None:
    queue = FrameQueue()
    for number in range(1000):
        queue.put_pong(pong(b"%d" % number))
    expected = b"".join(pong(b"%d" % number) for number in range(984, 1000))
    assert queue.size == len(expected)
    assert leave_all(queue) == expected


def test_only_the_latest_pong_is_kept_while_the_transport_takes_nothing() -> None:
    queue = FrameQueue()
    for number in range(10):
        queue.put_pong(pong(b"%d" % number))
    queue.buffers()  # and nothing is taken
    for number in range(10, 1000):
        queue.put_pong(pong(b"%d" % number))
    assert queue.size == len(pong(b"999"))
    assert leave(queue, 1) == pong(b"999")[:1], "it takes again"
    queue.put_pong(pong(b"a"))
    queue.put_pong(pong(b"b"))
    assert leave_all(queue) == pong(b"999")[1:] + pong(b"a") + pong(b"b")


def test_an_empty_offer_drops_no_pongs() -> None:
    queue = FrameQueue()
    assert queue.buffers() == []
    queue.put_pong(pong(b"a"))
    queue.put_pong(pong(b"b"))
    assert leave_all(queue) == pong(b"a") + pong(b"b")


def test_a_pong_that_began_to_leave_is_not_replaced() -> None:
    queue = FrameQueue()
    queue.put_pong(pong(b"first"))
    assert queue.pong_waits
    start = leave(queue, 1)
    assert not queue.pong_waits
    queue.put_pong(pong(b"second"))
    assert start + leave_all(queue) == pong(b"first") + pong(b"second")


def test_only_the_latest_ping_is_kept() -> None:
    queue = FrameQueue()
    queue.put_ping(ping(b"first"))
    queue.put_ping(ping(b"2"))
    assert queue.ping_waits
    assert queue.size == len(ping(b"2"))
    assert leave_all(queue) == ping(b"2")
    assert not queue.ping_waits


def test_an_urgent_close_takes_the_place_of_the_data() -> None:
    queue = FrameQueue()
    queue.put_data(binary(b"one"))
    queue.put_data(binary(b"two"))
    queue.put_pong(pong(b"p"))
    queue.put_ping(ping(b"p"))
    assert queue.put_close(CLOSE, urgent=True)
    expected = pong(b"p") + ping(b"p") + CLOSE
    assert queue.size == len(expected)
    assert leave_all(queue) == expected
    assert queue.size == 0


def test_an_urgent_close_waits_for_the_rest_of_a_frame_that_began_to_leave() -> None:
    queue = FrameQueue()
    queue.put_data(binary(b"one"))
    queue.put_data(binary(b"two"))
    start = leave(queue, 1)
    assert queue.put_close(CLOSE, urgent=True)
    assert queue.size == len(binary(b"one")) - 1 + len(CLOSE)
    assert start + leave_all(queue) == binary(b"one") + CLOSE


@pytest.mark.parametrize("gone", range(1, 8))
def test_an_urgent_close_waits_for_the_queued_rest_of_a_frame_in_parts(gone: int) -> None:
    queue = FrameQueue()
    frame = binary(b"abcdef")
    queue.put_data(frame[:3], ends_frame=False)
    queue.put_data(frame[3:5], ends_frame=False)
    queue.put_data(frame[5:])
    queue.put_data(binary(b"two"))
    start = leave(queue, gone)
    queue.put_pong(pong())
    assert queue.put_close(CLOSE, urgent=True)
    assert queue.size == len(frame) - gone + len(pong() + CLOSE)
    assert start + leave_all(queue) == frame + pong() + CLOSE
    assert queue.size == 0


@pytest.mark.parametrize("gone", [1, 2, 3, 4])
def test_no_close_can_follow_a_frame_whose_end_will_never_come(gone: int) -> None:
    for urgent in (False, True):
        queue = FrameQueue()
        frame = binary(b"abcdef")
        queue.put_data(frame[:2], ends_frame=False)
        queue.put_data(frame[2:4], ends_frame=False)
        start = leave(queue, gone)
        assert not queue.put_close(CLOSE, urgent=urgent)
        assert frame.startswith(start + leave_all(queue))
        assert queue.size == 0


def test_close_after_an_incomplete_frame_is_refused() -> None:
    queue = FrameQueue()
    queue.put_data(binary(b"abcd")[:3], ends_frame=False)
    assert not queue.put_close(CLOSE, urgent=False)
    assert leave_all(queue) == binary(b"abcd")[:3]


def test_an_urgent_close_drops_a_frame_in_parts_that_has_not_begun_to_leave() -> None:
    queue = FrameQueue()
    queue.put_data(binary(b"abcd")[:3], ends_frame=False)
    assert queue.put_close(CLOSE, urgent=True)
    assert leave_all(queue) == CLOSE


def test_an_urgent_close_says_whether_it_cut_a_message() -> None:
    fragments = [binary(b"a", fin=False), continuation(b"b", fin=False), continuation(b"c")]
    whole = sum(map(len, fragments))
    for gone in range(whole + 1):
        queue = FrameQueue()
        for fragment in (*fragments, binary(b"next")):
            queue.put_data(fragment)
        start = leave(queue, gone)
        assert queue.put_close(CLOSE, urgent=True)
        frames = parse_frames(start + leave_all(queue))
        begun, ended = frames[0].opcode == 2, frames[-2:-1] != [] and frames[-2].fin
        assert queue.message_cut is (begun and not ended), gone


def test_an_urgent_close_that_cuts_a_frame_cuts_its_message() -> None:
    for gone, cut in ((0, False), (1, True), (3, True), (4, True)):
        queue = FrameQueue()
        queue.put_data(binary(b"abcd")[:3], ends_frame=False)
        queue.put_data(binary(b"abcd")[3:4], ends_frame=False)
        leave(queue, gone)
        queue.put_close(CLOSE, urgent=True)
        assert queue.message_cut is cut, gone


def test_small_frames_share_a_buffer_and_large_ones_are_not_copied() -> None:
    queue = FrameQueue()
    small = [binary(b"%d" % number) for number in range(3)]
    large = [binary(bytes(3000)), binary(bytes(70_000))]
    for frame in (*small, *large, *small):
        queue.put_data(frame)
    queue.put_close(CLOSE, urgent=False)
    buffers = queue.buffers()
    assert buffers == [b"".join(small), *large, b"".join(small) + CLOSE]
    assert all(buffer is frame for buffer, frame in zip(buffers[1:3], large, strict=True))


def test_no_more_than_64_buffers_are_offered_at_once() -> None:
    queue = FrameQueue()
    frames = [binary(b"%4000d" % number) for number in range(200)]
    for frame in frames:
        queue.put_data(frame)
    queue.put_pong(pong())
    queue.put_close(CLOSE, urgent=False)
    sizes = []
    data = b""
    while buffers := queue.buffers():
        sizes.append(len(buffers))
        data += leave(queue, len(b"".join(buffers)) - 1) + leave(queue, 1)
    assert max(sizes) == 64
    assert data == pong() + b"".join(frames) + CLOSE


def test_clearing_drops_what_waits_and_keeps_the_counts_of_what_has_left() -> None:
    queue = FrameQueue()
    queue.put_data(binary(b"one"))
    queue.put_ping(ping())
    gone = len(leave(queue, 3))
    queue.put_pong(pong())
    queue.put_close(CLOSE, urgent=False)
    queue.clear()
    assert queue.buffers() == []
    assert (queue.size, queue.sent) == (0, gone)
    assert not queue.pong_waits
    assert not queue.ping_waits


def test_data_that_will_never_leave_is_counted() -> None:
    queue = FrameQueue()
    queue.put_data(binary(b"one"))
    queue.put_data(binary(b"two"))
    queue.put_ping(ping())
    leave(queue, len(ping()) + 1)
    queue.put_close(CLOSE, urgent=True)
    assert queue.dropped == len(binary(b"two"))
    assert leave_all(queue) == binary(b"one")[1:] + CLOSE
    queue.clear()
    assert queue.dropped == len(binary(b"two"))
    queue = FrameQueue()
    queue.put_data(binary(b"one"))
    leave(queue, 1)
    queue.put_data(binary(b"two"))
    queue.batch.begin(0x82, b"three")
    queue.put_pong(pong())
    queue.clear()
    assert queue.dropped == len(binary(b"one") + binary(b"two") + binary(b"three")) - 1


def test_control_frames_that_will_never_leave_are_not_counted_as_data() -> None:
    queue = FrameQueue()
    queue.put_ping(ping(b"ping"))
    leave(queue, 1)
    queue.put_pong(pong())
    queue.put_data(binary(b"one"))
    queue.put_close(CLOSE, urgent=False)
    queue.clear()
    assert queue.dropped == len(binary(b"one"))


def test_pongs_and_pings_go_before_a_close_whenever_they_are_put() -> None:
    for urgent in (False, True):
        queue = FrameQueue()
        queue.put_close(CLOSE, urgent=urgent)
        queue.put_ping(ping(b"1"))
        queue.put_pong(pong(b"1"))
        queue.put_ping(ping(b"2"))
        queue.put_pong(pong(b"2"))
        assert leave_all(queue) == pong(b"1") + pong(b"2") + ping(b"2") + CLOSE


def test_more_cannot_leave_than_was_offered() -> None:
    queue = FrameQueue()
    queue.put_data(binary())
    with pytest.raises(AssertionError, match="more was sent than offered"):
        queue.advance(3)


# -- a batch -------------------------------------------------------------------------------------


def batch_of(queue: FrameQueue, *payloads: bytes) -> bytes:
    """Put messages into the batch; their frames."""
    queue.batch.sends_until_yield = 100
    queue.batch.begin(0x82, payloads[0])
    for payload in payloads[1:]:
        assert queue.batch.put(payload) is False
    return b"".join(map(binary, payloads))


def test_a_batch_waits_after_all_other_data_and_before_a_close() -> None:
    queue = FrameQueue()
    queue.put_data(binary(b"one"))
    frames = batch_of(queue, b"two", b"three")
    assert queue.ready
    assert queue.size == len(binary(b"one") + frames)
    queue.put_data(binary(b"four"))
    frames += binary(b"four") + batch_of(queue, b"five")
    queue.put_ping(ping())
    assert queue.put_close(CLOSE, urgent=False)
    assert leave_all(queue) == ping() + binary(b"one") + frames + CLOSE
    assert (queue.size, queue.ready) == (0, False)


def test_frames_of_a_header_and_a_payload_wait_after_a_batch_and_as_frames_of_their_own() -> None:
    queue = FrameQueue()
    queue.batch.begin(0x82, b"small")
    frames = [binary(b"x" * 1000), binary(b"y" * 2000)]
    queue.put_frames([frame[:4] for frame in frames], [memoryview(frame)[4:] for frame in frames])
    assert queue.size == 7 + 1004 + 2004
    assert leave(queue, 7 + 10) == binary(b"small") + frames[0][:10]
    queue.put_ping(ping(b"ping"))
    assert leave_all(queue) == frames[0][10:] + ping(b"ping") + frames[1]


def test_a_control_frame_waits_for_the_end_of_a_batch_that_has_begun_to_leave() -> None:
    queue = FrameQueue()
    frames = batch_of(queue, b"one", b"two")
    gone = leave(queue, 2)
    frames += batch_of(queue, b"three")
    queue.put_pong(pong())
    first = len(binary(b"one") + binary(b"two"))
    assert gone + leave_all(queue) == frames[:first] + pong() + frames[first:]


def test_an_urgent_close_takes_the_place_of_a_batch_or_follows_the_one_that_has_begun_to_leave() -> None:
    queue = FrameQueue()
    batch_of(queue, b"one", b"two")
    assert queue.put_close(CLOSE, urgent=True)
    assert leave_all(queue) == CLOSE
    queue = FrameQueue()
    frames = batch_of(queue, b"one", b"two")
    gone = leave(queue, 1)
    batch_of(queue, b"three")
    assert queue.put_close(CLOSE, urgent=True)
    assert gone + leave_all(queue) == frames + CLOSE
    assert not queue.message_cut


def test_nothing_is_put_into_a_batch_after_a_close_or_after_clearing() -> None:
    for end in (
        lambda queue: queue.put_close(CLOSE, urgent=False),
        lambda queue: queue.put_close(CLOSE, urgent=True),
        lambda queue: queue.clear(),
    ):
        queue = FrameQueue()
        batch_of(queue, b"one")
        end(queue)
        assert len(queue.batch) == 0
        queue.batch.begin(0x82, b"two")
        assert queue.batch.put(b"three") is None


def test_the_frames_of_a_client_are_masked_in_a_batch_too() -> None:
    queue = FrameQueue(lambda: EXAMPLE_KEY)
    batch_of(queue, b"one", b"two")
    masked = [Frame(2, payload, mask=EXAMPLE_KEY) for payload in (b"one", b"two")]
    assert parse_frames(leave_all(queue), masked=True) == masked


# -- anything put, in any order, leaving in any portions -------------------------------------------


@dataclass
class Run:
    """An `FrameQueue`, what was put into it and what has left it."""

    queue: FrameQueue = field(default_factory=FrameQueue)
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
            self.queue.put_data(part, ends_frame=not self.parts)

    def put_control(self, opcode: int) -> None:
        if not self.closed:
            payload = b"%d" % len(self.put_at)
            self.put_at[opcode, payload] = len(self.left)
            if opcode == 9:
                self.queue.put_ping(ping(payload))
            else:
                self.queue.put_pong(pong(payload))

    def put_close(self, kind: str) -> None:
        if not self.closed:
            unfinished, begun = bool(self.parts), self.inside_the_last_frame()
            self.closed = kind
            self.close_accepted = self.queue.put_close(CLOSE, urgent=kind == "urgent")
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
        before = self.queue.size
        data = leave(self.queue, count)
        self.left += data
        assert self.queue.size == before - len(data)
        assert self.queue.sent == len(self.left)


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
    while result.queue.buffers():
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
@settings(max_examples=examples(150))
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
    assert result.queue.size == 0


@given(STEP_LISTS, PORTIONS)
@settings(max_examples=examples(150))
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
    assert result.queue.size == 0


@given(STEP_LISTS, st.sampled_from(["behind", "urgent"]), PORTIONS)
@settings(max_examples=examples(150))
def test_a_close_that_cannot_leave_is_refused_and_never_offered(
    steps: list, close_kind: str, portions: list[int]
) -> None:
    result = run(steps, close_kind, portions, finish=False)
    if result.close_accepted:
        assert parse_frames(bytes(result.left))[-1].opcode == 8
    else:
        assert not result.left.endswith(CLOSE)


def test_what_has_not_left_can_be_copied_from_buffers_that_will_change() -> None:
    queue = FrameQueue()
    queue.copy_rest()
    buffer = bytearray(b"0123456789")
    queue.put_data(b"\x82\x0a", ends_frame=False)
    queue.put_data(memoryview(buffer))
    queue.put_data(b"\x82\x01", ends_frame=False)
    queue.copy_rest()
    queue.put_data(memoryview(buffer)[:1])
    queue.advance(5)
    queue.copy_rest()
    buffer[:] = bytes(10)
    assert b"".join(queue.buffers()) == b"3456789\x82\x010"
