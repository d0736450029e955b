"""What the fuzzer runs: functions of bytes that raise when a promise is broken.

Each takes the code under test as keyword arguments, so that a test can plant a fault. The bytes are an
input of the fuzzer: the first few choose options, the rest is what a hostile peer sent. Corpus files are
such inputs; a change of what the first bytes mean makes them worthless.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any, Final

from wsstream.close_codes import is_close_code
from wsstream.codec.decoder import MAX_EVENTS, PIECE_OVERHEAD, Decoder
from wsstream.codec.events import Chunk, Close, Event, Ping, Pong, Violation
from wsstream.codec.speedups import FrameBatch, ReadStep, UnreadQueue
from wsstream.driver.flow import FlowControl
from wsstream.driver.inbox import Inbox
from wsstream.errors import (
    HandshakeError,
    HandshakeRejected,
    InvalidURL,
    InvalidUTF8,
    MessageTooBig,
    ProtocolViolation,
)
from wsstream.files.errors import TransferError
from wsstream.files.protocol.events import Failed, Stopped
from wsstream.files.protocol.messages import (
    Abort,
    Accept,
    Ack,
    Cancel,
    Done,
    End,
    Entries,
    Error,
    Get,
    Hello,
    List,
    Message,
    Offer,
    Prefix,
    Progress,
    Reject,
    encode,
    parse,
)
from wsstream.files.protocol.session import Session
from wsstream.files.protocol.states import RECEIVE, WrongState
from wsstream.files.protocol.states import State as FileState
from wsstream.opening.deflate_offer import accept_offer, confirm_response, make_offer
from wsstream.opening.extensions import Extension, format_extensions, parse_extensions
from wsstream.opening.grammar import parse_token_list
from wsstream.opening.handshake_server import RequestRejected, check_request, select_subprotocol
from wsstream.opening.http import Request
from wsstream.opening.http1 import ClientHandshake, ServerHandshake, Upgraded
from wsstream.opening.http1_heads import MAX_HEAD_SIZE
from wsstream.opening.http1_request import MAX_BODY_EXCERPT
from wsstream.opening.origins import Origins
from wsstream.opening.url import URL, parse_url
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed, Deflate
from wsstream.protocol.inflate import Inflater, PythonInflater
from wsstream.protocol.state import State
from wsstream.testing import EXAMPLE_KEY, parse_frames

__all__ = ["KEY", "TARGETS", "connection", "decoder", "extensions", "files", "handshake", "inflater", "url"]

UNLIMITED: Final = 1 << 62
READ_BUFFER: Final = 4096
KEY: Final = bytes(range(16))
"""The nonce of the client in `handshake`; the corpus has its answer."""


def pieces(data: bytes, sizes: bytes) -> Iterator[bytes]:
    """`data` as reads: of 1 + the square of each of `sizes` in turn; whole if there are none."""
    start, turns = 0, cycle(sizes)
    while start < len(data):
        size = 1 + next(turns) ** 2 if sizes else len(data)
        yield data[start : start + size]
        start += size


def joined(events: Iterable[Event]) -> list[Event]:
    """Messages as one chunk each, and no part of the one that a violation is in."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, str):
            event = Chunk("text", event.encode(), True)
        elif isinstance(event, bytes):
            event = Chunk("binary", event, True)
        before = result[-1] if result else None
        if not isinstance(before, Chunk) or before.last:
            result.append(event)
        elif isinstance(event, Violation):
            result[-1] = event
        elif isinstance(event, Chunk):
            assert (event.kind, event.compressed) == (before.kind, before.compressed)
            result[-1] = event._replace(payload=before.payload + event.payload)
        else:  # a control frame inside a message: before it, so that the chunks of the message meet
            result.insert(-1, event)
    return result


# -- decoder -------------------------------------------------------------------------------------


