"""The deadlines of all connections of one event loop, behind one timer of it.

A timer of the event loop for each connection takes up to 0.7 KiB, and costs more to set and to cancel than
all its other clocks. Here a deadline is an entry of a heap.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Any, Protocol, TypeAlias

__all__ = ["Alarm", "Alarms", "Sleeper"]

_RUNG_AT_ONCE = 128  # sleepers that one call of `ring` wakes; each may send a Ping, which takes about 20 µs
_KEPT = 64  # cancelled entries that may stay in any case


class Sleeper(Protocol):
    """Who is woken."""

    def on_time(self) -> None:
        """The deadline has come. Raises nothing."""


Alarm: TypeAlias = list[Any]
"""A deadline, a number, and the sleeper, or ``None`` once it was woken or has cancelled."""


class Alarms:
    """Wakes each sleeper once, at its deadline or soon after.

    Args:
        clock: the time, in seconds.
        set_timer: have the event loop call `ring` at this time and not at the one that was set before; never,
            if it is infinite.
    """

    __slots__ = ("__weakref__", "_cancelled", "_clock", "_heap", "_numbers", "_set_timer", "_time")

    def __init__(self, clock: Callable[[], float], set_timer: Callable[[float], None]) -> None:
        self._clock = clock
        self._set_timer = set_timer
        self._heap: list[Alarm] = []
        self._numbers = count()  # no two entries are equal up to the sleepers, which cannot be compared
        self._cancelled = 0  # entries in the heap that nobody waits for
        self._time = inf  # of the timer

    def set(self, deadline: float, sleeper: Sleeper) -> Alarm:
        """Wake `sleeper` at `deadline`, which is finite. Returns what `cancel` takes."""
        alarm: Alarm = [deadline, next(self._numbers), sleeper]
        heappush(self._heap, alarm)
        if deadline < self._time:
            self._start_timer(deadline)
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """Forget the sleeper of `alarm`, if it was not woken."""
        if alarm[2] is None:
            return
        alarm[2] = None
        self._cancelled += 1
        if self._cancelled == len(self._heap):
            self._heap.clear()
            self._cancelled = 0
            if self._time > -inf:  # not while `ring` runs
                self._start_timer(inf)
        elif self._cancelled > _KEPT and self._cancelled > len(self._heap) // 2:
            self._heap[:] = [kept for kept in self._heap if kept[2] is not None]
            heapify(self._heap)
            self._cancelled = 0

    def ring(self) -> None:
        """Wake the sleepers whose time has come; some of them a little later, if they are many."""
        heap, now = self._heap, self._clock()
        self._time = -inf  # `set` need not start the timer
        try:
            for _ in range(_RUNG_AT_ONCE):
                if not heap or heap[0][0] > now:
                    break
                alarm = heappop(heap)
                sleeper, alarm[2] = alarm[2], None
                if sleeper is None:
                    self._cancelled -= 1
                else:
                    sleeper.on_time()
        finally:
            self._start_timer(heap[0][0] if heap else inf)

    def _start_timer(self, time: float) -> None:
        self._time = time
        self._set_timer(time)
