"""The events of a decoder, which are also what a connection sends: the same classes in both directions.

A complete message is a plain ``str`` or ``bytes``; every other event has a class here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["PIECE_OVERHEAD", "Chunk", "Close", "Event", "Kind", "Ping", "Pong", "Violation"]

PIECE_OVERHEAD = 64
"""Bytes that a queued message or chunk costs beside its payload, so that empty ones fill a buffer too."""

Kind: TypeAlias = Literal["text", "binary"]


class Chunk(NamedTuple):
    """A part of a message: a fragment, or a part of one.

    The payload of a text message is UTF-8 and may end inside a code point. `last` is true in the chunk that
    ends the message; the boundaries of frames do not show. In a `compressed` message, the payload is as the
    extension wrote it (RFC 7692 section 6), and text is not checked.

    A tuple, unlike the other events, because the compiled version reads the fields by position.
    """

    kind: Kind
    payload: bytes
    last: bool
    compressed: bool = False


@dataclass(frozen=True, slots=True)
class Ping:
    """A Ping frame (section 5.5.2). `payload` is at most 125 bytes."""

    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Pong:
    """A Pong frame (section 5.5.3). `payload` is at most 125 bytes."""

    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Close:
    """A Close frame (section 5.5.1).

    `code` is ``None`` when the frame has no body. `reason` is at most 123 bytes of UTF-8.
    """

    code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke a rule, so the connection has to fail with `code` (section 7.1.7).

    `reason` names the rule.
    """

    code: int
    reason: str


Event: TypeAlias = str | bytes | Chunk | Ping | Pong | Close | Violation
