"""Running a command: its event loop, its signals, and what its failures mean."""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from wsstream.cli.backends import require, run
from wsstream.cli.failures import failure_of, reason_of
from wsstream.cli.report import Reporter
from wsstream.cli.signals import Stopping, run_until_signal

__all__ = ["run_command"]

T = TypeVar("T")


def run_command(options: argparse.Namespace, command: Callable[[Stopping], Awaitable[T]]) -> T:
    """Run `command` on the backend that `options` names; return what it returns.

    Raises:
        CommandFailed: it failed for a reason that has an exit status.
    """
    if options.backend == "trio":
        require("trio", extra="trio", what="--backend trio")
    Reporter(options).start_logging()
    _fill_standard_descriptors()
    try:
        return run(partial(run_until_signal, command), options.backend)
    except BaseExceptionGroup as group:
        raise failure_of(reason_of(group)) from None
    except Exception as error:
        raise failure_of(error) from None


def _fill_standard_descriptors() -> None:
    """Open what the parent process closed: else the first socket would get the number of stdout."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
