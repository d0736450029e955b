"""Virtual time on uvloop, for the tests that ask for ``virtual_clock("asyncio")``.

uvloop's timers are libuv's, so this loop keeps its own. When nothing was called for a moment of real time, no
task can go on, and the clock moves to the next timer. Unlike that of ``wsstream.testing`` this is a guess: a
callback of a socket is not counted, only what it sets going.
"""

from __future__ import annotations

import heapq
import math
from asyncio import TimerHandle  # noqa: TID251 - it is an event loop
from collections.abc import Callable
from contextvars import Context
from typing import Any

import uvloop

__all__ = ["VirtualUvloop"]

_QUIET = 0.01  # real seconds: as long as the tests on asyncio wait for sockets


class VirtualUvloop(uvloop.Loop):
    """An event loop whose sleeps and timeouts take hardly any time."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._calls = 0
        self._looking = False
        self._timers: list[tuple[float, int, TimerHandle]] = []

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        self._calls += 1
        return super().call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        self._calls += 1
        handle = TimerHandle(when, callback, args, self, context)
        if when != math.inf:
            heapq.heappush(self._timers, (when, self._calls, handle))
            self._look_later()
        return handle

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """What a handle calls. Nothing to do: it is passed over when its time comes."""

    def _look_later(self) -> None:
        if self._timers and not self._looking:
            self._looking = True
            super().call_later(_QUIET, self._look, self._calls)

    def _look(self, calls: int) -> None:
        self._looking = False
        if calls == self._calls:
            self._jump()
        self._look_later()

    def _jump(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if self._timers:
            self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            self.call_soon(_run, heapq.heappop(self._timers)[2])


def _run(handle: TimerHandle) -> None:
    if not handle.cancelled():
        handle._run()
