"""The water marks (WHATWG Streams: high-water mark, backpressure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wsstream.arguments import check_int

__all__ = ["FRAME_SIZE", "FlowControl"]

FRAME_SIZE: Final = 64 * 1024
"""The usual size of frames. Smaller ones are for a peer with a limit, so they never grow unless told to."""

_MAX_FRAME_SIZE = 1 << 20
_MAX_CODE_POINT = 4  # bytes of UTF-8


@dataclass(frozen=True, slots=True, init=False)
class FlowControl:
    """How much one connection buffers, in bytes. The marks hold for the connection, not for a message.

    Attributes:
        receive_high_water: reading stops when this many bytes are unread; each piece counts 64 bytes more.
        receive_low_water: reading goes on when at most this many bytes are unread; by default a quarter
            of the high-water mark.
        send_high_water: ``send`` waits while this many bytes are unsent.
        send_low_water: ``send`` goes on when at most this many bytes are unsent; by default a quarter.
        frame_size: larger messages are sent as fragments of this size, as long as the connection is not known
            to be fast; at least 4, so that a code point fits into one.
        max_frame_size: on a fast connection, messages up to this size are sent as one frame; by default
            1 MiB, or `frame_size` where that is larger, or smaller than 64 KiB.
    """

    receive_high_water: int
    receive_low_water: int
    send_high_water: int
    send_low_water: int
    frame_size: int
    max_frame_size: int

    def __init__(
        self,
        *,
        receive_high_water: int = 256 * 1024,
        receive_low_water: int | None = None,
        send_high_water: int = 64 * 1024,
        send_low_water: int | None = None,
        frame_size: int = FRAME_SIZE,
        max_frame_size: int | None = None,
    ) -> None:
        check_int("receive_high_water", receive_high_water, 1)
        check_int("send_high_water", send_high_water, 1)
        check_int("frame_size", frame_size, _MAX_CODE_POINT)
        if max_frame_size is None:
            max_frame_size = frame_size if frame_size < FRAME_SIZE else max(frame_size, _MAX_FRAME_SIZE)
        check_int("max_frame_size", max_frame_size, frame_size)
        marks = {
            "receive_high_water": receive_high_water,
            "receive_low_water": _quarter(receive_high_water, receive_low_water),
            "send_high_water": send_high_water,
            "send_low_water": _quarter(send_high_water, send_low_water),
            "frame_size": frame_size,
            "max_frame_size": max_frame_size,
        }
        for way in ("receive", "send"):
            low, high = f"{way}_low_water", f"{way}_high_water"
            check_int(low, marks[low], 0)
            if marks[low] >= marks[high]:
                raise ValueError(f"{low} must be below {high}, got {marks[low]} and {marks[high]}")
        for name, value in marks.items():
            object.__setattr__(self, name, value)


def _quarter(high: int, low: int | None) -> int:
    return high // 4 if low is None else low