def decoder(data: bytes, *, make: Callable[..., Decoder] = Decoder) -> None:
    """One byte of options, one of room, four of reads, then frames."""
    options, room, sizes, wire = data[:1] or b"\0", data[1:2] or b"\0", data[2:6], data[6:]
    masked, rsv1 = bool(options[0] & 1), bool(options[0] & 2)
    whole = decode_all(make(masked=masked, rsv1=rsv1), [wire], UNLIMITED)
    split = decode_all(make(masked=masked, rsv1=rsv1), pieces(wire, sizes), 1 + room[0] ** 2)
    assert joined(whole) == joined(split), "it matters where reads end"
    stepped = Steps(make(masked=masked, rsv1=rsv1), masked, rsv1).run(pieces(wire, sizes))
    assert joined(whole) == joined(stepped), "it matters who takes the plain messages"
    handed_on = sum(len(each) for each in map(payload_of, whole))
    assert handed_on <= len(wire), "more came out than went in"


def payload_of(event: Event) -> bytes:
    if isinstance(event, str):
        return event.encode()
    if isinstance(event, Close | Violation):
        return b""
    return event if isinstance(event, bytes) else event.payload


def decode_all(subject: Decoder, reads: Iterable[bytes], room: int) -> list[Event]:
    """Decode everything, checking what each single call promises."""
    result: list[Event] = []
    for read in reads:
        while read:
            ended = subject.finished
            events = subject.decode(read, room)
            check_call(subject, events, len(read), room)
            assert not (ended and events), "something came after the end"
            result += events
            read = read[subject.consumed :]
    ends = [event for event in result if isinstance(event, Close | Violation)]
    assert ends == result[-1:] if subject.finished else not ends
    return result


def check_call(subject: Decoder, events: list[Event], size: int, room: int) -> None:
    data = [event for event in events if isinstance(event, str | bytes | Chunk)]
    costs = [len(payload_of(event)) + PIECE_OVERHEAD for event in data]
    assert 0 < subject.consumed <= size, "no progress"
    assert subject.cost == sum(costs)
    assert sum(costs[:-1]) < room, "it went on though the room was full"
    assert len(events) <= MAX_EVENTS
    assert subject.control == (len(data) < len(events))
    assert len(getattr(subject, "_kept", b"")) <= 139
    for event in events:
        match event:
            case Ping() | Pong():
                assert len(event.payload) <= 125
            case Close(code=int(code)):
                assert is_close_code(code)
            case Violation():
                assert event.code in (1002, 1007)


class Steps:
    """Reads by a ReadStep, which keeps the beginnings of messages, and leaves the rest to the `subject`."""

    def __init__(self, subject: Decoder, masked: bool, rsv1: bool) -> None:
        self.subject = subject
        self.queue = UnreadQueue()
        self.read = b""
        self.result: list[Event] = []
        self.step = ReadStep(
            self.queue, FrameBatch(), masked, rsv1, self.receive, memoryview(bytearray(READ_BUFFER))
        )
        self.step.owner = self
        self.step.high_water = READ_BUFFER
        self.step.open = self.step.keeps = True

    def run(self, reads: Iterable[bytes]) -> list[Event]:
        for self.read in reads:
            while self.read:
                assert self.step.take()
                self.take_messages()
        self.take_rest(memoryview(self.step.release()))
        return self.result

    def receive(self, buffer: memoryview, size: int) -> int:
        count = min(size, len(self.read), len(buffer))
        buffer[:count], self.read = self.read[:count], self.read[count:]
        return count

    def take_messages(self) -> None:
        self.result += self.queue
        self.queue.clear()

    def take_rest(self, data: memoryview) -> None:
        self.take_messages()
        subject = self.subject
        self.result += decode_all(subject, [bytes(data)], UNLIMITED)
        self.step.due = subject.rest_due
        self.step.open = not (subject.inside_message or subject.inside_frame or subject.finished)

    def end_of_stream(self) -> None:
        raise AssertionError("an end that did not come")

    def wake_receiver(self) -> None:
        raise AssertionError("nobody waits")

    def step_failed(self, error: Exception) -> None:
        raise error


# -- connection ----------------------------------------------------------------------------------

HIGH_WATER: Final = 2048
LIMIT: Final = 4096  # bytes of a message
FAILURES = (MessageTooBig, InvalidUTF8, ProtocolViolation)


