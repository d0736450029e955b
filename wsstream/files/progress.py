"""How far the transfer of a file is, for those who look at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Literal, TypeAlias

from anyio import current_time

__all__ = ["AllFiles", "Meter", "OnProgress", "Phase", "Progress", "Totals"]

Phase: TypeAlias = Literal["waiting", "sending", "receiving", "hashing", "verifying", "syncing", "done"]

_INTERVAL = 0.05  # seconds between two calls: 20 a second are enough for what people look at
_MEMORY = 3.0  # seconds over which the rate is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """How far all files of a call are, when there are several.

    Attributes:
        files: how many there are.
        files_done: how many of them need nothing more.
        size: bytes of all; ``None`` if the size of one is not known.
        acknowledged: bytes of all that the receiver has written.
        rate: bytes a second, over the last three seconds.
    """

    files: int
    files_done: int
    size: int | None
    acknowledged: int
    rate: float

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; ``None`` if that cannot be said."""
        return _seconds_left(self.size, self.acknowledged, self.rate)


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
        totals: how far all files of the call are; ``None`` if there is only this one.
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
    totals: Totals | None = None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; ``None`` if that cannot be said."""
        return _seconds_left(self.size, self.acknowledged, self.rate)


def _seconds_left(size: int | None, acknowledged: int, rate: float) -> float | None:
    return None if size is None or rate <= 0 else max(0, size - acknowledged) / rate


OnProgress: TypeAlias = Callable[[Progress], object]


class _Rate:
    """Bytes a second, over the last three seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def start(self, now: float, position: int) -> None:
        """Count from this position on."""
        self._samples.clear()
        self._samples.append((now, position))

    def measure(self, now: float, position: int) -> float:
        """Return the rate, now that `position` is reached; 0 before `start`."""
        samples = self._samples
        if not samples:
            return 0.0
        if position > samples[-1][1]:
            samples.append((now, position))
        while len(samples) > 2 and samples[1][0] <= now - _MEMORY:
            samples.popleft()
        seconds = now - samples[0][0]
        return (position - samples[0][1]) / seconds if seconds > 0 else 0.0


class Meter:
    """Measures the transfer of one file, and tells `on_progress` at most 20 times a second.

    A new phase is always told.
    """

    def __init__(self, on_progress: OnProgress | None, name: str, size: int | None) -> None:
        self._on_progress = on_progress
        self._name = name
        self._size = size
        self._resumed_at = 0
        self._rate = _Rate()
        self._due = -inf
        self._phase: Phase | None = None

    def start(self, offset: int, size: int | None) -> None:
        """An attempt begins to move bytes, from `offset` on."""
        self._resumed_at = offset
        self._size = size
        self._rate.start(current_time(), offset)

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
                rate=self._rate.measure(now, acknowledged),
                credit_used=credit_used,
                window=window,
            )
        )


class AllFiles:
    """Adds to the progress of each file how far all files of a call are.

    Args:
        on_progress: is told the progress of each file, with its `totals`.
    """

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._files = self._files_done = 0
        self._size: int | None = 0
        self._acknowledged = 0  # bytes of the files that are done
        self._moved = 0  # by attempts that are over
        self._rate: _Rate | None = None
        self._current = (0, 0)  # bytes that the present attempt has moved, and where it began

    def add(self, size: int | None) -> None:
        """There is one more file, of so many bytes."""
        self._files += 1
        self._size = None if size is None or self._size is None else self._size + size

    def done(self, size: int | None, *, left_out: bool) -> None:
        """A file needs nothing more: it has arrived, or is left out, and then its bytes do not count."""
        self._files_done += 1
        self._end_attempt()
        if not left_out:
            self._acknowledged += size or 0
        elif self._size is not None:
            self._size -= size or 0

    def tell(self, progress: Progress) -> None:
        """This is how far one of the files is."""
        moved, began = max(0, progress.acknowledged - progress.resumed_at), progress.resumed_at
        if began != self._current[1] or moved < self._current[0]:
            self._end_attempt()
        self._current = (moved, began)
        now = current_time()
        if self._rate is None:
            self._rate = _Rate()
            self._rate.start(now, 0)
        if self._files > 1:
            progress = replace(
                progress,
                totals=Totals(
                    files=self._files,
                    files_done=self._files_done + (progress.phase == "done"),
                    size=self._size,
                    acknowledged=self._acknowledged + progress.acknowledged,
                    rate=self._rate.measure(now, self._moved + moved),
                ),
            )
        self._on_progress(progress)

    def _end_attempt(self) -> None:
        self._moved += self._current[0]
        self._current = (0, 0)
