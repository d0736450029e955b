"""RFC 6455 section 8.1, and what section 10 demands of framing. See conftest.py for how a row is read."""

from __future__ import annotations

from typing import Any

import pytest

from wsstream.testing import binary, close, continuation, frame, ping, pong, text

WRONG = {
    "continuation-byte-first-80": b"\x80",
    "continuation-byte-first-bf": b"\xbf",
    "no-continuation-of-2": b"\xc3(",
    "no-continuation-of-3": b"\xe2(",
    "no-continuation-of-3-at-its-last": b"\xe2\x82(",
    "no-continuation-of-4": b"\xf0(",
    "no-continuation-of-4-at-its-third": b"\xf0\x9f(",
    "no-continuation-of-4-at-its-last": b"\xf0\x9f\x98(",
    "code-point-begins-inside-another": b"\xe2\x82\xe2",
    "overlong-c0": b"\xc0",
    "overlong-c1": b"\xc1",
    "overlong-of-3": b"\xe0\x80",
    "overlong-of-3-highest": b"\xe0\x9f",
    "overlong-of-4": b"\xf0\x80",
    "overlong-of-4-highest": b"\xf0\x8f",
    "surrogate-lowest": b"\xed\xa0",
    "surrogate-highest": b"\xed\xbf",
    "above-10ffff": b"\xf4\x90",
    "byte-f5": b"\xf5",
    "byte-f8": b"\xf8",
    "byte-fc": b"\xfc",
    "byte-fe": b"\xfe",
    "byte-ff": b"\xff",
}
"""Each ends with the byte that proves it."""

CUT = {
    "cut-1-of-2": b"\xc3",
    "cut-1-of-3": b"\xe2",
    "cut-2-of-3": b"\xe2\x82",
    "cut-1-of-4": b"\xf0",
    "cut-2-of-4": b"\xf0\x9f",
    "cut-3-of-4": b"\xf0\x9f\x98",
}
BORDERS = "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\ufeff\ufffe\uffff\U00010000\U0010ffff"
GOOD = "κόσμε".encode()

ROWS: dict[str, list[tuple[str, Any]]] = {
    **{
        f"8.1-{name}": [("in", text(GOOD + bad, declared_length=1000)), ("fails", 1007)]
        for name, bad in WRONG.items()
    },
    **{
        f"8.1-{name}-in-continuation": [
            ("in", text(GOOD, fin=False) + continuation(bad, fin=False, declared_length=70_000)),
            ("fails", 1007),
        ]
        for name, bad in WRONG.items()
    },
    **{
        f"8.1-{name}-across-frames": [
            (
                "in",
                text(bad[:1], fin=False)
                + continuation(fin=False)
                + continuation(bad[1:], declared_length=500),
            ),
            ("fails", 1007),
        ]
        for name, bad in WRONG.items()
        if len(bad) > 1
    },
    **{
        f"8.1-{name}-in-reason": [
            ("in", close(1000, b"why: " + bad + b"....")[: 9 + len(bad)]),
            ("fails", 1007),
        ]
        for name, bad in WRONG.items()
    },
    **{f"8.1-{name}": [("in", text(GOOD + bad)), ("fails", 1007)] for name, bad in CUT.items()},
    **{
        f"8.1-{name}-in-continuation": [("in", text(GOOD, fin=False) + continuation(bad)), ("fails", 1007)]
        for name, bad in CUT.items()
    },
    **{
        f"8.1-{name}-in-reason": [("in", close(1000, b"why: " + bad)), ("fails", 1007)]
        for name, bad in CUT.items()
    },
    "8.1-cut-by-an-empty-last-fragment": [
        ("in", text(b"a\xe2\x82", fin=False)),
        ("in", continuation()),
        ("fails", 1007),
    ],
    "8.1-after-message": [
        ("in", text("a") + text(b"\xff", declared_length=9)),
        ("sees", "a"),
        ("fails", 1007),
    ],
    "8.1-after-ping-inside-message": [
        ("in", text(b"\xe2", fin=False) + ping()),
        ("out", pong()),
        ("in", continuation(b"(", declared_length=9)),
        ("fails", 1007),
    ],
    "8.1-code-points-at-the-borders": [("in", text(BORDERS)), ("sees", BORDERS)],
    "8.1-code-points-at-the-borders-in-bytes": [
        (
            "in",
            text(fin=False)
            + b"".join(continuation(bytes([b]), fin=False) for b in BORDERS.encode())
            + continuation(),
        ),
        ("sees", BORDERS),
    ],
    "8.1-binary-is-not-checked": [("in", binary(b"\xff\xc0")), ("sees", b"\xff\xc0")],
    "8.1-no-surrogate-goes-out": [("invalid", "\udfff")],
    # 10.7 Handling of invalid data
    "10.7-http-again": [("raw", b"GET / HTTP/1.1"[:1]), ("fails", 1002)],
    "10.7-tls": [("raw", b"\x16\x03\x01"[:1]), ("fails", 1002)],
    "10.7-ones": [("raw", b"\xff"), ("fails", 1002)],
    "10.7-zeros": [("raw", b"\x00"), ("fails", 1002)],
    "10.7-whatever-comes-later": [
        ("in", text("a") * 100 + frame(15)[:1]),
        *[("sees", "a")] * 100,
        ("fails", 1002),
    ],
}


def test_without_io(row: Any, role: str, play: Any) -> None:
    play(row, role)


@pytest.mark.slow
@pytest.mark.anyio
async def test_over_a_socket(row: Any, role: str, play_over_socket: Any) -> None:
    await play_over_socket(row, role)
