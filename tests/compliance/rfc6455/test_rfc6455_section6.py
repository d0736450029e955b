"""RFC 6455 section 6: sending and receiving data. See conftest.py for how a row is read."""

from __future__ import annotations

from typing import Any

import pytest
from kit.compliance_rows import CLEANLY, PEER_ANSWERS, PEER_CLOSES, WE_CLOSE, Row

from wsstream.codec.events import Chunk, Close
from wsstream.testing import binary, close, continuation, frame, ping, pong, text

FIRST = text("a", fin=False)
LARGE = bytes(range(256)) * 1500
LARGE_TEXT = "κόσμε " * 20_000

ROWS: dict[str, Row] = {
    # 6.1 Sending data
    "6.1-open": [("state", "open"), ("app", "a"), ("out", text("a"))],
    "6.1-not-after-our-close": [*WE_CLOSE, ("refused", "a"), ("refused", b"a"), *PEER_ANSWERS],
    "6.1-not-after-their-close": [*PEER_CLOSES, ("refused", "a"), ("refused", b"a"), CLEANLY],
    "6.1-not-after-the-end-of-tcp": [("eof", None), ("ends", (1006, "", False)), ("refused", "a")],
    "6.1-the-state-changes-inside-a-message": [
        ("app", Chunk("binary", b"a", False)),
        ("out", binary(b"a", fin=False)),
        *PEER_CLOSES,
        ("refused", Chunk("binary", b"b", False)),
        ("ends", (1000, "", False)),
    ],
    "6.1-we-close-inside-a-message": [
        ("app", Chunk("text", b"a", False)),
        ("app", Close(1001)),
        ("out", FIRST + close(1001)),
        ("refused", Chunk("text", b"b", False)),
        ("in", close(1001)),
        ("ends", (1001, "", False)),
    ],
    "6.1-small-message-is-one-frame": [("app", b"a"), ("app", "b"), ("out", binary(b"a") + text("b"))],
    "6.1-large-message": [("sends", LARGE)],
    "6.1-data-not-available-in-its-entirety": [
        ("app", Chunk("text", b"a", False)),
        ("out", FIRST),
        ("app", Chunk("text", b"b", False)),
        ("out", continuation("b", fin=False)),
        ("app", Chunk("text", b"", True)),
        ("out", continuation()),
    ],
    "6.1-opcode-of-fragments": [
        ("app", Chunk("binary", b"1", False)),
        ("app", Chunk("binary", b"2", False)),
        ("app", Chunk("binary", b"", True)),
        ("out", binary(b"1", fin=False) + continuation(b"2", fin=False) + continuation()),
    ],
    "6.1-fin-of-the-last-frame-alone": [
        ("app", Chunk("text", b"a", False)),
        ("app", Chunk("text", b"", True)),
        ("app", "b"),
        ("out", FIRST + continuation() + text("b")),
    ],
    "6.1-masked-if-sent-by-the-client": [
        ("app", "a"),
        ("app", b"b" * 300),
        ("out", text("a") + binary(b"b" * 300)),
        ("keys", 2),
    ],
    "6.1-in-the-order-of-sending": [
        *[("app", str(i)) for i in range(50)],
        ("out", b"".join(text(str(i)) for i in range(50))),
    ],
    # 6.2 Receiving data
    "6.2-parsed-as-frames": [
        ("in", text("a") + binary(b"b" * 126) + text()),
        ("sees", "a"),
        ("sees", b"b" * 126),
        ("sees", ""),
    ],
    "6.2-control-frame-inside-a-message-is-no-part-of-it": [
        ("in", FIRST + ping(b"b")),
        ("out", pong(b"b")),
        ("in", continuation("c")),
        ("sees", "ac"),
    ],
    "6.2-not-received-before-the-last-fragment": [
        ("in", FIRST + continuation("b", fin=False)),
        ("part", b"ab"),
    ],
    "6.2-the-next-frame-begins-a-message": [
        ("in", FIRST + continuation("b") + binary(b"c") + text("d", fin=False) + continuation("e")),
        ("sees", "ab"),
        ("sees", b"c"),
        ("sees", "de"),
    ],
    "6.2-large-message": [("in", binary(LARGE)), ("sees", LARGE)],
    "6.2-masking-is-removed": [
        ("only", "server"),
        ("raw", binary(LARGE, mask=b"\x01\x02\x03\xff")),
        ("sees", LARGE),
    ],
    "6.2-all-before-a-violation-is-received": [
        ("in", text("a") + binary(b"b") + text("c", fin=False) + continuation("d") + ping() + frame(3)[:1]),
        ("sees", "a"),
        ("sees", b"b"),
        ("sees", "cd"),
        ("out", pong()),
        ("fails", 1002),
    ],
    "6.2-all-before-a-close-is-received": [
        ("in", text("a") + binary(b"b") + close(1001)),
        ("out", close(1001)),
        ("sees", "a"),
        ("sees", b"b"),
        ("ends", (1001, "", True)),
    ],
    "6.2-all-before-the-end-of-tcp-is-received": [
        ("in", text("a") + binary(b"b") + FIRST),
        ("eof", None),
        ("sees", "a"),
        ("sees", b"b"),
        ("ends", (1006, "", False)),
    ],
}


def test_without_io(row: Any, role: str, play: Any) -> None:
    play(row, role)


@pytest.mark.slow
@pytest.mark.anyio
async def test_over_a_socket(row: Any, role: str, play_over_socket: Any) -> None:
    await play_over_socket(row, role)
