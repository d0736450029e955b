"""One step of reading: both versions put the same messages into the queue and leave the same bytes."""

from __future__ import annotations

import gc
import socket
import struct
import weakref
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.codec import VERSIONS, Version, needs_compiled
from kit.effort import examples

from wsstream.codec.decoder import Decoder
from wsstream.codec.events import Chunk, Event, Violation
from wsstream.codec.read_step import LEAST_READ, MAX_EVENTS
from wsstream.codec.unread import CLOSED_FOR_RECEIVER
from wsstream.testing import EXAMPLE_KEY, frame

SIZE = 8192


class Owner:
    """Decodes what the step leaves, as the driver does, and writes down what it was told."""

    def __init__(self, version: Version, masked: bool = True, high_water: int = 1 << 20) -> None:
        self.queue = version.UnreadQueue()
        self.batch = version.FrameBatch()
        self.batch.loop_clock = lambda: 5.0
        self.arriving: list[bytes | BaseException | None] = []
        self.asked: list[int] = []
        self.left: list[bytes] = []
        self.told: list[object] = []
        self.decoder = Decoder(masked=masked)
        self.violation: Violation | None = None
        self.step: Any = version.ReadStep(
            self.queue,
            self.batch,
            masked,
            False,
            lambda buffer, size: self.receive_into(buffer, size),
            memoryview(bytearray(SIZE)),
        )
        self.step.high_water = high_water
        self.step.owner = self
        self.step.open = True
        self.step.otherwise = lambda: self.told.append("otherwise")

    def receive_into(self, buffer: memoryview, size: int) -> int | None:
        self.asked.append(size)
        data = self.arriving.pop(0) if self.arriving else None
        if data is None or isinstance(data, BaseException):
            if data is not None:
                raise data
            return None
        if len(data) > size:
            self.arriving.insert(0, data[size:])
        count = min(size, len(data))
        buffer[:count] = data[:count]
        return count

    def take_rest(self, data: memoryview) -> None:
        self.left.append(bytes(data))
        while data and not self.decoder.finished:
            events = self.decoder.decode(data, 1 << 20)
            data = data[self.decoder.consumed :]
            items = [event for event in events if isinstance(event, str | bytes | Chunk)]
            self.queue.extend(items, self.decoder.cost)
            self.violation = next((event for event in events if isinstance(event, Violation)), self.violation)
        self.step.open = not (
            self.decoder.inside_message or self.decoder.inside_frame or self.decoder.finished
        )

    def end_of_stream(self) -> None:
        self.told.append("end")

    def wake_receiver(self) -> None:
        self.told.append("wake")

    def step_failed(self, error: Exception) -> None:
        self.told.append(error)


@pytest.fixture
def owner(version: Version) -> Owner:
    return Owner(version)


def masked(*payloads: bytes | str) -> bytes:
    return b"".join(
        frame(1, payload.encode(), mask=EXAMPLE_KEY)
        if isinstance(payload, str)
        else frame(2, payload, mask=EXAMPLE_KEY)
        for payload in payloads
    )


def test_messages_go_straight_to_the_queue(owner: Owner) -> None:
    owner.arriving = [masked("é", b"\xff\x00", "", b"a" * 300)]
    assert owner.step.take() is True
    assert [*owner.queue] == ["é", b"\xff\x00", "", b"a" * 300]
    assert owner.queue.cost == 2 + 2 + 0 + 300 + 4 * 64
    assert owner.left == []
    assert owner.step.bytes_received == len(masked("é", b"\xff\x00", "", b"a" * 300))
    assert owner.step.received_at == 5.0
    assert owner.batch.answers is True
    assert owner.step.drained is True


def test_nothing_has_arrived(owner: Owner) -> None:
    owner.arriving = [None, BlockingIOError()]
    assert owner.step.take() is False
    assert owner.step.take() is False
    assert owner.step.drained is True
    assert owner.step.received_at == -inf
    assert owner.batch.answers is False
    assert owner.told == []


