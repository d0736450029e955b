"""What RFC 6455 fixes of a frame: opcodes and limits."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["MAX_CONTROL_PAYLOAD", "MAX_HEADER", "MAX_REASON", "Opcode"]

MAX_CONTROL_PAYLOAD: Final = 125
"""Bytes of payload in a control frame (section 5.5)."""

MAX_HEADER: Final = 14
"""Bytes of the longest frame header: 2, 8 of length and 4 of masking key (section 5.2)."""

MAX_REASON: Final = MAX_CONTROL_PAYLOAD - 2
"""Bytes of UTF-8 in a close reason (section 5.5.1)."""


class Opcode(IntEnum):
    """Section 11.8."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
