"""Signals of the operating system, for one program: who is called for SIGINT and SIGTERM, and when.

Python has one handler for each signal of the process, and an event loop's own way of handling signals forgets
who had it before. So this module keeps the handlers: it installs one for as long as anybody here wants the
signal, tells everybody who does, and gives the signal back to whoever had it.

A block may never be left, as where an event loop ends while a task in it still waits. So each action tells
whether its event loop still runs; one whose loop has ended is dropped, and keeps the signal from nobody.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, TypeAlias

from wsstream.transports.eventloop import event_loop

__all__ = ["StopSignals", "on_signal", "sigterm_as_ctrl_c"]

_Soon: TypeAlias = Callable[[Callable[[], object]], object]
"""Has an event loop call a function; raises ``RuntimeError`` once that loop has ended."""

_Action: TypeAlias = Callable[[signal.Signals], bool]
"""Called in the signal handler; false: its event loop has ended, and nobody is there any more."""


class _Handler:
    """A signal handler that calls the actions it has, and knows which handler was there before it.

    Those who want Ctrl-C for the signal are called only if nobody else is there.
    """

    def __init__(self, number: signal.Signals) -> None:
        self._number = number
        self._actions: list[_Action] = []
        # A handler that was not installed from Python cannot be installed again.
        self.before: Any = signal.getsignal(number) or signal.SIG_DFL

    def __call__(self, number: int, frame: FrameType | None) -> None:
        current: object = signal.getsignal(self._number)
        interrupts = [action for action in self._actions if isinstance(action, _Interrupt)]
        if self._call([action for action in self._actions if action not in interrupts]):
            return
        for action in interrupts:  # the second signal is for whoever was there before
            self.remove(action)
        if any(action(self._number) for action in interrupts):
            return
        if current is self:
            signal.signal(self._number, self.before)
            signal.raise_signal(self._number)
        elif callable(self.before):  # another handler has taken the signal, and calls this one
            self.before(number, frame)

    def _call(self, actions: list[_Action]) -> bool:
        """Call all, and drop those whose event loops have ended; false if that is all of them."""
        heard = False
        for action in actions:
            if action(self._number):
                heard = True
            else:
                self.remove(action)
        return heard

    def add(self, action: _Action) -> None:
        self._actions.append(action)

    def remove(self, action: _Action) -> None:
        """Call `action` no more, if it still is; the last one gives the signal back."""
        if action in self._actions:
            self._actions.remove(action)
            current: object = signal.getsignal(self._number)
            if not self._actions and current is self:  # else somebody has taken the signal meanwhile
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


class _Interrupt:
    """The action of `sigterm_as_ctrl_c`."""

    def __init__(self, soon: _Soon) -> None:
        self._soon = soon

    def __call__(self, number: signal.Signals) -> bool:
        if runs := _calls(self._soon, lambda: None):
            signal.raise_signal(signal.SIGINT)
        return runs


def _calls(soon: _Soon, callback: Callable[[], object]) -> bool:
    """Have an event loop call `callback`; false: that loop has ended."""
    try:
        soon(callback)
    except RuntimeError:
        return False
    return True


class StopSignals:
    """``with StopSignals(first, second)``: SIGINT and SIGTERM ask this program to end.

    The first signal has the event loop call `first`. The second one calls `second` in the signal handler,
    which also comes while a task keeps the event loop busy; from then on the signals do what they did
    before the block. Where several blocks run, each is told. In a thread that is not the main one, no signal
    comes.

    Args:
        first: called with the signal, by the event loop.
        second: called with the signal, in its handler.
        soon: has the event loop call a function, and raises ``RuntimeError`` once that loop has ended; by
            default the loop that runs in this thread. A block whose loop has ended counts as left.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(
        self,
        first: Callable[[signal.Signals], object],
        second: Callable[[signal.Signals], object],
        soon: _Soon | None = None,
    ) -> None:
        self._first: Callable[[signal.Signals], object] | None = first
        self._second = second
        self._soon = soon or event_loop().from_signal()
        self._removers: list[Callable[[], None]] = []

    def __enter__(self) -> StopSignals:
        self._removers = [_add(number, self._receive) for number in self.NUMBERS]
        return self

    def __exit__(self, *_: object) -> None:
        for remove in self._removers:
            remove()

    def _receive(self, number: signal.Signals) -> bool:
        first, self._first = self._first, None
        runs = _calls(self._soon, (lambda: None) if first is None else partial(first, number))
        if runs and first is None:
            self.__exit__()
            self._second(number)
        return runs

    def soon(self, callback: Callable[[], object]) -> None:
        """Have the event loop call `callback`. For `second`, which runs in a signal handler."""
        _calls(self._soon, callback)


@contextmanager
def on_signal(number: signal.Signals, callback: Callable[[], object]) -> Iterator[None]:
    """While the block runs, have the event loop call `callback` for each signal of this `number`.

    In a thread that is not the main one, none comes.
    """
    soon = event_loop().from_signal()

    def action(number: signal.Signals) -> bool:
        return _calls(soon, callback)

    remove = _add(number, action)
    try:
        yield
    finally:
        remove()


def sigterm_as_ctrl_c(soon: _Soon | None = None) -> Callable[[], None]:
    """Have SIGTERM do what SIGINT does, once, until the function that this returns is called.

    A second SIGTERM is the system's again: a second SIGINT would raise KeyboardInterrupt inside asyncio's
    event loop, which may lose a wake-up by that and wait for ever.

    Only where the program leaves SIGTERM to the system, which would kill it without any ``finally``, and
    where SIGINT does something. Does nothing in a thread that is not the main one, and no more once the event
    loop has ended.

    Args:
        soon: as for `StopSignals`.
    """
    handler: Any = signal.getsignal(signal.SIGTERM)
    if isinstance(handler, _Handler):
        handler = handler.before
    if handler is signal.SIG_DFL and callable(signal.getsignal(signal.SIGINT)):
        return _add(signal.SIGTERM, _Interrupt(soon or event_loop().from_signal()))
    return lambda: None
