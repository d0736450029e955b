"""The same bytes to this library, to wsproto and to websockets: the same messages, the same close code.

Each case goes to all three in the same role, valid or with one mutation. They have to agree on all that an
application sees (messages, Pings, Pongs, in their order) and on the Close frame that goes out. Where
another implementation is known to be wrong or late, `FAULTS` says so, with the section of the RFC and the
smallest example, which is a test of its own: a fault that was mended has to leave the table.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, currently_in_test_context, given, settings
from hypothesis import event as label
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate as WebsocketsDeflate
from websockets.frames import Frame as WebsocketsFrame
from websockets.frames import Opcode as WebsocketsOpcode
from websockets.protocol import Protocol, Side
from wsproto.connection import Connection as WsprotoConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message, Ping, Pong
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate

from wsstream import InvalidUTF8, ProtocolViolation
from wsstream.codec import events as ours
from wsstream.driver.flow import FlowControl
from wsstream.driver.inbox import Inbox
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed, Deflate
from wsstream.protocol.state import State
from wsstream.testing import (
    EXAMPLE_KEY,
    ILLEGAL_FRAMES,
    LEGAL_SEQUENCES,
    Event,
    FrameCase,
    Role,
    binary,
    close,
    continuation,
    frame,
    parse_frames,
    ping,
    pong,
    text,
)

TAIL = b"\x00\x00\xff\xff"
UNLIMITED = 1 << 62
EXAMPLES = pytest.mark.parametrize("examples", [40, pytest.param(300, marks=pytest.mark.slow)])
ROLES = pytest.mark.parametrize("role", ["client", "server"])


@dataclass(frozen=True)
class Setup:
    """The endpoint that receives, and what it agreed on for the messages to it."""

    role: Role
    deflate: bool = False
    window: int = 15
    takeover: bool = True

    @property
    def key(self) -> bytes | None:
        """A masking key for frames to it."""
        return EXAMPLE_KEY if self.role == "server" else None


@dataclass(frozen=True)
class Outcome:
    """What an application saw, and the code of the Close frame that went out, ``None`` if none did."""

    events: tuple[Event, ...] = ()
    code: int | None = None
    failed: bool = False


# -- the three implementations -------------------------------------------------------------------


def seen_by_wsstream(setup: Setup, reads: Iterable[bytes], *, lagging: bool = False) -> Outcome:
    """With an application that reads each piece as it comes, or, if it is `lagging`, at the very end."""
    endpoint = Ours(setup)
    for read in reads:
        endpoint.receive(read, UNLIMITED if lagging else 1)
    endpoint.read()
    return endpoint.outcome()


class Ours:
    """A connection and its inbox, as the driver has them."""

    def __init__(self, setup: Setup) -> None:
        agreed = Agreed(
            Deflate(),
            send_window=15,
            send_takeover=True,
            receive_window=setup.window,
            receive_takeover=setup.takeover,
        )
        self.connection = Connection(client=setup.role == "client", deflate=agreed if setup.deflate else None)
        self.inbox = Inbox(FlowControl(), self.connection.inflater)
        self.events: list[Event] = []

    def receive(self, data: bytes, room: int) -> None:
        while data:
            found = self.connection.receive(data, room)
            data = data[self.connection.consumed :]
            if self.connection.state is State.VIOLATED:
                self.connection.fail()
            self.inbox.put(found, self.connection.cost)
            self.events += [control(each) for each in found if isinstance(each, ours.Ping | ours.Pong)]
            if room == 1:
                self.read()

    def read(self) -> None:
        try:
            while (message := self.inbox.take_message(None)) is not None or self.inbox.more_ready:
                if message is not None:
                    self.events.append(Event("text" if isinstance(message, str) else "binary", message))
        except (InvalidUTF8, ProtocolViolation) as error:
            if self.connection.state is State.OPEN:
                self.connection.fail(ours.Violation(error.code, str(error)))
            self.inbox.discard()

    def outcome(self) -> Outcome:
        connection, data = self.connection, b""
        while offered := b"".join(connection.queue.buffers()):
            connection.queue.advance(len(offered))
            data += offered
        return Outcome(
            tuple(self.events), code_out(data, connection.client), connection.violation is not None
        )


def control(found: ours.Ping | ours.Pong) -> Event:
    return Event("ping" if isinstance(found, ours.Ping) else "pong", found.payload)


def code_out(data: bytes, masked: bool) -> int | None:
    """The code of the Close frame in what an endpoint sent; 1005 if it has none."""
    codes = [sent.close_code or 1005 for sent in parse_frames(data, masked=masked) if sent.kind == "close"]
    assert len(codes) < 2
    return codes[0] if codes else None


def seen_by_wsproto(setup: Setup, reads: Iterable[bytes]) -> Outcome:
    client = setup.role == "client"
    connection = WsprotoConnection(
        ConnectionType.CLIENT if client else ConnectionType.SERVER, [wsproto_deflate(setup)] * setup.deflate
    )
    events: list[Event] = []
    parts: list[Any] = []
    for read in reads:
        connection.receive_data(read)
        for found in connection.events():
            if isinstance(found, CloseConnection):
                failed = connection.state is ConnectionState.OPEN
                sent = connection.send(CloseConnection(code=found.code) if failed else found.response())
                return Outcome(tuple(events), code_out(bytes(sent), client), failed)
            if isinstance(found, Message):
                parts.append(found.data)
                if found.message_finished:
                    events.append(whole_of(parts))
                    parts = []
            elif isinstance(found, Ping | Pong):
                events.append(Event("ping" if isinstance(found, Ping) else "pong", bytes(found.payload)))
    return Outcome(tuple(events))


def wsproto_deflate(setup: Setup) -> WsprotoDeflate:
    extension, sender = WsprotoDeflate(), "server" if setup.role == "client" else "client"
    params = f"; {sender}_max_window_bits={setup.window}"
    extension.finalize(params + ("" if setup.takeover else f"; {sender}_no_context_takeover"))
    return extension


def whole_of(parts: list[Any]) -> Event:
    if isinstance(parts[0], str):
        return Event("text", "".join(parts))
    return Event("binary", b"".join(parts))


def seen_by_websockets(setup: Setup, reads: Iterable[bytes]) -> Outcome:
    """Byte by byte: it parses all of a read before its application can see that a text is not UTF-8."""
    client = setup.role == "client"
    protocol = Protocol(Side.CLIENT if client else Side.SERVER, max_size=None)
    if setup.deflate:
        protocol.extensions = [WebsocketsDeflate(not setup.takeover, False, setup.window, 15)]
    events: list[Event] = []
    parts: list[bytes] = []
    kind = WebsocketsOpcode.TEXT
    bad_text, closing = False, False
    for read in reads:
        for start in range(len(read)):
            protocol.receive_data(read[start : start + 1])
            for found in protocol.events_received():
                assert isinstance(found, WebsocketsFrame)
                if found.opcode in (WebsocketsOpcode.PING, WebsocketsOpcode.PONG):
                    events.append(Event(found.opcode.name.lower(), bytes(found.data)))  # type: ignore[arg-type]
                if found.opcode >= WebsocketsOpcode.CLOSE:
                    continue
                kind = kind if found.opcode is WebsocketsOpcode.CONT else found.opcode
                parts.append(bytes(found.data))
                if found.fin:
                    try:
                        events.append(message_of(kind, parts))
                    except UnicodeDecodeError:  # as its own connections do it
                        protocol.fail(1007)
                        bad_text = True
                    parts = []
            closing = bool(protocol.close_sent)
            if closing:
                break
        if closing:
            break
    sent = b"".join(protocol.data_to_send())
    return Outcome(tuple(events), code_out(sent, client), bad_text or protocol.parser_exc is not None)


def message_of(kind: WebsocketsOpcode, parts: list[bytes]) -> Event:
    payload = b"".join(parts)
    return Event("text", payload.decode()) if kind is WebsocketsOpcode.TEXT else Event("binary", payload)


ORACLES: Final[dict[str, Callable[[Setup, Iterable[bytes]], Outcome]]] = {
    "wsproto": seen_by_wsproto,
    "websockets": seen_by_websockets,
}


# -- what is on the wire, read without a care for the rules --------------------------------------


@dataclass(frozen=True)
class Part:
    """A frame as it is; `missing` bytes of it are not there, `before` events are complete before it."""

    opcode: int
    fin: bool
    rsv1: bool
    length: int
    length_bytes: int
    payload: bytes
    missing: int
    before: int


def walk(data: bytes) -> Iterator[Part]:
    """The frames that begin in `data`."""
    before = 0
    while data:
        first, second = data[0], (data[1:2] or b"\0")[0]
        length, size = second & 127, 2
        if length > 125:
            size = 4 if length == 126 else 10
            length = int.from_bytes(data[2:size].ljust(size - 2, b"\0"))
        key = data[size : size + 4] if second & 128 else bytes(4)
        header = size + (4 if second & 128 else 0)
        masked = data[header : header + length]
        payload = bytes(byte ^ key[i & 3] for i, byte in enumerate(masked))
        missing = max(header + length - len(data), 0)
        yield Part(first & 15, first > 127, bool(first & 64), length, size - 2, payload, missing, before)
        before += first > 127 and first & 15 != 8
        data = data[header + length :]


@dataclass(frozen=True)
class Packed:
    """A compressed message: its payload as it is on the wire, and what is in it."""

    before: int
    final_block: bool
    cut: bool  # it ends inside a block


def packed_messages(setup: Setup, data: bytes) -> Iterator[Packed]:
    """The compressed messages that are complete, up to one that is not deflate."""
    context, payload, begun = zlib.decompressobj(-15), b"", None
    for part in walk(data):
        if part.opcode in (1, 2):
            begun, payload = part if part.rsv1 else None, b""
        if begun is None or part.opcode >= 8:
            continue
        payload += part.payload
        if part.fin and not part.missing:
            context = context if setup.takeover else zlib.decompressobj(-15)
            try:
                context.decompress(payload + TAIL)
            except zlib.error:
                return
            yield Packed(begun.before, context.eof, not at_boundary(context))
            begun = None


def at_boundary(context: Any) -> bool:
    """Whether a stored block may follow."""
    context = context.copy()
    try:
        return bool(context.decompress(b"\x01\x03\x00\xfc\xffend") == b"end")
    except zlib.error:
        return False


# -- what is known of the others -----------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One case and what came of it."""

    setup: Setup
    data: bytes
    mine: Outcome
    theirs: Outcome

    def same_until(self, count: int | None) -> bool:
        """Whether both saw the same in the first `count` events; ``None`` is the answer no."""
        return count is not None and self.mine.events[:count] == self.theirs.events[:count]

    @property
    def same_events(self) -> bool:
        return self.mine.events == self.theirs.events