def test_a_read_that_was_filled_has_not_drained_the_source(owner: Owner) -> None:
    owner.step.density = 1.0
    owner.arriving = [masked(b"a" * (SIZE - 8), b"b")]
    assert owner.step.take() is True
    assert owner.asked == [SIZE]
    assert owner.step.drained is False


def test_the_end_of_the_stream_is_the_owners(owner: Owner) -> None:
    owner.arriving = [b""]
    assert owner.step.take() is True
    assert owner.told == ["end"]


@pytest.mark.parametrize(
    "rest",
    [
        frame(9, b"ping", mask=EXAMPLE_KEY) + masked("later"),
        frame(2, b"part", fin=False, mask=EXAMPLE_KEY) + masked("later"),
        masked(b"cut in two")[:-1],
        masked(b"")[:1],
        frame(2, b"unmasked") + masked("later"),
        frame(1, b"\xff", mask=EXAMPLE_KEY) + masked("later"),
        frame(8, b"", mask=EXAMPLE_KEY) + masked("later"),
    ],
    ids=["ping", "fragment", "incomplete", "one byte", "unmasked", "not UTF-8", "close"],
)
def test_what_is_not_plain_is_the_owners_with_all_that_follows(owner: Owner, rest: bytes) -> None:
    owner.arriving = [masked("first") + rest]
    owner.step.take()
    assert owner.queue.front() == "first"
    assert owner.left == [rest]


def test_while_it_is_not_open_all_bytes_are_the_owners(owner: Owner) -> None:
    owner.step.open = False
    owner.arriving = [masked("a")]
    assert owner.step.take() is True
    assert owner.left == [masked("a")]


def test_at_the_high_water_mark_the_owner_is_told(version: Version) -> None:
    owner = Owner(version, high_water=2 * 65)
    owner.arriving = [masked("a")]
    owner.step.take()
    assert owner.left == []
    owner.arriving = [masked("b", "c")]
    owner.step.take()
    assert [*owner.queue][:2] == ["a", "b"]
    assert owner.left == [masked("c")]  # the cost of "b" has reached the mark


def test_a_step_that_reaches_the_mark_with_its_last_byte_tells_the_owner(version: Version) -> None:
    owner = Owner(version, high_water=65)
    owner.arriving = [masked("a")]
    owner.step.take()
    assert owner.left == [b""]


def test_a_flood_of_tiny_messages_ends_the_step(owner: Owner) -> None:
    owner.step.density = 1.0
    owner.arriving = [masked("") * (MAX_EVENTS + 10)]
    owner.step.take()
    assert owner.left == [masked("") * 10]


# -- the beginning of a message is kept for the next read ------------------------------------------------

WHOLE = masked(b"x" * 3000)


@pytest.fixture
def keeper(owner: Owner) -> Owner:
    owner.step.keeps = True
    owner.step.density = 1.0
    return owner


def test_the_beginning_of_a_binary_message_waits_for_the_rest(keeper: Owner) -> None:
    keeper.arriving = [masked("a") + WHOLE[:2000], WHOLE[2000:] + masked("b") + WHOLE[:8], WHOLE[8:]]
    keeper.step.take()
    assert [*keeper.queue] == ["a"]
    keeper.step.take()
    assert [*keeper.queue] == ["a", b"x" * 3000, "b"]
    keeper.step.take()
    assert [*keeper.queue] == ["a", b"x" * 3000, "b", b"x" * 3000]
    assert keeper.left == []
    assert keeper.step.bytes_received == 2 * len(WHOLE) + 2 * len(masked("a"))
    assert keeper.queue.cost == 2 * (3064 + 65)