def agreement(options: int) -> Agreed | None:
    """Of the second byte of options: permessage-deflate or not, and how."""
    if not options & 1:
        return None
    return Agreed(
        Deflate(mem_level=1, level=1, min_size=8),
        send_window=9,
        send_takeover=bool(options & 2),
        # zlib checks distances against the window only as far back as one call's output began, so with
        # a smaller window it depends on the reads whether a wrong one is found.
        receive_window=15,
        receive_takeover=bool(options & 4),
    )


def connection(data: bytes, *, make: Callable[..., Connection] = Connection) -> None:
    """Two bytes of options, four of reads, one for the size of a script of at most 31 steps, then frames."""
    head = data[:7].ljust(7, b"\0")
    client, deflate, sizes = bool(head[0] & 1), agreement(head[1]), head[2:6].rstrip(b"\0")
    count = head[6] & 31
    script, wire = data[7 : 7 + count], data[7 + count :]

    def endpoint() -> Endpoint:
        return Endpoint(make(client=client, deflate=deflate, next_key=lambda: EXAMPLE_KEY))

    whole, split, scripted = endpoint(), endpoint(), endpoint()
    whole.run([wire], b"", room=1)
    split.run(pieces(wire, sizes), b"", room=1)
    assert whole.summary() == split.summary(), "it matters where reads end"
    scripted.run(pieces(wire, sizes), script, room=HIGH_WATER)


