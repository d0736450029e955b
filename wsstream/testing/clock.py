"""Virtual time: sleeps and timeouts take no time, and end in the same order as in real time.

When no task can run, the clock jumps to the next deadline. ``anyio.current_time``, ``sleep``,
``fail_after`` and ``move_on_after`` follow it; code that asks :mod:`time` does not. On Trio this is
Trio's own ``MockClock``. On asyncio it is an event loop with a selector that, instead of waiting
for a timer, moves the loop's clock to it.

When "no task can run":

* The clock polls sockets once, without waiting, before each jump. That is enough for memory streams, and
  for sockets with both ends in this event loop, as the kernel passes bytes on at once.
* The clock does not see work in threads (name resolution, files) and in other processes: a timeout around
  it would fire at once. For such tests, `idle` makes the clock wait for an event, for that many real
  seconds, before each jump.
* Without any deadline the clock cannot jump, and the event loop waits in real time for a socket or a
  thread; Trio keeps a core busy meanwhile. If nothing is left that could wake it, asyncio raises
  :class:`DeadlockError`; on Trio such a test hangs.
* ``anyio.wait_all_tasks_blocked`` polls every 0.1 seconds on asyncio, so it may move the clock that far;
  on Trio it does not.
"""

from __future__ import annotations

import math
import selectors
import threading
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVarTuple

if TYPE_CHECKING:
    import asyncio  # noqa: TID251 - for annotations only

__all__ = ["DeadlockError", "virtual_clock"]

_Args = TypeVarTuple("_Args")
_RECHECK = 1.0  # real seconds between checks for a thread that could wake the loop


class DeadlockError(RuntimeError):
    """Every task waits for another: no deadline, socket or thread can wake one."""


def virtual_clock(backend: str = "asyncio", *, idle: float = 0.0) -> tuple[str, dict[str, Any]]:
    """Return the backend's name and options for a run in virtual time, which starts at 0.

    Return the pair from an ``anyio_backend`` fixture, or pass it to ``anyio.run(main, backend=name,
    backend_options=options)`` (before anyio 4.14, which ignores options for Trio, use
    ``trio.run(main, **options)``). On Trio a pair holds its clock, and a second run would continue the time
    of the first: make a new pair for each run.

    Args:
        backend: ``"asyncio"`` or ``"trio"``.
        idle: real seconds without any event before the clock jumps; about 0.05 if threads or other
            processes take part.

    Raises:
        ValueError: `backend` is not one of the two, or `idle` is negative.
    """
    if idle < 0:
        raise ValueError(f"idle must not be negative, got {idle}")
    if backend == "asyncio":
        return backend, {"loop_factory": lambda: _make_loop(_JumpingSelector(idle))}
    if backend == "trio":
        from trio.testing import MockClock  # noqa: TID251 - the clock belongs to the backend

        return backend, {"clock": MockClock(autojump_threshold=idle)}
    raise ValueError(f"backend must be 'asyncio' or 'trio', got {backend!r}")


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that never waits for a timer: it moves `now` by the timeout instead."""

    def __init__(self, idle: float) -> None:
        super().__init__()
        self.now = 0.0
        self.signals_wake = False
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return self._wait()
        if timeout <= 0:
            return super().select(0)
        events = super().select(self._idle)
        if not events:
            self.now += timeout
        return events

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        timeout = 0.0
        while True:
            # Check before polling: a thread may wake the loop and end in between.
            hopeless = not self._can_be_woken()
            if events := super().select(timeout):
                return events
            if hopeless:
                raise DeadlockError("all tasks wait for one another: nothing can wake any of them")
            timeout = _RECHECK

    def _can_be_woken(self) -> bool:
        # One descriptor is the loop's own: threads and signal handlers wake it through that.
        return len(self.get_map()) > 1 or threading.active_count() > 1 or self.signals_wake


def _make_loop(selector: _JumpingSelector) -> asyncio.AbstractEventLoop:
    import asyncio  # noqa: TID251 - virtual time needs an event loop of its own

    class VirtualLoop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return selector.now

        def call_at(
            self,
            when: float,
            callback: Callable[[*_Args], object],
            *args: *_Args,
            context: Context | None = None,
        ) -> asyncio.TimerHandle:
            if when == math.inf:  # sleep_forever(): the clock must not jump there
                return asyncio.TimerHandle(when, callback, args, self, context)
            return super().call_at(when, callback, *args, context=context)

        def add_signal_handler(self, sig: int, callback: Callable[[*_Args], object], *args: *_Args) -> None:
            super().add_signal_handler(sig, callback, *args)
            selector.signals_wake = True

        async def shutdown_default_executor(self, timeout: float | None = None) -> None:
            # Threads need real time to end, so a virtual timeout would always expire.
            await super().shutdown_default_executor()

    return VirtualLoop(selector)
