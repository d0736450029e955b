"""Acting in place of an event loop while that waits for events.

What belongs to an event loop is used by its thread alone. To have the event loop do a thing costs another
thread two switches of threads, and most of the time the event loop only waits. Then the other thread may do
the thing itself:

- It takes `lock`, and looks whether the event loop is `asleep`. If so, the event loop calls nothing back
  before the lock is free again.
- The event loop sets `asleep` to false when its wait has ended, and then takes the lock once. So whoever had
  seen it asleep is done before the event loop goes on. It holds the lock no longer than that: a thread that
  waits for the lock waits for another thread, never for a callback.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable
from typing import Any

from wsstream.transports.eventloop import selector_loop

__all__ = ["Gate"]


class Gate:
    """Between an event loop of asyncio's and the threads that act in its place.

    ``with gate.lock:`` and ``if gate.asleep:``, and a thread may act. In the block it must not wait, log, or
    run code of the application, as the event loop waits for its end. An event loop that is asleep does not
    see that a callback or a deadline was added: what needs one is left to the event loop.

    Attributes:
        lock: held by the thread that acts.
        asleep: the event loop waits for events. True means something only while the lock is held.
    """

    __slots__ = ("asleep", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asleep = False

    @property
    def loop_factory(self) -> Callable[[], Any] | None:
        """What makes the event loop; ``None`` where asyncio's usual one waits otherwise: it never sleeps."""
        return (lambda: selector_loop(_GatedSelector(self))) if os.name == "posix" else None


class _GatedSelector(selectors.DefaultSelector):
    """Tells a gate when it waits."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        gate = self._gate
        gate.asleep = True
        try:
            return super().select(timeout)
        finally:
            gate.asleep = False
            with gate.lock:
                pass