@dataclass(frozen=True)
class Fault:
    """What `oracles` do otherwise, in which section of which RFC, and the smallest example of it.

    `explains` says whether a difference can come of it; it looks at the bytes and at both outcomes.
    """

    name: str
    oracles: tuple[str, ...]
    section: str
    reason: str
    explains: Callable[[Case], bool]
    frames: Callable[[bytes | None], bytes]
    mine: Outcome
    theirs: Outcome
    deflate: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def first(values: Iterable[int]) -> int | None:
    return min(values, default=None)


def has_close(case: Case, code: int) -> bool:
    return any(part.opcode == 8 and part.payload[:2] == code.to_bytes(2) for part in walk(case.data))


def refuses_1014(case: Case) -> bool:
    mine, theirs = case.mine, case.theirs
    judged = mine.code in (1014, 1007) and theirs.code == 1002  # 1007: the reason is not UTF-8
    return case.same_events and judged and has_close(case, 1014)


def loses_compression(case: Case) -> bool:
    begun = False
    for part in walk(case.data):
        if begun and part.opcode >= 8:
            return case.setup.deflate and case.same_until(part.before)
        begun = not part.fin and (part.rsv1 if part.opcode else begun)
    return False


def stops_at_final_block(case: Case) -> bool:
    where = first(each.before for each in packed_messages(case.setup, case.data) if each.final_block)
    return case.same_until(where)


