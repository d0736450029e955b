"""Virtual time: sleeps and timeouts that take no time, in the order in which they would end.

When no task can go on, the clock jumps to the next deadline. ``anyio.current_time``, ``sleep``,
``fail_after`` and ``move_on_after`` follow it; code that asks :mod:`time` does not. On Trio this is
Trio's own ``MockClock``. On asyncio it is an event loop over a selector that, instead of waiting
for a timer, moves the loop's clock to it.

What counts as "no task can go on":

* Sockets are asked once, without waiting, before each jump. That is enough for memory streams and
  for sockets whose both ends are in this event loop, as the kernel passes bytes on at once.
* Work in threads (name resolution, files) and in other processes is not seen: a timeout around it
  would fire at once. For such tests `idle` makes the clock wait that long, in real seconds, for
  something to happen before each jump.
* With no deadline at all there is nowhere to jump to, and the event loop waits in earnest for a
  socket or a thread; Trio keeps a core busy meanwhile. On asyncio, where nothing is left that could
  wake it, this raises :class:`DeadlockError`; on Trio such a test hangs.
* ``anyio.wait_all_tasks_blocked`` looks again every 0.1 seconds on asyncio, so it may move the clock
  that far; on Trio it does not.
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
_RECHECK = 1.0  # real seconds between looks at whether a thread is left that could wake the loop


class DeadlockError(RuntimeError):
    """Every task waits for another: there is no deadline, no socket and no thread to wake one."""


def virtual_clock(backend: str = "asyncio", *, idle: float = 0.0) -> tuple[str, dict[str, Any]]:
    """Give the backend's name and options for a run in virtual time, which starts at 0.

    The pair is what an ``anyio_backend`` fixture returns; ``anyio.run(main, backend=name,
    backend_options=options)`` takes its halves (before anyio 4.14 it gives Trio no options: use
    ``trio.run(main, **options)``). On Trio a pair holds its clock: a second run goes on
    where the first ended, so ask for a new pair each time.

    Args:
        backend: ``"asyncio"`` or ``"trio"``.
        idle: real seconds without any event before the clock jumps. Something like 0.05 where
            threads or other processes take part.

    Raises:
        ValueError: there is no such backend, or `idle` is negative.
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
            # Ask first: a thread may wake the loop and end between the two.
            hopeless = not self._can_be_woken()
            if events := super().select(timeout):
                return events
            if hopeless:
                raise DeadlockError("all tasks wait for one another: nothing can wake any of them")
            timeout = _RECHECK

    def _can_be_woken(self) -> bool:
        # One descriptor is the loop's own, through which threads and signal handlers wake it.
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
            if when == math.inf:  # sleep_forever(): not a time to jump to
                return asyncio.TimerHandle(when, callback, args, self, context)
            return super().call_at(when, callback, *args, context=context)

        def add_signal_handler(self, sig: int, callback: Callable[[*_Args], object], *args: *_Args) -> None:
            super().add_signal_handler(sig, callback, *args)
            selector.signals_wake = True

        async def shutdown_default_executor(self, timeout: float | None = None) -> None:
            # The threads end in real time, which a virtual timeout would not leave them.
            await super().shutdown_default_executor()

    return VirtualLoop(selector)
