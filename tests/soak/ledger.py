"""What was sent in one direction of a connection, and whether that is what arrives.

Each task that sends has a lane: its messages are numbered, and say their size and the CRC-32 of their
payload. A message whose `send` was cancelled may arrive or not, but whole; all others arrive once, in order.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["BROKEN_OFF", "END", "HEADER", "Header", "Ledger", "Wrong", "make_message", "read_header"]

_HEADER = struct.Struct(">BIII")  # lane, number, size of the payload, CRC-32 of it
HEADER = {"binary": _HEADER.size, "text": 2 * _HEADER.size}  # bytes
END = 255  # the lane of the message behind all others
BROKEN_OFF = 254  # the lane of messages of which no end is sent


class Wrong(Exception):
    """What arrived is not what was sent."""


@dataclass(frozen=True)
class Header:
    lane: int
    number: int
    size: int
    crc: int

    def __str__(self) -> str:
        return f"message {self.number} of lane {self.lane}, of {self.size} bytes,"

    def check(self, payload: bytes) -> None:
        """Whether `payload` is the one that was sent."""
        if len(payload) != self.size:
            raise Wrong(f"{self} arrived with {len(payload)} bytes")
        if zlib.crc32(payload) != self.crc:
            raise Wrong(f"{self} is damaged")


def make_message(kind: str, lane: int, number: int, payload: bytes) -> bytes:
    """The bytes of a message; those of text are UTF-8 if `payload` is."""
    header = _HEADER.pack(lane, number, len(payload), zlib.crc32(payload))
    return (header.hex().encode() if kind == "text" else header) + payload


def read_header(kind: str, start: bytes) -> Header:
    """What the first bytes of a message say."""
    data = start[: HEADER[kind]]
    try:
        return Header(*_HEADER.unpack(bytes.fromhex(data.decode()) if kind == "text" else data))
    except (ValueError, struct.error) as error:
        raise Wrong(f"a {kind} message begins with {start[:40]!r}") from error


@dataclass
class Ledger:
    """One direction. The sender writes into it before and after each message, the receiver compares.

    Attributes:
        certain: by lane, the numbers of the messages that were sent and not cancelled.
        begun: by lane, how many messages were begun.
        arrived: by lane, the number of the last message that arrived, -1 before the first.
        empty: how many messages of no bytes were begun, were sent for certain, have arrived.
        counts: what happened how often.
        moved: grows with whatever is sent or received.
    """

    certain: dict[int, set[int]] = field(default_factory=dict)
    begun: Counter[int] = field(default_factory=Counter)
    arrived: dict[int, int] = field(default_factory=dict)
    empty: list[int] = field(default_factory=lambda: [0, 0, 0])
    counts: Counter[str] = field(default_factory=Counter)
    moved: int = 0

    def begin(self, lane: int) -> int:
        """The number of the next message of a lane."""
        self.begun[lane] += 1
        return self.begun[lane] - 1

    def sent(self, lane: int, number: int) -> None:
        """It has been handed over and will arrive."""
        self.moved += 1
        if number > self.arrived.get(lane, -1):
            self.certain.setdefault(lane, set()).add(number)

    def take(self, header: Header) -> None:
        """Compare what arrives with what was sent: nothing lost, nothing twice, all in order."""
        lane, number = header.lane, header.number
        last, certain = self.arrived.get(lane, -1), self.certain.setdefault(lane, set())
        if number <= last:
            raise Wrong(f"message {number} of lane {lane} came behind {last}")
        if number >= self.begun[lane]:
            raise Wrong(f"message {number} of lane {lane} was never sent to its end")
        if lost := [each for each in certain if last < each < number]:
            raise Wrong(f"messages {lost} of lane {lane} are lost: {number} came behind {last}")
        self.arrived[lane] = number
        self.certain[lane] = {each for each in certain if each > number}
        self.counts["messages"] += 1
        self.moved += 1

    def take_empty(self) -> None:
        """One more message of no bytes."""
        self.empty[2] += 1
        self.moved += 1
        if self.empty[2] > self.empty[0]:
            raise Wrong("an empty message came that was never sent")

    def check_end(self) -> None:
        """Nothing that was sent for certain is missing."""
        if missing := {lane: sorted(left) for lane, left in self.certain.items() if left and lane != END}:
            raise Wrong(f"messages are lost at the end: {missing}")
        if self.empty[2] < self.empty[1]:
            raise Wrong(f"{self.empty[1]} empty messages were sent and {self.empty[2]} have arrived")
