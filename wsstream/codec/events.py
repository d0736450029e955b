"""What a decoder gives and an encoder takes: the same classes in both directions.

A whole message is a plain ``str`` or ``bytes``; everything else has a class here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["PIECE_OVERHEAD", "Chunk", "Close", "Event", "Kind", "Ping", "Pong", "Violation"]

PIECE_OVERHEAD = 64
"""What a queued piece costs beside its payload, in bytes, so that empty ones fill a buffer too."""

Kind: TypeAlias = Literal["text", "binary"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a message that is not whole: a fragment, or a part of one.

    `payload` of a text message is UTF-8, which may end inside a code point. `last` is true in the
    piece that ends the message. UnreadQueue carry no border of frames. In a `compressed` message, `payload`
    is what the extension made of it (RFC 7692 section 6), and text is not checked.
    """

    kind: Kind
    payload: bytes
    last: bool
    compressed: bool = False


@dataclass(frozen=True, slots=True)
class Ping:
    """Section 5.5.2. `payload` is at most 125 bytes."""

    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Pong:
    """Section 5.5.3. `payload` is at most 125 bytes."""

    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Close:
    """Section 5.5.1. `code` is ``None`` when there is no body; `reason` is at most 123 bytes of UTF-8."""

    code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke a rule: the connection fails with `code` (section 7.1.7). `reason` says which."""

    code: int
    reason: str


Event: TypeAlias = str | bytes | Chunk | Ping | Pong | Close | Violation
