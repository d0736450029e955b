"""RFC 7692 section 7: the parameters of permessage-deflate, and how a message is compressed and inflated.

Rows of messages are run in both roles; without I/O whole, byte by byte and read in chunks of several
sizes, and once over a socket on each backend. The peer is zlib, or bytes made by hand.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import pytest

from wsstream import Deflate, HandshakeError
from wsstream.opening.deflate_offer import accept_offer, confirm_response, make_offer
from wsstream.opening.extensions import format_extensions, parse_extensions

NAME = "permessage-deflate"
TAIL = b"\x00\x00\xff\xff"
PLAIN = Deflate()
ALWAYS = Deflate(min_size=0)
ROLES = pytest.mark.parametrize("role", ["client", "server"])
TEXT, BINARY, MORE, PING = 1, 2, 0, 9
WINDOWS = range(9, 16)
BOTH_FRESH = "; server_no_context_takeover; client_no_context_takeover"
NOISE = Random(7692).randbytes(1 << 17)
Sent = tuple[int, bytes, dict[str, bool]]


def rows(table: Sequence[Any]) -> Any:
    assert len({row.id for row in table}) == len(table)
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table])


# -- 7.1: what a client offers -------------------------------------------------------------------


class Ours(NamedTuple):
    id: str
    options: Deflate
    params: str


OUR_OFFERS = [
    Ours("7.1.2.2-offers-to-be-told-of-a-window", PLAIN, "; client_max_window_bits"),
    Ours(
        "7.1.1.1-server_no_context_takeover",
        Deflate(peer_context_takeover=False),
        "; server_no_context_takeover; client_max_window_bits",
    ),
    Ours(
        "7.1.1.2-client_no_context_takeover",
        Deflate(context_takeover=False),
        "; client_no_context_takeover; client_max_window_bits",
    ),
    *[
        Ours(
            f"7.1.2.1-server_max_window_bits-{n}",
            Deflate(peer_window_bits=n),
            f"; server_max_window_bits={n}; client_max_window_bits",
        )
        for n in range(9, 15)
    ],
    *[
        Ours(f"7.1.2.2-client_max_window_bits-{n}", Deflate(window_bits=n), f"; client_max_window_bits={n}")
        for n in range(9, 15)
    ],
    Ours(
        "7.1-all-four",
        Deflate(window_bits=11, peer_window_bits=12, context_takeover=False, peer_context_takeover=False),
        f"{BOTH_FRESH}; server_max_window_bits=12; client_max_window_bits=11",
    ),
]


@rows(OUR_OFFERS)
def test_what_our_client_offers(row: Ours) -> None:
    assert format_extensions([make_offer(row.options)]) == NAME + row.params


@pytest.mark.anyio
@pytest.mark.slow
@rows(OUR_OFFERS)
async def test_what_our_client_offers_over_a_socket(our_client: Any, row: Ours) -> None:
    async with our_client([], compression=row.options) as online:
        assert online.peer.header("Sec-WebSocket-Extensions") == NAME + row.params


# -- 7.1: what a server answers ------------------------------------------------------------------


class Offer(NamedTuple):
    """The parameters of an offer, and those of the answer; ``None``: it is declined."""

    id: str
    params: str
    answer: str | None
    options: Deflate = PLAIN


BAD_WINDOWS = ["0", "1", "7", "16", "100", "08", "09", "010", "015", "-9", "+9", "9.0", "1e1", "0xA", "ten"]
NOT_VALID = [
    # Section 7: not defined for an offer or an answer, or twice
    ("7-unknown", "level"),
    ("7-unknown-with-a-value", "level=9"),
    ("7-of-another-extension", "max_window_bits=15"),
    ("7-a-name-in-other-letters", "Server_No_Context_Takeover"),
    ("7-a-valid-one-and-an-unknown", "server_no_context_takeover; level=9"),
    ("7-twice-the-same", "server_no_context_takeover; server_no_context_takeover"),
    ("7-twice-with-two-values", "server_max_window_bits=10; server_max_window_bits=11"),
    ("7-twice-with-and-without-a-value", "client_max_window_bits=10; client_max_window_bits"),
    (
        "7-twice-with-another-between",
        "client_max_window_bits=9; server_no_context_takeover; client_max_window_bits=9",
    ),
    ("7.1.1.1-server_no_context_takeover-with-a-value", "server_no_context_takeover=true"),
    ("7.1.1.2-client_no_context_takeover-with-a-value", "client_no_context_takeover=1"),
    ("7.1.2.1-server_max_window_bits-without-a-value", "server_max_window_bits"),
    ("7.1.2.1-server_max_window_bits-enormous", f"server_max_window_bits={10**40}"),
    ("7.1.2.1-server_max_window_bits-quoted-08", 'server_max_window_bits="08"'),
    *[
        (f"7.1.2.{number}-{side}_max_window_bits-{value}", f"{side}_max_window_bits={value}")
        for number, side in ((1, "server"), (2, "client"))
        for value in [
            "0",
            "1",
            "7",
            "16",
            "100",
            "08",
            "09",
            "010",
            "015",
            "-9",
            "+9",
            "9.0",
            "1e1",
            "0xA",
            "ten",
            "99999999999999999999",
        ]
    ],
]

OFFERS = [
    *[Offer(f"{id_}-is-declined", f"; {params}", None) for id_, params in NOT_VALID],
    Offer("7-no-parameters", "", ""),
    Offer(
        "7.1.1.1-server_no_context_takeover", "; server_no_context_takeover", "; server_no_context_takeover"
    ),
    Offer(
        "7.1.1.1-the-server-may-add-it", "", "; server_no_context_takeover", Deflate(context_takeover=False)
    ),
    Offer(
        "7.1.1.2-client_no_context_takeover", "; client_no_context_takeover", "; client_no_context_takeover"
    ),
    Offer(
        "7.1.1.2-the-server-may-add-it",
        "",
        "; client_no_context_takeover",
        Deflate(peer_context_takeover=False),
    ),
    Offer(
        "7.1.1-both",
        "; client_no_context_takeover; server_no_context_takeover",
        BOTH_FRESH,
    ),
    *[
        Offer(
            f"7.1.2.1-server_max_window_bits-{n}",
            f"; server_max_window_bits={n}",
            f"; server_max_window_bits={n}",
        )
        for n in WINDOWS
    ],
    Offer("7.1.2.1-server_max_window_bits-8-zlib-cannot", "; server_max_window_bits=8", None),
    Offer(
        "7.1.2.1-the-same-or-smaller",
        "; server_max_window_bits=12",
        "; server_max_window_bits=10",
        Deflate(window_bits=10),
    ),
    Offer(
        "7.1.2.1-never-larger",
        "; server_max_window_bits=10",
        "; server_max_window_bits=10",
        Deflate(window_bits=12),
    ),
    Offer("7.1.2.1-the-server-may-add-it", "", "; server_max_window_bits=11", Deflate(window_bits=11)),
    Offer("7.1.2.2-without-a-value", "; client_max_window_bits", ""),
    *[
        Offer(
            f"7.1.2.2-client_max_window_bits-{n}",
            f"; client_max_window_bits={n}",
            f"; client_max_window_bits={n}",
        )
        for n in range(8, 15)
    ],
    Offer("7.1.2.2-client_max_window_bits-15", "; client_max_window_bits=15", ""),
    Offer(
        "7.1.2.2-the-server-sets-it",
        "; client_max_window_bits",
        "; client_max_window_bits=9",
        Deflate(peer_window_bits=9),
    ),
    Offer(
        "7.1.2.2-the-server-sets-a-smaller-one",
        "; client_max_window_bits=12",
        "; client_max_window_bits=10",
        Deflate(peer_window_bits=10),
    ),
    Offer(
        "7.1.2.2-the-server-sets-no-larger-one",
        "; client_max_window_bits=10",
        "; client_max_window_bits=10",
        Deflate(peer_window_bits=12),
    ),
    Offer("7.1.2.2-not-offered-cannot-be-set", "", None, Deflate(peer_window_bits=14)),
    Offer(
        "7.1.2.2-not-offered-is-not-answered", "; client_no_context_takeover", "; client_no_context_takeover"
    ),
    Offer(
        "7.1-quoted",
        '; server_max_window_bits="10"; client_max_window_bits="9"',
        "; server_max_window_bits=10; client_max_window_bits=9",
    ),
    Offer(
        "7.1-all-four",
        f"; client_max_window_bits=9; server_max_window_bits=10{BOTH_FRESH}",
        f"{BOTH_FRESH}; server_max_window_bits=10; client_max_window_bits=9",
    ),
    Offer(
        "7.1.3-with-a-window",
        "; client_max_window_bits; server_max_window_bits=10",
        "; server_max_window_bits=10",
    ),
    Offer(
        "7.1.3-two-alternatives",
        f"; client_max_window_bits; server_max_window_bits=10, {NAME}; client_max_window_bits",
        "; server_max_window_bits=10",
    ),
    Offer(
        "7.1.3-the-second-alternative",
        f"; client_max_window_bits; server_max_window_bits=8, {NAME}; client_max_window_bits",
        "",
    ),
]


@rows(OFFERS)
def test_what_a_server_answers(row: Offer) -> None:
    accepted = accept_offer(row.options, parse_extensions([NAME + row.params]))
    if row.answer is None:
        assert accepted is None
    else:
        assert accepted is not None
        assert format_extensions([accepted[0]]) == NAME + row.answer


@pytest.mark.anyio
@pytest.mark.slow
@rows(OFFERS)
async def test_what_a_server_answers_and_keeps_to_over_a_socket(
    our_server: Any, peer_zlib: Any, row: Offer
) -> None:
    async with our_server([NAME + row.params], compression=row.options) as online:
        answer = online.peer.header("Sec-WebSocket-Extensions")
        assert answer == (None if row.answer is None else NAME + row.answer)
        await check_traffic(online, None if answer is None else peer_zlib("server", answer))


async def check_traffic(online: Any, contexts: Any) -> None:
    """Messages with something to refer to just behind the window; the peer keeps to what was agreed on."""
    window = 15 if contexts is None else contexts.receive_window
    message = NOISE[: (1 << window) + 100 if window < 15 else 700] * 2
    for _ in range(2):
        await online.ws.send(message)
        frame = await online.peer.read_frame()
        assert frame.rsv1 is (contexts is not None)
        assert (frame.payload if contexts is None else contexts.inflate(frame.payload)) == message
        await online.peer.binary(
            message if contexts is None else contexts.message(message), rsv1=contexts is not None
        )
        assert await online.ws.receive() == message


# -- 7.1: what a client makes of an answer -------------------------------------------------------


class Answer(NamedTuple):
    """The parameters of an answer, and what they fail with, if they do."""

    id: str
    params: str
    options: Deflate = PLAIN
    fails: bool = False
    window: int = 15  # of our client's compressor
    takeover: bool = True


ANSWERS = [
    *[Answer(f"{id_}-fails", f"; {params}", fails=True) for id_, params in NOT_VALID],
    Answer("7-no-parameters", ""),
    Answer(
        "7.1.1.1-server_no_context_takeover-asked-for",
        "; server_no_context_takeover",
        Deflate(peer_context_takeover=False),
    ),
    Answer("7.1.1.1-server_no_context_takeover-added", "; server_no_context_takeover"),
    Answer("7.1.1.1-accepts-by-including", "", Deflate(peer_context_takeover=False), fails=True),
    Answer(
        "7.1.1.1-the-other-side's-is-no-answer",
        "; client_no_context_takeover",
        Deflate(peer_context_takeover=False),
        fails=True,
    ),
    Answer(
        "7.1.1.2-client_no_context_takeover-asked-for",
        "; client_no_context_takeover",
        Deflate(context_takeover=False),
        takeover=False,
    ),
    Answer("7.1.1.2-client_no_context_takeover-added", "; client_no_context_takeover", takeover=False),
    Answer(
        "7.1.1.2-the-hint-binds-though-the-answer-is-silent",
        "",
        Deflate(context_takeover=False),
        takeover=False,
    ),
    *[
        Answer(f"7.1.2.1-server_max_window_bits-{n}-added", f"; server_max_window_bits={n}")
        for n in range(9, 16)
    ],
    Answer(
        "7.1.2.1-server_max_window_bits-equal", "; server_max_window_bits=10", Deflate(peer_window_bits=10)
    ),
    Answer(
        "7.1.2.1-server_max_window_bits-smaller", "; server_max_window_bits=9", Deflate(peer_window_bits=10)
    ),
    Answer(
        "7.1.2.1-server_max_window_bits-larger",
        "; server_max_window_bits=11",
        Deflate(peer_window_bits=10),
        fails=True,
    ),
    Answer("7.1.2.1-accepts-by-including", "", Deflate(peer_window_bits=10), fails=True),
    *[
        Answer(f"7.1.2.2-client_max_window_bits-{n}", f"; client_max_window_bits={n}", window=n)
        for n in WINDOWS
    ],
    Answer("7.1.2.2-client_max_window_bits-8-zlib-cannot", "; client_max_window_bits=8", fails=True),
    Answer("7.1.2.2-client_max_window_bits-without-a-value", "; client_max_window_bits", fails=True),
    Answer(
        "7.1.2.2-client_max_window_bits-equal",
        "; client_max_window_bits=10",
        Deflate(window_bits=10),
        window=10,
    ),
    Answer(
        "7.1.2.2-client_max_window_bits-smaller",
        "; client_max_window_bits=9",
        Deflate(window_bits=10),
        window=9,
    ),
    Answer(
        "7.1.2.2-client_max_window_bits-larger",
        "; client_max_window_bits=11",
        Deflate(window_bits=10),
        fails=True,
    ),
    Answer("7.1.2.2-the-hint-binds-though-the-answer-is-silent", "", Deflate(window_bits=10), window=10),
    Answer("7.1-quoted", '; server_max_window_bits="10"; client_max_window_bits="9"', window=9),
    Answer(
        "7.1-all-four",
        f"; client_max_window_bits=9; server_max_window_bits=10{BOTH_FRESH}",
        window=9,
        takeover=False,
    ),
    Answer("7.1.3-with-a-window", "; server_max_window_bits=10", Deflate(peer_window_bits=10)),
]


@rows(ANSWERS)
def test_what_a_client_makes_of_an_answer(row: Answer) -> None:
    answer = parse_extensions([NAME + row.params])
    if row.fails:
        with pytest.raises(ValueError):
            confirm_response(row.options, answer)
    else:
        agreed = confirm_response(row.options, answer)
        assert agreed is not None
        assert (agreed.send_window, agreed.send_takeover) == (row.window, row.takeover)


@pytest.mark.anyio
@pytest.mark.slow
@rows(ANSWERS)
async def test_what_a_client_makes_of_an_answer_over_a_socket(
    our_client: Any, peer_zlib: Any, row: Answer
) -> None:
    if row.fails:
        wrong = pytest.RaisesExc(HandshakeError, match="Sec-WebSocket-Extensions")
        with pytest.RaisesGroup(wrong):  # of the task group of the listener
            async with our_client([NAME + row.params], compression=row.options):
                pass
        return
    async with our_client([NAME + row.params], compression=row.options) as online:
        contexts = peer_zlib("client", NAME + row.params)
        contexts.receive_window, contexts.receive_takeover = row.window, row.takeover
        await check_traffic(online, contexts)


# -- 7.2.2: messages that arrive -----------------------------------------------------------------


def f(opcode: int, payload: bytes = b"", **options: bool) -> Sent:
    return opcode, payload, options


def packed(*payloads: bytes) -> list[Sent]:
    """Compressed messages, text where they are short."""
    return [f(TEXT if len(payload) < 64 else BINARY, payload, rsv1=True) for payload in payloads]


def x(text: str) -> bytes:
    return bytes.fromhex(text)


def stored(data: bytes, *, final: bool = False) -> bytes:
    """A block without compression that begins at a byte border (RFC 1951 section 3.2.4)."""
    size = len(data)
    return bytes([final]) + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data


def deflate(
    *parts: bytes, strategy: int = zlib.Z_DEFAULT_STRATEGY, window: int = 15, level: int = 6
) -> list[bytes]:
    """Messages that share one context."""
    context = zlib.compressobj(level, zlib.DEFLATED, -window, 8, strategy)
    return [(context.compress(part) + context.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL) for part in parts]


def dynamic(data: bytes) -> bytes:
    """One block with Huffman codes of its own."""
    context = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = context.compress(data) + context.flush(zlib.Z_FINISH)
    assert block[0] & 7 == 0b101, "a final block of type 10"
    return block


HELLO = x("f248cdc9c90700")
AGAIN = x("f200110000")
FINAL = x("f348cdc9c90700")  # without the empty block behind it
LONG = "".join(f"{n} bottles " for n in range(60)).encode()
FIXED = deflate(LONG, strategy=zlib.Z_FIXED)[0]
OURS_FRESH, THEIRS_FRESH = "; {ours}_no_context_takeover", "; {theirs}_no_context_takeover"


class Received(NamedTuple):
    """Frames that arrive, the messages they are, and the code with which the connection is failed.

    `params` are the server's answer.
    """

    id: str
    frames: list[Sent]
    messages: list[str | bytes]
    code: int | None = None
    params: str = ""


def back(distance: int) -> list[Sent]:
    """Two messages of which the second refers `distance` bytes back into the first."""
    size = 200
    first, second = deflate(NOISE[:distance], NOISE[:size], window=15)
    assert len(second) < 60, "it is no reference"
    return [f(BINARY, first, rsv1=True), f(BINARY, second, rsv1=True)]


RECEIVED = [
    # The examples of the RFC
    Received("7.2.3.1-one-block", [f(TEXT, x("f248cdc9c90700"), rsv1=True)], ["Hello"]),
    Received(
        "7.2.3.1-one-block-in-two-fragments",
        [f(TEXT, x("f248cd"), rsv1=True, fin=False), f(MORE, x("c9c90700"))],
        ["Hello"],
    ),
    Received("7.2.3.2-sharing-the-window", packed(x("f248cdc9c90700"), x("f200110000")), ["Hello", "Hello"]),
    Received(
        "7.2.3.2-not-sharing-the-window", packed(x("f248cdc9c90700"), x("f248cdc9c90700")), ["Hello", "Hello"]
    ),
    Received("7.2.3.3-no-compression", [f(TEXT, x("000500faff48656c6c6f00"), rsv1=True)], ["Hello"]),
    Received("7.2.3.4-bfinal", [f(TEXT, x("f348cdc9c9070000"), rsv1=True)], ["Hello"]),
    Received("7.2.3.5-two-blocks", [f(TEXT, x("f24805000000ffffcac9c90700"), rsv1=True)], ["Hello"]),
    Received(
        "7.2.3.6-an-empty-last-fragment",
        [f(TEXT, x("f248cdc9c90700") + TAIL, rsv1=True, fin=False), f(MORE, x("00"))],
        ["Hello"],
    ),
    Received(
        "7.2.3.6-an-empty-message", [f(TEXT, x("00"), rsv1=True), f(BINARY, x("00"), rsv1=True)], ["", b""]
    ),
    # Blocks of every kind, 7.2.1
    Received("7.2.1-a-fixed-block", [f(TEXT, FIXED, rsv1=True)], [LONG.decode()]),
    Received("7.2.1-a-dynamic-block", [f(TEXT, dynamic(LONG) + b"\0", rsv1=True)], [LONG.decode()]),
    Received(
        "7.2.1-the-largest-stored-block",
        [f(BINARY, stored(NOISE[:65535]) + b"\0", rsv1=True)],
        [NOISE[:65535]],
    ),
    Received(
        "7.2.1-stored-blocks",
        [f(BINARY, b"".join(stored(NOISE[i : i + 7]) for i in range(0, 700, 7)) + b"\0", rsv1=True)],
        [NOISE[:700]],
    ),
    Received(
        "7.2.1-all-kinds-in-one-message",
        [
            f(
                BINARY,
                stored(LONG) + FIXED + TAIL + stored(b"") + dynamic(LONG) + stored(LONG) + b"\0",
                rsv1=True,
            )
        ],
        [LONG * 4],
    ),
    Received(
        "7.2.1-all-kinds-a-fragment-for-each",
        [
            f(BINARY, stored(LONG), rsv1=True, fin=False),
            f(MORE, FIXED + TAIL, fin=False),
            f(MORE, dynamic(LONG), fin=False),
            f(MORE, b"\0"),
        ],
        [LONG * 3],
    ),
    Received(
        "7.2.1-empty-blocks",
        [f(TEXT, (b"\0" + TAIL) * 500 + HELLO + TAIL + (b"\0" + TAIL) * 500 + b"\0", rsv1=True)],
        ["Hello"],
    ),
    Received("7.2.1-an-empty-fixed-block", packed(x("0200")), [""]),
    Received(
        "7.2.1-levels-0-to-9",
        [f(BINARY, deflate(LONG * 3, level=level)[0], rsv1=True) for level in range(10)],
        [LONG * 3] * 10,
    ),
    Received(
        "7.2.1-huffman-alone", [f(BINARY, deflate(LONG, strategy=zlib.Z_HUFFMAN_ONLY)[0], rsv1=True)], [LONG]
    ),
    # Final blocks, 7.2.1 and 7.2.3.4
    Received("7.2.1-blocks-behind-a-final-one", packed(FINAL + HELLO), ["HelloHello"]),
    Received(
        "7.2.1-several-final-blocks",
        packed(FINAL + FINAL + stored(b"Hello", final=True) + b"\0"),
        ["HelloHelloHello"],
    ),
    Received("7.2.1-empty-final-blocks", packed(x("0300") * 3 + HELLO, x("0300") + b"\0"), ["Hello", ""]),
    Received(
        "7.2.1-final-blocks-in-fragments",
        [
            f(TEXT, FINAL[:3], rsv1=True, fin=False),
            f(MORE, FINAL[3:] + FINAL[:1], fin=False),
            f(MORE, FINAL[1:], fin=False),
            f(MORE, b"\0"),
        ],
        ["HelloHello"],
    ),
    Received(
        "7.2.1-messages-behind-one-with-a-final-block",
        packed(FINAL + b"\0", HELLO, AGAIN, FINAL + HELLO, AGAIN),
        ["Hello", "Hello", "Hello", "HelloHello", "Hello"],
    ),
    Received(
        "7.2.1-a-large-final-block",
        [f(BINARY, dynamic(LONG * 30) + b"\0", rsv1=True), *packed(HELLO)],
        [LONG * 30, "Hello"],
    ),
    Received("7.2.1-nothing-behind-a-final-block", packed(FINAL, FINAL), ["Hello", "Hello"]),
    Received(
        "7.2.1-references-beyond-a-final-block", packed(HELLO, FINAL + b"\0", AGAIN), ["Hello", "Hello"], 1002
    ),
    # Empty messages
    Received(
        "7.2.3.6-an-empty-message-between-others",
        packed(HELLO, x("00"), AGAIN, x("00"), AGAIN),
        ["Hello", "", "Hello", "", "Hello"],
    ),
    Received("7.2.1-no-byte-at-all", [f(TEXT, HELLO, rsv1=True), f(TEXT, b"", rsv1=True)], ["Hello"], 1002),
    Received(
        "7.2.1-no-byte-in-any-fragment",
        [f(TEXT, b"", rsv1=True, fin=False), f(MORE, b"", fin=False), f(MORE, b"")],
        [],
        1002,
    ),
    # Context takeover, 7.1.1 and 7.2.2
    Received("7.2.2-a-context-lives-on", packed(HELLO, AGAIN, AGAIN), ["Hello"] * 3),
    Received(
        "7.2.2-a-context-lives-on-in-fragments",
        [*packed(HELLO), f(TEXT, AGAIN[:2], rsv1=True, fin=False), f(PING), f(MORE, AGAIN[2:])],
        ["Hello"] * 2,
    ),
    Received(
        "7.2.2-uncompressed-messages-are-not-in-the-window",
        [*packed(HELLO), f(TEXT, b"other"), f(BINARY, NOISE), *packed(AGAIN)],
        ["Hello", "other", NOISE, "Hello"],
    ),
    Received(
        "7.2.2-text-and-binary-share-a-context",
        [*packed(HELLO), f(BINARY, AGAIN, rsv1=True)],
        ["Hello", b"Hello"],
    ),
    Received("7.2.2-as-far-back-as-32768", back(32768 - 262), [NOISE[: 32768 - 262], NOISE[:200]]),
    Received("7.1.1-the-first-message-has-an-empty-window", packed(AGAIN), [], 1002),
    Received("7.1.1-no-takeover-kept", packed(HELLO, HELLO), ["Hello"] * 2, None, THEIRS_FRESH),
    Received("7.1.1-no-takeover-broken", packed(HELLO, AGAIN), ["Hello"], 1002, THEIRS_FRESH),
    Received(
        "7.1.1-no-takeover-broken-later",
        [*packed(HELLO), f(TEXT, b"x"), *packed(HELLO, AGAIN)],
        ["Hello", "x", "Hello"],
        1002,
        THEIRS_FRESH,
    ),
    Received(
        "7.1.1-no-takeover-of-ours-says-nothing-of-theirs",
        packed(HELLO, AGAIN),
        ["Hello"] * 2,
        None,
        OURS_FRESH,
    ),
    Received(
        "7.1.1-no-takeover-of-both",
        packed(HELLO, AGAIN),
        ["Hello"],
        1002,
        BOTH_FRESH,
    ),
    # The window, 7.1.2 and 7.2.2
    *[
        Received(
            f"7.1.2-a-window-of-{n}",
            back((1 << n) - 262),
            [NOISE[: (1 << n) - 262], NOISE[:200]],
            None,
            f"; {{theirs}}_max_window_bits={n}",
        )
        for n in range(9, 15)
    ],
    Received(
        "7.1.2-a-window-of-8",
        [f(BINARY, part, rsv1=True) for part in deflate(NOISE[:250] + NOISE[:3], NOISE[5:100], window=9)],
        [NOISE[:250] + NOISE[:3], NOISE[5:100]],
        None,
        "; {theirs}_max_window_bits=8",
    ),
    *[
        Received(
            f"7.1.2-references-beyond-a-window-of-{n}",
            back(1 << (n + 1)),
            [NOISE[: 1 << (n + 1)]],
            1002,
            f"; {{theirs}}_max_window_bits={n}",
        )
        for n in range(8, 14)
    ],
    # What is no DEFLATE
    Received("7.2.2-a-block-of-type-11", packed(HELLO, x("07")), ["Hello"], 1002),
    Received("7.2.2-a-block-of-type-11-behind-a-good-one", packed(HELLO + TAIL + x("07")), [], 1002),
    Received("7.2.2-a-stored-block-whose-length-is-wrong", packed(x("000500000048656c6c6f00")), [], 1002),
    Received("7.2.2-a-dynamic-block-without-codes", packed(x("0400000000000000")), [], 1002),
    Received("7.2.2-noise", [f(BINARY, b"\xff" * 100, rsv1=True)], [], 1002),
    Received("7.2.2-cut-off-in-a-fixed-block", packed(x("f248cd")), [], 1002),
    Received("7.2.2-cut-off-in-a-final-block", packed(x("f348cdc9")), [], 1002),
    Received("7.2.2-cut-off-in-a-stored-block", packed(x("000500faff4865")), [], 1002),
    Received("7.2.2-cut-off-in-a-dynamic-block", [f(BINARY, dynamic(LONG)[:80], rsv1=True)], [], 1002),
    Received(
        "7.2.2-cut-off-in-fragments",
        [*packed(HELLO), f(TEXT, x("f248"), rsv1=True, fin=False), f(MORE, b"", fin=False), f(MORE, x("cd"))],
        ["Hello"],
        1002,
    ),
    Received("7.2.2-cut-off-without-takeover", packed(x("f248cd")), [], 1002, THEIRS_FRESH),
    Received("7.2.1-a-tail-that-was-not-removed", packed(HELLO + TAIL), [], 1002),
    Received(
        "7.2.2-nothing-is-delivered-behind-a-wrong-message", packed(HELLO, x("07"), HELLO), ["Hello"], 1002
    ),
]


PIECES, TAKEN, LARGE_PIECES = (1 << 30, 1, 7), (1 << 20, 1, 3), (1 << 20, 977)


def row_size(row: Received) -> int:
    return sum(len(payload) for _, payload, _ in row.frames) + sum(map(len, row.messages))


@ROLES
@rows(RECEIVED)
def test_what_is_received(offline: Any, role: str, row: Received) -> None:
    for piece in PIECES if row_size(row) < 3000 else LARGE_PIECES:
        endpoint = offline(role, row.params)
        assert endpoint.run(row.frames, piece=piece) == (row.messages, row.code)
        closing = [frame.close_code for frame in endpoint.frames_sent() if frame.kind == "close"]
        assert closing == ([] if row.code is None else [row.code])
    for take in TAKEN if row_size(row) < 3000 else LARGE_PIECES:
        assert offline(role, row.params).run(row.frames, piece=5, take=take) == (row.messages, row.code)


@pytest.mark.anyio
@pytest.mark.slow
@ROLES
@rows(RECEIVED)
async def test_what_is_received_over_a_socket(online: Any, role: str, row: Received) -> None:
    async with online(role, row.params) as endpoint:
        assert await endpoint.run(row.frames, close=row.code is None) == (row.messages, row.code)
        assert await endpoint.close_code_sent() == (row.code or 1000)


@ROLES
@pytest.mark.parametrize("window", range(8, 15))
def test_7_1_2_beyond_the_window_there_is_an_error_or_the_truth(offline: Any, role: str, window: int) -> None:
    """Inside one message a receiver may still have what lies behind the window (7.2.2 says MAY)."""
    message = NOISE[: 2 << window] * 2
    (payload,) = deflate(message)
    for piece in (1 << 30, 100):
        outcome = offline(role, f"; {{theirs}}_max_window_bits={window}").run(
            [f(BINARY, payload, rsv1=True)], piece=piece
        )
        assert outcome in (([message], None), ([], 1002))


# -- 7.2.1: messages that are sent ---------------------------------------------------------------


def repeats(window: int) -> list[list[bytes]]:
    """Messages with something to refer to just behind a window, in the same message and before it."""
    far = NOISE[: (1 << window) + 100]
    return [[far * 2], [far], [b"Hello"], [far[:50], far[:50]]]


class Messages(NamedTuple):
    """Messages in their fragments, and what the peer has to keep to inflate them."""

    id: str
    messages: list[list[bytes]]
    params: str = ""
    options: Deflate = ALWAYS
    window: int = 15
    takeover: bool = True


SHARED = [[LONG], [LONG, LONG], [b"Hello"], [LONG]]
EMPTY = [[b""], [b"Hello"], [b""], [b"", b""], [b"", b"Hello"], [b"Hello", b""], [b"", b"", b""], [b""]]

SENT = [
    Messages("7.2.1-messages", SHARED),
    Messages(
        "7.2.1-fragments",
        [[NOISE[i : i + 50] for i in range(0, 2000, 50)], [LONG[i : i + 3] for i in range(0, 300, 3)]],
    ),
    Messages("7.2.1-100000-zeros", [[bytes(100_000)], [bytes(100_000)]]),
    Messages("7.2.3.6-empty-messages", EMPTY),
    Messages("7.2.3.6-empty-messages-without-takeover", EMPTY, OURS_FRESH, takeover=False),
    Messages("7.2.3.6-empty-messages-of-level-0", EMPTY, options=Deflate(level=0, min_size=0)),
    *[
        Messages(f"7.2.1-level-{level}", SHARED, options=Deflate(level=level, min_size=0))
        for level in range(-1, 10)
    ],
    *[
        Messages(f"7.2.1-mem-level-{level}", SHARED, options=Deflate(mem_level=level, min_size=0))
        for level in (1, 9)
    ],
    Messages("7.2.1-never-beyond-32768", repeats(15)),
    *[
        Messages(f"7.2.1-agreed-window-of-{n}", repeats(n), f"; {{ours}}_max_window_bits={n}", window=n)
        for n in WINDOWS
    ],
    *[
        Messages(
            f"7.2.1-agreed-window-of-{n}-of-level-1",
            repeats(n),
            f"; {{ours}}_max_window_bits={n}",
            Deflate(level=1, min_size=0),
            window=n,
        )
        for n in (9, 12)
    ],
    *[
        Messages(
            f"7.2.1-agreed-window-of-{n}-without-takeover",
            repeats(n),
            f"; {{ours}}_no_context_takeover; {{ours}}_max_window_bits={n}",
            window=n,
            takeover=False,
        )
        for n in (9, 12)
    ],
    Messages("7.2.1-their-window-says-nothing-of-ours", repeats(15), "; {theirs}_max_window_bits=9"),
    Messages("7.2.1-no-takeover", SHARED, OURS_FRESH, takeover=False),
    Messages(
        "7.2.1-no-takeover-in-fragments", [[LONG, LONG, b"", LONG], [LONG, LONG]], OURS_FRESH, takeover=False
    ),
    Messages("7.2.1-their-no-takeover-says-nothing-of-ours", SHARED, THEIRS_FRESH),
    Messages(
        "7.2.1-no-takeover-by-option",
        SHARED,
        OURS_FRESH,
        Deflate(context_takeover=False, min_size=0),
        takeover=False,
    ),
]


def check_payloads(row: Messages, payloads: list[bytes], strict_inflate: Any) -> None:
    """Each message inflates with a window as small, and a context as fresh, as was agreed on."""
    context: Any = None
    shares = False
    for fragments, payload in zip(row.messages, payloads, strict=True):
        assert payload, "one byte at least (section 7.2.3.6)"
        assert not payload.endswith(TAIL)
        if context is None or not row.takeover:
            context = zlib.decompressobj(-row.window)
        assert strict_inflate(context, payload + TAIL) == b"".join(fragments)
        shares = shares or not stands_alone(payload)
    if row.messages is SHARED and row.options.level:
        assert shares is row.takeover, "a context that may live on is made use of, another is not"


def stands_alone(payload: bytes) -> bool:
    try:
        zlib.decompressobj(-15).decompress(payload + TAIL)
    except zlib.error:
        return False
    return True


@ROLES
@rows(SENT)
def test_what_is_sent(offline: Any, strict_inflate: Any, role: str, row: Messages) -> None:
    endpoint = offline(role, row.params, row.options)
    payloads = []
    for fragments in row.messages:
        for number, fragment in enumerate(fragments):
            endpoint.connection.send_data("binary", fragment, last=number == len(fragments) - 1)
        payloads.append(b"".join(frame.payload for frame in endpoint.frames_sent()))
    check_payloads(row, payloads, strict_inflate)


@pytest.mark.anyio
@pytest.mark.slow
@ROLES
@rows(SENT)
async def test_what_is_sent_over_a_socket(online: Any, strict_inflate: Any, role: str, row: Messages) -> None:
    async with online(role, row.params, row.options) as endpoint:
        payloads = []
        for fragments in row.messages:
            if len(fragments) == 1:
                await endpoint.ws.send(fragments[0])
            else:
                async with endpoint.ws.writable.message() as writer:
                    for fragment in fragments:
                        await writer.send(fragment)
                        await writer.flush()
            frames = [await endpoint.peer.read_frame()]
            while not frames[-1].fin:
                frames.append(await endpoint.peer.read_frame())
            assert frames[0].rsv1
            payloads.append(b"".join(frame.payload for frame in frames))
        check_payloads(row, payloads, strict_inflate)


def test_the_check_of_the_window_sees_a_window_that_is_too_large(strict_inflate: Any) -> None:
    for window in range(9, 15):
        far = NOISE[: (1 << window) + 100]
        for messages in ([far * 2], [far, far]):
            context = zlib.decompressobj(-window)
            with pytest.raises(zlib.error, match="too far back"):
                for payload in deflate(*messages, window=window + 1):
                    strict_inflate(context, payload + TAIL)


@pytest.mark.parametrize("payload", ["f248cd", "f248cdc9c907000000ffff", "000500faff4865"])
def test_the_check_of_what_is_sent_sees_a_message_that_is_cut_off(strict_inflate: Any, payload: str) -> None:
    with pytest.raises((AssertionError, zlib.error)):
        strict_inflate(zlib.decompressobj(-15), x(payload) + TAIL)
