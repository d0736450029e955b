"""The decoder's shortcut for complete, unfragmented messages: the hot path of reading.

`scan` has a compiled version, too.
"""

from __future__ import annotations

from wsstream.codec.events import PIECE_OVERHEAD, Chunk, Event
from wsstream.codec.masking import apply_mask

__all__ = ["incomplete_binary", "scan"]

_TEXT = 0x81  # FIN and the opcode, no reserved bit
_BINARY = 0x82
_COMPRESSED_TEXT = 0xC1  # the same with RSV1
_COMPRESSED_BINARY = 0xC2


def scan(
    data: bytes | memoryview, pos: int, masked: bool, rsv1: bool, room: int, most: int, events: list[Event]
) -> tuple[int, int]:
    """Decode the unfragmented messages at the beginning of ``data[pos:]``, and append them to `events`.

    Returns the position after the last message, and the cost of all: their bytes of payload, plus 64 each.
    If `rsv1` marks compressed messages, each of them is a :class:`Chunk`.

    Stops before anything else: a fragment, a control frame, a frame that is incomplete or breaks a rule. It
    also stops after `most` messages, and when the cost has reached `room`.
    """
    plain = (_TEXT, _BINARY)
    known = (*plain, _COMPRESSED_TEXT, _COMPRESSED_BINARY) if rsv1 else plain
    end = len(data)
    cost = count = 0
    while cost < room and count < most and pos + 2 <= end:
        first = data[pos]
        if first not in known:
            break
        start, length = _payload(data, pos, masked)
        stop = start + length
        if length < 0 or stop > end:
            break
        payload = bytes(data[start:stop])
        if masked:
            payload = apply_mask(payload, bytes(data[start - 4 : start]))
        if first == _BINARY:
            events.append(payload)
        elif first != _TEXT:
            events.append(Chunk("text" if first == _COMPRESSED_TEXT else "binary", payload, True, True))
        else:
            try:
                events.append(payload.decode())
            except UnicodeDecodeError:  # the decoder finds it again, and reports the violation
                break
        cost += length + PIECE_OVERHEAD
        count += 1
        pos = stop
    return pos, cost


def incomplete_binary(data: bytes | memoryview, masked: bool) -> int:
    """Return the length of the binary message with whose beginning `data` ends.

    0: `data` begins with something else, with a complete message, or with an incomplete header.
    """
    if len(data) < 2 or data[0] != _BINARY:
        return 0
    start, length = _payload(data, 0, masked)
    return length if start <= len(data) < start + length else 0


def _payload(data: bytes | memoryview, pos: int, masked: bool) -> tuple[int, int]:
    """Return where the payload of the frame at `pos` starts, and its length.

    The length is below 0 if the header breaks a rule, or the length is incomplete.
    """
    length = data[pos + 1] - 128 if masked else data[pos + 1]  # below 0: not masked, against section 5.1
    start = pos + 2
    if length > 125:
        start += 2 if length == 126 else 8
        # 128 and more: a masked frame where none may be (section 5.1)
        length = int.from_bytes(data[pos + 2 : start], "big") if length < 128 and start <= len(data) else -1
        if length < (126 if start == pos + 4 else 0x10000):  # not the shortest form (section 5.2)
            length = -1
    return start + 4 if masked else start, length
