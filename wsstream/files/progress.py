"""How far the transfer of a file is, for those who look at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Literal, TypeAlias

from anyio import current_time

__all__ = ["Meter", "OnProgress", "Phase", "Progress"]

Phase: TypeAlias = Literal["waiting", "sending", "receiving", "hashing", "verifying", "syncing", "done"]

_INTERVAL = 0.05  # seconds between two calls: 20 a second are enough for what people look at
_MEMORY = 3.0  # seconds over which the rate is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One file on its way. All numbers but `rate` are bytes of the file, from its start.

    Attributes:
        name: the file's name in the protocol.
        phase: ``"waiting"`` for the peer's decision; ``"sending"`` or ``"receiving"`` bytes; ``"hashing"``
            what an earlier attempt has moved; ``"verifying"`` the digest; ``"syncing"`` to the disk;
            ``"done"``.
        acknowledged: the receiver has written the bytes before this offset.
        durable: they survive a crash of the receiver's machine before this one.
        size: of the whole file; ``None`` if the sender does not know it.
        resumed_at: where this attempt began.
        rate: bytes a second, over the last three seconds.
        credit_used: bytes that are on the way, not acknowledged.
        window: the most bytes that may be on the way; 0 before the receiver has accepted.
    """

    name: str
    phase: Phase
    acknowledged: int = 0
    durable: int = 0
    size: int | None = None
    resumed_at: int = 0
    rate: float = 0.0
    credit_used: int = 0
    window: int = 0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; ``None`` if that cannot be said."""
        if self.size is None or self.rate <= 0:
            return None
        return (self.size - self.acknowledged) / self.rate


OnProgress: TypeAlias = Callable[[Progress], object]


class Meter:
    """Measures the transfer of one file, and tells `on_progress` at most 20 times a second.

    A new phase is always told.
    """

    def __init__(self, on_progress: OnProgress | None, name: str, size: int | None) -> None:
        self._on_progress = on_progress
        self._name = name
        self._size = size
        self._resumed_at = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._due = -inf
        self._phase: Phase | None = None

    def start(self, offset: int, size: int | None) -> None:
        """An attempt begins to move bytes, from `offset` on."""
        self._resumed_at = offset
        self._size = size
        self._samples.clear()
        self._samples.append((current_time(), offset))

    def tell(
        self, phase: Phase, acknowledged: int = 0, durable: int = 0, credit_used: int = 0, window: int = 0
    ) -> None:
        """This is how far it is."""
        if self._on_progress is None:
            return
        now = current_time()
        if phase == self._phase and now < self._due:
            return
        self._phase, self._due = phase, now + _INTERVAL
        self._on_progress(
            Progress(
                name=self._name,
                phase=phase,
                acknowledged=acknowledged,
                durable=durable,
                size=self._size,
                resumed_at=self._resumed_at,
                rate=self._rate(now, acknowledged),
                credit_used=credit_used,
                window=window,
            )
        )

    def _rate(self, now: float, acknowledged: int) -> float:
        samples = self._samples
        if not samples:
            return 0.0
        if acknowledged > samples[-1][1]:
            samples.append((now, acknowledged))
        while len(samples) > 2 and samples[1][0] <= now - _MEMORY:
            samples.popleft()
        seconds = now - samples[0][0]
        return (acknowledged - samples[0][1]) / seconds if seconds > 0 else 0.0