def takes_a_cut_message(case: Case) -> bool:
    where = first(each.before for each in packed_messages(case.setup, case.data) if each.cut)
    return case.same_until(where) and case.mine.failed and case.mine.code == 1002


def says_1007(case: Case) -> bool:
    mine, theirs = case.mine, case.theirs
    both = mine.failed and theirs.failed and {mine.code, theirs.code} == {1002, 1007}
    return both and case.setup.deflate and case.same_events and any(part.rsv1 for part in walk(case.data))


def refuses_close_in_message(case: Case) -> bool:
    mine, theirs = case.mine, case.theirs
    return case.same_events and not mine.failed and mine.code is not None and theirs.code == 1002


def takes_a_long_length(case: Case) -> bool:
    least = {0: 0, 2: 126, 8: 65536}
    where = first(part.before for part in walk(case.data) if part.length < least[part.length_bytes])
    return case.same_until(where) and case.mine.failed and case.mine.code == 1002


def waits_for_a_negative_length(case: Case) -> bool:
    where = any(part.length >> 63 for part in walk(case.data))
    return where and case.same_events and case.mine.code == 1002 and case.theirs == Outcome(case.mine.events)


def looks_at_the_reason_first(case: Case) -> bool:
    return case.same_events and (case.mine.code, case.theirs.code) == (1002, 1007) and case.theirs.failed


