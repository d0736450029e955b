"""What RFC 6455 fixes: opcodes, close codes, limits, and the body of a Close frame."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = [
    "MAX_CONTROL_PAYLOAD",
    "MAX_HEADER",
    "MAX_REASON",
    "CloseCode",
    "Opcode",
    "is_close_code",
]

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


class CloseCode(IntEnum):
    """Section 7.4.1 and the registry of section 11.7."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_CODE = 1005
    """Never on the wire: the Close frame had no code."""
    ABNORMAL = 1006
    """Never on the wire: there was no Close frame."""
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014


def is_close_code(code: int) -> bool:
    """Whether `code` may stand in a Close frame (section 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
