"""Whole messages at the front of what has arrived: the decoder's short way, and the hot path of reading."""

from __future__ import annotations

from wsstream.codec.events import PIECE_OVERHEAD, Event
from wsstream.codec.masking import apply_mask

__all__ = ["scan"]

_TEXT = 0x81  # FIN and the opcode, no reserved bit
_BINARY = 0x82


def scan(
    data: bytes | memoryview, pos: int, masked: bool, room: int, most: int, events: list[Event]
) -> tuple[int, int]:
    """Append the messages whose only frames lie one behind the other from `pos` on, whole, in `data`.

    Stops at what is anything else (a fragment, a control frame, a frame that is not here to its end or
    breaks a rule), at `most` messages, and once their cost has reached `room`. Returns the position
    behind the last one, and the cost: their bytes of payload, plus 64 for each.
    """
    end = len(data)
    cost = count = 0
    while cost < room and count < most and pos + 2 <= end:
        first = data[pos]
        if first != _BINARY and first != _TEXT:
            break
        length = data[pos + 1] - 128 if masked else data[pos + 1]
        start = pos + 2
        if length > 125:
            start += 2 if length == 126 else 8
            length = int.from_bytes(data[pos + 2 : start], "big") if length < 128 and start <= end else -1
            if length < (126 if start == pos + 4 else 0x10000):
                break
        if masked:
            start += 4
        stop = start + length
        if length < 0 or stop > end:
            break
        payload = bytes(data[start:stop])
        if masked:
            payload = apply_mask(payload, bytes(data[start - 4 : start]))
        if first == _BINARY:
            events.append(payload)
        else:
            try:
                events.append(payload.decode())
            except UnicodeDecodeError:
                break
        cost += length + PIECE_OVERHEAD
        count += 1
        pos = stop
    return pos, cost
