"""RFC 6455 section 8.1, and what section 10 demands of framing. See conftest.py for how a row is read."""

from __future__ import annotations

from typing import Any

import pytest
from kit.compliance_rows import Row, catalogue_rows

from wsstream.testing import frame, text

ROWS: dict[str, Row] = {
    **catalogue_rows("8"),
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