@pytest.mark.parametrize(
    "beginning",
    [
        masked("text" * 100)[:-1],
        frame(2, b"part", fin=False, mask=EXAMPLE_KEY)[:-1],
        frame(0, b"part", mask=EXAMPLE_KEY)[:-1],
        b"\xc2" + WHOLE[1:-1],
        frame(2, b"not masked")[:-1],
        frame(9, b"ping", mask=EXAMPLE_KEY)[:-1],
        WHOLE[:1],
        WHOLE[:7],
        frame(2, bytes(SIZE - 13), mask=EXAMPLE_KEY)[:1000],
        frame(2, b"", declared_length=1 << 63, mask=EXAMPLE_KEY),
        b"\x82\xfe\x00\x7d" + EXAMPLE_KEY,
    ],
    ids=[
        "text, whose violations are found at once",
        "fragment",
        "last fragment",
        "compressed",
        "not masked",
        "ping",
        "one byte",
        "incomplete header",
        "larger than a read",
        "length against a rule",
        "length not in its shortest form",
    ],
)
def test_nothing_else_is_kept(keeper: Owner, beginning: bytes) -> None:
    keeper.arriving = [masked("a") + beginning]
    keeper.step.take()
    assert keeper.left == [beginning]
    assert keeper.step.release() == b""


@pytest.mark.parametrize("what", ["keeps", "open", "limit", "high_water"])
def test_it_is_kept_only_while_the_message_can_be_taken_whole(keeper: Owner, what: str) -> None:
    if what == "limit":
        keeper.queue.limit = 2999
    else:
        setattr(keeper.step, what, {"keeps": False, "open": False, "high_water": 2999}[what])
    keeper.arriving = [WHOLE[:2000]]
    keeper.step.take()
    assert keeper.left == [WHOLE[:2000]]
    assert keeper.step.release() == b""


def test_the_largest_message_is_kept_to_its_last_byte(keeper: Owner) -> None:
    largest = frame(2, bytes(SIZE - 14), mask=EXAMPLE_KEY)
    keeper.arriving = [largest[:-1], largest[-1:]]
    keeper.step.take()
    keeper.step.take()
    assert keeper.asked == [SIZE, SIZE - len(largest) + 1]
    assert [*keeper.queue] == [bytes(SIZE - 14)]


def test_bytes_that_drip_in_are_kept_only_as_long_as_they_grow_by_half(keeper: Owner) -> None:
    keeper.arriving = [WHOLE[:500], WHOLE[500:750], WHOLE[750:1124]]
    for _ in range(3):
        keeper.step.take()
    assert keeper.left == [WHOLE[:1124]]


def test_what_is_kept_is_released_once(keeper: Owner) -> None:
    keeper.arriving = [WHOLE[:500], masked("a")]
    keeper.step.take()
    assert keeper.step.release() == WHOLE[:500]
    assert keeper.step.release() == b""
    keeper.step.take()
    assert [*keeper.queue] == ["a"]


def test_what_is_kept_outlives_a_read_that_brings_nothing(keeper: Owner) -> None:
    keeper.arriving = [WHOLE[:500], None, ConnectionResetError(), b""]
    assert keeper.step.take() is True
    assert keeper.step.take() is False
    with pytest.raises(ConnectionResetError):
        keeper.step.take()
    assert keeper.step.take() is True
    assert keeper.told == ["end"]
    assert keeper.step.release() == WHOLE[:500]


def test_what_is_kept_is_the_owners_once_the_step_is_not_open(keeper: Owner) -> None:
    keeper.arriving = [WHOLE[:500], WHOLE[500:]]
    keeper.step.take()
    keeper.step.open = False
    keeper.step.take()
    assert keeper.left == [WHOLE]


def test_nobody_is_woken_for_a_beginning(keeper: Owner) -> None:
    keeper.queue.closed_for |= CLOSED_FOR_RECEIVER
    keeper.arriving = [WHOLE[:500], WHOLE[500:] + WHOLE[:500]]
    keeper.step.take()
    assert keeper.told == []
    keeper.step.take()
    assert keeper.told == ["wake"]


def test_a_beginning_is_no_way_past_the_mark(keeper: Owner) -> None:
    keeper.step.high_water = 5000
    keeper.arriving = [WHOLE * 10]
    while not keeper.left:
        keeper.step.take()
    assert len(keeper.queue) == 2
    assert keeper.step.bytes_received == 5000 + LEAST_READ