def sees_bad_text_at_its_end(case: Case) -> bool:
    """Control frames, a Close or another violation may come in between."""
    mine, theirs = case.mine, case.theirs
    more = theirs.events[len(mine.events) :]
    late = mine.failed and mine.code == 1007 and case.same_until(len(mine.events))
    return late and all(each.kind in ("ping", "pong") for each in more) and theirs != mine


def sees_surrogates_late(case: Case) -> bool:
    return b"\xed" in b"".join(part.payload for part in walk(case.data)) and sees_bad_text_at_its_end(case)


def packed(payload: bytes, *, final: bool = False) -> bytes:
    """A payload as a compressed message has it; `final` ends in a block with BFINAL, for more to follow."""
    context = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = context.compress(payload)
    return data + context.flush() if final else (data + context.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


HELLO: Final = packed(b"Hello")


def fragments_around_a_ping(mask: bytes | None) -> bytes:
    start = text(HELLO[:3], rsv1=True, fin=False, mask=mask)
    return start + ping(mask=mask) + continuation(HELLO[3:], mask=mask)


def bad_text_before_close(mask: bytes | None) -> bytes:
    return text(b"\xff", fin=False, mask=mask) + close(1000, mask=mask)


def surrogate_before_close(mask: bytes | None) -> bytes:
    return text(b"\xed\xa0", fin=False, mask=mask) + close(1000, mask=mask)


def close_inside_a_message(mask: bytes | None) -> bytes:
    return text("a", fin=False, mask=mask) + close(1000, mask=mask)


REFUSED: Final = Outcome(code=1002, failed=True)
NOT_UTF8: Final = Outcome(code=1007, failed=True)

FAULTS: Final = (
    Fault(
        "close code 1014",
        ("wsproto",),
        "RFC 6455 section 7.4.2",
        "1014 is in IANA's registry of close codes; wsproto's list ends before it",
        refuses_1014,
        partial(frame, 8, b"\x03\xf6"),
        Outcome(code=1014),
        REFUSED,
    ),
    Fault(
        "a control frame inside a compressed message",
        ("wsproto",),
        "RFC 7692 section 6.1",
        "the fragments after the control frame are taken as if they were not compressed",
        loses_compression,
        fragments_around_a_ping,
        Outcome((Event("ping", b""), Event("text", "Hello"))),
        Outcome((Event("ping", b""),), 1007, failed=True),
        deflate=True,
    ),
    Fault(
        "blocks after a final block",
        ("wsproto", "websockets"),
        "RFC 7692 section 7.2.3.4",
        "what follows a block with BFINAL is dropped; with takeover all messages after it are empty",
        stops_at_final_block,
        partial(binary, packed(b"one", final=True) + packed(b"two"), rsv1=True),
        Outcome((Event("binary", b"onetwo"),)),
        Outcome((Event("binary", b"one"),)),
        deflate=True,
    ),
    Fault(
        "a compressed message cut inside a block",
        ("wsproto", "websockets"),
        "RFC 7692 section 7.2.2",
        "with the tail appended it is not DEFLATE of anything; the bits of the tail are read as letters",
        takes_a_cut_message,
        partial(binary, HELLO[:3], rsv1=True),
        REFUSED,
        Outcome((Event("binary", b"Heh"),)),
        deflate=True,
    ),
    Fault(
        "code for what is not DEFLATE",
        ("wsproto",),
        "RFC 6455 section 7.4.1",
        "no code is laid down for it: wsproto says 1007 (bad payload), the others say 1002",
        says_1007,
        partial(binary, b"\xff\xff", rsv1=True),
        REFUSED,
        NOT_UTF8,
        deflate=True,
    ),
    Fault(
        "close inside a fragmented message",
        ("websockets",),
        "RFC 6455 section 5.4",
        "a control frame may stand between fragments, and a Close is to be answered",
        refuses_close_in_message,
        close_inside_a_message,
        Outcome(code=1000),
        REFUSED,
    ),
    Fault(
        "a length in more bytes than it needs",
        ("websockets",),
        "RFC 6455 section 5.2",
        "the minimal number of bytes must be used; it is not checked",
        takes_a_long_length,
        partial(binary, b"a", length_bytes=2),
        REFUSED,
        Outcome((Event("binary", b"a"),)),
    ),
    Fault(
        "a length with its first bit set",
        ("websockets",),
        "RFC 6455 section 5.2",
        "the most significant bit must be 0; it waits for 2**63 bytes",
        waits_for_a_negative_length,
        partial(binary, declared_length=1 << 63),
        REFUSED,
        Outcome(),
    ),
    Fault(
        "bad code and bad reason",
        ("websockets",),
        "RFC 6455 section 7.4",
        "both are wrong; it reads the reason before it judges the code, which comes first on the wire",
        looks_at_the_reason_first,
        partial(close, 1005, b"\xff"),
        REFUSED,
        NOT_UTF8,
    ),
    Fault(
        "bad text is seen at its end",
        ("websockets",),
        "RFC 6455 section 8.1",
        "text is decoded when the message is complete, so something else may end the connection before",
        sees_bad_text_at_its_end,
        bad_text_before_close,
        NOT_UTF8,
        REFUSED,
    ),
    Fault(
        "a surrogate is seen a byte late",
        ("wsproto",),
        "RFC 3629 section 3",
        "CPython's incremental decoder waits for the third byte, and something else may come before it",
        sees_surrogates_late,
        surrogate_before_close,
        NOT_UTF8,
        Outcome(code=1000),
    ),
)


@pytest.mark.parametrize(
    ("fault", "oracle"), [(fault, oracle) for fault in FAULTS for oracle in fault.oracles], ids=str
)
@ROLES
def test_a_known_fault_is_still_there(fault: Fault, oracle: str, role: Role) -> None:
    setup = Setup(role, deflate=fault.deflate)
    data = fault.frames(mask=setup.key)  # type: ignore[call-arg]
    case = Case(setup, data, seen_by_wsstream(setup, [data]), ORACLES[oracle](setup, [data]))
    assert (case.mine, case.theirs) == (fault.mine, fault.theirs)
    assert fault.explains(case)


def explained(case: Case, oracle: str) -> str | None:
    """The name of what explains a difference, or ``None`` if nothing does."""
    for fault in FAULTS:
        if oracle in fault.oracles and fault.explains(case):
            return fault.name
    return None


MOST_MISSING = 70_000


def is_only_late(case: Case, oracle: str) -> bool:
    """Whether the other one has found nothing yet, and says the same once the frame and the message end.

    Of a violation that its first bytes prove, many implementations wait for the whole header or frame. A
    frame that lacks more than 70,000 bytes is not waited for here.
    """
    if not (case.mine.failed and case.theirs == Outcome(case.mine.events)):
        return False
    last = [*walk(case.data)][-1]
    if last.missing > MOST_MISSING:
        return True
    more = [bytes(last.missing), continuation(mask=case.setup.key)]
    theirs = ORACLES[oracle](case.setup, [case.data, *more])
    complete = replace(case, data=case.data + b"".join(more), theirs=theirs)
    return theirs == case.mine or explained(complete, oracle) is not None


def compare(setup: Setup, data: bytes, reads: Sequence[bytes]) -> None:
    """Every implementation is to see the same, save for what the table explains."""
    assert b"".join(reads) == data
    mine = seen_by_wsstream(setup, reads)
    assert mine == seen_by_wsstream(setup, [data]) or says_1007(
        Case(setup, data, mine, seen_by_wsstream(setup, [data]))
    ), "it matters where reads end"
    lagging = seen_by_wsstream(setup, reads, lagging=True)
    assert [each for each in lagging.events if each.kind in ("text", "binary")] == [
        each for each in mine.events if each.kind in ("text", "binary")
    ], "it matters when the application reads"
    assert setup.deflate or (lagging.code, lagging.failed) == (mine.code, mine.failed)
    for oracle, see in ORACLES.items():
        case = Case(setup, data, mine, see(setup, reads))
        if case.mine != case.theirs:
            why = explained(case, oracle) or ("it is late" if is_only_late(case, oracle) else None)
            assert why is not None, f"{oracle} sees {case.theirs}, wsstream {case.mine}"
            if currently_in_test_context():
                label(f"{oracle}: {why}")


# -- cases ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """Frames to an endpoint, and how they arrive."""

    setup: Setup
    frames: tuple[bytes, ...]
    cuts: tuple[int, ...] = ()

    @property
    def data(self) -> bytes:
        return b"".join(self.frames)

    @property
    def reads(self) -> list[bytes]:
        """The data cut at `cuts`, which are positions modulo its length."""
        data = self.data
        bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in self.cuts)})
        return [data[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]  # noqa: RUF007


class Sender:
    """Frames of a peer that breaks no rule."""

    def __init__(self, draw: st.DrawFn, setup: Setup, *, takeover: bool | None = None) -> None:
        self.draw = draw
        self.setup = setup
        self.takeover = setup.takeover if takeover is None else takeover
        self.context = self.fresh()
        self.frames: list[bytes] = []

    def fresh(self) -> Any:
        level, strategy = (
            self.draw(st.sampled_from([0, 1, 6, 9])),
            self.draw(st.sampled_from([0, zlib.Z_FIXED])),
        )
        return zlib.compressobj(level, zlib.DEFLATED, -self.setup.window, 8, strategy)

    def add(self, build: Callable[..., bytes], *arguments: Any, **options: Any) -> None:
        key = None
        if self.setup.role == "server":
            key = self.draw(st.sampled_from([bytes(4), EXAMPLE_KEY, b"\xff\x00\x80\x7f"]))
        self.frames.append(build(*arguments, **options, mask=key))

    def message(self, kind: str, payload: bytes) -> None:
        compressed = self.setup.deflate and self.draw(MOSTLY)
        if compressed:
            payload = self.compress(payload)
        bounds = sorted(self.draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        bounds = [0, *bounds, len(payload)]
        for number, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False)):  # noqa: RUF007
            fin = number == len(bounds) - 2
            if number:
                self.controls()
                self.add(continuation, payload[start:end], fin=fin)
            else:
                build = text if kind == "text" else binary
                self.add(build, payload[start:end], fin=fin, rsv1=compressed)
        self.controls()

    def compress(self, payload: bytes) -> bytes:
        middle, flush = len(payload) // 2, self.draw(st.sampled_from([zlib.Z_NO_FLUSH, zlib.Z_FULL_FLUSH]))
        context = self.context if self.takeover else self.fresh()
        data = context.compress(payload[:middle]) + context.flush(flush) + context.compress(payload[middle:])
        if not self.takeover and self.draw(st.integers(0, 7)) == 0:
            return bytes(data + context.flush(zlib.Z_FINISH) + b"\x00")
        return bytes(data + context.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)] or b"\x00"

    def controls(self) -> None:
        for build in self.draw(st.lists(st.sampled_from([ping, pong]), max_size=1)):
            self.add(build, self.draw(st.binary(max_size=8) | st.just(bytes(125))))

    def close(self) -> None:
        code = self.draw(st.sampled_from([None, 1000, 1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999]))
        self.add(close, code, "" if code is None else self.draw(st.text(max_size=20)))


