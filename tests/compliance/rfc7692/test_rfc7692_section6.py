"""RFC 7692 section 6: the bit "Per-Message Compressed" (RSV1), on what arrives and on what is sent.

How messages are compressed is in section 7.2. Each row is run in both roles; without I/O whole, byte by
byte and read in chunks of several sizes, and once over a socket on each backend.
"""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Any, NamedTuple

import anyio
import pytest

from wsstream import ConnectionBroken, Deflate
from wsstream.testing import Frame

NAME = "permessage-deflate"
TAIL = b"\x00\x00\xff\xff"
HELLO = bytes.fromhex("f248cdc9c90700")  # section 7.2.3.1
TEXT, BINARY, MORE, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
ROLES = pytest.mark.parametrize("role", ["client", "server"])
Sent = tuple[int, bytes, dict[str, bool]]


def f(opcode: int, payload: bytes = b"", **options: bool) -> Sent:
    return opcode, payload, options


def flushed(payload: bytes) -> bytes:
    """The beginning of a compressed message."""
    context = zlib.compressobj(wbits=-15)
    return context.compress(payload) + context.flush(zlib.Z_SYNC_FLUSH)


def compressed(payload: bytes) -> bytes:
    return flushed(payload).removesuffix(TAIL)


class Received(NamedTuple):
    """Frames that arrive, the messages they are, and the code with which the connection is failed.

    `params` of the answer; with ``None`` nothing was negotiated.
    """

    id: str
    frames: list[Sent]
    messages: list[str | bytes]
    code: int | None = None
    params: str | None = ""
    limit: int | None = 1 << 20


def cut(data: bytes, *cuts: int) -> list[Sent]:
    """A compressed text message as fragments."""
    borders = [0, *cuts, len(data)]
    pieces = [data[a:b] for a, b in pairwise(borders)]
    last = len(pieces) - 1
    return [f(MORE if i else TEXT, piece, fin=i == last, rsv1=i == 0) for i, piece in enumerate(pieces)]