def test_it_is_kept_on_a_socket_too(version: Version) -> None:
    ours, theirs = socket.socketpair()
    owner = Owner(version)
    owner.step.keeps = True
    with ours, theirs:
        ours.setblocking(False)
        owner.batch.fileno, owner.receive_into = ours.fileno, ours.recv_into  # type: ignore[method-assign]
        for part in (WHOLE[:1000], WHOLE[1000:]):
            theirs.send(part)
            owner.step.take()
    assert [*owner.queue] == [b"x" * 3000]


# -- how much is read -------------------------------------------------------------------------------------


def test_a_read_ends_with_a_message_if_all_are_alike(owner: Owner) -> None:
    owner.arriving = [masked(*[b"x" * 500] * 2), masked(*[b"x" * 500] * 100)]
    owner.step.density = 1.0
    for _ in range(3):
        owner.step.take()
    frame_size = len(masked(b"x" * 500))
    assert owner.asked == [SIZE] + [SIZE // frame_size * frame_size] * 2
    assert owner.left == []


def test_a_read_of_the_least_size_is_not_made_smaller(owner: Owner) -> None:
    owner.arriving = [masked(b"x" * 700)]
    owner.step.take()
    owner.step.high_water = owner.queue.cost + 1
    owner.step.take()
    assert owner.asked[1:] == [LEAST_READ]


def test_a_read_ends_with_the_message_that_began_elsewhere(owner: Owner) -> None:
    owner.step.density = 1.0
    owner.step.due = 700
    owner.step.take()
    owner.step.due = SIZE + 1
    owner.step.take()
    assert owner.asked == [700, SIZE]


@pytest.mark.parametrize(("density", "asked"), [(1.0, SIZE), (0.004, 4194), (0.0001, LEAST_READ)])
def test_no_more_is_read_than_the_queue_has_room_for(owner: Owner, density: float, asked: int) -> None:
    owner.step.density = density
    owner.step.take()
    assert owner.asked == [asked]


def test_the_density_of_a_step_bounds_the_next_read(owner: Owner) -> None:
    owner.arriving = [masked(*[""] * 10)]
    owner.step.take()
    assert owner.step.density == pytest.approx(6 / 64 * 0.98)


def test_a_waiting_receiver_is_woken_and_nobody_else(owner: Owner) -> None:
    owner.arriving = [masked("a"), masked("b")]
    owner.step.take()
    assert owner.told == []
    owner.queue.closed_for |= CLOSED_FOR_RECEIVER
    owner.step.take()
    assert owner.told == ["wake"]


def test_the_event_loop_calls_it_while_it_is_open_and_not_to_be_skipped(owner: Owner) -> None:
    owner.arriving = [masked("a"), masked("b")]
    owner.step.on_readable()
    assert [*owner.queue] == ["a"]
    owner.step.skip = True
    owner.step.on_readable()
    owner.step.skip, owner.step.open = False, False
    owner.step.on_readable()
    assert owner.told == ["otherwise"] * 2
    assert [*owner.queue] == ["a"]


def test_an_error_is_raised_to_callers_and_told_for_the_event_loop(owner: Owner) -> None:
    errors = [ConnectionResetError("gone"), ConnectionResetError("gone again")]
    owner.arriving = [*errors]
    with pytest.raises(ConnectionResetError) as caught:
        owner.step.take()
    assert caught.value is errors[0]
    owner.step.on_readable()
    assert owner.told == [errors[1]]
    owner.arriving = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        owner.step.on_readable()


def test_a_receive_that_returns_too_much_is_an_error(version: Version) -> None:
    owner = Owner(version)
    step = version.ReadStep(
        owner.queue, owner.batch, True, False, lambda buffer, size: size + 1, memoryview(bytearray(SIZE))
    )
    step.owner, step.high_water = owner, 100
    with pytest.raises(ValueError, match="more bytes"):
        step.take()


def test_it_receives_from_the_socket_of_the_batch(version: Version) -> None:
    """Compiled by itself, and else by `receive`."""
    ours, theirs = socket.socketpair()
    owner = Owner(version)
    with ours, theirs:
        ours.setblocking(False)
        owner.batch.fileno, owner.receive_into = ours.fileno, ours.recv_into  # type: ignore[method-assign]
        assert owner.step.take() is False
        theirs.send(masked("a"))
        assert owner.step.take() is True
        assert [*owner.queue] == ["a"]
        assert owner.step.drained is True
        theirs.close()
        assert owner.step.take() is True
        assert owner.told == ["end"]
        ours.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            owner.step.take()


def test_a_reset_is_raised(version: Version) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    owner = Owner(version)
    with ours:
        ours.setblocking(False)
        owner.batch.fileno, owner.receive_into = ours.fileno, ours.recv_into  # type: ignore[method-assign]
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        owner.step.on_readable()
    (error,) = owner.told
    assert type(error) is ConnectionResetError


def test_a_step_in_a_reference_cycle_is_collected(version: Version) -> None:
    owner = Owner(version)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


FRAMES = st.one_of(
    st.builds(lambda text: frame(1, text.encode(), mask=EXAMPLE_KEY), st.text(max_size=200)),
    st.builds(lambda data: frame(2, data, mask=EXAMPLE_KEY), st.binary(max_size=400)),
    st.builds(lambda size: frame(2, bytes(size), mask=EXAMPLE_KEY), st.integers(400, SIZE)),
    st.just(frame(9, b"ping", mask=EXAMPLE_KEY)),
    st.just(frame(2, b"one", fin=False, mask=EXAMPLE_KEY) + frame(0, b"two", mask=EXAMPLE_KEY)),
    st.binary(max_size=3),
)


def decoded(data: bytes) -> list[Event]:
    decoder = Decoder(masked=True)
    events: list[Event] = []
    while data and not decoder.finished:
        events += decoder.decode(data, 1 << 20)
        data = data[decoder.consumed :]
    return events


def joined(events: list[Any]) -> list[Any]:
    """Messages, with the chunks of each joined: where a chunk ends depends on the reads."""
    messages: list[Any] = []
    parts: list[bytes] = []
    for event in events:
        if isinstance(event, Chunk):
            parts.append(event.payload)
            if event.last:
                payload = b"".join(parts)
                messages.append(payload.decode() if event.kind == "text" else payload)
                parts = []
        elif isinstance(event, str | bytes):
            messages.append(event)
    return [*messages, b"".join(parts)]


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(1, 300), max_size=8), st.booleans())
@settings(max_examples=examples(300))
def test_whatever_the_reads_the_messages_are_those_of_the_decoder(
    frames: list[bytes], cuts: list[int], keeps: bool
) -> None:
    data = b"".join(frames)
    expected = decoded(data)
    for version in VERSIONS:
        owner, rest = Owner(version), data
        owner.step.keeps = keeps
        for cut in [*cuts, len(data)]:
            if rest:
                owner.arriving, rest = [rest[:cut]], rest[cut:]
                while owner.arriving:
                    owner.step.take()
        owner.take_rest(memoryview(owner.step.release()))
        assert joined([*owner.queue]) == joined(expected)
        assert owner.violation == next((event for event in expected if isinstance(event, Violation)), None)


@needs_compiled
def test_the_compiled_version_checks_its_arguments() -> None:
    compiled = next(version for version in VERSIONS if str(version) == "compiled")
    queue, batch, view = compiled.UnreadQueue(), compiled.FrameBatch(), memoryview(bytearray(10))
    for arguments in [
        (),
        (batch, batch, True, False, print, view),
        (queue, queue, True, False, print, view),
        (queue, batch, True, False, print, b"not a view"),
    ]:
        with pytest.raises(TypeError):
            compiled.ReadStep(*arguments)
    with pytest.raises(RuntimeError, match="owner"):
        compiled.ReadStep(queue, batch, True, False, lambda buffer, size: 0, view).take()