class Endpoint:
    """A connection with its inbox, run as the driver runs them."""

    def __init__(self, subject: Connection) -> None:
        self.connection = subject
        self.inbox = Inbox(FlowControl(), subject.inflater)
        self.messages: list[str | bytes] = []
        self.pings: list[bytes] = []
        self.tail = memoryview(b"")
        self.reading = False  # a message chunk by chunk
        self.failed = False
        self.sent = bytearray()

    def summary(self) -> tuple[Any, ...]:
        """What must not depend on the reads."""
        subject = self.connection
        code = None if subject.violation is None else subject.violation.code
        if self.failed and code == 1002:
            code = 1007  # zlib keeps what it has inflated in the call that finds the data wrong
        return self.messages, self.pings, subject.close_received, code

    def run(self, reads: Iterable[bytes], script: bytes, *, room: int) -> None:
        """Receive it all. Without a `script` the application reads at once whatever there is."""
        steps = cycle(script)
        for read in reads:
            self.tail = memoryview(bytes(self.tail) + read)
            while self.tail:
                if self.room(room) > 0:
                    self.receive(self.room(room))
                self.act(next(steps, 0))
                if self.room(room) <= 0:
                    self.take_messages()
                if self.room(room) <= 0:
                    self.inbox.discard()  # a message that is larger than the room and asked for in vain
        for _ in range(len(script)):
            self.act(next(steps, 0))
        self.take_messages()
        self.connection.receive_eof()
        assert self.connection.state is State.CLOSED
        self.check_sent()

    def room(self, high_water: int) -> int:
        return UNLIMITED if self.inbox.discarding else high_water - self.inbox.cost

    def receive(self, room: int) -> None:
        subject, over = self.connection, self.connection.state not in (State.OPEN, State.CLOSE_SENT)
        violation = subject.violation
        events = subject.receive(self.tail, room)
        if subject.state is State.VIOLATED:
            subject.fail()
        assert 0 < subject.consumed <= len(self.tail)
        self.tail = self.tail[subject.consumed :]
        if over:
            assert not events, "something came after the end"
            assert not self.tail
            assert subject.violation is violation
        data = [event for event in events if isinstance(event, str | bytes | Chunk)]
        if violation is None and subject.violation is not None and self.failed is False:
            assert subject.state is State.FAILED
        if data:
            assert sum(len(payload_of(each)) + PIECE_OVERHEAD for each in data[:-1]) < room
        self.pings += [event.payload for event in events if isinstance(event, Ping)]
        self.inbox.put(events, subject.cost)
        if subject.state not in (State.OPEN, State.CLOSE_SENT):
            self.inbox.end()
        self.check_held()
        self.leave()

    def check_held(self) -> None:
        held = sum(len(payload_of(item)) + PIECE_OVERHEAD for item in self.inbox.queue)
        assert self.inbox.cost == held

    def leave(self, count: int = UNLIMITED) -> None:
        """Let bytes leave."""
        outgoing = self.connection.queue
        while count and (buffers := outgoing.buffers()):
            offered = b"".join(buffers)[:count]
            outgoing.advance(len(offered))
            self.sent += offered
            count -= len(offered)
        assert outgoing.size >= 0

    # -- what an application does ------------------------------------------------------------

    def act(self, step: int) -> None:
        """One step of the script: three bits say what, five how much."""
        what, much = step & 7, step >> 3
        match what:
            case 0:
                self.take_messages()
            case 1:
                self.skip_open_message()
                self.take(self.inbox.take_message, LIMIT)
            case 2 | 3 | 4 if self.take(self.inbox.begin) is not None:
                self.read_on(what, much**2)
            case 5 if self.connection.state is State.OPEN and not self.connection.sending:
                self.connection.send_message("binary", bytes(much))
            case 6 if self.connection.state is State.OPEN:
                self.connection.send_data("text", b"a" * much, last=bool(much & 1))
            case 7 if much == 31 and self.connection.state is State.OPEN:
                self.connection.send_close(Close(1000))
            case 7 if much == 30:
                self.inbox.discard()
            case _:
                self.leave(much)
        self.check_held()

    def take(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call something of the inbox as the driver does."""
        try:
            return call(*arguments)
        except FAILURES as error:
            if self.connection.state in (State.OPEN, State.CLOSE_SENT):
                self.connection.fail(Violation(error.code, str(error)))
                self.failed = True
            self.inbox.discard()
            self.inbox.end()
            return None

    def skip_open_message(self) -> None:
        if self.reading and not self.inbox.discarding:
            self.inbox.finish()
        self.reading = False

    def take_messages(self) -> None:
        self.skip_open_message()
        while (message := self.take(self.inbox.take_message, LIMIT)) is not None or self.inbox.more_ready:
            if message is not None:
                assert len(payload_of(message)) <= LIMIT
                self.messages.append(message)

    def read_on(self, what: int, size: int) -> None:
        """A chunk of the message in front, the rest of it, or no more of it."""
        inbox = self.inbox
        if what == 2:
            assert len(self.take(inbox.take_chunk, size + 1) or b"") <= size + 1
        elif what == 3:
            assert len(self.take(inbox.take_rest, LIMIT) or b"") <= LIMIT
        self.reading = True
        if what == 4 or inbox.is_complete:
            self.skip_open_message()

    # -- what the peer gets ------------------------------------------------------------------

    def check_sent(self) -> None:
        """Nothing but legal frames, each Pong the answer to a Ping, and behind Close nothing but Pongs."""
        subject = self.connection
        self.leave()
        frames, pings = parse_frames(bytes(self.sent), masked=subject.client), set(self.pings)
        while frames and subject.close_sent is not None and frames[-1].kind == "pong":
            assert frames.pop().payload in pings  # section 5.5.2: due until the peer's Close
        closes = [number for number, frame in enumerate(frames) if frame.kind == "close"]
        assert closes in ([], [len(frames) - 1])
        assert all(frame.payload in pings for frame in frames if frame.kind == "pong")
        if closes and subject.close_sent is not None:
            assert frames[-1].close_code == subject.close_sent.code
        assert len(closes) == (subject.close_sent is not None)
        if subject.violation is not None and subject.close_received is None:
            assert subject.close_sent is not None


# -- inflater ------------------------------------------------------------------------------------

MOST: Final = (1, 2, 100, 65536)  # bytes that a whole message may have
LONG: Final = 100_000  # bytes; a longer message is not inflated to its end
HELLO: Final = bytes.fromhex("f248cdc9c90700")  # RFC 7692 section 7.2.3.1


def inflater(data: bytes, *, make: Callable[[int, bool], Any] = Inflater) -> None:
    """A byte of options, one for steps, one for the size of the first message, then compressed data."""
    head, wire = data[:3].ljust(3, b"\0"), data[3:]
    takeover, most, step = bool(head[0] & 1), MOST[head[0] >> 1 & 3], 1 + head[1] ** 2
    messages = [wire[: head[2]], wire[head[2] :], HELLO]
    outcomes = [
        inflate_all(version(15, takeover), messages, step, whole)
        for version in (PythonInflater, make)
        for whole in (most, 0)
    ]
    assert all(outcome == outcomes[0] for outcome in outcomes), "it matters who inflates, and in which steps"


def inflate_all(subject: Any, messages: list[bytes], step: int, most: int) -> list[bytes | None]:
    """Each message, taken whole if it has less than `most` bytes; ``None``: it is `LONG` or breaks a rule."""
    result: list[bytes | None] = []
    for message in messages:
        payload, whole = b"", False
        try:
            if most:
                payload, whole = subject.take_whole(message, most)
                assert len(payload) < most if whole else len(payload) <= most
            else:
                subject.feed(message)
            while not whole and (piece := subject.take(step)):
                assert len(piece) <= step, "more than was asked for"
                payload += piece
                if len(payload) > LONG:
                    return [*result, None]
            if not whole:
                subject.end()
        except ValueError:
            return [*result, None]
        assert len(payload) <= 1032 * len(message)
        result.append(payload)
    return result


# -- handshake -----------------------------------------------------------------------------------

WHERE: Final = parse_url("ws://user:pass@example.com:8080/chat?x=1")
SUBPROTOCOLS: Final = ("chat", "superchat")


def handshake(
    data: bytes,
    *,
    server: Callable[..., ServerHandshake] = ServerHandshake,
    client: Callable[..., ClientHandshake] = ClientHandshake,
) -> None:
    """One byte of options, four of reads, then what came before the first frame."""
    options, sizes, wire = (data[:1] or b"\0")[0], data[1:5].rstrip(b"\0"), data[5:]
    play: Callable[[Iterable[bytes], int], list[Any]]
    play = partial(play_client, client) if options & 1 else partial(play_server, server)
    whole, split = play([wire], options), play(pieces(wire, sizes), options)
    assert whole == split, "it matters where reads end"


def play_server(make: Callable[..., ServerHandshake], reads: Iterable[bytes], options: int) -> list[Any]:
    subject, rest = make(peer=("127.0.0.1", 1)), iter(reads)
    try:
        while (request := subject.receive_data(next(rest, b""))) is None:
            pass
        offer = check_request(request, origins=Origins(["http://example.com", "same", None]))
    except RequestRejected as refused:
        answer = subject.reject(refused.response)
        assert answer.startswith(b"HTTP/1.1 ")
        assert b"\r\n\r\n" in answer
        return ["refused", answer]
    except HandshakeError:
        return ["ended"]
    assert offer.key == request.headers["sec-websocket-key"]
    chosen = select_subprotocol(offer.subprotocols, SUBPROTOCOLS)
    deflate = accept_offer(Deflate(), offer.extensions)
    accepted = () if deflate is None else (deflate[0],)
    answer = subject.accept(offer, subprotocol=chosen, extensions=accepted)
    check_answer(request, answer, chosen, accepted)
    return [request.target, request.headers, request.cookies, answer, subject.trailing + b"".join(rest)]


def check_answer(request: Request, answer: bytes, chosen: str, accepted: tuple[Extension, ...]) -> None:
    """A client that had sent this very key, subprotocol and extension opens the connection."""
    key = base64.b64decode(request.headers["sec-websocket-key"])
    if base64.b64encode(key).decode() != request.headers["sec-websocket-key"]:
        return  # the bits behind the last byte are not zero: no client makes such a key from bytes
    offered = () if not chosen else (chosen,)
    peer = ClientHandshake(WHERE, key=key, subprotocols=offered, extensions=accepted)
    result = peer.receive_data(answer)
    assert result is not None
    assert (result.subprotocol, result.extensions, result.trailing) == (chosen, accepted, b"")


def play_client(make: Callable[..., ClientHandshake], reads: Iterable[bytes], options: int) -> list[Any]:
    offered = (make_offer(Deflate()),) if options & 2 else ()
    wanted = SUBPROTOCOLS if options & 4 else ()
    subject, rest = make(WHERE, key=KEY, subprotocols=wanted, extensions=offered), iter(reads)
    assert subject.data_to_send().endswith(b"\r\n\r\n")
    result: Upgraded | None = None
    try:
        while result is None:
            result = subject.receive_data(next(rest, b""))
    except HandshakeRejected as rejected:
        return summary_of(rejected)
    except HandshakeError:
        return ["failed"]
    try:
        agreed = confirm_response(Deflate(), result.extensions)
    except ValueError:
        return ["not agreed"]
    assert result.subprotocol in wanted or not (result.subprotocol or wanted)
    assert bool(result.extensions) <= bool(offered)
    return [result.subprotocol, agreed, result.response.headers, result.trailing + b"".join(rest)]


def summary_of(rejected: HandshakeRejected) -> list[Any]:
    assert rejected.status != 101
    assert len(rejected.body) <= MAX_BODY_EXCERPT
    return [rejected.status, rejected.headers, rejected.body]


# -- extensions ----------------------------------------------------------------------------------


def extensions(
    data: bytes, *, parse: Callable[[Iterable[str]], tuple[Extension, ...]] = parse_extensions
) -> None:
    """Two bytes of options, then the values of fields, a line each."""
    head, text = data[:2].ljust(2, b"\0"), data[2:].decode("latin-1")
    fields = text.split("\n")
    options = Deflate(
        window_bits=9 + (head[0] & 7) % 7,
        peer_window_bits=9 + (head[0] >> 3 & 7) % 7,
        context_takeover=bool(head[1] & 1),
        peer_context_takeover=bool(head[1] & 2),
    )
    check_tokens(fields)
    try:
        parsed = parse(fields)
    except ValueError:
        return
    assert parsed
    assert parse([format_extensions(parsed)]) == parsed
    assert parse([", ".join(fields)]) == parsed, "it matters how a list is spread over fields"
    check_server(options, parsed)
    check_client(options, parsed)


def check_tokens(fields: list[str]) -> None:
    try:
        tokens = parse_token_list(fields)
    except ValueError:
        return
    assert parse_token_list([",".join(tokens)]) == tokens


def check_server(options: Deflate, offers: tuple[Extension, ...]) -> None:
    """An answer keeps to our limits and to those of one of the offers (RFC 7692 section 7.1)."""
    result = accept_offer(options, offers)
    met = next((offer for offer in offers if accept_offer(options, (offer,)) is not None), None)
    assert (result is None) == (met is None), "the alternatives are not taken one by one"
    if result is None or met is None:
        return
    answer, agreed = result
    assert accept_offer(options, (met,)) == result
    assert 9 <= agreed.send_window <= options.window_bits
    assert 8 <= agreed.receive_window <= options.peer_window_bits
    assert agreed.send_takeover <= options.context_takeover
    assert agreed.receive_takeover <= options.peer_context_takeover
    assert suits(dict(met.params), dict(answer.params))
    if agreed.receive_window > 8:  # a client that uses zlib refuses such a window
        read = confirm_response(Deflate(), (answer,))
        assert read is not None
        assert (read.send_window, read.send_takeover) == (agreed.receive_window, agreed.receive_takeover)
        assert (read.receive_window, read.receive_takeover) == (agreed.send_window, agreed.send_takeover)


def suits(offer: dict[str, str | None], answer: dict[str, str | None]) -> bool:
    if "server_no_context_takeover" in offer and "server_no_context_takeover" not in answer:
        return False
    wanted, given = offer.get("server_max_window_bits"), answer.get("server_max_window_bits")
    if wanted is not None and (given is None or int(given) > int(wanted)):
        return False
    if "client_max_window_bits" not in answer:
        return True
    most, bits = offer.get("client_max_window_bits", "none"), answer["client_max_window_bits"]
    return most != "none" and bits is not None and int(bits) <= int(most or 15)


def check_client(options: Deflate, accepted: tuple[Extension, ...]) -> None:
    try:
        agreed = confirm_response(options, accepted)
    except ValueError:
        return
    assert agreed is not None
    assert 9 <= agreed.send_window <= options.window_bits
    assert 8 <= agreed.receive_window <= options.peer_window_bits
    assert agreed.send_takeover <= options.context_takeover
    assert agreed.receive_takeover <= options.peer_context_takeover


# -- URL -----------------------------------------------------------------------------------------


URL_TOKENS: Final = (
    *("ws://", "wss://", "http://", "https://", "://", "//", "[", "]", "[::1]", "[::ffff:1.2.3.4]", "[v1.a]"),
    *("127.0.0.1", "0x7f", "1", "255", "256", ":65535", ":80", ":443", ":0", "a:b@", ":@", "@", "?a=b", "#f"),
    *("%", "%2F", "%00", "%C3%A9", "%E3%80%82", "%2e", "%61", "%ff", "..", "example.com.", "xn--",
      "xn--mgba", "é", "ß", "ẞ", "İ", "ı", "。", "．", "ａ", "①", "𝔸", "\u00ad", "\u200c", "\u200d",
      "\u202e", "א", "ب", "٣", "\u0301", "ǆ", "㋿", "\ufeff", "\ufffd", "\U000e0041", "\ud800", "\udcff",
      "\xa0", "\u2028", "\x00", "\x7f",),
    *("a" * 63, "a." * 60, "😀", "~", "_", "-", "^", "`", "{", "|", "\\", '"', "<", " ", "\t", "\r\n"),
)  # fmt: skip


def url(data: bytes, *, parse: Callable[[str], URL] = parse_url) -> None:
    """Printable ASCII characters stand for themselves, other bytes for one of the tokens."""
    text = "".join(chr(each) if 32 < each < 127 else URL_TOKENS[each % len(URL_TOKENS)] for each in data)
    try:
        parsed = parse(text)
    except InvalidURL:
        return
    assert 1 <= parsed.port <= 65535
    assert parsed.host == parsed.host.lower()
    for part in (parsed.host, parsed.target):
        assert part.isascii(), part
        assert part.isprintable(), part
        assert " " not in part, part
    assert parsed.target.startswith("/")
    assert parse(str(parsed)) == replace(parsed, userinfo=None), "the normalised URL is another one"
    sent = ClientHandshake(parsed, key=KEY).data_to_send()
    if len(sent) > MAX_HEAD_SIZE:
        return
    request = ServerHandshake().receive_data(sent)
    assert request is not None
    assert request.target == parsed.target
    assert request.headers["host"] == parsed.host_header
    check_request(request)


# -- files ---------------------------------------------------------------------------------------

FILE_DIGEST: Final = "0123456789abcdef" * 4
FILE_SIZE: Final = 1000


def files(data: bytes, *, make: Callable[..., Session] = Session) -> None:
    """A byte of options, then lines: those that begin with ``{`` are what the peer says, others are steps.

    In what the peer says, ``$`` stands for a digest.
    """
    options, lines = (data[:1] or b"\0")[0], data[1:].split(b"\n")
    end = FileEnd(make, client=bool(options & 1), max_size=FILE_SIZE if options & 2 else None)
    for line in lines:
        if line.startswith(b"{"):
            end.receive(line.decode(errors="replace").replace("$", FILE_DIGEST))
        elif line:
            end.act(line[0] & 7, line[0] >> 3 | (line[1] if len(line) > 1 else 0) << 5)
        end.check()


class FileEnd:
    """A session, run as a program runs it."""

    def __init__(self, make: Callable[..., Session], *, client: bool, max_size: int | None) -> None:
        hello = Hello(1, "fuzz", 256, ("sha256",), ("get", "list", "put"), max_size, True)
        self.session = make(hello, client=client, now=0.0, segment=256)
        self.now = 0.0
        self.error = False  # the peer was told of one
        self.reach = self.window = 0  # of what this end has granted
        self.ended: list[Any] = []  # the ids of the requests that were told to be over

    def receive(self, text: str) -> None:
        session, before, id = self.session, self.session.state, self.session.id
        session.receive_text(text, self.now)
        try:
            message = parse(text)
        except TransferError:
            assert session.state is FileState.CLOSED
            return
        assert parse(encode(message)) == message, "it is another message on its way back"
        if getattr(message, "id", None) == id and id and session.error is None:
            assert (before, type(message)) in RECEIVE, "what is not in the table was taken"

    def act(self, what: int, much: int) -> None:
        """One step: what the program or the network does, and how much of it."""
        session = self.session
        match what:
            case 0:
                session.receive_data(much, self.now)
            case 1:
                self.now += much / 16
                session.tick(self.now)
            case 2 | 3:
                self.send(much)
            case 4:
                if size := session.may_send():
                    session.sent(min(size, 1 + much), self.now)
            case 5:
                grant = session.grant
                session.written(min(much, grant.received - grant.written) if grant else 0, self.now)
            case 6:
                if session.grant is not None:
                    session.durable(session.grant.written)
            case 7:
                session.verify(FILE_DIGEST if much & 1 else "0" * 64, self.now)
        if session.state is FileState.CHECKING and much & 1:
            session.check_passed()

    def send(self, much: int) -> None:
        """A message of the program, whether it is possible or not."""
        session = self.session
        id = session.id or session.next_id
        credit = session.credit
        check = Prefix(0, much, FILE_DIGEST) if 0 < much <= FILE_SIZE else None
        messages: list[Callable[[], Message]] = [
            lambda: Get(id, "a"),
            lambda: List(id, ""),
            lambda: Entries(id, ()),
            lambda: Reject(id, "busy", "", "later"),
            lambda: Offer(
                id,
                "a",
                FILE_SIZE if much & 32 else None,
                None,
                ("sha256",),
                "v",
                FILE_DIGEST,
                fresh=bool(much & 16),
            ),
            lambda: Accept(id, check.end if check else 0, "sha256", 512, 256, "t", check),
            lambda: Accept(id, 0, "sha256", 512, 256, "t"),
            lambda: Progress(id, "hashing", much, None),
            lambda: End(id, credit.sent if credit else FILE_SIZE, FILE_DIGEST),
            lambda: Abort(id, "io", "", True),
            lambda: Cancel(id, "io", "", True),
            lambda: Done(
                id, session.grant.written if session.grant else FILE_SIZE, FILE_DIGEST, "sha256", "a", 0
            ),
        ]
        try:
            session.send(messages[much % len(messages)](), self.now)
        except (WrongState, ValueError, TransferError):
            pass

    def check(self) -> None:
        """What holds after each step."""
        session = self.session
        new = [parse(text) for text in session.outgoing()]
        assert len(new) <= 2, "more is said than was asked"
        assert not (self.error and new), "something was said after the end"
        errors = [each for each in new if isinstance(each, Error)]
        assert errors in ([], new[-1:]), "something was said after the end"
        self.error = self.error or bool(errors)
        assert (session.close is not None) == (session.state is FileState.CLOSED)
        if session.error is not None and session.close != (1000, ""):
            assert self.error, "the peer was not told why"
        for event in session.events():
            assert None not in self.ended, "something was told after the end"
            if isinstance(event, Stopped | Failed):
                id = event.id if isinstance(event, Stopped) else None
                assert id not in self.ended, "one end was told twice"
                self.ended.append(id)
        self.check_credit(new)

    def check_credit(self, new: list[Message]) -> None:
        """Both ways: what was granted is what arrives, at most, and what is sent."""
        for message in new:
            if isinstance(message, Accept):
                self.reach, self.window = message.offset + message.window, message.window
            elif isinstance(message, Ack):
                self.window = message.window or self.window
                self.reach = max(self.reach, message.written + self.window)
        grant, credit = self.session.grant, self.session.credit
        if grant is not None:
            assert grant.received <= self.reach, "more was taken than was granted"
        if credit is not None and (size := self.session.may_send()):
            assert credit.sent + size - credit.written <= credit.window, "more may be sent than was granted"


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "decoder": decoder,  # reads may end anywhere, and no more bytes come out than went in
    "connection": connection,  # whatever the peer and the application do, only legal frames leave
    "inflater": inflater,  # both versions make the same of any data, in any steps
    "handshake": handshake,  # reads may end anywhere, and a request that is accepted can be answered
    "extensions": extensions,  # an answer keeps to the limits of both sides
    "url": url,  # a URL that is accepted can be sent as a request
    "files": files,  # whatever the peer of a transfer says, this end keeps to its tables and its limits
}
