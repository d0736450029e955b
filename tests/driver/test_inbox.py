"""The receiving side's buffer: every byte once and in order, and its size at every moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.effort import examples

from wsstream.codec.events import Chunk, Close, Event, Kind, Ping
from wsstream.codec.unread import UNLIMITED
from wsstream.driver.flow import FlowControl
from wsstream.driver.inbox import Inbox
from wsstream.errors import InvalidUTF8, MessageTooBig, ProtocolViolation
from wsstream.protocol.deflate import Agreed, Deflate, Deflater
from wsstream.protocol.inflate import Inflater


def size_of(event: Event) -> int:
    if isinstance(event, Chunk):
        return len(event.payload)
    return len(event.encode() if isinstance(event, str) else event)


def put(inbox: Inbox, *events: Event) -> None:
    pieces = [event for event in events if isinstance(event, str | bytes | Chunk)]
    inbox.put(events, sum(size_of(piece) + 64 for piece in pieces))


def filled(*events: Event) -> Inbox:
    inbox = Inbox(FlowControl())
    put(inbox, *events)
    return inbox


def chunks(*payloads: bytes, kind: Kind = "binary", ended: bool = True) -> list[Event]:
    return [Chunk(kind, payload, ended and i == len(payloads) - 1) for i, payload in enumerate(payloads)]


# -- whole messages ------------------------------------------------------------------------------


def test_whole_messages_come_out_as_they_are() -> None:
    inbox = filled("é", b"\xff", "", b"")
    assert inbox.cost == 2 + 1 + 4 * 64
    assert [inbox.take_message(None) for _ in range(5)] == ["é", b"\xff", "", b"", None]
    assert inbox.cost == 0


def test_control_frames_are_not_kept() -> None:
    inbox = filled(Ping(b"p"), "a", Close(1000))
    assert inbox.take_message(None) == "a"
    assert inbox.take_message(None) is None


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_the_chunks_of_a_message_come_out_as_one(kind: Kind) -> None:
    pieces = chunks(b"\xe2", b"", b"\x82", b"\xac", kind=kind)
    inbox = filled(*pieces, "next")
    assert inbox.take_message(None) == ("€" if kind == "text" else "€".encode())
    assert inbox.take_message(None) == "next"


def test_a_message_is_not_given_before_its_end() -> None:
    inbox = filled(*chunks(b"a", b"b", ended=False))
    assert inbox.take_message(None) is None
    assert inbox.cost == 0, "the chunks are in the message that is being put together"
    put(inbox, *chunks(b"c", b""))
    assert inbox.take_message(None) == b"abc"


def test_an_empty_message_in_chunks_is_a_message() -> None:
    inbox = filled(Chunk("text", b"", False), Chunk("text", b"", True))
    assert inbox.take_message(0) == ""


def test_a_message_put_together_does_not_share_memory_with_the_next() -> None:
    inbox = filled(*chunks(b"a", b"b"), *chunks(b"c", b"d"))
    first, second = inbox.take_message(None), inbox.take_message(None)
    assert (first, second) == (b"ab", b"cd")
    assert type(first) is type(second) is bytes


# -- limits --------------------------------------------------------------------------------------

PACKED: list[tuple[str, list[Event]]] = [
    ("whole binary", [b"12345"]),
    ("whole text", ["123é"]),
    ("chunks", chunks(b"12", b"34", b"5")),
    ("chunks of text", chunks(b"123", "é".encode(), kind="text")),
    ("chunks with empty ones", chunks(b"", b"12345", b"")),
]


@pytest.mark.parametrize("events", [events for _, events in PACKED], ids=[name for name, _ in PACKED])
def test_the_limit_is_exact_to_the_byte(events: list[Event]) -> None:
    message = filled(*events).take_message(5)
    assert message is not None
    assert size_of(message) == 5
    with pytest.raises(MessageTooBig, match="more than 4 bytes") as caught:
        filled(*events).take_message(4)
    assert caught.value.code == 1009


def test_a_message_is_too_big_as_soon_as_that_is_certain() -> None:
    inbox = filled(*chunks(b"123", b"45", ended=False))
    assert inbox.take_message(5) is None
    put(inbox, Chunk("binary", b"6", False), Chunk("binary", bytes(1000), False))
    with pytest.raises(MessageTooBig):
        inbox.take_message(5)
    assert inbox.cost == 1000 + 64, "no more was taken than was needed to know it"


@pytest.mark.parametrize("events", [[b"12345678"], chunks(b"123456", b"78")], ids=["whole", "chunks"])
def test_the_limit_holds_for_the_rest(events: list[Event]) -> None:
    for limit, fits in ((5, True), (4, False)):
        inbox = filled(*events)
        inbox.begin()
        assert inbox.take_chunk(3) == b"123"
        if fits:
            assert inbox.take_rest(limit) == b"45678"
            assert inbox.is_complete
        else:
            with pytest.raises(MessageTooBig):
                inbox.take_rest(limit)


def test_without_a_limit_a_message_has_any_size() -> None:
    inbox = filled(*chunks(*[bytes(10_000)] * 200))
    assert inbox.take_message(None) == bytes(2_000_000)


# -- chunk by chunk ------------------------------------------------------------------------------


def test_nothing_begins_while_nothing_is_here() -> None:
    inbox = Inbox(FlowControl())
    assert inbox.begin() is None
    assert inbox.take_rest(None) is None
    assert not inbox.is_complete


def test_a_whole_message_is_taken_in_chunks() -> None:
    inbox = filled("aé")
    assert inbox.begin() == inbox.begin() == "text"
    assert inbox.cost == 0
    assert [inbox.take_chunk(2), inbox.is_complete] == [b"a\xc3", False]
    assert [inbox.take_chunk(2), inbox.is_complete] == [b"\xa9", True]
    assert inbox.take_chunk(2) == b""
    inbox.finish()
    assert inbox.begin() is None


def test_chunks_are_given_as_soon_as_they_are_here_and_never_empty_before_the_end() -> None:
    inbox = filled(*chunks(b"", b"", b"abcdef", ended=False))
    assert inbox.begin() == "binary"
    assert [inbox.take_chunk(4), inbox.take_chunk(4), inbox.take_chunk(4)] == [b"abcd", b"ef", b""]
    assert not inbox.is_complete
    put(inbox, Chunk("binary", b"", False), Chunk("binary", b"gh", False), Chunk("binary", b"", True))
    assert inbox.take_chunk(100) == b"gh"
    assert not inbox.is_complete, "that the message has ended is found with the next call"
    assert inbox.take_chunk(100) == b""
    assert inbox.is_complete


def test_an_empty_message_is_complete_after_the_first_look() -> None:
    inbox = filled(b"", Chunk("text", b"", True))
    for kind in ("binary", "text"):
        assert inbox.begin() == kind
        assert inbox.take_chunk(10) == b""
        assert inbox.is_complete
        inbox.finish()


def test_the_rest_of_a_message_after_some_chunks() -> None:
    inbox = filled(*chunks(b"abc", b"def"))
    inbox.begin()
    assert inbox.take_chunk(1) == b"a"
    assert inbox.take_rest(None) == b"bcdef"
    assert inbox.take_rest(None) == b"", "the rest of nothing"
    assert inbox.is_complete


def test_what_was_gathered_for_a_whole_message_can_be_taken_in_chunks() -> None:
    """As after a `receive` that was cancelled."""
    inbox = filled(*chunks(b"abc", b"def", ended=False))
    assert inbox.take_message(None) is None
    assert inbox.begin() == "binary"
    assert inbox.take_chunk(4) == b"abcd"
    put(inbox, Chunk("binary", b"g", True))
    assert [inbox.take_chunk(4), inbox.take_chunk(4)] == [b"ef", b"g"]
    assert inbox.is_complete


def test_what_was_gathered_for_the_rest_is_not_lost() -> None:
    inbox = filled(*chunks(b"abc", b"def", ended=False))
    inbox.begin()
    inbox.take_chunk(1)
    assert inbox.take_rest(None) is None
    put(inbox, Chunk("binary", b"g", True))
    assert inbox.take_rest(None) == b"bcdefg"


# -- dropping ------------------------------------------------------------------------------------


def test_the_rest_of_a_message_is_skipped_without_being_kept() -> None:
    inbox = filled(*chunks(b"abc", b"def", ended=False))
    inbox.begin()
    inbox.take_chunk(1)
    inbox.finish()
    assert inbox.cost == 0
    assert inbox.take_chunk(10) == b"", "what was in front is dropped too"
    assert inbox.begin() is None
    assert inbox.take_message(None) is None
    for _ in range(1000):
        put(inbox, Chunk("binary", bytes(1000), False))
        assert (inbox.cost, len(inbox.queue)) == (0, 0)
    put(inbox, Chunk("binary", b"end", True), "next")
    assert inbox.take_message(None) == "next"


def test_finishing_a_message_that_is_all_here_leaves_the_next() -> None:
    inbox = filled(*chunks(b"abc", b"def"), "next")
    inbox.begin()
    inbox.finish()
    assert inbox.cost == 4 + 64
    assert inbox.begin() == "text"
    assert inbox.take_rest(None) == b"next"


def test_finishing_without_a_message_is_nothing() -> None:
    inbox = Inbox(FlowControl())
    inbox.finish()
    put(inbox, "a")
    assert inbox.take_message(None) == "a"


def test_discarding_drops_what_is_here_and_what_comes() -> None:
    inbox = filled("a", *chunks(b"abc", ended=False))
    assert inbox.take_message(None) == "a"
    inbox.begin()
    inbox.discard()
    assert inbox.discarding
    for _ in range(2):
        assert (inbox.cost, len(inbox.queue)) == (0, 0)
        assert inbox.take_message(None) is None
        assert inbox.begin() is None
        put(inbox, Chunk("binary", b"def", True), "b")


# -- compressed messages that are here whole -----------------------------------------------------


def inflating(*, takeover: bool = True, limit: int = UNLIMITED) -> tuple[Deflater, Inbox]:
    agreed = Agreed(Deflate(), 15, takeover, 15, takeover)
    return Deflater(agreed), Inbox(FlowControl(), Inflater(15, takeover), limit)


def compressed(deflater: Deflater, message: bytes, kind: Kind = "binary") -> Chunk:
    return Chunk(kind, deflater.compress(message, last=True), True, True)


def test_a_compressed_message_that_is_whole_is_popped() -> None:
    deflater, inbox = inflating()
    put(inbox, compressed(deflater, b"\xff" * 100), compressed(deflater, "é".encode() * 9, "text"), "next")
    assert [inbox.queue.take_message_now() for _ in range(4)] == [b"\xff" * 100, "é" * 9, "next", None]
    assert inbox.cost == 0


def test_a_compressed_message_in_pieces_is_not_popped() -> None:
    deflater, inbox = inflating()
    whole = compressed(deflater, b"some bytes")
    put(
        inbox, Chunk("binary", whole.payload[:4], False, True), Chunk("binary", whole.payload[4:], True, True)
    )
    assert inbox.queue.take_message_now() is None
    assert inbox.take_message(None) == b"some bytes"


@pytest.mark.parametrize("size", [9, 10, 11, 65535, 65536, 65537, 1 << 20])
def test_a_compressed_message_is_popped_up_to_the_limit(size: int) -> None:
    deflater, inbox = inflating(limit=10)
    put(inbox, compressed(deflater, bytes(size)), "next")
    if size <= 10:
        assert inbox.queue.take_message_now() == bytes(size)
    else:
        assert inbox.queue.take_message_now() is None
        assert inbox.queue.take_message_now() is None, "not the next one before it"
        with pytest.raises(MessageTooBig):
            inbox.take_message(10)


def taken(inbox: Inbox) -> str | bytes:
    for _ in range(100):
        if (message := inbox.take_message(None)) is not None:
            return message
        assert inbox.more_ready
    raise AssertionError("nothing came")


@pytest.mark.parametrize("size", [65535, 65536, 65537, 1 << 20])
def test_a_large_compressed_message_is_popped_or_begun(size: int) -> None:
    deflater, inbox = inflating()
    message = "é" * size
    put(inbox, compressed(deflater, message.encode(), "text"), "next")
    assert inbox.queue.take_message_now() is None
    assert taken(inbox) == message
    assert inbox.queue.take_message_now() == "next"


@pytest.mark.parametrize("takeover", [True, False])
def test_what_is_wrong_in_a_popped_message_is_raised_by_the_next_call(takeover: bool) -> None:
    for message, kind in ((b"\xff" * 10, "text"), (b"\xff" * 100_000, "text"), (None, "binary")):
        for call in (Inbox.take_message, Inbox.take_chunk):
            deflater, inbox = inflating(takeover=takeover)
            bad = (
                Chunk("binary", b"\xff", True, True)
                if message is None
                else compressed(deflater, message, kind)
            )
            put(inbox, bad, "next")
            assert inbox.queue.take_message_now() is None
            assert inbox.queue.take_message_now() is None
            with pytest.raises(ProtocolViolation if message is None else InvalidUTF8):
                call(inbox, 200_000)


@pytest.mark.parametrize("takeover", [True, False])
def test_a_popped_message_can_be_skipped(takeover: bool) -> None:
    for message in (b"\xff" * 10, b"\xff" * 100_000, "é".encode() * 100_000):
        deflater, inbox = inflating(takeover=takeover)
        put(inbox, compressed(deflater, message, "text"), compressed(deflater, b"next", "text"))
        assert inbox.queue.take_message_now() is None
        inbox.finish()
        assert inbox.begin() == "text"
        assert inbox.take_rest(None) == b"next"


def test_the_last_compressed_message_frees_the_inflater() -> None:
    deflater, inbox = inflating()
    put(inbox, compressed(deflater, b"first"), compressed(deflater, b"last"))
    inbox.end()
    assert [inbox.queue.take_message_now(), inbox.queue.take_message_now()] == [b"first", b"last"]
    assert inbox.queue.inflate is None


# -- anything in any order -----------------------------------------------------------------------


@dataclass
class Model:
    """Messages that arrive bit by bit, and how far they have been taken."""

    arriving: list[Event]
    inbox: Inbox = field(default_factory=lambda: Inbox(FlowControl()))
    messages: list[tuple[Kind, bytes, bool]] = field(default_factory=list)  # kind, what is here, ended
    offset: int = 0  # into the first
    begun: bool = False  # the first is taken in chunks
    skipping: bool = False

    def put(self, count: int) -> None:
        for event in self.arriving[:count]:
            put(self.inbox, event)
            self.arrive(event)
        del self.arriving[:count]

    def arrive(self, event: Event) -> None:
        if isinstance(event, Chunk):
            kind, payload, last = event.kind, event.payload, event.last
        else:
            kind = "text" if isinstance(event, str) else "binary"
            payload, last = (event.encode() if isinstance(event, str) else event), True  # type: ignore[union-attr, assignment]
        if self.messages and not self.messages[-1][2]:
            _, before, _ = self.messages.pop()
            payload = before + payload
        self.messages.append((kind, payload, last))
        if self.skipping and len(self.messages) == 1 and last:
            self.done()

    def done(self) -> None:
        self.messages.pop(0)
        self.offset, self.begun, self.skipping = 0, False, False

    def take_message(self, _: int) -> None:
        if self.begun:
            self.finish(0)
        message = self.inbox.take_message(None)
        if self.messages and self.messages[0][2] and not self.skipping:
            kind, payload, _ended = self.messages[0]
            assert message == (payload.decode() if kind == "text" else payload)
            self.done()
        else:
            assert message is None

    def begin(self, _: int) -> None:
        kind = self.inbox.begin()
        expected = self.messages[0][0] if self.messages and not self.skipping else None
        assert kind == expected
        self.begun = self.begun or kind is not None

    def take_chunk(self, count: int) -> None:
        if self.begun and not self.skipping:
            chunk = self.inbox.take_chunk(count)
            _, payload, ended = self.messages[0]
            here = payload[self.offset :]
            assert bool(chunk) is bool(here)
            assert len(chunk) <= count
            assert here.startswith(chunk)
            self.offset += len(chunk)
            if self.inbox.is_complete:
                assert ended
                assert self.offset == len(payload)
            elif not chunk:
                assert not ended

    def take_rest(self, _: int) -> None:
        if self.begun and not self.skipping:
            rest = self.inbox.take_rest(None)
            _, payload, ended = self.messages[0]
            assert rest == (payload[self.offset :] if ended else None)
            if ended:
                self.offset = len(payload)

    def finish(self, _: int) -> None:
        if self.begun and not self.skipping:
            self.inbox.finish()
            if self.messages[0][2]:
                self.done()
            else:
                self.skipping = True

    def check(self) -> None:
        pieces = list(self.inbox.queue)
        assert self.inbox.cost == sum(size_of(piece) + 64 for piece in pieces)
        if self.skipping:
            assert pieces == []


def pieces_of(message: str | bytes, cuts: list[int] | None) -> list[Event]:
    if cuts is None:
        return [message]
    payload = message.encode() if isinstance(message, str) else message
    borders = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
    payloads = [payload[a:b] for a, b in zip(borders, borders[1:], strict=False)]  # noqa: RUF007 - clearer
    return chunks(*payloads, kind="text" if isinstance(message, str) else "binary")


def joined(lists: Iterable[list[Event]]) -> list[Event]:
    return [event for events in lists for event in events]


MESSAGES = st.text(max_size=8) | st.binary(max_size=12)
ARRIVING = st.lists(
    st.builds(pieces_of, MESSAGES, st.none() | st.lists(st.integers(0, 12), max_size=4)), max_size=6
).map(joined)
STEPS = st.tuples(
    st.sampled_from(
        ["put", "put", "take_message", "begin", "take_chunk", "take_chunk", "take_rest", "finish"]
    ),
    st.integers(1, 6),
)


@given(ARRIVING, st.lists(STEPS, max_size=40))
@settings(max_examples=examples(300))
def test_however_it_is_taken_every_byte_comes_out_once_and_in_order(
    arriving: list[Event], steps: list[tuple[str, int]]
) -> None:
    model = Model(arriving)
    for name, count in steps:
        getattr(model, name)(count)
        model.check()
