"""The opcodes and limits of frames that RFC 6455 fixes."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["MAX_CONTROL_PAYLOAD", "MAX_HEADER", "MAX_REASON", "Opcode"]

MAX_CONTROL_PAYLOAD: Final = 125
"""The most bytes of payload in a control frame (section 5.5)."""

MAX_HEADER: Final = 14
"""Bytes of the longest frame header: 2, 8 of length and 4 of masking key (section 5.2)."""

MAX_REASON: Final = MAX_CONTROL_PAYLOAD - 2
"""The most bytes of UTF-8 in a close reason: the close code takes the first two (section 5.5.1)."""


class Opcode(IntEnum):
    """The opcodes of section 11.8. Bit 8 marks control frames (section 5.5)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
