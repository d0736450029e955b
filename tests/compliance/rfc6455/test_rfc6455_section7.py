"""RFC 6455 section 7: closing the connection. See conftest.py for how a row is read.

Who closes TCP is looked at in each row that ``ends`` over a socket; what takes time is in
test_rfc6455_section7_time.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from wsstream.codec.events import Chunk, Close
from wsstream.testing import binary, close, continuation, frame, ping, pong, text

FIRST = text("a", fin=False)
LOST = (1006, "", False)
DEFINED = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014)
FREE = (3000, 3001, 3999, 4000, 4999)
NEVER = {1004: "7.4.1", 1005: "7.4.1", 1006: "7.4.1", 1015: "7.4.1"} | dict.fromkeys(
    (0, 1, 255, 256, 767, 999, 1016, 1023, 1024, 1100, 2000, 2815, 2816, 2999, 5000, 5119, 5120, 65535),
    "7.4.2",
)
FIRST_BYTES = {code >> 8 for code in (*DEFINED, *range(3000, 5000))}


def up_to_the_proof(code: int) -> bytes:
    """A Close frame up to the byte that proves that it has no code that may be sent."""
    return close(code, "why")[: 4 if code >> 8 in FIRST_BYTES else 3]


ROWS: dict[str, list[tuple[str, Any]]] = {
    # 7.1.1 Close the WebSocket connection
    "7.1.1-server-closes-tcp-first-when-we-began": [
        ("app", Close(1000)),
        ("out", close(1000)),
        ("in", close(1000)),
        ("ends", (1000, "", True)),
    ],
    "7.1.1-server-closes-tcp-first-when-the-peer-began": [
        ("in", close(1000)),
        ("out", close(1000)),
        ("ends", (1000, "", True)),
    ],
    "7.1.1-server-closes-tcp-first-when-both-began": [
        ("app", Close(1000)),
        ("in", close(1000)),
        ("out", close(1000)),
        ("ends", (1000, "", True)),
    ],
    "7.1.1-trailing-bytes-are-discarded": [
        ("in", close(1000) + frame(3, bytes(5000)) + text("late")),
        ("out", close(1000)),
        ("ends", (1000, "", True)),
    ],
    "7.1.1-trailing-bytes-behind-the-answer-are-discarded": [
        ("app", Close(1000)),
        ("out", close(1000)),
        ("in", close(1000) + frame(3, bytes(5000))),
        ("ends", (1000, "", True)),
    ],
    # 7.1.2 Start the closing handshake
    "7.1.2-close-has-code-and-reason": [
        ("app", Close(3001, "κόσμε")),
        ("out", close(3001, "κόσμε")),
        ("in", close(3001)),
        ("ends", (3001, "", True)),
    ],
    "7.1.2-close-has-a-code-alone": [
        ("app", Close(4000)),
        ("out", close(4000)),
        ("in", close()),
        ("ends", (1005, "", True)),
    ],
    "7.1.2-close-has-no-code": [
        ("app", Close()),
        ("out", close()),
        ("in", close(1000)),
        ("ends", (1000, "", True)),
    ],
    "7.1.2-close-is-sent-once": [
        ("app", Close(1000)),
        ("out", close(1000)),
        ("in", close(1000)),
        ("in", close(1001)),
        ("ends", (1000, "", True)),
    ],
    # 7.1.3 The closing handshake is started
    "7.1.3-closing-when-close-was-sent": [
        ("state", "open"),
        ("app", Close(1000)),
        ("out", close(1000)),
        ("state", "closing"),
        ("in", close(1000)),
        ("ends", (1000, "", True)),
    ],
    "7.1.3-closing-when-close-was-received": [
        ("only", "client"),  # a server is done with TCP at once
        ("in", close(1000)),
        ("out", close(1000)),
        ("state", "closing"),
        ("refused", "a"),
        ("ends", (1000, "", True)),
    ],
    # 7.1.4 The connection is closed
    "7.1.4-closed-with-tcp": [
        ("app", Close(1000)),
        ("out", close(1000)),
        ("state", "closing"),
        ("in", close(1000)),
        ("ends", (1000, "", True)),
        ("state", "closed"),
    ],
    "7.1.4-not-cleanly-without-the-closing-handshake": [("eof", None), ("ends", LOST), ("state", "closed")],
    "7.1.4-not-cleanly-without-the-answer": [
        ("app", Close(1000)),
        ("out", close(1000)),
        ("eof", None),
        ("ends", LOST),
    ],
    "7.1.4-not-cleanly-inside-a-message": [
        ("in", FIRST + close(1000)),
        ("out", close(1000)),
        ("ends", (1000, "", False)),
    ],
    "7.1.4-cleanly-with-any-code": [
        ("in", close(1011, "bad")),
        ("out", close(1011, "bad")),
        ("ends", (1011, "bad", True)),
    ],
    # 7.1.5 The close code
    "7.1.5-that-of-the-peers-close": [("in", close(4321)), ("out", close(4321)), ("ends", (4321, "", True))],
    "7.1.5-that-of-the-peers-close-though-we-began": [
        ("app", Close(1000)),
        ("out", close(1000)),
        ("in", close(4321)),
        ("ends", (4321, "", True)),
    ],
    "7.1.5-that-of-the-first-close": [
        ("in", close(3000) + close(3001)),
        ("out", close(3000)),
        ("ends", (3000, "", True)),
    ],
    "7.1.5-1005-without-a-code": [("in", close()), ("out", close()), ("ends", (1005, "", True))],
    "7.1.5-1005-without-a-code-though-we-sent-one": [
        ("app", Close(1001)),
        ("out", close(1001)),
        ("in", close()),
        ("ends", (1005, "", True)),
    ],
    "7.1.5-1006-without-close": [("in", text("a")), ("eof", None), ("sees", "a"), ("ends", LOST)],
    "7.1.5-1006-though-we-sent-close": [
        ("app", Close(1001)),
        ("out", close(1001)),
        ("eof", None),
        ("ends", LOST),
    ],
    "7.1.5-1006-if-close-is-cut-off": [("in", close(1000, "bye")[:-1]), ("eof", None), ("ends", LOST)],
    # 7.1.6 The close reason
    "7.1.6-that-of-the-peers-close": [
        ("in", close(1000, "é")),
        ("out", close(1000, "é")),
        ("ends", (1000, "é", True)),
    ],
    "7.1.6-that-of-the-first-close": [
        ("in", close(1000, "one") + close(1000, "two")),
        ("out", close(1000, "one")),
        ("ends", (1000, "one", True)),
    ],
    "7.1.6-that-of-the-peers-close-though-we-began": [
        ("app", Close(1000, "ours")),
        ("out", close(1000, "ours")),
        ("in", close(1000, "theirs")),
        ("ends", (1000, "theirs", True)),
    ],
    "7.1.6-empty-without-one": [("in", close(1000)), ("out", close(1000)), ("ends", (1000, "", True))],
    "7.1.6-empty-without-a-body": [("in", close()), ("out", close()), ("ends", (1005, "", True))],
    # 7.1.7 Fail the WebSocket connection
    "7.1.7-close-says-why": [("in", frame(3)[:1]), ("fails", 1002)],
    "7.1.7-close-says-why-of-text": [("in", text(b"\xff")), ("fails", 1007)],
    "7.1.7-nothing-is-processed-any-more": [("in", frame(3, b"x")[:1]), ("fails", 1002)],
    "7.1.7-what-came-before-is-delivered": [
        ("in", text("a") + ping() + frame(3)[:1]),
        ("out", pong()),
        ("sees", "a"),
        ("fails", 1002),
    ],
    "7.1.7-inside-their-message": [("in", FIRST + text("b")[:1]), ("fails", 1002)],
    "7.1.7-inside-our-message": [
        ("app", Chunk("text", b"a", False)),
        ("out", FIRST),
        ("in", frame(3)[:1]),
        ("fails", 1002),
    ],
    "7.1.7-after-our-close-no-other-is-sent": [
        ("app", Close(1000)),
        ("out", close(1000)),
        ("in", frame(3)[:1]),
        ("breaks", 1002),
    ],
    "7.1.7-after-our-close-text-is-still-checked": [
        ("app", Close(1000)),
        ("out", close(1000)),
        ("in", text(b"\xff")),
        ("breaks", 1007),
    ],
    # 7.2.1 The transport is lost
    "7.2.1-idle": [("eof", None), ("ends", LOST), ("refused", "a")],
    "7.2.1-inside-a-header": [("in", binary(bytes(300))[:3]), ("eof", None), ("ends", LOST)],
    "7.2.1-inside-a-control-frame": [("in", ping(b"abc")[:4]), ("eof", None), ("ends", LOST)],
    "7.2.1-inside-a-frame": [("in", text("abc")[:4]), ("eof", None), ("ends", LOST)],
    "7.2.1-between-fragments": [("in", FIRST + continuation("b", fin=False)), ("eof", None), ("ends", LOST)],
    "7.2.1-inside-our-message": [
        ("app", Chunk("text", b"a", False)),
        ("out", FIRST),
        ("eof", None),
        ("ends", LOST),
    ],
    "7.2.1-while-our-close-is-not-answered": [
        ("app", Close()),
        ("out", close()),
        ("eof", None),
        ("ends", LOST),
    ],
    # 7.3 Normal closure
    "7.3-we-close": [
        ("app", Close(1000)),
        ("out", close(1000)),
        ("in", close(1000)),
        ("ends", (1000, "", True)),
    ],
    "7.3-the-peer-closes": [("in", close(1000)), ("out", close(1000)), ("ends", (1000, "", True))],
    # 7.4 Status codes
    **{
        f"7.4.1-code-{code}": [
            ("in", close(code, "why")),
            ("out", close(code, "why")),
            ("ends", (code, "why", True)),
        ]
        for code in DEFINED
    },
    **{
        f"7.4.1-code-{code}-out": [
            ("app", Close(code)),
            ("out", close(code)),
            ("in", close(code)),
            ("ends", (code, "", True)),
        ]
        for code in DEFINED
    },
    **{
        f"7.4.2-code-{code}": [("in", close(code)), ("out", close(code)), ("ends", (code, "", True))]
        for code in FREE
    },
    **{
        f"7.4.2-code-{code}-out": [
            ("app", Close(code)),
            ("out", close(code)),
            ("in", close(code)),
            ("ends", (code, "", True)),
        ]
        for code in FREE
    },
    **{
        f"{section}-no-code-{code}": [("in", up_to_the_proof(code)), ("fails", 1002)]
        for code, section in NEVER.items()
    },
    **{f"{section}-no-code-{code}-out": [("invalid", Close(code))] for code, section in NEVER.items()},
    "7.4.1-no-code-1005-with-a-reason": [("in", close(1005, "why")[:4]), ("fails", 1002)],
    "7.4.1-no-code-1006-inside-a-message": [("in", FIRST + close(1006)), ("fails", 1002)],
    "7.4.1-no-code-1015-as-the-answer": [
        ("app", Close(1000)),
        ("out", close(1000)),
        ("in", close(1015)),
        ("breaks", 1002),
    ],
}


def test_without_io(row: Any, role: str, play: Any) -> None:
    play(row, role)


@pytest.mark.slow
@pytest.mark.anyio
async def test_over_a_socket(row: Any, role: str, play_over_socket: Any) -> None:
    await play_over_socket(row, role)
