"""RFC 7692 sections 6 and 7.2: the bit "Per-Message Compressed" (RSV1), and what is in a compressed message.

Each row is run in both roles; without I/O whole, byte by byte and read in chunks of several sizes, and once
over a socket on each backend. The peer is zlib, or bytes made by hand. That any content survives in any
fragments, windows, levels and steps is a property in tests/protocol/test_deflate.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

import anyio
import pytest
from kit.zlib_peer import HELLO, TAIL, deflate, inflate_strictly

from wsstream import ConnectionBroken, Deflate
from wsstream.testing import Frame

TEXT, BINARY, MORE, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
ROLES = pytest.mark.parametrize("role", ["client", "server"])
WINDOWS = range(9, 16)
OURS_FRESH, THEIRS_FRESH = "; {ours}_no_context_takeover", "; {theirs}_no_context_takeover"
NOISE = Random(7692).randbytes(1 << 17)
LONG = "".join(f"{n} bottles " for n in range(60)).encode()
AGAIN = bytes.fromhex("f200110000")  # section 7.2.3.2: HELLO, by a reference to it
FINAL = bytes.fromhex("f348cdc9c90700")  # HELLO as a final block, without the empty block after it
(FIXED,) = deflate(LONG, strategy=zlib.Z_FIXED)
Sent = tuple[int, bytes, dict[str, bool]]


def f(opcode: int, payload: bytes = b"", **options: bool) -> Sent:
    return opcode, payload, options


def packed(*payloads: bytes, fin: bool = True) -> list[Sent]:
    """Frames with RSV1, text where they are short."""
    return [f(TEXT if len(each) < 64 else BINARY, each, rsv1=True, fin=fin) for each in payloads]


def packed_text(*texts: bytes) -> list[Sent]:
    return [f(TEXT, each, rsv1=True) for each in deflate(*texts)]


def cut(data: bytes, *cuts: int) -> list[Sent]:
    """A compressed text message as fragments."""
    pieces = [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]
    last = len(pieces) - 1
    return [f(MORE if i else TEXT, piece, fin=i == last, rsv1=i == 0) for i, piece in enumerate(pieces)]


def stored(data: bytes) -> bytes:
    """A block without compression that begins at a byte boundary (RFC 1951 section 3.2.4)."""
    size = len(data)
    return b"\0" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data


def dynamic(data: bytes) -> bytes:
    """One final block with Huffman codes of its own."""
    block = zlib.compress(data, 9, wbits=-15)
    assert block[0] & 7 == 0b101, "a final block of type 10"
    return block


def back(distance: int) -> list[Sent]:
    """Two messages of which the second refers `distance` bytes back into the first."""
    first, second = deflate(NOISE[:distance], NOISE[:200])
    assert len(second) < 60, "it is no reference"
    return [f(BINARY, first, rsv1=True), f(BINARY, second, rsv1=True)]


def rows(table: Sequence[Any]) -> Any:
    assert len({row.id for row in table}) == len(table)
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table])


# -- what arrives --------------------------------------------------------------------------------


class Received(NamedTuple):
    """Frames that arrive, the messages they are, and the code with which the connection is failed.

    `params` of the answer; with ``None`` nothing was negotiated. Code 1000 is the peer's own.
    """

    id: str
    frames: list[Sent]
    messages: list[str | bytes]
    code: int | None = None
    params: str | None = ""
    limit: int | None = 1 << 20


HALF, REST = cut(HELLO, 3)
CODE_POINTS = deflate("ä€𝄞".encode())[0]

RECEIVED = [
    # What the bit says
    Received("6-compressed-text", [f(TEXT, HELLO, rsv1=True)], ["Hello"]),
    Received("6-compressed-binary", [f(BINARY, HELLO, rsv1=True)], [b"Hello"]),
    Received("6-uncompressed-text", [f(TEXT, b"Hello")], ["Hello"]),
    Received("6-uncompressed-binary-that-looks-compressed", [f(BINARY, HELLO)], [HELLO]),
    Received("6-uncompressed-fragments", [f(BINARY, HELLO[:2], fin=False), f(MORE, HELLO[2:])], [HELLO]),
    Received("6-both-kinds-mixed", [f(TEXT, b"1"), *packed(HELLO), f(BINARY), *packed(b"\0"),
             f(TEXT, b"2", fin=False), f(MORE, b"3"), HALF, REST], ["1", "Hello", b"", "", "23", "Hello"]),
    # On which frames it may stand
    Received("6.1-rsv1-on-the-first-fragment-alone", [HALF, REST], ["Hello"]),
    Received("6.1-rsv1-on-a-continuation", [HALF, f(MORE, HELLO[3:], rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-an-empty-continuation", [HALF, f(MORE, fin=False, rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-a-continuation-of-an-uncompressed-message",
             [f(TEXT, b"a", fin=False), f(MORE, b"b", rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-a-ping", [f(PING, b"p", rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-a-pong", [f(PONG, b"", rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-a-close", [f(CLOSE, b"\x03\xe8", rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-a-ping-between-fragments", [HALF, f(PING, rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-opcode-3", [f(3, HELLO, rsv1=True)], [], 1002),
    Received("6.1-what-was-complete-before-is-delivered",
             [f(TEXT, b"1"), HALF, REST, f(PING, rsv1=True), f(TEXT, b"2")], ["1", "Hello"], 1002),
    Received("6.1-rsv2-has-no-meaning", [f(TEXT, HELLO, rsv1=True, rsv2=True)], [], 1002),
    Received("6.1-rsv3-has-no-meaning", [f(TEXT, HELLO, rsv1=True, rsv3=True)], [], 1002),
    Received("6.1-rsv2-on-an-uncompressed-message", [f(TEXT, b"Hello", rsv2=True)], [], 1002),
    Received("6-not-negotiated", packed(HELLO), [], 1002, None),
    Received("6-not-negotiated-first-fragment", packed(b"", fin=False), [], 1002, None),
    # Frames of a compressed message
    *[Received(f"6.2-fragments-cut-at-{at}", cut(HELLO, at), ["Hello"]) for at in range(len(HELLO) + 1)],
    Received("6.2-a-fragment-for-each-byte", cut(HELLO, *range(1, len(HELLO))), ["Hello"]),
    Received("6.2-empty-fragments-everywhere", cut(HELLO, 0, 0, 3, 3, 3, 7, 7), ["Hello"]),
    Received("6.2-fragments-of-a-code-point", cut(CODE_POINTS, *range(1, len(CODE_POINTS))), ["ä€𝄞"]),
    Received("6.1-control-frames-between-all-fragments",
             [part for one in cut(HELLO, *range(1, 7)) for part in (one, f(PONG, b"?"), f(PING, HELLO))],
             ["Hello"]),
    Received("6.1-a-message-inside-another", [HALF, *packed(HELLO)], [], 1002),
    Received("6.1-an-uncompressed-message-inside-a-compressed-one", [HALF, f(TEXT, b"Hello")], [], 1002),
    Received("6.1-close-inside-a-compressed-message",
             [f(TEXT, b"1"), HALF, f(CLOSE, b"\x03\xe8")], ["1"], 1000),
    # What the payload has to be is true of the message, not of the frames
    Received("6.1-text-that-is-not-utf8-inside", packed_text(b"ab\xffcd"), [], 1007),
    Received("6.1-text-that-ends-inside-a-code-point", packed_text(b"ab\xe2\x82"), [], 1007),
    Received("6.1-text-with-a-surrogate", packed_text(b"\xed\xa0\x80"), [], 1007),
    Received("6.1-text-that-is-wrong-far-after", packed_text(b"a" * 20_000 + b"\xff"), [], 1007),
    Received("6.1-text-that-is-wrong-in-a-later-fragment", cut(deflate(b"ab\xffcd")[0], 3), [], 1007),
    Received("6.1-text-that-is-wrong-before-its-end",
             packed(deflate(b"ab\xff")[0] + TAIL, fin=False), [], 1007),
    Received("6.1-text-that-is-wrong-before-the-end-of-a-fragment",
             [*packed(deflate(b"ab")[0] + TAIL, fin=False), f(MORE, stored(b"\xff"), fin=False)], [], 1007),
    Received("6.1-text-after-another-is-wrong", [HALF, REST, *packed_text(b"\xff")], ["Hello"], 1007),
    Received("6.1-binary-that-is-not-utf8", [f(BINARY, deflate(b"ab\xff")[0], rsv1=True)], [b"ab\xff"]),
    Received("6.2-uncompressed-text-that-is-not-utf8", [f(TEXT, b"ab\xffcd")], [], 1007),
    # The limit is of the message, not of the frames
    Received("6.2-as-large-as-the-limit", packed_text(b"x" * 70_000), ["x" * 70_000], limit=70_000),
    Received("6.2-a-byte-above-the-limit", packed_text(b"x" * 70_001), [], 1009, limit=70_000),
    Received("6.2-the-limit-in-fragments", cut(deflate(b"x" * 500)[0], 2, 5), ["x" * 500], limit=500),
    Received("6.2-above-the-limit-in-fragments", cut(deflate(b"x" * 501)[0], 2, 5), [], 1009, limit=500),
    Received("6.2-larger-on-the-wire-than-the-limit",
             [f(TEXT, stored(b"") * 100 + HELLO, rsv1=True)], ["Hello"], limit=5),
    Received("6.2-nothing-with-a-limit-of-nothing", packed(b"\0"), [""], limit=0),
    Received("6.2-one-with-a-limit-of-nothing", packed_text(b"a"), [], 1009, limit=0),
    # The examples of the RFC
    Received("7.2.3.1-one-block", packed(HELLO), ["Hello"]),
    Received("7.2.3.2-sharing-the-window", packed(HELLO, AGAIN), ["Hello", "Hello"]),
    Received("7.2.3.2-not-sharing-the-window", packed(HELLO, HELLO), ["Hello", "Hello"]),
    Received("7.2.3.3-no-compression", packed(bytes.fromhex("000500faff48656c6c6f00")), ["Hello"]),
    Received("7.2.3.4-bfinal", packed(bytes.fromhex("f348cdc9c9070000")), ["Hello"]),
    Received("7.2.3.5-two-blocks", packed(bytes.fromhex("f24805000000ffffcac9c90700")), ["Hello"]),
    Received("7.2.3.6-an-empty-last-fragment", [*packed(HELLO + TAIL, fin=False), f(MORE, b"\0")], ["Hello"]),
    Received("7.2.3.6-an-empty-message-between-others", packed(HELLO, b"\0", AGAIN), ["Hello", "", "Hello"]),
    # Blocks of every kind
    Received("7.2.1-the-largest-stored-block", packed(stored(NOISE[:65535]) + b"\0"), [NOISE[:65535]]),
    Received("7.2.1-all-kinds-in-one-message",
             packed(stored(LONG) + FIXED + TAIL + stored(b"") + dynamic(LONG) + stored(LONG) + b"\0"),
             [LONG * 4]),
    Received("7.2.1-empty-blocks",
             [f(TEXT, stored(b"") * 500 + HELLO + TAIL + stored(b"") * 500 + b"\0", rsv1=True)], ["Hello"]),
    Received("7.2.1-blocks-after-a-final-one", packed(FINAL + HELLO), ["HelloHello"]),
    Received("7.2.1-final-blocks-in-fragments",
             [*packed(FINAL[:3], fin=False), f(MORE, FINAL[3:] + FINAL[:1], fin=False), f(MORE, FINAL[1:])],
             ["HelloHello"]),
    Received("7.2.1-nothing-after-a-final-block", packed(FINAL, FINAL), ["Hello", "Hello"]),
    Received("7.2.1-references-beyond-a-final-block",
             packed(HELLO, FINAL + b"\0", AGAIN), ["Hello", "Hello"], 1002),
    Received("7.2.1-no-byte-at-all", packed(HELLO, b""), ["Hello"], 1002),
    # Context takeover
    Received("7.2.2-a-context-lives-on", packed(HELLO, AGAIN, AGAIN), ["Hello"] * 3),
    Received("7.2.2-uncompressed-messages-are-not-in-the-window",
             [*packed(HELLO), f(TEXT, b"other"), f(BINARY, NOISE), *packed(AGAIN)],
             ["Hello", "other", NOISE, "Hello"]),
    Received("7.2.2-text-and-binary-share-a-context",
             [*packed(HELLO), f(BINARY, AGAIN, rsv1=True)], ["Hello", b"Hello"]),
    Received("7.2.2-as-far-back-as-32768", back(32768 - 262), [NOISE[: 32768 - 262], NOISE[:200]]),
    Received("7.1.1-the-first-message-has-an-empty-window", packed(AGAIN), [], 1002),
    Received("7.1.1-no-takeover-broken", packed(HELLO, HELLO, AGAIN), ["Hello"] * 2, 1002, THEIRS_FRESH),
    Received("7.1.1-no-takeover-of-ours-says-nothing-of-theirs",
             packed(HELLO, AGAIN), ["Hello"] * 2, None, OURS_FRESH),
    # The window
    *[Received(f"7.1.2-a-window-of-{bits}", back((1 << bits) - 262),
               [NOISE[: (1 << bits) - 262], NOISE[:200]],
               None, f"; {{theirs}}_max_window_bits={bits}") for bits in range(9, 15)],
    Received("7.1.2-a-window-of-8",
             [f(BINARY, each, rsv1=True) for each in deflate(NOISE[:253], NOISE[5:100], window=9)],
             [NOISE[:253], NOISE[5:100]], None, "; {theirs}_max_window_bits=8"),
    *[Received(f"7.1.2-references-beyond-a-window-of-{bits}", back(2 << bits), [NOISE[: 2 << bits]], 1002,
               f"; {{theirs}}_max_window_bits={bits}") for bits in range(8, 14)],
    # What is not DEFLATE
    Received("7.2.2-a-block-of-type-11", packed(HELLO, b"\x07"), ["Hello"], 1002),
    Received("7.2.2-a-block-of-type-11-after-a-good-one", packed(HELLO + TAIL + b"\x07"), [], 1002),
    Received("7.2.2-a-stored-block-whose-length-is-wrong", packed(b"\0\x05\0\0\0Hello\0"), [], 1002),
    Received("7.2.2-cut-off-in-a-block", packed(HELLO[:3]), [], 1002),
    Received("7.2.2-cut-off-in-fragments",
             [*packed(HELLO), *packed(HELLO[:2], fin=False), f(MORE, HELLO[2:3])], ["Hello"], 1002),
    Received("7.2.1-a-tail-that-was-not-removed", packed(HELLO + TAIL), [], 1002),
    Received("7.2.2-nothing-is-delivered-after-a-wrong-message",
             packed(HELLO, b"\x07", HELLO), ["Hello"], 1002),
]  # fmt: skip

PIECES, TAKEN, LARGE_PIECES = (1 << 30, 1, 7), (1 << 20, 1, 3), (1 << 20, 977)


def row_size(row: Received) -> int:
    return sum(len(payload) for _, payload, _ in row.frames) + sum(map(len, row.messages))


@ROLES
@rows(RECEIVED)
def test_what_is_received(offline: Any, role: str, row: Received) -> None:
    pongs = [payload for opcode, payload, options in row.frames if opcode == PING and "rsv1" not in options]
    code = None if row.code == 1000 else row.code  # a Close of the peer is no failure
    for piece in PIECES if row_size(row) < 3000 else LARGE_PIECES:
        endpoint = offline(role, row.params, limit=row.limit)
        assert endpoint.run(row.frames, piece=piece) == (row.messages, code)
        sent = endpoint.frames_sent()
        if row.code is not None:
            assert (sent[-1].kind, sent[-1].close_code) == ("close", row.code)
        elif pongs:
            assert (sent[-1].kind, sent[-1].payload) == ("pong", pongs[-1])
        else:
            assert sent == []
    if row.code != 1009:  # there is no limit on what is read in chunks
        for take in TAKEN if row_size(row) < 3000 else LARGE_PIECES:
            endpoint = offline(role, row.params, limit=0)
            assert endpoint.run(row.frames, piece=5, take=take) == (row.messages, code)


@pytest.mark.anyio
@pytest.mark.slow
@ROLES
@rows(RECEIVED)
async def test_what_is_received_over_a_socket(online: Any, role: str, row: Received) -> None:
    async with online(role, row.params, limit=row.limit) as endpoint:
        assert await endpoint.run(row.frames, close=row.code is None) == (row.messages, row.code)
        assert await endpoint.close_code_sent() == (row.code or 1000)


@pytest.mark.anyio
@pytest.mark.slow
@ROLES
@rows([row for row in RECEIVED if row.id.startswith("6.1-rsv") and row.code == 1002])
async def test_a_wrong_bit_fails_the_connection_though_nobody_reads(
    online: Any, role: str, row: Received
) -> None:
    """The compressed message before it is not lost."""
    async with online(role) as endpoint:
        with anyio.fail_after(5):
            await endpoint.send([HALF, REST, *row.frames])
            assert await endpoint.close_code_sent() == 1002
        assert await endpoint.ws.receive() == "Hello"
        with pytest.raises(ConnectionBroken):
            await endpoint.ws.receive()


@ROLES
@pytest.mark.parametrize("window", range(8, 15))
def test_7_1_2_beyond_the_window_there_is_an_error_or_the_truth(offline: Any, role: str, window: int) -> None:
    """Inside one message a receiver may still have what lies beyond the window (7.2.2 says MAY)."""
    message = NOISE[: 2 << window] * 2
    (payload,) = deflate(message)
    for piece in (1 << 30, 100):
        endpoint = offline(role, f"; {{theirs}}_max_window_bits={window}")
        outcome = endpoint.run([f(BINARY, payload, rsv1=True)], piece=piece)
        assert outcome in (([message], None), ([], 1002))


# -- what is sent --------------------------------------------------------------------------------


class Message(NamedTuple):
    """Messages in their fragments, whether they are compressed, and what the peer keeps to inflate them."""

    id: str
    messages: list[list[Any]]
    compressed: bool = True
    params: str | None = ""
    options: Deflate = Deflate(min_size=0)
    compress: bool = True
    window: int = 15
    takeover: bool = True


def repeats(bits: int) -> list[list[bytes]]:
    """Messages with something to refer to just beyond a window, in the same message and before it."""
    far = NOISE[: (1 << bits) + 100]
    return [[far * 2], [far], [b"Hello"], [far[:50], far[:50]]]


USUAL = Deflate()
SHARED = [[LONG], [LONG, LONG], [b"Hello"], [LONG]]
EMPTY = [[b""], [b"Hello"], [b""], [b"", b""], [b"", b"Hello"], [b"Hello", b""], [b"", b"", b""], [b""]]
TEXTS = [["Hello" * 20, "", "Hello" * 3, "!"]]

SENT = [
    Message("6.1-text", [["Hello" * 20]], options=USUAL),
    Message("6.1-binary", [[b"Hello" * 20]], options=USUAL),
    Message("6.1-fragments", TEXTS, options=USUAL),
    Message("6.1-binary-fragments", [[b"Hello", b"", b"Hello"]], options=USUAL),
    Message("6.1-code-points", [["ä€𝄞" * 50, "𝄞"]]),
    Message("6.1-larger-than-a-frame", [[bytes(range(256)) * 1000]]),
    Message("6.1-below-min-size", [["Hello" * 12 + "..."], [""]], False, options=USUAL),
    Message("6.1-at-min-size", [["Hello" * 12 + "...."]], options=USUAL),
    Message("6.1-asked-not-to", [[b"Hello" * 20]], False, compress=False),
    Message("6.1-asked-not-to-in-fragments", TEXTS, False, compress=False),
    Message("6.1-not-negotiated", [["Hello" * 20]], False, None),
    Message("6.1-not-negotiated-fragments", TEXTS, False, None),
    Message("7.2.1-messages", SHARED),
    Message("7.2.1-fragments", [[NOISE[i : i + 50] for i in range(0, 2000, 50)], [b"abc"] * 100]),
    Message("7.2.3.6-empty-messages", EMPTY),
    Message("7.2.3.6-empty-messages-without-takeover", EMPTY, params=OURS_FRESH, takeover=False),
    Message("7.2.1-never-beyond-32768", repeats(15)),
    *[Message(f"7.2.1-agreed-window-of-{bits}", repeats(bits), params=f"; {{ours}}_max_window_bits={bits}",
              window=bits) for bits in WINDOWS],
    Message("7.2.1-their-window-says-nothing-of-ours", repeats(15), params="; {theirs}_max_window_bits=9"),
    Message("7.2.1-no-takeover", SHARED, params=OURS_FRESH, takeover=False),
    Message("7.2.1-their-no-takeover-says-nothing-of-ours", SHARED, params=THEIRS_FRESH),
]  # fmt: skip


class Checked:
    """Checks the frames of messages in their order: each inflates with what was agreed on, and no more."""

    def __init__(self, row: Message) -> None:
        self.row = row
        self.context: Any = None
        self.shares = False

    def check(self, fragments: list[Any], frames: list[Frame]) -> None:
        first, *others = frames
        assert first.kind == ("text" if isinstance(fragments[0], str) else "binary"), "that of the message"
        assert {frame.kind for frame in others} <= {"continuation"}
        assert [frame.fin for frame in frames] == [False] * len(others) + [True]
        assert first.rsv1 is self.row.compressed
        assert not any(frame.rsv1 for frame in others)
        payload = b"".join(frame.payload for frame in frames)
        joined = b"".join(as_bytes(part) for part in fragments)
        if not self.row.compressed:
            assert payload == joined
            return
        assert payload, "one byte at least (section 7.2.3.6)"
        assert not payload.endswith(TAIL)
        if self.context is None or not self.row.takeover:
            self.context = zlib.decompressobj(-self.row.window)
        assert inflate_strictly(self.context, payload + TAIL) == joined
        self.shares = self.shares or not stands_alone(payload)

    def check_takeover(self) -> None:
        if self.row.messages is SHARED:
            assert self.shares is self.row.takeover, "a context that may live on is used, another is not"


def as_bytes(part: str | bytes) -> bytes:
    return part.encode() if isinstance(part, str) else part


def stands_alone(payload: bytes) -> bool:
    try:
        zlib.decompressobj(-15).decompress(payload + TAIL)
    except zlib.error:
        return False
    return True


@ROLES
@rows(SENT)
def test_what_is_sent(offline: Any, role: str, row: Message) -> None:
    endpoint, checked = offline(role, row.params, row.options), Checked(row)
    connection = endpoint.connection
    for fragments in row.messages:
        kind = "text" if isinstance(fragments[0], str) else "binary"
        *parts, last = map(as_bytes, fragments)
        for part in parts:
            connection.send_data(kind, part, last=False, compress=row.compress)
        if parts:
            connection.send_data(kind, last, last=True, compress=row.compress)
        else:
            connection.send_message(kind, last, compress=row.compress)
        checked.check(fragments, endpoint.frames_sent())
    checked.check_takeover()


@pytest.mark.anyio
@pytest.mark.slow
@ROLES
@rows(SENT)
async def test_what_is_sent_over_a_socket(online: Any, role: str, row: Message) -> None:
    async with online(role, row.params, row.options) as endpoint:
        checked = Checked(row)
        for fragments in row.messages:
            if len(fragments) == 1:
                await endpoint.ws.send(fragments[0], compress=row.compress)
            else:
                kind = "text" if isinstance(fragments[0], str) else "binary"
                async with endpoint.ws.writable.message(kind, compress=row.compress) as writer:
                    for part in fragments:
                        await writer.send(part)
                        await writer.flush()
            frames = [await endpoint.peer.read_frame()]
            while not frames[-1].fin:
                frames.append(await endpoint.peer.read_frame())
            assert len(frames) >= len([part for part in fragments if part])
            checked.check(fragments, frames)
        checked.check_takeover()


@ROLES
def test_6_1_control_frames_that_are_sent_are_never_compressed(offline: Any, role: str) -> None:
    endpoint = offline(role)
    endpoint.connection.send_data("text", b"Hello" * 20, last=False)
    first = endpoint.frames_sent()
    endpoint.run([f(PING, b"a" * 125)])
    endpoint.connection.send_data("text", b"Hello" * 20, last=True)
    frames = [*first, *endpoint.frames_sent()]
    assert [(frame.kind, frame.rsv1) for frame in frames] == [
        ("text", True),
        ("pong", False),
        ("continuation", False),
    ]
    assert frames[1].payload == b"a" * 125
    endpoint.run([f(CLOSE, b"\x03\xe8" + b"b" * 123)])
    (closing,) = endpoint.frames_sent()
    assert (closing.rsv1, closing.payload) == (False, b"\x03\xe8" + b"b" * 123)


@pytest.mark.anyio
@ROLES
async def test_6_1_ping_and_close_are_never_compressed(online: Any, role: str) -> None:
    async with online(role) as endpoint:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(endpoint.ws.ping)
            ping = await endpoint.peer.read_frame()
            assert (ping.kind, ping.rsv1) == ("ping", False)
            await endpoint.peer.pong(ping.payload)
        endpoint.ws.writable.abort(4000, "b" * 123)
        closing = await endpoint.peer.read_frame()
        assert (closing.rsv1, closing.close_code, closing.close_reason) == (False, 4000, "b" * 123)


# -- the check itself ----------------------------------------------------------------------------


def test_the_check_of_the_window_sees_a_window_that_is_too_large() -> None:
    for window in range(9, 15):
        far = NOISE[: (1 << window) + 100]
        for messages in ([far * 2], [far, far]):
            context = zlib.decompressobj(-window)
            with pytest.raises(zlib.error, match="too far back"):
                for payload in deflate(*messages, window=window + 1):
                    inflate_strictly(context, payload + TAIL)


@pytest.mark.parametrize("payload", [HELLO[:3], HELLO + TAIL, b"\0\x05\0\xfa\xffHe"])
def test_the_check_of_what_is_sent_sees_a_message_that_is_cut_off(payload: bytes) -> None:
    with pytest.raises((AssertionError, zlib.error)):
        inflate_strictly(zlib.decompressobj(-15), payload + TAIL)