CUTS = st.lists(st.integers(0, 1 << 20), max_size=12).map(tuple)
WORDS = st.lists(st.sampled_from(["one more time ", "κόσμε ", "\U0001f600" * 5]), max_size=4).map("".join)
TEXTS = (st.text(max_size=30) | WORDS).map(str.encode)
BINARIES = st.binary(max_size=30) | st.integers(100, 400).map(
    lambda size: bytes(range(256)) * 2 + bytes(size)
)
BAD_TEXT = [b"\xe2\x82", b"\xac", b"\xed\xa0", b"\xed\xa0\x80", b"\xf0\x9f", b"\xf4\x90", b"\xff", b"\xc0"]
DOUBTFUL_TEXTS = st.tuples(
    st.sampled_from([b"", b"a" * 20, "é\U0001f600".encode()]),
    st.sampled_from([b"", *BAD_TEXT]),
    st.sampled_from([b"", b"", b"", b"a", b"\x80"]),
).map(b"".join)
MOSTLY = st.sampled_from([True, True, True, False])
LARGE = st.sampled_from([125, 126, 127, 1000, 5000, 65535, 65536]).map(
    lambda size: (b"0123456789" * 6554)[:size]
)


@st.composite
def valid_stories(
    draw: st.DrawFn,
    windows: st.SearchStrategy[int],
    texts: st.SearchStrategy[bytes] = TEXTS,
    binaries: st.SearchStrategy[bytes] = BINARIES,
    most: int = 4,
) -> Story:
    """Any messages and control frames in an order that is allowed."""
    setup = Setup(draw(st.sampled_from(["client", "server"])), draw(MOSTLY))
    if setup.deflate:
        setup = replace(setup, window=draw(windows), takeover=draw(MOSTLY))
    sender = Sender(draw, setup)
    for _ in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from(["text", "binary"]))
        sender.message(kind, draw(texts if kind == "text" else binaries))
    if draw(st.booleans()):
        sender.close()
    return Story(setup, tuple(sender.frames), draw(CUTS))


