"""SIGINT and SIGTERM: the first ends a command in good order, the second at once.

In good order means that what was handed over is sent, and the peer gets Close 1001; it takes no longer than
``--close-timeout``. At once means that the process exits with 128+n in the signal handler.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import anyio

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.transports.signals import StopSignals

__all__ = ["Stopping", "before_exit", "run_until_signal"]

T = TypeVar("T")


class Stopping:
    """Whether a signal has asked the command to end.

    Attributes:
        number: the first signal; ``None``: none has come.
        cancel: cancels the command.
    """

    def __init__(self, scope: anyio.CancelScope) -> None:
        self.number: signal.Signals | None = None
        self.cancel: Callable[[], object] = scope.cancel
        self._action: Callable[[], object] = self.cancel

    @contextmanager
    def by(self, action: Callable[[], object]) -> Iterator[None]:
        """While the block runs, the first signal calls `action`. Without a block it cancels the command."""
        before, self._action = self._action, action
        try:
            yield
        finally:
            self._action = before

    def check(self) -> None:
        """Raise :class:`CommandFailed` if a signal has come."""
        if self.number is not None:
            raise CommandFailed(Exit.SIGNAL + self.number, f"interrupted by {self.number.name}")

    @property
    def reason(self) -> str:
        """For a Close frame: which signal it was."""
        return "" if self.number is None else f"interrupted by {self.number.name}"

    def first(self, number: signal.Signals) -> None:
        """The first signal has come."""
        self.number = number
        self._action()


_before_exit: list[Callable[[], object]] = []


@contextmanager
def before_exit(action: Callable[[], object]) -> Iterator[None]:
    """While the block runs, the second signal calls `action` before the process ends."""
    _before_exit.append(action)
    try:
        yield
    finally:
        _before_exit.remove(action)


def _exit_now(number: signal.Signals) -> None:
    for action in _before_exit:
        with suppress(Exception):  # nothing may keep it from ending
            action()
    os._exit(Exit.SIGNAL + number)


async def run_until_signal(function: Callable[[Stopping], Awaitable[T]]) -> T:
    """Return what `function` returns; after a signal it may return, too, if it ends in good order.

    Raises:
        CommandFailed: a signal has cancelled it; the status is 128 plus its number.
    """
    scope = anyio.CancelScope()
    stopping = Stopping(scope)
    with scope:
        if sys.platform == "win32":  # there Ctrl-C stays a KeyboardInterrupt
            return await function(stopping)
        with StopSignals(stopping.first, _exit_now):
            return await function(stopping)
    stopping.check()
    raise AssertionError("the scope is cancelled by a signal only")
