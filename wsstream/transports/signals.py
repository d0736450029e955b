"""Signals of the operating system, for one program: who is called for SIGINT and SIGTERM, and when.

Python has one handler for each signal of the process, and an event loop's own way of handling signals forgets
who had it before. So this module keeps the handlers: it installs one for as long as anybody here wants the
signal, tells everybody who does, and gives the signal back to whoever had it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

from wsstream.transports.eventloop import event_loop

__all__ = ["StopSignals", "on_signal", "sigterm_as_ctrl_c"]

_Action = Callable[[signal.Signals], object]


class _Handler:
    """A signal handler that calls the actions it has, and knows which handler was there before it."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number
        self._actions: list[_Action] = []
        # A handler that was not installed from Python cannot be installed again.
        self.before: Any = signal.getsignal(number) or signal.SIG_DFL

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._actions:  # whoever took the signal from this handler has put it back too late
            self._give_back()
            signal.raise_signal(self._number)
            return
        for action in [each for each in self._actions if each is not _interrupt] or self._actions[:1]:
            action(self._number)

    def add(self, action: _Action) -> None:
        self._actions.append(action)

    def remove(self, action: _Action) -> None:
        """Call `action` no more, if it still is; the last one gives the signal back."""
        if action in self._actions:
            self._actions.remove(action)
            current: object = signal.getsignal(self._number)
            if not self._actions and current is self:  # else somebody has taken the signal meanwhile
                self._give_back()

    def _give_back(self) -> None:
        signal.signal(self._number, self.before)


def _add(number: signal.Signals, action: _Action) -> Callable[[], None]:
    """Have `action` called in the signal handler until the function that this returns is called.

    Does nothing in a thread that is not the main one, as it cannot handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    handler: Any = signal.getsignal(number)
    if not isinstance(handler, _Handler):
        handler = _Handler(number)
        signal.signal(number, handler)
    handler.add(action)
    return partial(handler.remove, action)


def _interrupt(number: signal.Signals) -> None:
    """What `sigterm_as_ctrl_c` does, once, if nobody else here wants the signal."""
    signal.raise_signal(signal.SIGINT)


def _soon() -> Callable[[Callable[[], object]], None]:
    """A function that has the running event loop call another one, as long as that loop runs."""
    call = event_loop().from_signal()

    def soon(callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            call(callback)

    return soon


class StopSignals:
    """``with StopSignals(first, second)``: SIGINT and SIGTERM ask this program to end.

    The first signal has the event loop call `first`. The second one calls `second` in the signal handler,
    which also comes while a task keeps the event loop busy; from then on the signals do what they did
    before the block. Where several blocks run, each is told. In a thread that is not the main one, no signal
    comes.

    Args:
        first: called with the signal, by the event loop.
        second: called with the signal, in its handler.
        soon: has the event loop call a function; by default the loop that runs in this thread.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(
        self, first: _Action, second: _Action, soon: Callable[[Callable[[], object]], object] | None = None
    ) -> None:
        self._first: _Action | None = first
        self._second = second
        self._soon = soon or _soon()
        self._removers: list[Callable[[], None]] = []

    def __enter__(self) -> StopSignals:
        self._removers = [_add(number, self._receive) for number in self.NUMBERS]
        return self

    def __exit__(self, *_: object) -> None:
        for remove in self._removers:
            remove()

    def _receive(self, number: signal.Signals) -> None:
        if self._first is not None:
            first, self._first = self._first, None
            self._soon(partial(first, number))
        else:
            self.__exit__()
            self._second(number)

    def soon(self, callback: Callable[[], object]) -> None:
        """Have the event loop call `callback`. For `second`, which runs in a signal handler."""
        self._soon(callback)


@contextmanager
def on_signal(number: signal.Signals, callback: Callable[[], object]) -> Iterator[None]:
    """While the block runs, have the event loop call `callback` for each signal of this `number`.

    In a thread that is not the main one, none comes.
    """
    soon = _soon()

    def action(number: signal.Signals) -> None:
        soon(callback)

    remove = _add(number, action)
    try:
        yield
    finally:
        remove()


def sigterm_as_ctrl_c() -> Callable[[], None]:
    """Have SIGTERM do what SIGINT does, until the function that this returns is called.

    Only where the program leaves SIGTERM to the system, which would kill it without any ``finally``, and
    where SIGINT does something. Does nothing in a thread that is not the main one.
    """
    handler: Any = signal.getsignal(signal.SIGTERM)
    if isinstance(handler, _Handler):
        handler = handler.before
    if handler is signal.SIG_DFL and callable(signal.getsignal(signal.SIGINT)):
        return _add(signal.SIGTERM, _interrupt)
    return lambda: None