@st.composite
def stories_of_forbidden_takeover(draw: st.DrawFn) -> Story:
    """The peer refers to earlier messages, though it was agreed that it does not."""
    setup = Setup(draw(st.sampled_from(["client", "server"])), deflate=True, takeover=False)
    sender = Sender(draw, setup, takeover=True)
    for _ in range(3):
        sender.message("text", draw(WORDS).encode())
    return Story(setup, tuple(sender.frames), draw(CUTS))


# zlib compares distances with the window only as far back as the output of one call began. With a window
# that is smaller than the data, it depends on the reads whether it finds a distance that is too large.
WINDOWS = st.integers(9, 15)
WIDEST = st.just(15)


@st.composite
def stories_with_a_flipped_bit(draw: st.DrawFn) -> Story:
    story = draw(valid_stories(WIDEST).filter(lambda each: each.frames))
    data, position = bytearray(story.data), draw(st.integers(0, len(story.data) - 1))
    if draw(st.booleans()):  # mostly the headers are of interest
        number = draw(st.integers(0, len(story.frames) - 1))
        position = len(b"".join(story.frames[:number])) + draw(
            st.integers(0, min(5, len(story.frames[number]) - 1))
        )
    data[position] ^= 1 << draw(st.integers(0, 7))
    return replace(story, frames=(bytes(data),))


