"""How long a message may take to arrive. The time is an argument, in seconds.

Any byte is a sign of life for :mod:`~wsstream.protocol.keepalive`, so a peer may drip a message for as long
as it likes. An application that does not want that limits the time of a message, or sets a least rate. The
clock stands still while reading is paused: then it is this side that does not take the message.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import inf

from wsstream.arguments import check_number

__all__ = ["GRACE", "Arrival", "ReceiveRate"]

GRACE = 5.0
"""Seconds that a message may take before a least rate counts: the network may pause for a moment."""


@dataclass(frozen=True, slots=True)
class ReceiveRate:
    """How slowly and how fast messages may arrive at a server. ``None`` means no limit.

    A client that is too slow fails. One that is too fast is slowed: when it has sent more in a second than
    it may, the server reads no more until the rate allows it, and TCP makes the client wait. Nothing is
    dropped, and no error is raised. Once either side closes, the rest is read at full speed.

    Attributes:
        at_least: bytes per second. A message may take 5 seconds, and one more for each `at_least` bytes of
            it that have arrived. The time in which reading is paused does not count.
        bytes_at_most: bytes per second, as they come on the wire (compressed, with their headers). After
            silence, as many may come at once as in one second.
        messages_at_most: messages per second, of any size; less than 1 is one in several seconds. After
            silence, as many may come at once as in one second, or one.

    Raises:
        TypeError: a rate is not a number, or none is given.
        ValueError: a rate is not greater than 0, or one of the greatest rates is not finite.
    """

    at_least: float | None = None
    _: KW_ONLY
    bytes_at_most: float | None = None
    messages_at_most: float | None = None

    def __post_init__(self) -> None:
        check_number("at_least", self.at_least, positive=True, optional=True)
        for name in ("bytes_at_most", "messages_at_most"):
            check_number(name, getattr(self, name), positive=True, optional=True, finite=True)
        if self.at_least is None and self.bytes_at_most is None and self.messages_at_most is None:
            raise TypeError("ReceiveRate needs at_least, bytes_at_most or messages_at_most")


class Arrival:
    """The clock of the message that is arriving.

    Args:
        timeout: seconds from a message's first byte to its end or, if it is read in chunks, without
            progress; ``None``: no limit.
        rate: has the least rate, if there is one.
    """

    __slots__ = ("_at_least", "_began", "_paused_since", "_received", "_timeout", "_touched")

    def __init__(self, timeout: float | None, rate: ReceiveRate | None) -> None:
        self._timeout = inf if timeout is None else timeout
        self._at_least = inf if rate is None or rate.at_least is None else rate.at_least
        self._began = inf  # when the message began, plus the time of the pauses; inf between messages
        self._touched = inf  # when the timeout began to count
        self._received = 0  # bytes of the message
        self._paused_since: float | None = None

    def received(self, now: float, size: int, *, inside: bool, crossed: bool, in_chunks: bool) -> None:
        """Bytes came.

        Args:
            now: the time.
            size: their number.
            inside: whether a message, or a frame, has begun and not ended.
            crossed: whether the bytes included the end of a message.
            in_chunks: whether the application reads the message in chunks.
        """
        if not inside:
            self._began = self._touched = inf
            return
        if crossed or self._began == inf:
            self._began = self._touched = now
            self._received = 0
        self._received += size
        if in_chunks:
            self._touched = now

    def pause(self, now: float) -> None:
        """Reading stops."""
        if self._paused_since is None:
            self._paused_since = now

    def resume(self, now: float) -> None:
        """Reading goes on."""
        if self._paused_since is not None:
            self._began += now - self._paused_since
            self._touched += now - self._paused_since
            self._paused_since = None

    @property
    def deadline(self) -> float:
        """When the message will have taken too long; infinite if it may go on."""
        if self._paused_since is not None or self._began == inf:
            return inf
        late = inf if self._at_least == inf else self._began + GRACE + self._received / self._at_least
        return min(self._touched + self._timeout, late)
