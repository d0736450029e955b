"""``wsstream.feed.v1`` without I/O: what a server of a feed sends.

`docs/reference/feed-protocol.md` is its specification.
"""

from __future__ import annotations

import json
from typing import Any, Final

from wsstream.feeds.position import MAX_OFFSET, Position

__all__ = ["HEAD_SIZE", "SUBPROTOCOL", "announcement", "item_head", "read_announcement", "read_item"]

SUBPROTOCOL: Final = "wsstream.feed.v1"
HEAD_SIZE: Final = 8  # bytes before the data of an item
_TEXT: Final = 1 << 63


def announcement(position: Position, *, recovered: bool) -> str:
    """The text that says which position the next items follow, and whether none is missing before."""
    return json.dumps({"epoch": position.epoch, "offset": position.offset, "recovered": recovered})


def read_announcement(text: str) -> tuple[Position, bool]:
    """Read what `announcement` made.

    Raises:
        ValueError: it is none.
    """
    try:
        fields: Any = json.loads(text)
        position, recovered = Position(fields["epoch"], fields["offset"]), fields["recovered"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError("a text message of the server says no position") from error
    if not isinstance(recovered, bool):
        raise ValueError("a text message of the server does not say whether the feed was recovered")
    return position, recovered


def item_head(offset: int, *, text: bool) -> bytes:
    """The 8 bytes before the data of an item."""
    return (offset | _TEXT if text else offset).to_bytes(HEAD_SIZE)


def read_item(message: bytes) -> tuple[int, str | bytes]:
    """The offset and the data of an item.

    Raises:
        ValueError: the message is too short, its offset too large, or its text not UTF-8.
    """
    if len(message) < HEAD_SIZE:
        raise ValueError(f"an item must have at least {HEAD_SIZE} bytes, got {len(message)}")
    head = int.from_bytes(message[:HEAD_SIZE])
    offset = head & ~_TEXT
    if not 0 < offset <= MAX_OFFSET:
        raise ValueError(f"the offset of an item must be between 1 and {MAX_OFFSET}, got {offset}")
    data = message[HEAD_SIZE:]
    return offset, data.decode() if head & _TEXT else data
