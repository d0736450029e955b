"""RFC 6455 section 5: data framing. See conftest.py for how a row is read.

The data of a row that fails ends with the byte that proves the violation.
"""

from __future__ import annotations

from typing import Any

import pytest
from kit.compliance_rows import CLEANLY, PEER_ANSWERS, PEER_CLOSES, WE_CLOSE, Row, catalogue_rows

from wsstream.codec.events import Chunk, Close, Ping
from wsstream.testing import binary, close, continuation, ping, pong, text

FIRST = text("a", fin=False)
"""A message has begun."""

SIZES = (0, 1, 125, 126, 127, 255, 256, 65535, 65536)
FULL = bytes(range(125))
DATA = bytes(range(256)) * 257

ROWS: dict[str, Row] = {
    **catalogue_rows("5"),
    # 5.1 Overview
    "5.1-wrong-masking-of-continuation": [
        ("in", FIRST),
        ("mismasked", continuation("b")[:2]),
        ("fails", 1002),
    ],
    "5.1-wrong-masking-after-message": [
        ("in", text("a")),
        ("sees", "a"),
        ("mismasked", text("b")[:2]),
        ("fails", 1002),
    ],
    "5.1-all-frames-out-are-masked-as-the-role-demands": [
        ("app", "a"),
        ("app", b""),
        ("app", Chunk("text", b"b", False)),
        ("app", Chunk("text", b"", True)),
        ("app", Ping()),
        ("in", ping(b"p")),
        ("out", text("a") + binary() + text("b", fin=False) + continuation() + ping() + pong(b"p")),
        *WE_CLOSE,
        ("keys", 7),
        *PEER_ANSWERS,
    ],
    "5.1-data-may-go-at-any-time-until-close": [
        ("app", "a"),
        ("in", text("b") + ping()),
        ("out", text("a") + pong()),
        ("app", b"c"),
        ("out", binary(b"c")),
        ("sees", "b"),
    ],
    # 5.2 Base framing protocol: the reserved bits
    "5.2-no-reserved-bit-goes-out": [("app", "a"), ("app", Ping()), ("out", text("a") + ping())],
    # Opcodes
    "5.2-known-opcodes": [
        ("in", FIRST + continuation("b") + binary(b"c") + ping(b"p") + pong(b"q")),
        ("sees", "ab"),
        ("sees", b"c"),
        ("out", pong(b"p")),
        ("in", close()),
        ("out", close()),
        ("ends", (1005, "", True)),
    ],
    "5.2-fin-ends-the-message": [("in", text("a")), ("sees", "a"), ("in", text("b")), ("sees", "b")],
    "5.2-without-fin-the-message-goes-on": [("in", FIRST), ("part", b"a")],
    # Lengths
    **{f"5.2-binary-of-{size}-out": [("app", DATA[:size]), ("out", binary(DATA[:size]))] for size in SIZES},
    "5.2-length-2-to-the-63-less-1": [
        ("in", binary(b"abc", declared_length=(1 << 63) - 1)),
        ("part", b"abc"),
    ],
    "5.2-length-in-network-order": [("in", bytes.fromhex("827e0102") + DATA[:258]), ("sees", DATA[:258])],
    "5.2-64-bit-length-in-network-order": [
        ("in", bytes.fromhex("827f0000000000010002") + DATA[:65538]),
        ("sees", DATA[:65538]),
    ],
    # 5.3 Masking
    "5.3-fresh-key-for-each-frame": [*[("app", b"a")] * 20, ("out", binary(b"a") * 20), ("keys", 20)],
    "5.3-fresh-key-for-each-fragment": [
        ("app", Chunk("binary", b"a", False)),
        ("app", Chunk("binary", b"b", False)),
        ("app", Chunk("binary", b"", True)),
        ("out", binary(b"a", fin=False) + continuation(b"b", fin=False) + continuation()),
        ("keys", 3),
    ],
    **{
        f"5.3-unmask-{size}-bytes": [
            ("only", "server"),
            ("raw", binary(DATA[:size], mask=b"\x80\x01\xfe\x7f")),
            ("sees", DATA[:size]),
        ]
        for size in (1, 2, 3, 4, 5, 7, 1023, 1024, 1025, 65537)
    },
    "5.3-key-of-zeros": [("only", "server"), ("raw", text("plain", mask=bytes(4))), ("sees", "plain")],
    "5.3-each-frame-has-its-own-key": [
        ("only", "server"),
        ("raw", text("ab", fin=False, mask=b"wxyz") + continuation("cd", mask=b"\0\xff\0\xff")),
        ("sees", "abcd"),
    ],
    "5.3-control-frames-are-unmasked-too": [
        ("only", "server"),
        ("raw", ping(b"p", mask=b"wxyz") + close(1000, "why", mask=b"abcd")),
        ("out", pong(b"p") + close(1000, "why")),
        ("ends", (1000, "why", True)),
    ],
    # 5.4 Fragmentation
    "5.4-three-fragments": [
        ("in", binary(b"a", fin=False) + continuation("b", fin=False) + continuation("c")),
        ("sees", b"abc"),
    ],
    "5.4-300-fragments-in-order": [
        (
            "in",
            binary(fin=False)
            + b"".join(continuation(bytes([i % 256]), fin=False) for i in range(300))
            + continuation(),
        ),
        ("sees", bytes(range(256)) + bytes(range(44))),
    ],
    "5.4-empty-fragments-around-data": [
        ("in", text(fin=False) + continuation("a", fin=False) + continuation()),
        ("sees", "a"),
    ],
    "5.4-fragment-of-70000-bytes": [
        ("in", binary(DATA[:9], fin=False) + continuation(bytes(65792))),
        ("sees", DATA[:9] + bytes(65792)),
    ],
    "5.4-fragments-out": [
        ("app", Chunk("text", b"a", False)),
        ("app", Chunk("text", b"b", False)),
        ("app", Chunk("text", b"", True)),
        ("app", "next"),
        ("out", FIRST + continuation("b", fin=False) + continuation() + text("next")),
    ],
    "5.4-ping-between-fragments": [
        ("in", FIRST + ping(b"p")),
        ("out", pong(b"p")),
        ("in", continuation("b")),
        ("sees", "ab"),
    ],
    "5.4-ping-between-each-of-many-fragments": [
        ("in", FIRST),
        *[("in", continuation("b", fin=False) + ping(b"p")), ("out", pong(b"p"))] * 5,
        ("in", continuation("c")),
        ("sees", "abbbbbc"),
    ],
    "5.4-close-between-fragments": [
        ("in", FIRST + close(1000)),
        ("out", close(1000)),
        ("ends", (1000, "", False)),
    ],
    "5.4-close-after-several-fragments": [
        ("in", FIRST + continuation("b", fin=False) + close(1001, "bye")),
        ("out", close(1001, "bye")),
        ("ends", (1001, "bye", False)),
    ],
    "5.4-pong-goes-out-between-fragments": [
        ("app", Chunk("text", b"a", False)),
        ("in", ping(b"p")),
        ("out", FIRST + pong(b"p")),
        ("app", Chunk("text", b"", True)),
        ("out", continuation()),
    ],
    "5.4-ping-goes-out-between-fragments": [
        ("app", Chunk("text", b"a", False)),
        ("app", Ping()),
        ("app", Chunk("text", b"", True)),
        ("out", FIRST + ping() + continuation()),
    ],
    "5.4-nothing-goes-out-inside-a-message": [
        ("app", Chunk("text", b"a", False)),
        ("refused", "b"),
        ("refused", b"c"),
        ("app", Chunk("text", b"", True)),
        ("out", FIRST + continuation()),
    ],
    "5.4-type-is-that-of-the-first-fragment": [
        ("in", text("1", fin=False) + continuation("2") + binary(b"3", fin=False) + continuation(b"4")),
        ("sees", "12"),
        ("sees", b"34"),
    ],
    "5.4-frame-is-handed-on-before-it-is-complete": [
        ("in", binary(b"abc", declared_length=70_000)),
        ("part", b"abc"),
    ],
    "5.4-frame-boundaries-have-no-meaning": [
        ("in", binary(b"abcd")),
        ("sees", b"abcd"),
        ("in", binary(b"a", fin=False) + continuation(b"bc", fin=False) + continuation(b"d")),
        ("sees", b"abcd"),
    ],
    # 5.5 Control frames
    "5.5-close-of-125-bytes": [
        ("in", close(1000, "x" * 123)),
        ("out", close(1000, "x" * 123)),
        ("ends", (1000, "x" * 123, True)),
    ],
    "5.5-close-of-126-bytes-cannot-be-sent": [("invalid", Close(1000, "x" * 124))],
    "5.5-close-of-126-bytes-is-counted-in-bytes": [("invalid", Close(1000, "é" * 62))],
    "5.5-close-of-125-bytes-out": [
        ("app", Close(1000, "é" * 61 + "x")),
        ("out", close(1000, "é" * 61 + "x")),
        *PEER_ANSWERS,
    ],
    # 5.5.1 Close
    "5.5.1-code-in-network-order": [
        ("in", b"\x88\x02\x0b\xb9"),
        ("out", close(3001)),
        ("ends", (3001, "", True)),
    ],
    "5.5.1-code-and-reason": [
        ("in", close(3999, "κόσμε")),
        ("out", close(3999, "κόσμε")),
        ("ends", (3999, "κόσμε", True)),
    ],
    "5.5.1-no-data-after-our-close": [
        *WE_CLOSE,
        ("refused", "a"),
        ("refused", Chunk("text", b"a", False)),
        *PEER_ANSWERS,
    ],
    "5.5.1-close-follows-the-data-sent-before": [
        ("app", "a"),
        ("app", b"b"),
        ("app", Close(1001, "c")),
        ("out", text("a") + binary(b"b") + close(1001, "c")),
        ("in", close(1001)),
        ("ends", (1001, "", True)),
    ],
    "5.5.1-close-is-answered": [
        ("in", close(4999, "bye")),
        ("out", close(4999, "bye")),
        ("ends", (4999, "bye", True)),
    ],
    "5.5.1-close-is-answered-after-message": [
        ("in", text("a") + close(1000)),
        ("out", close(1000)),
        ("sees", "a"),
        CLEANLY,
    ],
    "5.5.1-close-is-answered-once": [("in", close(1000) + close(1001)), ("out", close(1000)), CLEANLY],
    "5.5.1-answer-to-our-close-is-not-answered": [*WE_CLOSE, ("in", close(3000)), ("ends", (3000, "", True))],
    "5.5.1-close-is-answered-inside-our-message": [
        ("app", Chunk("text", b"a", False)),
        ("out", FIRST),
        *PEER_CLOSES,
        ("refused", Chunk("text", b"b", False)),
        ("ends", (1000, "", False)),
    ],
    "5.5.1-both-close-at-once": [
        ("app", Close(1000, "ours")),
        ("in", close(1001, "theirs")),
        ("out", close(1000, "ours")),
        ("ends", (1001, "theirs", True)),
    ],
    "5.5.1-data-before-the-answer-is-dropped": [
        ("app", Close(1000)),
        ("in", text("late") + binary(b"late", fin=False)),
        ("in", continuation() + close(1000)),
        ("out", close(1000)),
        CLEANLY,
    ],
    # 5.5.2 Ping
    "5.5.2-ping-with-data-is-answered": [("in", ping(b"\x00\xff\xfe")), ("out", pong(b"\x00\xff\xfe"))],
    "5.5.2-each-ping-is-answered": [
        step for i in range(10) for step in (("in", ping(b"%d" % i)), ("out", pong(b"%d" % i)))
    ],
    "5.5.2-ping-after-message-is-answered": [
        ("in", text("a") + ping(b"p")),
        ("out", pong(b"p")),
        ("sees", "a"),
    ],
    "5.5.2-ping-after-our-close-is-answered": [
        *WE_CLOSE,
        ("in", ping(b"p")),
        ("out", pong(b"p")),
        *PEER_ANSWERS,
    ],
    "5.5.2-ping-after-their-close-is-not-answered": [*PEER_CLOSES, ("in", ping(b"p")), CLEANLY],
    "5.5.2-ping-may-be-sent-at-any-time": [
        ("app", Ping()),
        ("out", ping()),
        ("app", "a"),
        ("app", Chunk("text", b"a", False)),
        ("app", Ping()),
        ("out", text("a") + FIRST + ping()),
        ("app", Chunk("text", b"", True)),
        ("out", continuation()),
    ],
    "5.5.2-no-ping-after-the-connection-is-closed": [*PEER_CLOSES, ("refused", Ping()), CLEANLY],
    # 5.5.3 Pong
    "5.5.3-pong-has-the-data-of-the-ping": [("in", ping(FULL[::-1])), ("out", pong(FULL[::-1]))],
    "5.5.3-unsolicited-pong-is-not-answered": [("in", pong() + pong(b"x")), ("in", text("a")), ("sees", "a")],
    # 5.6 Data frames
    "5.6-text": [("in", text("κόσμε\x00\U0010ffff")), ("sees", "κόσμε\x00\U0010ffff")],
    "5.6-text-out": [("app", "κόσμε"), ("out", text("κόσμε".encode()))],
    "5.6-text-that-is-not-utf8-cannot-be-sent": [("invalid", "a\ud800")],
    "5.6-binary-out": [("app", b"\xff\xfe\x80"), ("out", binary(b"\xff\xfe\x80"))],
    "5.6-fragmented-binary-is-any-bytes": [
        ("in", binary(b"\xff", fin=False) + continuation(b"\x80")),
        ("sees", b"\xff\x80"),
    ],
    # 5.7 Examples
    "5.7-unmasked-text": [("only", "client"), ("raw", bytes.fromhex("810548656c6c6f")), ("sees", "Hello")],
    "5.7-masked-text": [
        ("only", "server"),
        ("raw", bytes.fromhex("818537fa213d7f9f4d5158")),
        ("sees", "Hello"),
    ],
    "5.7-fragmented-text": [("in", bytes.fromhex("010348656c80026c6f")), ("sees", "Hello")],
    "5.7-ping-and-pong": [
        ("in", bytes.fromhex("890548656c6c6f")),
        ("out", bytes.fromhex("8a0548656c6c6f")),
        ("in", bytes.fromhex("8a0548656c6c6f")),
    ],
    "5.7-256-bytes": [("in", b"\x82\x7e\x01\x00" + DATA[:256]), ("sees", DATA[:256])],
    "5.7-64-kib": [("in", b"\x82\x7f\0\0\0\0\0\x01\0\0" + DATA[:65536]), ("sees", DATA[:65536])],
    "5.7-examples-out": [
        ("app", "Hello"),
        ("app", DATA[:256]),
        ("app", DATA[:65536]),
        ("out", bytes.fromhex("810548656c6c6f") + b"\x82\x7e\x01\x00" + DATA[:256]),
        ("out", b"\x82\x7f\0\0\0\0\0\x01\0\0" + DATA[:65536]),
    ],
    # 5.8 Extensibility
}


def test_without_io(row: Any, role: str, play: Any) -> None:
    play(row, role)


@pytest.mark.slow
@pytest.mark.anyio
async def test_over_a_socket(row: Any, role: str, play_over_socket: Any) -> None:
    await play_over_socket(row, role)
