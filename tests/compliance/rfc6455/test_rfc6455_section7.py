"""RFC 6455 section 7: closing the connection. See conftest.py for how a row is read.

Who closes TCP is looked at in each row that ``ends`` over a socket; what takes time is in
test_rfc6455_section7_time.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from kit.compliance_rows import CLEANLY, PEER_ANSWERS, PEER_CLOSES, WE_CLOSE, Row, catalogue_rows

from wsstream.codec.events import Chunk, Close
from wsstream.testing import binary, close, continuation, frame, ping, pong, text

FIRST = text("a", fin=False)
LOST = (1006, "", False)
DEFINED = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014)
FREE = (3000, 3001, 3999, 4000, 4999)
NEVER = [name.rpartition("-") for name in catalogue_rows("7") if "close-code" in name and name[-1].isdigit()]

ROWS: dict[str, Row] = {
    **catalogue_rows("7"),
    # 7.1.1 Close the WebSocket connection
    "7.1.1-server-closes-tcp-first-when-we-began": [*WE_CLOSE, *PEER_ANSWERS],
    "7.1.1-server-closes-tcp-first-when-the-peer-began": [*PEER_CLOSES, CLEANLY],
    "7.1.1-server-closes-tcp-first-when-both-began": [("app", Close(1000)), *PEER_CLOSES, CLEANLY],
    "7.1.1-trailing-bytes-are-discarded": [
        ("in", close(1000) + frame(3, bytes(5000)) + text("late")),
        ("out", close(1000)),
        CLEANLY,
    ],
    "7.1.1-trailing-bytes-after-the-answer-are-discarded": [
        *WE_CLOSE,
        ("in", close(1000) + frame(3, bytes(5000))),
        CLEANLY,
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
    "7.1.2-close-has-no-code": [("app", Close()), ("out", close()), *PEER_ANSWERS],
    "7.1.2-close-is-sent-once": [*WE_CLOSE, ("in", close(1000)), ("in", close(1001)), CLEANLY],
    # 7.1.3 The closing handshake is started
    "7.1.3-closing-when-close-was-sent": [("state", "open"), *WE_CLOSE, ("state", "closing"), *PEER_ANSWERS],
    "7.1.3-closing-when-close-was-received": [
        ("only", "client"),  # a server is done with TCP at once
        *PEER_CLOSES,
        ("state", "closing"),
        ("refused", "a"),
        CLEANLY,
    ],
    # 7.1.4 The connection is closed
    "7.1.4-closed-with-tcp": [*WE_CLOSE, ("state", "closing"), *PEER_ANSWERS, ("state", "closed")],
    "7.1.4-not-cleanly-without-the-closing-handshake": [("eof", None), ("ends", LOST), ("state", "closed")],
    "7.1.4-not-cleanly-without-the-answer": [*WE_CLOSE, ("eof", None), ("ends", LOST)],
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
        *WE_CLOSE,
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
    # 7.1.7 Fail the WebSocket connection
    "7.1.7-nothing-is-processed-any-more": [("in", frame(3, b"x")[:1]), ("fails", 1002)],
    "7.1.7-what-came-before-is-delivered": [
        ("in", text("a") + ping() + frame(3)[:1]),
        ("out", pong()),
        ("sees", "a"),
        ("fails", 1002),
    ],
    "7.1.7-inside-our-message": [
        ("app", Chunk("text", b"a", False)),
        ("out", FIRST),
        ("in", frame(3)[:1]),
        ("fails", 1002),
    ],
    "7.1.7-after-our-close-no-other-is-sent": [*WE_CLOSE, ("in", frame(3)[:1]), ("breaks", 1002)],
    "7.1.7-after-our-close-text-is-still-checked": [*WE_CLOSE, ("in", text(b"\xff")), ("breaks", 1007)],
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
    "7.3-we-close": [*WE_CLOSE, *PEER_ANSWERS],
    "7.3-the-peer-closes": [*PEER_CLOSES, CLEANLY],
    # 7.4 Status codes
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
        f"7.4.2-code-{code}-out": [
            ("app", Close(code)),
            ("out", close(code)),
            ("in", close(code)),
            ("ends", (code, "", True)),
        ]
        for code in FREE
    },
    **{f"{name}-{code}-out": [("invalid", Close(int(code)))] for name, _, code in NEVER},
    "7.4.1-no-code-1015-as-the-answer": [*WE_CLOSE, ("in", close(1015)), ("breaks", 1002)],
}


def test_without_io(row: Any, role: str, play: Any) -> None:
    play(row, role)


@pytest.mark.slow
@pytest.mark.anyio
async def test_over_a_socket(row: Any, role: str, play_over_socket: Any) -> None:
    await play_over_socket(row, role)
