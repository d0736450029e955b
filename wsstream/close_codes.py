"""The close codes, and which of them may be sent: the ground for the codec and the errors alike."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CloseCode", "is_close_code"]


class CloseCode(IntEnum):
    """The close codes that have a name (RFC 6455 section 7.4.1 and the registry of section 11.7).

    Each is an ``int``, so ``ws.aclose(CloseCode.GOING_AWAY)`` and ``ws.aclose(1001)`` are the same. Codes
    from 3000 to 4999 have no name here: 3000 to 3999 are registered, 4000 to 4999 are for private use.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_CODE = 1005
    """Stands for a Close frame without a code; never sent."""
    ABNORMAL = 1006
    """Stands for an end without a Close frame; never sent."""
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014


def is_close_code(code: int) -> bool:
    """Whether a Close frame may carry `code` (RFC 6455 section 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