@st.composite
def truncated_stories(draw: st.DrawFn) -> Story:
    story = draw(valid_stories(WINDOWS))
    return replace(story, frames=(story.data[: draw(st.integers(0, len(story.data)))],))


@st.composite
def stories_with_other_frames(draw: st.DrawFn) -> Story:
    """One frame too many, too few, twice, or in the wrong place."""
    story = draw(valid_stories(WINDOWS).filter(lambda each: each.frames))
    frames, position = list(story.frames), draw(st.integers(0, len(story.frames) - 1))
    match draw(st.sampled_from(["insert", "remove", "repeat", "swap"])):
        case "insert":
            case = draw(st.sampled_from([*ILLEGAL_FRAMES, *LEGAL_SEQUENCES]).filter(is_short))
            frames.insert(position, case.data(story.setup.role))
        case "remove":
            del frames[position]
        case "repeat":
            frames.insert(position, frames[position])
        case "swap":
            frames[position - 1], frames[position] = frames[position], frames[position - 1]
    return replace(story, frames=tuple(frames))


def is_short(case: FrameCase) -> bool:
    return len(case.data("server")) < 1000


@st.composite
def stories_with_anything_behind(draw: st.DrawFn) -> Story:
    story = draw(valid_stories(WIDEST))
    start = b""
    if draw(st.booleans()):  # as random bytes are seldom a header
        opcode = draw(st.sampled_from([0, 1, 2, 8, 9]))
        start = frame(opcode, draw(st.binary(max_size=20)), rsv1=draw(st.booleans()), mask=story.setup.key)
    return replace(story, frames=(*story.frames, start, draw(st.binary(max_size=40))))