RECEIVED = [
    # What the bit says
    Received("6-compressed-text", [f(TEXT, HELLO, rsv1=True)], ["Hello"]),
    Received("6-compressed-binary", [f(BINARY, HELLO, rsv1=True)], [b"Hello"]),
    Received("6-uncompressed-text", [f(TEXT, b"Hello")], ["Hello"]),
    Received("6-uncompressed-binary-that-looks-compressed", [f(BINARY, HELLO)], [HELLO]),
    Received("6-uncompressed-fragments", [f(BINARY, HELLO[:2], fin=False), f(MORE, HELLO[2:])], [HELLO]),
    Received(
        "6-both-kinds-mixed",
        [
            f(TEXT, b"1"),
            f(TEXT, HELLO, rsv1=True),
            f(BINARY),
            f(TEXT, b"\0", rsv1=True),
            f(TEXT, b"2", fin=False),
            f(MORE, b"3"),
            *cut(HELLO, 3),
        ],
        ["1", "Hello", b"", "", "23", "Hello"],
    ),
    # On which frames it may stand
    Received("6.1-rsv1-on-the-first-fragment-alone", cut(HELLO, 3), ["Hello"]),
    Received(
        "6.1-rsv1-on-a-continuation",
        [f(TEXT, HELLO[:3], fin=False, rsv1=True), f(MORE, HELLO[3:], rsv1=True)],
        [],
        1002,
    ),
    Received(
        "6.1-rsv1-on-an-empty-continuation",
        [*cut(HELLO, 3, 4)[:2], f(MORE, b"", fin=False, rsv1=True)],
        [],
        1002,
    ),
    Received(
        "6.1-rsv1-on-a-continuation-of-an-uncompressed-message",
        [f(TEXT, b"a", fin=False), f(MORE, b"b", rsv1=True)],
        [],
        1002,
    ),
    Received("6.1-rsv1-on-a-continuation-of-nothing", [f(MORE, HELLO, rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-a-ping", [f(PING, b"p", rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-a-pong", [f(PONG, b"", rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-a-close", [f(CLOSE, b"\x03\xe8", rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-a-ping-between-fragments", [cut(HELLO, 3)[0], f(PING, b"", rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-opcode-3", [f(3, HELLO, rsv1=True)], [], 1002),
    Received("6.1-rsv1-on-opcode-11", [f(11, b"", rsv1=True)], [], 1002),
    Received(
        "6.1-what-was-complete-before-is-delivered",
        [f(TEXT, b"1"), *cut(HELLO, 3), f(PING, b"", rsv1=True), f(TEXT, b"2")],
        ["1", "Hello"],
        1002,
    ),
    Received("6.1-rsv2-has-no-meaning", [f(TEXT, HELLO, rsv1=True, rsv2=True)], [], 1002),
    Received("6.1-rsv3-has-no-meaning", [f(TEXT, HELLO, rsv1=True, rsv3=True)], [], 1002),
    Received("6.1-rsv2-on-an-uncompressed-message", [f(TEXT, b"Hello", rsv2=True)], [], 1002),
    # Nothing negotiated
    Received("6-not-negotiated-text", [f(TEXT, HELLO, rsv1=True)], [], 1002, None),
    Received("6-not-negotiated-binary", [f(BINARY, HELLO, rsv1=True)], [], 1002, None),
    Received("6-not-negotiated-first-fragment", [f(TEXT, b"", fin=False, rsv1=True)], [], 1002, None),
    Received(
        "6-not-negotiated-continuation", [f(TEXT, b"a", fin=False), f(MORE, b"b", rsv1=True)], [], 1002, None
    ),
    Received("6-not-negotiated-ping", [f(TEXT, b"before"), f(PING, b"", rsv1=True)], ["before"], 1002, None),
    # Frames of a compressed message
    *[Received(f"6.2-fragments-cut-at-{at}", cut(HELLO, at), ["Hello"]) for at in range(len(HELLO) + 1)],
    Received("6.2-a-fragment-for-each-byte", cut(HELLO, *range(1, len(HELLO))), ["Hello"]),
    Received("6.2-empty-fragments-everywhere", cut(HELLO, 0, 0, 3, 3, 3, 7, 7), ["Hello"]),
    Received(
        "6.2-fragments-of-a-code-point",
        cut(compressed("ä€𝄞".encode()), *range(1, len(compressed("ä€𝄞".encode())))),
        ["ä€𝄞"],
    ),
    Received(
        "6.1-a-ping-between-fragments", [cut(HELLO, 3)[0], f(PING, b"ping"), cut(HELLO, 3)[1]], ["Hello"]
    ),
    Received(
        "6.1-control-frames-between-all-fragments",
        [part for one in cut(HELLO, *range(1, 7)) for part in (one, f(PONG, b"?"), f(PING, HELLO))],
        ["Hello"],
    ),
    Received("6.1-a-message-inside-another", [cut(HELLO, 3)[0], f(TEXT, HELLO, rsv1=True)], [], 1002),
    Received(
        "6.1-an-uncompressed-message-inside-a-compressed-one", [cut(HELLO, 3)[0], f(TEXT, b"Hello")], [], 1002
    ),
    Received(
        "6.1-close-inside-a-compressed-message",
        [f(TEXT, b"1"), cut(HELLO, 3)[0], f(CLOSE, b"\x03\xe8")],
        ["1"],
        1000,
    ),
    # What the payload has to be is true of the message, not of the frames
    Received("6.1-compressed-text-need-not-be-utf8-on-the-wire", cut(HELLO, 1), ["Hello"]),
    Received("6.1-text-that-is-not-utf8-inside", [f(TEXT, compressed(b"ab\xffcd"), rsv1=True)], [], 1007),
    Received(
        "6.1-text-that-ends-inside-a-code-point", [f(TEXT, compressed(b"ab\xe2\x82"), rsv1=True)], [], 1007
    ),
    Received("6.1-text-with-a-surrogate", [f(TEXT, compressed(b"\xed\xa0\x80"), rsv1=True)], [], 1007),
    Received("6.1-text-with-an-overlong-form", [f(TEXT, compressed(b"\xc0\xaf"), rsv1=True)], [], 1007),
    Received(
        "6.1-text-that-is-wrong-far-behind",
        [f(TEXT, compressed(b"a" * 20_000 + b"\xff"), rsv1=True)],
        [],
        1007,
    ),
    Received("6.1-text-that-is-wrong-in-a-later-fragment", cut(compressed(b"ab\xffcd"), 3), [], 1007),
    Received(
        "6.1-text-that-is-wrong-before-its-end", [f(TEXT, flushed(b"ab\xff"), rsv1=True, fin=False)], [], 1007
    ),
    Received(
        "6.1-text-that-is-wrong-before-the-end-of-a-fragment",
        [f(TEXT, flushed(b"ab"), rsv1=True, fin=False), f(MORE, b"\x00\x01\x00\xfe\xff\xff", fin=False)],
        [],
        1007,
    ),
    Received(
        "6.1-text-behind-another-is-wrong", [*cut(HELLO, 3), *cut(compressed(b"\xff"), 1)], ["Hello"], 1007
    ),
    Received("6.1-binary-that-is-not-utf8", [f(BINARY, compressed(b"ab\xffcd"), rsv1=True)], [b"ab\xffcd"]),
    Received("6.2-uncompressed-text-that-is-not-utf8", [f(TEXT, b"ab\xffcd")], [], 1007),
    # The limit is of the message, not of the frames
    Received(
        "6.2-as-large-as-the-limit",
        [f(BINARY, compressed(bytes(100_000)), rsv1=True)],
        [bytes(100_000)],
        limit=100_000,
    ),
    Received(
        "6.2-a-byte-above-the-limit",
        [f(BINARY, compressed(bytes(100_001)), rsv1=True)],
        [],
        1009,
        limit=100_000,
    ),
    Received("6.2-the-limit-in-fragments", cut(compressed(b"x" * 500), 2, 5), ["x" * 500], limit=500),
    Received("6.2-above-the-limit-in-fragments", cut(compressed(b"x" * 501), 2, 5), [], 1009, limit=500),
    Received(
        "6.2-larger-on-the-wire-than-the-limit",
        [f(TEXT, b"\x00\x00\x00\xff\xff" * 100 + HELLO, rsv1=True)],
        ["Hello"],
        limit=5,
    ),
    Received("6.2-nothing-with-a-limit-of-nothing", [f(TEXT, b"\x00", rsv1=True)], [""], limit=0),
    Received("6.2-one-with-a-limit-of-nothing", [f(TEXT, compressed(b"a"), rsv1=True)], [], 1009, limit=0),
]


class Message(NamedTuple):
    """A message that is sent, in fragments, and whether it is compressed."""

    id: str
    fragments: list[str | bytes]
    compressed: bool
    params: str | None = ""
    options: Deflate = Deflate()
    compress: bool = True


SENT = [
    Message("6.1-text", ["Hello" * 20], True),
    Message("6.1-binary", [b"Hello" * 20], True),
    Message("6.1-fragments", ["Hello" * 20, "", "Hello" * 3, "!"], True),
    Message("6.1-binary-fragments", [b"Hello", b"", b"Hello"], True),
    Message("6.1-code-points", ["ä€𝄞" * 50, "𝄞"], True),
    Message("6.1-larger-than-a-frame", [bytes(range(256)) * 1000], True),
    Message("6.1-below-min-size", ["Hello" * 12 + "..."], False),
    Message("6.1-at-min-size", ["Hello" * 12 + "...."], True),
    Message("6.1-empty-below-min-size", [""], False),
    Message("6.1-empty", [""], True, options=Deflate(min_size=0)),
    Message("6.1-asked-not-to", [b"Hello" * 20], False, compress=False),
    Message("6.1-asked-not-to-in-fragments", ["Hello" * 20, "", "Hello"], False, compress=False),
    Message("6.1-not-negotiated", ["Hello" * 20], False, None),
    Message("6.1-not-negotiated-fragments", ["Hello" * 20, "Hello"], False, None),
]


def rows(table: list[Any]) -> Any:
    assert len({row.id for row in table}) == len(table)
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table])


# -- what arrives --------------------------------------------------------------------------------


PIECES, TAKEN, LARGE_PIECES = (1 << 30, 1, 7), (1 << 20, 1, 3), (1 << 20, 977)


def row_size(row: Received) -> int:
    return sum(len(payload) for _, payload, _ in row.frames) + sum(map(len, row.messages))


@ROLES
@rows(RECEIVED)
def test_what_is_received(offline: Any, role: str, row: Received) -> None:
    pongs = [payload for opcode, payload, options in row.frames if opcode == PING and "rsv1" not in options]
    for piece in PIECES if row_size(row) < 3000 else LARGE_PIECES:
        endpoint = offline(role, row.params, limit=row.limit)
        assert endpoint.run(row.frames, piece=piece) == (row.messages, closed_with(row))
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
            assert endpoint.run(row.frames, piece=5, take=take) == (row.messages, closed_with(row))


def closed_with(row: Received) -> int | None:
    return None if row.code == 1000 else row.code  # a Close of the peer is no failure


@pytest.mark.anyio
@pytest.mark.slow
@ROLES
@rows(RECEIVED)
async def test_what_is_received_over_a_socket(online: Any, role: str, row: Received) -> None:
    async with online(role, row.params, limit=row.limit) as endpoint:
        assert await endpoint.run(row.frames, close=row.code is None) == (row.messages, row.code)
        assert await endpoint.close_code_sent() == (row.code or 1000)


# -- what is sent --------------------------------------------------------------------------------


def check_frames(row: Message, role: str, frames: list[Frame], zlib_of: Any) -> None:
    first, *others = frames
    text = isinstance(row.fragments[0], str)
    assert first.kind == ("text" if text else "binary"), "the opcode is that of the message"
    assert {frame.kind for frame in others} <= {"continuation"}
    assert [frame.fin for frame in frames] == [False] * len(others) + [True]
    assert first.rsv1 is row.compressed
    assert not any(frame.rsv1 for frame in others)
    payload = b"".join(frame.payload for frame in frames)
    joined = b"".join(part.encode() if isinstance(part, str) else part for part in row.fragments)
    assert (zlib_of(role, NAME).inflate(payload) if row.compressed else payload) == joined
    if row.compressed:
        assert payload != joined


@ROLES
@rows(SENT)
def test_what_is_sent(offline: Any, peer_zlib: Any, role: str, row: Message) -> None:
    endpoint = offline(role, row.params, row.options)
    parts = [part.encode() if isinstance(part, str) else part for part in row.fragments]
    kind = "text" if isinstance(row.fragments[0], str) else "binary"
    if len(parts) == 1:
        endpoint.connection.send_message(kind, parts[0], compress=row.compress)
    for number, part in enumerate(parts if len(parts) > 1 else []):
        last = number == len(parts) - 1
        endpoint.connection.send_data(kind, part, last=last, compress=row.compress)
    check_frames(row, role, endpoint.frames_sent(), peer_zlib)


@pytest.mark.anyio
@pytest.mark.slow
@ROLES
@rows(SENT)
async def test_what_is_sent_over_a_socket(online: Any, peer_zlib: Any, role: str, row: Message) -> None:
    async with online(role, row.params, row.options) as endpoint:
        if len(row.fragments) == 1:
            await endpoint.ws.send(row.fragments[0], compress=row.compress)
        else:
            kind = "text" if isinstance(row.fragments[0], str) else "binary"
            async with endpoint.ws.writable.message(kind, compress=row.compress) as writer:
                for part in row.fragments:
                    await writer.send(part)
                    await writer.flush()
        frames = [await endpoint.peer.read_frame()]
        while not frames[-1].fin:
            frames.append(await endpoint.peer.read_frame())
        assert len(frames) >= len([part for part in row.fragments if part])
        check_frames(row, role, frames, peer_zlib)


# -- control frames ------------------------------------------------------------------------------


@ROLES
def test_6_1_control_frames_that_are_sent_are_never_compressed(offline: Any, role: str) -> None:
    endpoint = offline(role)
    endpoint.connection.send_data("text", b"Hello" * 20, last=False)
    first = endpoint.frames_sent()
    endpoint.run([f(PING, b"a" * 125)])
    endpoint.connection.send_data("text", b"Hello" * 20, last=True)
    frames = [*first, *endpoint.frames_sent()]
    assert [frame.kind for frame in frames] == ["text", "pong", "continuation"]
    assert [frame.rsv1 for frame in frames] == [True, False, False]
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


# -- at once -------------------------------------------------------------------------------------


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
            await endpoint.send([*cut(HELLO, 3), *row.frames])
            assert await endpoint.close_code_sent() == 1002
        assert await endpoint.ws.receive() == "Hello"
        with pytest.raises(ConnectionBroken):
            await endpoint.ws.receive()
