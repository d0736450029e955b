"""Rows of the compliance tables of RFC 6455: the catalogue's, and steps that many rows have in common.

What a step means is said in tests/compliance/rfc6455/conftest.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wsstream.codec.events import Close
from wsstream.testing import ILLEGAL_FRAMES, LEGAL_SEQUENCES, FrameCase, close, pong

__all__ = ["CLEANLY", "PEER_ANSWERS", "PEER_CLOSES", "WE_CLOSE", "Row", "catalogue_rows"]

Row = list[tuple[str, Any]]

CLEANLY = ("ends", (1000, "", True))
WE_CLOSE: Row = [("app", Close(1000)), ("out", close(1000))]
PEER_CLOSES: Row = [("in", close(1000)), ("out", close(1000))]
PEER_ANSWERS: Row = [("in", close(1000)), CLEANLY]


def catalogue_rows(section: str) -> dict[str, Row]:
    """The rows of a section of RFC 6455 and of those within it, each named by its section and its case."""
    return {
        f"{case.section}-{case.name}": [*steps_of(case)]
        for case in (*LEGAL_SEQUENCES, *ILLEGAL_FRAMES)
        if f"{case.section}.".startswith(f"{section}.")
    }


def steps_of(case: FrameCase) -> Iterator[tuple[str, Any]]:
    """What the peer sends, and what comes of it."""
    yield "case", case
    for kind, value in case.events:
        if kind == "ping":
            yield "out", pong(value)
        elif kind == "close":
            code, reason = value
            yield "out", close(None if code == 1005 else code, reason)
            yield "ends", (code, reason, case.name != "close-inside-message")
        elif kind != "pong":
            yield "sees", value
    if case.code is not None:
        yield "fails", case.code