STORIES: Final = {
    "valid": valid_stories(WINDOWS),
    "text that may not be UTF-8": valid_stories(WINDOWS, DOUBTFUL_TEXTS),
    "forbidden takeover": stories_of_forbidden_takeover(),
    "a flipped bit": stories_with_a_flipped_bit(),
    "truncated": truncated_stories(),
    "frames too many, too few, twice or misplaced": stories_with_other_frames(),
    "anything after a valid sequence": stories_with_anything_behind(),
}


def explore(stories: st.SearchStrategy[Story], examples: int) -> None:
    @given(stories)
    @settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])
    def agree(story: Story) -> None:
        compare(story.setup, story.data, story.reads)

    agree()


@pytest.mark.heavy
@EXAMPLES
@pytest.mark.parametrize("stories", STORIES.values(), ids=STORIES)
def test_all_judge_alike(stories: st.SearchStrategy[Story], examples: int) -> None:
    explore(stories, examples)


@pytest.mark.slow
def test_large_messages_are_seen_alike() -> None:
    explore(valid_stories(WINDOWS, LARGE, LARGE, most=1), 200)


@pytest.mark.heavy
@ROLES
@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
def test_the_catalogue_of_frames_is_judged_alike(role: Role, deflate: bool) -> None:
    setup = Setup(role, deflate=deflate)
    for case in (*ILLEGAL_FRAMES, *LEGAL_SEQUENCES):
        if len(data := case.data(role)) < 1000:
            compare(setup, data, [data])
            compare(setup, data, [data[:1], data[1:3], data[3:]])
